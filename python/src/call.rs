//! A call that a coroutine awaits: what an asyncio future is, but for the loop's detours. Tasks whose
//! outcomes were taken together go on one after the other, without a handle of the loop for each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use crate::step::inside;

/// One call.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Call {
    /// The function that is called.
    #[pyo3(get)]
    function: Py<PyAny>,
    event_loop: Py<PyAny>,
    /// Its task's token.
    pub(crate) token: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    /// The callbacks and the contexts they are called in: that of the task that waits.
    waiting: Vec<(Py<PyAny>, Py<PyAny>)>,
    /// asyncio's sign that the value given by `__next__` is awaited.
    is_awaited: bool,
}

#[derive(Debug)]
enum Outcome {
    Value(Py<PyAny>),
    Error(Py<PyAny>),
}

impl Call {
    pub(crate) fn new(
        function: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        token: u64,
    ) -> Self {
        let (function, event_loop) = (function.clone().unbind(), event_loop.clone().unbind());
        Self { function, event_loop, token, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this call belongs to `event_loop`.
    pub(crate) fn is_of(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.event_loop.is(event_loop)
    }

    fn end(&self, outcome: Outcome) -> bool {
        let mut state = self.state();
        let first = state.outcome.is_none();
        if first {
            state.outcome = Some(outcome);
        }
        first
    }

    /// Ends the call with `value`. Returns whether there are callbacks, which are the caller's to
    /// call.
    pub(crate) fn succeed(&self, value: Bound<'_, PyAny>) -> bool {
        self.end(Outcome::Value(value.unbind()));
        !self.state().waiting.is_empty()
    }

    fn take_waiting(&self) -> Vec<(Py<PyAny>, Py<PyAny>)> {
        std::mem::take(&mut self.state().waiting)
    }

    /// Has the event loop call the callbacks in its next turn.
    fn call_soon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let waiting = slf.get().take_waiting();
        waiting.into_iter().try_for_each(|(callback, context)| soon(slf, callback, context))
    }
}

fn soon(call: &Bound<'_, Call>, callback: Py<PyAny>, context: Py<PyAny>) -> PyResult<()> {
    let py = call.py();
    let keywords = PyDict::new(py);
    keywords.set_item("context", context)?;
    let event_loop = call.get().event_loop.bind(py);
    event_loop.call_method("call_soon", (callback, call), Some(&keywords))?;
    Ok(())
}

#[pymethods]
impl Call {
    /// The task that waits has this, and this has the task.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.event_loop)?;
        // Held by a thread that is not done with it; then it is no garbage.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        if let Some(Outcome::Value(object) | Outcome::Error(object)) = &state.outcome {
            visit.call(object)?;
        }
        for (callback, context) in &state.waiting {
            visit.call(callback)?;
            visit.call(context)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.try_lock().map(|mut state| std::mem::take(&mut *state));
        // Dropped without the lock: that may run code.
        drop(state);
    }

    #[getter(_asyncio_future_blocking)]
    fn is_awaited(&self) -> bool {
        self.state().is_awaited
    }

    #[setter(_asyncio_future_blocking)]
    fn set_awaited(&self, yes: bool) {
        self.state().is_awaited = yes;
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Whether it is over.
    fn done(&self) -> bool {
        self.state().outcome.is_some()
    }

    /// The value; raises the error.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.state().outcome {
            Some(Outcome::Value(value)) => Ok(value.clone_ref(py)),
            Some(Outcome::Error(error)) => Err(PyErr::from_value(error.bind(py).clone())),
            None => Err(PyRuntimeError::new_err("the call is not over")),
        }
    }

    #[pyo3(signature = (callback, *, context))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let mut state = slf.get().state();
        if state.outcome.is_none() {
            state.waiting.push((callback, context));
            return Ok(());
        }
        drop(state);
        soon(slf, callback, context)
    }

    /// Ends the call as cancelled, as the task that waits for it asks. False if it is over.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let kind = py.import("asyncio")?.getattr("CancelledError")?;
        let error = match msg {
            Some(msg) => kind.call1((msg,))?,
            None => kind.call0()?,
        };
        let first = slf.get().end(Outcome::Error(error.unbind()));
        if first {
            Self::call_soon(slf)?;
        }
        Ok(first)
    }

    /// Ends the call with a value or an error, in the thread of its loop.
    #[pyo3(signature = (value, error=None))]
    fn settle(slf: &Bound<'_, Self>, value: Py<PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
        slf.get().end(error.map_or(Outcome::Value(value), Outcome::Error));
        Self::call_soon(slf)
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The call itself while it is not over, as asyncio's futures do.
    fn __next__(slf: Bound<'_, Self>) -> PyResult<Option<Bound<'_, Self>>> {
        let mut state = slf.get().state();
        if state.outcome.is_some() {
            return Ok(None);
        }
        if state.is_awaited {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        state.is_awaited = true;
        drop(state);
        Ok(Some(slf))
    }
}

/// Tasks that go on now, since the calls that they wait for are over.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug, Default)]
pub struct Awakened(Mutex<VecDeque<Py<Call>>>);

impl Awakened {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Py<Call>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(calls: VecDeque<Py<Call>>) -> Self {
        Self(Mutex::new(calls))
    }
}

#[pymethods]
impl Awakened {
    fn __len__(&self) -> usize {
        self.lock().len()
    }

    /// Has each go on, from the event loop that all belong to. What is left when one raises, the loop
    /// does in its next turn.
    fn go_on(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            // A task may run the loop inside of itself, which then continues here.
            let Some(call) = self.lock().pop_front() else { return Ok(()) };
            let call = call.into_bound(py);
            for (callback, context) in call.get().take_waiting() {
                let called = inside(context.bind(py), || callback.call1(py, (&call,)));
                let raised = match called {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => Some(error),
                    Err(_) => {
                        soon(&call, callback, context)?;
                        None
                    }
                };
                if let Some(error) = raised {
                    let left = std::mem::take(&mut *self.lock());
                    for call in left.into_iter().map(|call| call.into_bound(py)) {
                        Call::call_soon(&call)?;
                    }
                    return Err(error);
                }
            }
        }
    }
}
