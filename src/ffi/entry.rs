//! C task functions as the worker's engine sees them: a future around the call.

use std::alloc::Layout;
use std::ffi::c_void;
use std::task::{Context, Poll};

use super::function::{AIOPOOL_PENDING, aiopool_task_fn};
use super::task::{Work, aiopool_task};
use super::waits;
use crate::task::entry::{Output, Target, Vtable};
use crate::task::{Status, TaskFailure};

/// The one kind of task that C functions are; which function it is says the [`Target`].
pub(super) static C_TASK: Vtable = Vtable {
    layout: Layout::new::<CTask>(),
    name: || "a C function",
    start: CTask::start,
    poll: CTask::poll,
    drop: CTask::drop,
};

/// A call of a C function, from its beginning to its end.
struct CTask(Option<&'static aiopool_task>);

impl CTask {
    unsafe fn start(place: *mut u8, target: Target, input: &[u8]) -> Result<(), String> {
        // SAFETY: the host wrote the address of a function of this type, which was registered
        // before this process was forked and lies in an image that was mapped then.
        let function =
            unsafe { std::mem::transmute::<usize, aiopool_task_fn>(target.address as usize) };
        let function = function.ok_or("the function is NULL")?;
        let task = aiopool_task::begin(Work { input: input.to_vec(), ..Work::default() });
        let (data, len) = {
            let work = task.lock();
            let input = &work.as_ref().expect("just begun").input;
            (input.as_ptr().cast::<c_void>(), input.len())
        };
        let (task_pointer, output) = (std::ptr::from_ref(task).cast_mut(), task.output());
        let output = std::ptr::from_ref(output).cast_mut();
        // SAFETY: the handles are valid and shared by C only through this API; the input's memory
        // is not touched before the task is over.
        let result =
            unsafe { function(task_pointer, data, len, output, target.user as *mut c_void) };
        if result != AIOPOOL_PENDING
            && let Some(work) = &mut *task.lock()
        {
            work.ended.get_or_insert(result);
        }
        // SAFETY: the caller gives memory of our layout that holds nothing.
        unsafe { place.cast::<Self>().write(Self(Some(task))) };
        Ok(())
    }

    unsafe fn poll(place: *mut u8, context: &mut Context<'_>, output: &mut Output) -> Poll<Status> {
        // SAFETY: the caller vouches that `start` put one of ours there.
        let this = unsafe { &mut *place.cast::<Self>() };
        let Some(task) = this.0 else { return Poll::Pending };
        let Some(result) = waits::poll(task, context) else { return Poll::Pending };
        this.0 = None;
        Poll::Ready(finish(result, task.end().unwrap_or_default(), output))
    }

    unsafe fn drop(place: *mut u8) {
        // SAFETY: as in `poll`; called once.
        let this = unsafe { place.cast::<Self>().read() };
        if let Some(task) = this.0 {
            waits::cancelled(task);
            task.end();
        }
    }
}

/// A C function that runs in a worker outside of tasks. Its input begins with the target.
pub(super) static C_HOOK: Vtable = Vtable {
    layout: Layout::new::<CTask>(),
    name: || "a C hook",
    start: start_hook,
    poll: CTask::poll,
    drop: CTask::drop,
};

/// The argument of a [`C_HOOK`].
pub(super) fn hook_argument(target: Target, input: &[u8]) -> Vec<u8> {
    [&target.address.to_le_bytes()[..], &target.user.to_le_bytes(), input].concat()
}

unsafe fn start_hook(place: *mut u8, _: Target, argument: &[u8]) -> Result<(), String> {
    let cut = "the hook's argument is cut off";
    let (address, rest) = argument.split_first_chunk().ok_or(cut)?;
    let (user, input) = rest.split_first_chunk().ok_or(cut)?;
    let target = Target { address: u64::from_le_bytes(*address), user: u64::from_le_bytes(*user) };
    // SAFETY: as the caller of `start`; the target is one of `hook_argument`.
    unsafe { CTask::start(place, target, input) }
}

fn finish(result: i32, work: Work, output: &mut Output) -> Status {
    if result == 0 {
        output.set_bytes(work.bytes);
        return Status::Ok;
    }
    let message = work.error.unwrap_or_else(|| format!("the task function returned {result}"));
    let failure = TaskFailure::from_c(message, result);
    if let Err(reason) = output.set(&failure) {
        output.set_text(&reason);
        return Status::Unencodable;
    }
    Status::Failed
}
