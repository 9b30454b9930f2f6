//! The first step of a coroutine, in a context of its own and without an asyncio task.
//!
//! Contexts are not in CPython's stable ABI; these functions are there, with these arguments, in all
//! versions from 3.7.1 on, so they are declared here.

#![allow(unsafe_code)] // An island: calls that CPython exports and pyo3 does not offer for this ABI.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

unsafe extern "C" {
    fn PyContext_CopyCurrent() -> *mut PyObject;
    fn PyContext_Enter(context: *mut PyObject) -> c_int;
    fn PyContext_Exit(context: *mut PyObject) -> c_int;
    fn PyContextVar_New(name: *const c_char, default: *mut PyObject) -> *mut PyObject;
    fn PyContextVar_Get(
        variable: *mut PyObject,
        default: *mut PyObject,
        value: *mut *mut PyObject,
    ) -> c_int;
    fn PyContextVar_Set(variable: *mut PyObject, value: *mut PyObject) -> *mut PyObject;
}

/// A variable of the current context (`contextvars.ContextVar`).
#[derive(Debug)]
pub(crate) struct Variable(Py<PyAny>);

impl Variable {
    pub(crate) fn new(py: Python<'_>, name: &CStr) -> PyResult<Self> {
        // SAFETY: the name is a string that ends; it gives a reference of our own, or NULL with an
        // error.
        let made = unsafe {
            Bound::from_owned_ptr_or_err(py, PyContextVar_New(name.as_ptr(), ptr::null_mut()))
        };
        Ok(Self(made?.unbind()))
    }

    /// Returns the value that the current context has, if it has one.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut value = ptr::null_mut();
        // SAFETY: the variable is alive, and the value is written.
        if unsafe { PyContextVar_Get(self.0.as_ptr(), ptr::null_mut(), &raw mut value) } != 0 {
            return Err(PyErr::fetch(py));
        }
        // SAFETY: a reference of our own, or NULL where there is no value.
        Ok(unsafe { Bound::from_owned_ptr_or_opt(py, value) })
    }

    /// Gives the variable a value in the current context, and in those that are copied from it.
    pub(crate) fn set(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        // SAFETY: both are alive; it gives a reference of our own, which nobody needs, or NULL with
        // an error.
        let token = unsafe {
            Bound::from_owned_ptr_or_err(py, PyContextVar_Set(self.0.as_ptr(), value.as_ptr()))
        };
        token.map(drop)
    }
}

/// Returns a copy of the current context.
pub(crate) fn copied_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: it gives a reference of our own, or NULL with an error.
    unsafe { Bound::from_owned_ptr_or_err(py, PyContext_CopyCurrent()) }
}

/// Calls `function` in `context`.
///
/// # Errors
///
/// If the context is entered already; nothing was called then.
pub(crate) fn inside<T>(context: &Bound<'_, PyAny>, function: impl FnOnce() -> T) -> PyResult<T> {
    // SAFETY: the object is alive; one that is no context is refused with an error.
    if unsafe { PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(context.py()));
    }
    let result = function();
    // SAFETY: it was entered above, and what was called has left what it entered. It is kept alive
    // by the caller.
    if unsafe { PyContext_Exit(context.as_ptr()) } != 0 {
        PyErr::fetch(context.py()).write_unraisable(context.py(), Some(context));
    }
    Ok(result)
}

/// How a step ended.
pub(crate) enum Stepped<'py> {
    /// The coroutine has returned this.
    Returned(Bound<'py, PyAny>),
    /// It awaits this.
    Awaits(Bound<'py, PyAny>),
    /// It has raised this.
    Raised(PyErr),
}

fn send<'py>(coroutine: &Bound<'py, PyAny>) -> Stepped<'py> {
    let py = coroutine.py();
    let mut result = ptr::null_mut();
    // SAFETY: a coroutine and None are alive; the result is a reference of our own.
    let status = unsafe { ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) };
    let result = match status {
        // SAFETY: as CPython says, `result` was set for both.
        ffi::PySendResult::PYGEN_RETURN | ffi::PySendResult::PYGEN_NEXT => unsafe {
            Bound::from_owned_ptr_or_err(py, result)
        },
        ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
    };
    match result {
        Err(error) => Stepped::Raised(error),
        Ok(value) if status == ffi::PySendResult::PYGEN_RETURN => Stepped::Returned(value),
        Ok(value) => Stepped::Awaits(value),
    }
}

/// The step that is being made.
struct Current {
    number: u64,
    coroutine: Py<PyAny>,
    context: Py<PyAny>,
    served: Py<PyAny>,
    event_loop: Py<PyAny>,
    /// What Python has made of it, if the coroutine has asked for its task.
    step: Option<Py<PyAny>>,
}

static CURRENT: Mutex<Option<Current>> = Mutex::new(None);

fn current() -> MutexGuard<'static, Option<Current>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the first step of the coroutine of task `number`. Gives the context that it was made in, and
/// the `Step` that was made of it if it has asked for its task.
pub(crate) fn first<'py>(
    served: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
    number: u64,
    coroutine: &Bound<'py, PyAny>,
) -> PyResult<(Stepped<'py>, Bound<'py, PyAny>, Option<Py<PyAny>>)> {
    let context = copied_context(served.py())?;
    let one = Current {
        number,
        coroutine: coroutine.clone().unbind(),
        context: context.clone().unbind(),
        served: served.clone().unbind(),
        event_loop: event_loop.clone().unbind(),
        step: None,
    };
    // A coroutine may run a loop of its own inside of this one, with steps in it.
    let outer = current().replace(one);
    let stepped = inside(&context, || send(coroutine));
    let ended = std::mem::replace(&mut *current(), outer);
    Ok((stepped?, context, ended.and_then(|ended| ended.step)))
}

/// Gives the `Step` of the coroutine whose first step is being made in `event_loop`, or None.
#[pyfunction]
pub(crate) fn current_step<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let py = event_loop.py();
    let asked = match &*current() {
        Some(here) if here.event_loop.is(event_loop) => match &here.step {
            Some(step) => return Ok(Some(step.clone_ref(py))),
            None => {
                let (coroutine, context) =
                    (here.coroutine.clone_ref(py), here.context.clone_ref(py));
                (here.number, here.served.clone_ref(py), coroutine, context)
            }
        },
        _ => return Ok(None),
    };
    let (number, served, coroutine, context) = asked;
    let step = served.call_method1(py, "new_step", (number, coroutine, context))?;
    match &mut *current() {
        Some(here) if here.number == number => here.step = Some(step.clone_ref(py)),
        _ => return Err(PyRuntimeError::new_err("the step is over")),
    }
    Ok(Some(step))
}
