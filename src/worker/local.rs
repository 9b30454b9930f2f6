//! What a task can know about the worker that runs it, and keep there.
#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::sys::process;

use super::outputs::Outputs;

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

struct Local {
    worker_id: u32,
    /// This process; a child that a task forks has a copy of all this.
    process: u32,
    outputs: Outputs,
    state: HashMap<TypeId, Rc<dyn Any>>,
}

/// The worker that the calling code runs in.
///
/// There is one on the worker's executor thread: in task functions, in the initializer and in the
/// exit hook.
///
/// ```
/// # struct Client;
/// async fn open_client(url: String) -> Result<(), String> {
///     let worker = aiopool::WorkerContext::current().expect("an initializer runs in a worker");
///     worker.set_state(Client);
///     Ok(())
/// }
/// async fn fetch(path: String) -> usize {
///     let client = aiopool::WorkerContext::current().and_then(|w| w.state::<Client>());
///     assert!(client.is_some());
///     path.len()
/// }
/// ```
#[derive(Debug)]
pub struct WorkerContext {
    worker_id: u32,
}

impl WorkerContext {
    /// Returns the worker that the caller runs in, or `None` outside of one.
    #[must_use]
    pub fn current() -> Option<Self> {
        with_local(|local| Self { worker_id: local.worker_id })
    }

    /// Returns the worker's seat in its pool, from 0 to `processes - 1`; a replacement takes over
    /// the seat of the worker it replaces.
    #[must_use]
    pub fn worker_id(&self) -> u32 {
        self.worker_id
    }

    /// Keeps `value` in this worker, one of each type; the one before is returned.
    pub fn set_state<T: 'static>(&self, value: T) -> Option<Rc<T>> {
        with_state(|state| state.insert(TypeId::of::<T>(), Rc::new(value)))
            .and_then(|old| old.downcast().ok())
    }

    /// Returns the value of type `T` that was kept in this worker.
    #[must_use]
    pub fn state<T: 'static>(&self) -> Option<Rc<T>> {
        with_state(|state| state.get(&TypeId::of::<T>()).cloned()).and_then(|v| v.downcast().ok())
    }

    /// Takes the value of type `T` out of this worker.
    pub fn take_state<T: 'static>(&self) -> Option<Rc<T>> {
        with_state(|state| state.remove(&TypeId::of::<T>())).and_then(|v| v.downcast().ok())
    }
}

/// `None` outside of a worker's executor thread, and where that is ending and has lost its own.
fn with_local<R>(f: impl FnOnce(&Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| local.borrow().as_ref().map(f)).ok().flatten()
}

fn with_state<R>(f: impl FnOnce(&mut HashMap<TypeId, Rc<dyn Any>>) -> Option<R>) -> Option<R> {
    LOCAL.try_with(|local| f(&mut local.borrow_mut().as_mut()?.state)).ok().flatten()
}

/// Returns the result arena of the worker that the caller runs in.
pub(crate) fn outputs() -> Option<Outputs> {
    with_local(|local| local.outputs.clone())
}

/// Returns whether the caller runs in a child that a task has forked, which has none of the
/// worker's memory.
pub(crate) fn in_child() -> bool {
    with_local(|local| local.process != process::own_pid()).unwrap_or(false)
}

/// Makes the calling thread the executor thread of worker `worker_id`, whose tasks can fill blocks
/// of `outputs` in place.
pub(super) fn enter(worker_id: u32, outputs: Outputs) {
    let process = process::own_pid();
    let local = Local { worker_id, process, outputs, state: HashMap::new() };
    LOCAL.with(|cell| *cell.borrow_mut() = Some(local));
}

/// Drops the worker's state, inside its runtime.
pub(super) fn leave() {
    let old = LOCAL.with(|local| local.borrow_mut().take());
    drop(old);
}
