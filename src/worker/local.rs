//! What a task can know about the worker that runs it, and keep there.
#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::sys::process;

use super::outputs::Outputs;
use super::view::{Attempt, View};

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

struct Local {
    worker_id: u32,
    /// This process; a child that a task forks has a copy of all this.
    process: u32,
    outputs: Outputs,
    view: View,
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

/// The task that the calling code runs in, for code that computes or has threads of its own.
///
/// There is one on the worker's executor thread while the task's own future is polled; subtasks and
/// threads are given it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// async fn work(_: u64) -> u32 {
///     let task = aiopool::TaskContext::current().expect("this is a task");
///     let same = task.clone();
///     std::thread::spawn(move || while !same.is_cancelled() { /* a piece of the work */
/// # break;
///     });
///     task.attempt()
/// }
///
/// let pool = aiopool::Pool::builder().processes(1).build()?;
/// assert_eq!(pool.apply(work, 7).wait()?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskContext {
    attempt: u32,
    of: Attempt,
}

impl TaskContext {
    /// Returns the task whose future is being polled on this thread, or `None` outside of one.
    #[must_use]
    pub fn current() -> Option<Self> {
        let of = with_local(|local| local.view.attempt()).flatten()?;
        Some(Self { attempt: of.number(), of })
    }

    /// Returns the number of this attempt, from 1; above 65,536 it stays.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns a number that grows with each attempt of the task, on whichever machine it runs: the
    /// attempt's. No two starts of a task's code have the same one, up to 65,536 attempts.
    ///
    /// What the task writes elsewhere can be kept from an attempt that was given up: the store
    /// keeps the greatest fence that it has seen for the task, and refuses a write with a smaller
    /// one. A machine that stands still, and goes on when its task has long been tried again, then
    /// changes nothing.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.attempt.into()
    }

    /// Returns whether the task was cancelled, ran out of time, or is over: nothing waits for what
    /// it does. May be asked from any thread of the worker; costs one load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.of.is_over()
    }
}

/// Returns whether the task that the caller runs in was cancelled or ran out of time: its caller
/// has that outcome already, and what it returns is dropped. False outside of a task.
///
/// For functions that compute, async or not: one that never awaits is not stopped by a cancel, so
/// it asks from time to time, which costs a few loads.
///
/// ```
/// fn count_primes(below: u64) -> u64 {
///     let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0);
///     (2..below).take_while(|_| !aiopool::is_cancelled()).filter(is_prime).count() as u64
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = aiopool::Pool::builder().processes(1).build()?;
/// assert_eq!(pool.apply(aiopool::sync_fn(count_primes), 100).wait()?, 25);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn is_cancelled() -> bool {
    with_local(|local| local.view.is_cancelled()).unwrap_or(false)
}

/// Says how far the task is that the caller runs in, for [`Task::progress`](crate::Task::progress)
/// in the host, and for [`WorkerLost::progress`](crate::WorkerLost::progress) should the worker
/// die. What the number counts is the caller's to say. Two stores; nothing is woken by it.
///
/// Returns false outside of a task, and in its subtasks and threads: there it does nothing.
pub fn progress(number: u64) -> bool {
    with_local(|local| local.view.set_progress(number)).unwrap_or(false)
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
pub(super) fn enter(worker_id: u32, outputs: Outputs, view: View) {
    let process = process::own_pid();
    let local = Local { worker_id, process, outputs, view, state: HashMap::new() };
    LOCAL.with(|cell| *cell.borrow_mut() = Some(local));
}

/// Drops the worker's state, inside its runtime.
pub(super) fn leave() {
    let old = LOCAL.with(|local| local.borrow_mut().take());
    drop(old);
}
