//! C task functions as the worker's engine sees them: a future around the call.

use std::alloc::Layout;
use std::ffi::c_void;
use std::task::{Context, Poll};

use super::function::{AIOPOOL_PENDING, aiopool_task_fn};
use super::task::{Work, aiopool_task};
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
        let ended = {
            let mut work = task.lock();
            let work = work.as_mut().expect("lives until it is ended here");
            if work.ended.is_none() {
                work.waker = Some(context.waker().clone());
            }
            work.ended
        };
        let Some(result) = ended else { return Poll::Pending };
        this.0 = None;
        Poll::Ready(finish(result, task.end().unwrap_or_default(), output))
    }

    unsafe fn drop(place: *mut u8) {
        // SAFETY: as in `poll`; called once.
        let this = unsafe { place.cast::<Self>().read() };
        if let Some(task) = this.0 {
            task.end();
        }
    }
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
