//! Workers in other programs.
//!
//! The program named by a pool's `command` becomes a worker of that pool with
//! `aiopool_worker_attach`. It then runs its own event loop: it watches `aiopool_worker_fd`, and
//! when that is readable it takes events with `aiopool_worker_next` until there is none.
//! `aiopool_worker_serve` is the ready-made loop for task functions in C.
//!
//! Thread rule: any thread, one at a time; in a child of the worker `AIOPOOL_ERR_FORKED`.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use super::aligned::Aligned;
use super::boundary::Failure;
use super::handle::of_handle;
use super::pointer::{bytes, out, text};
use super::status::*;
use super::task::no_loan;
use crate::worker::{self, AttachedWorker, Completion, Event};

/// There is nothing to do: wait until the descriptor is readable.
pub const AIOPOOL_WORKER_NOTHING: u32 = 0;
/// Run a task, and answer it with `aiopool_worker_complete`.
pub const AIOPOOL_WORKER_RUN: u32 = 1;
/// Stop a task, whose caller already has its outcome; complete it as `AIOPOOL_END_CANCELLED`.
pub const AIOPOOL_WORKER_CANCEL: u32 = 2;
/// Drop what still runs, call `aiopool_worker_leave` and end the program.
pub const AIOPOOL_WORKER_LEAVE: u32 = 3;

/// The task was successful; the data is its payload.
pub const AIOPOOL_END_OK: u32 = 0;
/// The task ended with an error; the data is its text.
pub const AIOPOOL_END_FAILED: u32 = 1;
/// The worker has no such function or cannot read the input; the data is a text that names the
/// cause.
pub const AIOPOOL_END_REFUSED: u32 = 2;
/// The task's value cannot be encoded; the data is a text that says why.
pub const AIOPOOL_END_UNENCODABLE: u32 = 3;
/// The task was stopped because it was cancelled; the data is ignored.
pub const AIOPOOL_END_CANCELLED: u32 = 4;

handle! {
    /// This process as a worker.
    pub struct aiopool_worker(Serving) in WORKERS, gone: "this worker has left its pool";
}

/// An attached worker, with what the last calls have lent.
#[derive(Debug)]
pub struct Serving {
    worker: AttachedWorker,
    function: CString,
    input: Aligned,
}

/// What a worker needs to know about its pool.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_worker_info {
    /// The worker's seat in its pool, from 0 to `processes - 1`.
    pub seat: u32,
    /// Most tasks that the worker is given at once.
    pub child_concurrency: u32,
    /// The `init_input` of the pool's options; valid until the worker leaves.
    pub init_input: *const c_void,
    /// Length of `init_input` in bytes.
    pub init_input_len: usize,
    /// 0.
    pub reserved: [u64; 4],
}

/// The next thing for a worker to do.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_worker_event {
    /// `AIOPOOL_WORKER_*`.
    pub kind: u32,
    /// 0.
    pub reserved_0: u32,
    /// The number of the task to run or to stop.
    pub task: u64,
    /// The name of the function to run, else NULL; valid until the next event is taken.
    pub function: *const c_char,
    /// The input of the function; valid until the next event is taken.
    pub input: *const c_void,
    /// Bytes of input.
    pub input_len: usize,
    /// 0.
    pub reserved: [u64; 2],
}

fn with<T>(
    worker: Option<NonNull<aiopool_worker>>,
    f: impl FnOnce(&mut Serving) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut serving = of_handle(worker).ok_or_else(|| Failure::null("worker"))?.enter()?;
    let serving = serving.as_mut().ok_or_else(aiopool_worker::gone)?;
    f(serving)
}

/// Takes the worker out of its handle.
fn end(worker: Option<NonNull<aiopool_worker>>) -> Result<AttachedWorker, Failure> {
    let cell = of_handle(worker).ok_or_else(|| Failure::null("worker"))?;
    let serving = cell.disown(|_| Ok(()))?;
    Ok(serving.worker)
}

ffi_fn! {
    /// Attaches this process, which a pool executed, as a worker of that pool.
    ///
    /// Call it once, before the program starts threads that read its environment. The pool must
    /// have executed this program itself, not another one that waits for it: a shell script ends
    /// with `exec`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the process was not started as a worker or
    /// has attached before; `AIOPOOL_ERR_SYSTEM` if the pool's library is another version.
    fn aiopool_worker_attach(
        worker_out: Option<&mut MaybeUninit<*mut aiopool_worker>>,
    ) -> aiopool_status {
        let worker_out: &mut _ = out("worker_out", worker_out)?;
        let worker = AttachedWorker::attach()?;
        let serving = Serving { worker, function: CString::default(), input: Aligned::default() };
        worker_out.write(aiopool_worker::own(serving));
        Ok(())
    }
}

ffi_fn! {
    /// Writes what this worker needs to know about its pool.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_describe(
        worker: Option<NonNull<aiopool_worker>>,
        info_out: Option<&mut MaybeUninit<aiopool_worker_info>>,
    ) -> aiopool_status {
        let info_out: &mut _ = out("info_out", info_out)?;
        with(worker, |serving| {
            let bytes = serving.worker.initializer_argument();
            info_out.write(aiopool_worker_info {
                seat: serving.worker.worker_id(),
                child_concurrency: serving.worker.child_concurrency() as u32,
                init_input: bytes.map_or(std::ptr::null(), |b| b.as_ptr().cast()),
                init_input_len: bytes.map_or(0, <[u8]>::len),
                reserved: [0; 4],
            });
            Ok(())
        })
    }
}

ffi_fn! {
    /// Writes the worker's descriptor, which any event loop can watch for reading.
    ///
    /// It is level-triggered: readable when there may be an event, until `aiopool_worker_next`
    /// gives `AIOPOOL_WORKER_NOTHING`. Do not read, write or close it.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_fd(
        worker: Option<NonNull<aiopool_worker>>,
        fd_out: Option<&mut MaybeUninit<i32>>,
    ) -> aiopool_status {
        let fd_out: &mut _ = out("fd_out", fd_out)?;
        with(worker, |serving| {
            fd_out.write(serving.worker.as_fd().as_raw_fd());
            Ok(())
        })
    }
}

ffi_fn! {
    /// Writes what to do next; never waits.
    ///
    /// The first call reports to the pool that the worker is ready, so initialise before it. Call
    /// it until the event is `AIOPOOL_WORKER_NOTHING`. Begin a task before the next call: a task
    /// that was taken and waits here cannot be run by another worker that is idle.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_next(
        worker: Option<NonNull<aiopool_worker>>,
        event_out: Option<&mut MaybeUninit<aiopool_worker_event>>,
    ) -> aiopool_status {
        let event_out: &mut _ = out("event_out", event_out)?;
        with(worker, |serving| {
            let mut event = aiopool_worker_event {
                kind: AIOPOOL_WORKER_NOTHING,
                reserved_0: 0,
                task: 0,
                function: std::ptr::null(),
                input: std::ptr::null(),
                input_len: 0,
                reserved: [0; 2],
            };
            match serving.worker.next_event() {
                Event::Nothing => {}
                Event::Leave => event.kind = AIOPOOL_WORKER_LEAVE,
                Event::Cancel { task } => (event.kind, event.task) = (AIOPOOL_WORKER_CANCEL, task),
                Event::Run { task, function, input } => {
                    // The host takes no name with a NUL in it from C; one from Rust is cut.
                    let name: Vec<u8> = function.into_bytes();
                    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                    serving.function = CString::new(name).unwrap_or_default();
                    serving.input = Aligned::copy_of(&input);
                    event.kind = AIOPOOL_WORKER_RUN;
                    event.task = task;
                    event.function = serving.function.as_ptr();
                    event.input = serving.input.as_ptr().cast();
                    event.input_len = serving.input.len();
                }
            }
            event_out.write(event);
            Ok(())
        })
    }
}

ffi_fn! {
    /// Borrows `len` bytes of the memory that the host reads outputs from, for the output of
    /// `task`, which saves a copy. Their initial content is undefined.
    ///
    /// `data_out` is valid until the task is completed. Complete it as `AIOPOOL_END_OK` with
    /// `data_out` as the data and up to `len` bytes; in any other way, the memory goes back.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` if `len` is 0; `AIOPOOL_ERR_MISUSE` if there is
    /// no such task or it has borrowed already; `AIOPOOL_ERR_FULL` if other outputs take the memory
    /// now; `AIOPOOL_ERR_TOO_LARGE`; `AIOPOOL_ERR_SYSTEM`; `AIOPOOL_ERR_NULL`;
    /// `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_loan(
        worker: Option<NonNull<aiopool_worker>>,
        task: u64,
        len: usize,
        data_out: Option<&mut MaybeUninit<*mut c_void>>,
    ) -> aiopool_status {
        let data_out: &mut _ = out("data_out", data_out)?;
        if len == 0 {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "len = 0: nothing can be borrowed"));
        }
        with(worker, |serving| {
            let data = serving.worker.loan_output(task, len);
            data_out.write(data.map_err(|error| no_loan(len, error))?.cast());
            Ok(())
        })
    }
}

ffi_fn! {
    /// Completes a task: `how` is `AIOPOOL_END_*`. The data is copied unless it is in memory that
    /// `aiopool_worker_loan` lent for it.
    ///
    /// If the task was cancelled meanwhile, this confirms the cancellation, whatever `how` is.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if there is no such task or it is over;
    /// `AIOPOOL_ERR_INVALID` for another `how`, or a text that is not UTF-8; `AIOPOOL_ERR_NULL`;
    /// `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_complete(
        worker: Option<NonNull<aiopool_worker>>,
        task: u64,
        how: u32,
        data: *const c_void,
        len: usize,
    ) -> aiopool_status {
        // SAFETY: the caller gives `len` bytes.
        let data = unsafe { bytes("data", data, len) }?;
        let said = || {
            std::str::from_utf8(data)
                .map_err(|_| Failure::new(AIOPOOL_ERR_INVALID, "the text is not UTF-8"))
        };
        let completion = match how {
            AIOPOOL_END_OK => Completion::Ok(data),
            AIOPOOL_END_FAILED => Completion::Failed(said()?),
            AIOPOOL_END_REFUSED => Completion::Refused(said()?),
            AIOPOOL_END_UNENCODABLE => Completion::Unencodable(said()?),
            AIOPOOL_END_CANCELLED => Completion::Cancelled,
            other => {
                let text = format!("how = {other} is none of AIOPOOL_END_*");
                return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
            }
        };
        with(worker, |serving| Ok(serving.worker.complete(task, completion)?))
    }
}

ffi_fn! {
    /// Reports to the pool why this worker cannot start; end the program after this.
    ///
    /// If no worker of the pool can start, the pool fails with the last such reason. The handle is
    /// invalid after this.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (not UTF-8) or
    /// `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_fail(
        worker: Option<NonNull<aiopool_worker>>,
        reason: *const c_char,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        let reason = unsafe { text("reason", reason) }?;
        end(worker)?.fail(reason);
        Ok(())
    }
}

ffi_fn! {
    /// Leaves the pool in an orderly way; end the program with status 0 soon after this.
    ///
    /// The handle is invalid after this.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_worker_leave(worker: Option<NonNull<aiopool_worker>>) -> aiopool_status {
        end(worker)?.leave();
        Ok(())
    }
}

ffi_fn! {
    /// Serves this process's registered task functions by name, and ends the process when the pool
    /// does.
    ///
    /// Use it instead of `aiopool_worker_attach` and a loop; the same conditions hold.
    ///
    /// Returns only if it cannot attach, with the status of `aiopool_worker_attach`.
    fn aiopool_worker_serve() -> aiopool_status {
        let start = crate::launch::attach()?;
        worker::run_by_name(start)
    }
}
