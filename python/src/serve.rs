//! A worker's tasks, from their bytes to the bytes of their results, as far as they are usual ones:
//! a function that goes by its name, plain arguments, a coroutine that does not wait, a plain result.
//! Python does the rest, in `aiopool._worker.Served`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aiopool::{AttachedWorker, Completion, EventInPlace};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{lent, payload};
use crate::errors::raised;
use crate::plain;
use crate::step::{self, Stepped};
use crate::worker::Worker;

/// Calls with more bytes than this are left to Python.
const SMALL: usize = 1024;
/// Functions that are known by their names, at most.
const KNOWN: usize = 4096;
/// How a call begins whose function goes by its name: `_wire._BY_NAME`.
const BY_NAME: u8 = b'R';

/// A function, and whether a call of it only makes a coroutine.
type Function = (Py<PyAny>, bool);

/// The functions that calls have named; None for those whose calls are Python's.
#[derive(Debug, Default)]
pub(crate) struct Functions(Mutex<Known>);

impl Functions {
    /// Forgets all, without the lock: that may run code.
    pub(crate) fn forget(&self) {
        let forgotten = std::mem::take(&mut *self.lock());
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Known = HashMap<Box<[u8]>, Option<Function>>;

/// What is to be done next.
enum Next<'py> {
    Nothing,
    Leave,
    Cancel(u64),
    Small(u64, Vec<u8>),
    Large(u64, Bound<'py, PyAny>),
}

/// Takes tasks one by one, at most `limit`, each begun before the next is taken. True if there may
/// be more.
pub(crate) fn serve(
    worker: &Worker,
    served: &Bound<'_, PyAny>,
    limit: usize,
    others: i32,
) -> PyResult<bool> {
    let py = served.py();
    for _ in 0..limit {
        if others >= 0 && !served.getattr("others_wait")?.is_truthy()? {
            worker.with(|worker| Ok(lent(others, |others| worker.search(others))))?;
        }
        // Nothing of Python's is made while the worker is locked but bytes, which run no code.
        let begun = match worker.with(|worker| next(py, worker))? {
            Next::Nothing => return Ok(false),
            Next::Leave => {
                served.call_method0("leave")?;
                return Ok(false);
            }
            Next::Cancel(task) => {
                served.call_method1("call_off", (task,))?;
                continue;
            }
            Next::Small(task, call) => {
                worker.runs(py, task)?;
                run(worker, served, task, &call)?
            }
            Next::Large(task, data) => {
                worker.runs(py, task)?;
                served.call_method1("run", (task, data))?.is_truthy()?
            }
        };
        if !begun {
            // Its first step is due before the next look: a task that computes must not have others
            // behind it that a sibling could run. `Served.called` has the loop say when it was made.
            return Ok(true);
        }
    }
    // What the loop does before it looks again is not the last task's doing.
    worker.begun();
    Ok(true)
}

fn next<'py>(py: Python<'py>, worker: &mut AttachedWorker) -> PyResult<Next<'py>> {
    // Which function is to be called is in the input, not in the task's name.
    Ok(match worker.next_in_place() {
        EventInPlace::Nothing => Next::Nothing,
        EventInPlace::Run { task, input, .. } if input.len() <= SMALL => {
            Next::Small(task, input.to_vec())
        }
        EventInPlace::Run { task, input, .. } => Next::Large(task, payload(py, input)),
        EventInPlace::Cancel { task } => Next::Cancel(task),
        _ => Next::Leave,
    })
}

/// Begins a task. True if it has had its first step.
fn run(worker: &Worker, served: &Bound<'_, PyAny>, task: u64, call: &[u8]) -> PyResult<bool> {
    let py = served.py();
    let usual = match head_of(call) {
        Some(head) => {
            function(worker, served, head)?.zip(plain::read_call(py, &call[head.len()..]))
        }
        None => None,
    };
    let Some((function, arguments)) = usual else {
        return served.call_method1("run", (task, payload(py, call)))?.is_truthy();
    };
    let called_with = match function {
        (function, true) => function.bind(py).call1(arguments),
        (function, false) => {
            // It may run an event loop of its own. No frame of Python's here: what a task has left
            // behind, such as a tracer, would raise in it, and that would be this task's error.
            let set_running_loop = served.getattr("set_running_loop")?;
            set_running_loop.call1((py.None(),))?;
            let result = function.bind(py).call1(arguments);
            set_running_loop.call1((served.getattr("loop")?,))?;
            result
        }
    };
    match called_with {
        Ok(result) => called(worker, served, task, &result),
        Err(error) => {
            served.call_method1("raised", (task, error.into_value(py)))?;
            Ok(true)
        }
    }
}

/// Returns the head of a call whose function goes by its name.
fn head_of(call: &[u8]) -> Option<&[u8]> {
    let (&[kind, a, b, c, d], _) = call.split_first_chunk::<5>()?;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if kind == BY_NAME { call.get(..len.checked_add(5)?) } else { None }
}

/// Returns the function that `head` names, or None if its calls are Python's, errors among them.
fn function(worker: &Worker, served: &Bound<'_, PyAny>, head: &[u8]) -> PyResult<Option<Function>> {
    let py = served.py();
    let copy = |known: &Option<Function>| {
        known.as_ref().map(|(function, is_async)| (function.clone_ref(py), *is_async))
    };
    if let Some(known) = worker.functions.lock().get(head) {
        return Ok(copy(known));
    }
    let found = served.call_method1("function_of", (PyBytes::new(py, head),))?;
    let function: Option<Function> = found.extract()?;
    let known = copy(&function);
    let forgotten = {
        let mut functions = worker.functions.lock();
        let full = functions.len() >= KNOWN;
        let forgotten = if full { std::mem::take(&mut *functions) } else { Known::new() };
        functions.insert(head.into(), known);
        forgotten
    };
    // Dropped without the lock: that may run code.
    drop(forgotten);
    Ok(function)
}

/// The function of a task has returned `result`: answers the task, or has Python await it. True if a
/// coroutine has had its first step.
pub(crate) fn called(
    worker: &Worker,
    served: &Bound<'_, PyAny>,
    task: u64,
    result: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    if plain::is_no_awaitable(result) {
        succeed(worker, served, task, result)?;
        return Ok(true);
    }
    let py = served.py();
    let coroutine_type = served.getattr("coroutine_type")?;
    if !result.get_type().is(&coroutine_type) {
        return served.call_method1("called", (task, result))?.is_truthy();
    }
    let event_loop = served.getattr("loop")?;
    let (stepped, context, step) = step::first(served, &event_loop, task, result)?;
    match (stepped, step) {
        // The coroutine is over: what it gave is the value, also where that could be awaited.
        (Stepped::Returned(value), None) => succeed(worker, served, task, &value)?,
        (Stepped::Raised(error), None) => {
            served.call_method1("raised", (task, error.into_value(py)))?;
        }
        (stepped, step) => {
            let (how, value) = match stepped {
                Stepped::Returned(value) => ("returned", value),
                Stepped::Awaits(value) => ("awaits", value),
                Stepped::Raised(error) => {
                    ("raised", error.into_value(py).into_bound(py).into_any())
                }
            };
            let step = match step {
                Some(step) => step.into_bound(py),
                None => served.call_method1("new_step", (task, result, context))?,
            };
            served.call_method1("stepped", (task, step, how, value))?;
        }
    }
    Ok(true)
}

/// Says that a task ended with `value`.
fn succeed(
    worker: &Worker,
    served: &Bound<'_, PyAny>,
    task: u64,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let mut bytes = Vec::with_capacity(32);
    if !plain::write(value, &mut bytes) {
        served.call_method1("succeed", (task, value))?;
        return Ok(());
    }
    let ok = Completion::Ok(&bytes);
    worker.with(|worker| worker.complete(task, ok).map_err(|error| raised(&error)))
}
