//! C task functions as the worker's engine sees them: a future around the call.

use std::alloc::Layout;
use std::ffi::c_void;
use std::task::{Context, Poll};

use super::aligned::ALIGNMENT;
use super::boundary::Failure;
use super::contexts::ContextId;
use super::registry::{self, Known};
use super::status::AIOPOOL_ERR_TOO_LATE;
use super::task::aiopool_task;
use super::work::{PENDING, Work};
use super::{exception, waits};
use crate::task::address::ImageAddress;
use crate::task::entry::{Input, Mark, Output, Target, Vtable};
use crate::task::function::FunctionEntry;
use crate::task::{Status, TaskFailure};

/// The one kind of task that C functions are; which function it is says the [`Target`].
pub(super) static C_TASK: Vtable = Vtable {
    mark: Mark::NONE,
    layout: Layout::new::<CTask>(),
    name: || "a C function",
    start: CTask::start,
    poll: CTask::poll,
    drop: CTask::drop,
};

/// Returns what a pool of `context` writes about function `number` into its table, and the
/// function's name.
/// `snapshot` is the one that its workers are forked from; only the name where they are not forks
/// of this process.
pub(super) fn function_entry(
    context: ContextId,
    number: u32,
    snapshot: Option<u32>,
) -> Result<(FunctionEntry, &'static str), Failure> {
    let Known { name, target, since, .. } = registry::known(context, number)?;
    let (forked, snapshot) = (snapshot.is_some(), snapshot.unwrap_or(0));
    if forked && target.is_some() && (since == 0 || since > snapshot) {
        let text = format!(
            "{name:?} was registered after the aiopool_init() that this pool's workers are forked \
             from: register, call aiopool_init() again and start a pool then"
        );
        return Err(Failure::new(AIOPOOL_ERR_TOO_LATE, text));
    }
    let owned = name.to_owned();
    let entry = match target.filter(|_| forked) {
        Some(target) => {
            FunctionEntry { vtable: Some(ImageAddress::of(&C_TASK)), target, name: owned }
        }
        None => FunctionEntry { vtable: None, target: Target::default(), name: owned },
    };
    Ok((entry, name))
}

/// Finds a registered function for a worker that was given its name.
pub(super) fn by_name(name: &str) -> Option<(&'static Vtable, Target)> {
    Some((&C_TASK, registry::target_by_name(name)?))
}

/// A call of a C function, from its beginning to its end.
struct CTask {
    task: Option<&'static aiopool_task>,
    target: Target,
    /// What its function returned.
    result: i32,
}

impl CTask {
    unsafe fn start(place: *mut u8, target: Target, input: Input<'_>) -> Result<(), String> {
        // SAFETY: the host's function table, or a hook's argument, has what `registry::add` was
        // given, in a process that this one was forked from; or it is this process's own.
        let function = unsafe { registry::function_at(target) };
        let function = function.ok_or("the function is NULL")?;
        let task = aiopool_task::begin(None);
        // One that does not stay is kept with the task, for a function that returns `PENDING`.
        let stays = input.stays && input.bytes.as_ptr().addr().is_multiple_of(ALIGNMENT);
        let data = if stays { input.bytes.as_ptr() } else { task.keep(input.bytes) };
        let (data, len) = (data.cast::<c_void>(), input.bytes.len());
        let (task_pointer, output) = (std::ptr::from_ref(task).cast_mut(), task.output());
        let output = std::ptr::from_ref(output).cast_mut();
        // SAFETY: the handles are valid and shared by C only through this API; the input's memory
        // is not touched before the task is over.
        let result =
            unsafe { function(task_pointer, data, len, output, target.user as *mut c_void) };
        // SAFETY: the caller gives memory of our layout that holds nothing.
        unsafe { place.cast::<Self>().write(Self { task: Some(task), target, result }) };
        Ok(())
    }

    unsafe fn poll(place: *mut u8, context: &mut Context<'_>, output: &mut Output) -> Poll<Status> {
        // SAFETY: the caller vouches that `start` put one of ours there.
        let this = unsafe { &mut *place.cast::<Self>() };
        let Some(task) = this.task else { return Poll::Pending };
        if this.result != PENDING {
            if task.end_at_once(this.result, output) {
                this.task = None;
                return Poll::Ready(Status::Ok);
            }
            task.set_ended(this.result);
        }
        let Some(result) = waits::poll(task, context) else { return Poll::Pending };
        this.task = None;
        Poll::Ready(finish(result, this.target, task.end().unwrap_or_default(), output))
    }

    unsafe fn drop(place: *mut u8) {
        // SAFETY: as in `poll`; called once.
        let this = unsafe { place.cast::<Self>().read() };
        if let Some(task) = this.task {
            waits::cancelled(task);
            task.end();
        }
    }
}

/// A C function that runs in a worker outside of tasks. Its input begins with the target.
pub(super) static C_HOOK: Vtable = Vtable {
    mark: Mark::NONE,
    layout: Layout::new::<CTask>(),
    name: || "a C hook",
    start: start_hook,
    poll: CTask::poll,
    drop: CTask::drop,
};

/// Returns the argument of a [`C_HOOK`] that calls `target`, if there is one, after it has made
/// `exception` the worker's exception function, if there is one.
pub(super) fn hook_argument(
    exception: Option<Target>,
    target: Option<Target>,
    input: &[u8],
) -> Vec<u8> {
    let words = [exception, target].map(Option::unwrap_or_default).into_iter();
    let bytes = words.flat_map(|target| [target.address, target.user]).flat_map(u64::to_le_bytes);
    bytes.chain(input.iter().copied()).collect()
}

unsafe fn start_hook(place: *mut u8, _: Target, argument: Input<'_>) -> Result<(), String> {
    let cut = "the hook's argument is cut off";
    let (words, input) = argument.bytes.split_first_chunk::<32>().ok_or(cut)?;
    let (words, _) = words.as_chunks::<8>();
    let word = |at: usize| u64::from_le_bytes(words[at]);
    let target = |at: usize| Target { address: word(at), user: word(at + 1) };
    let (handler, target) = (target(0), target(2));
    if handler != Target::default() {
        exception::set_handler(handler);
    }
    if target == Target::default() {
        let task = aiopool_task::begin(Some(0));
        // SAFETY: the caller gives memory of a `CTask` that holds nothing.
        unsafe { place.cast::<CTask>().write(CTask { task: Some(task), target, result: PENDING }) };
        return Ok(());
    }
    // SAFETY: as the caller of `start`; the target is one of `hook_argument`.
    unsafe { CTask::start(place, target, Input { bytes: input, ..argument }) }
}

fn finish(result: i32, target: Target, work: Work<aiopool_task>, output: &mut Output) -> Status {
    if result == 0 {
        match work.loan {
            Some(loan) if output.takes_block => {
                output.clear();
                output.block = Some(loan.into_block());
            }
            _ => output.set_bytes(work.bytes),
        }
        return Status::Ok;
    }
    let message = work.error.unwrap_or_else(|| format!("the task function returned {result}"));
    let failure = TaskFailure::from_c(message, result);
    exception::tell_failure(target, &failure);
    output.finish(&failure, Status::Failed)
}
