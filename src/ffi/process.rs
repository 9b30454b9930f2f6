//! Processes.
//!
//! One task function in a process of its own, which ends with it: like a pool of one worker and one
//! task. What holds for workers holds here: how they start, what they are forbidden, and that none
//! is left behind.
//!
//! Thread rule: as for pools. In a forked child every call returns `AIOPOOL_ERR_FORKED`, in a task
//! function `AIOPOOL_ERR_IN_WORKER`; a freed handle is `AIOPOOL_ERR_HANDLE`.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use super::boundary::{Failure, in_c};
use super::call::{AIOPOOL_CALL_BY_TICKET, aiopool_call};
use super::handle::of_handle;
use super::init;
use super::options::aiopool_pool_options;
use super::outcome::{aiopool_outcome, lend};
use super::pointer::{out, sized, text};
use super::pool::{HostPool, options_or_defaults};
use super::status::*;
use super::submit::submit_one;
use super::turns::deadline;
use crate::process::{exit_code, next_name, of_one};
use crate::supervisor::Shared;

handle! {
    /// A task function in a process of its own.
    pub struct aiopool_process(Arc<HostProcess>) in PROCESSES, gone: "this process was freed";
}

/// What a process handle stands for: a pool that takes no more tasks.
#[derive(Debug)]
pub struct HostProcess {
    pool: HostPool,
    name: CString,
}

impl HostProcess {
    fn shared(&self) -> &Arc<Shared> {
        self.pool.shared()
    }

    fn signal(&self, signal: i32) -> Result<(), Failure> {
        Ok(self.shared().signal_single(signal)?)
    }
}

/// Returns the process that a handle stands for, to be used by this call.
fn process_of(process: Option<NonNull<aiopool_process>>) -> Result<Arc<HostProcess>, Failure> {
    let cell = of_handle(process).ok_or_else(|| Failure::null("process"))?;
    init::check_host()?;
    let process = cell.enter()?.as_ref().map(Arc::clone);
    process.ok_or_else(aiopool_process::gone)
}

ffi_fn! {
    /// Starts a process that runs `call` and ends.
    ///
    /// `call` is as for `aiopool_pool_submit`; it has no retries, since no other worker could run
    /// it again. `options` are those of a pool, or NULL for the defaults; `processes`, `queues`,
    /// `child_concurrency`, `max_tasks_per_child` and `capacity` are ignored. `name` is for logs,
    /// and copied; NULL for "Process-" and a number. The caller owns `process_out` and frees it
    /// with `aiopool_process_free`.
    ///
    /// Returns `AIOPOOL_OK`; else as `aiopool_pool_start` and `aiopool_pool_submit`, and nothing
    /// is left of the process.
    fn aiopool_process_start(
        call: *const aiopool_call,
        options: *const aiopool_pool_options,
        name: *const c_char,
        process_out: Option<&mut MaybeUninit<*mut aiopool_process>>,
    ) -> aiopool_status {
        let process_out: &mut _ = out("process_out", process_out)?;
        init::check_host()?;
        // SAFETY: the caller gives a call and options that begin with their size, or NULL.
        let (mut call, options) = unsafe { (sized(call)?, options_or_defaults(options)?) };
        let name = if name.is_null() {
            next_name("Process")
        } else {
            // SAFETY: the caller gives a C string.
            unsafe { text("name", name) }?.to_owned()
        };
        if call.retries != 0 || call.retry_if.is_some() {
            let text = "retries, retry_if: a process runs its function once";
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        if call.on_complete.is_some() {
            let text = "on_complete: aiopool_process_wait gives a process's outcome";
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        // There is one outcome, and one call that asks for it.
        call.flags &= !AIOPOOL_CALL_BY_TICKET;
        // SAFETY: the caller vouches for the options' pointers.
        let pool = unsafe { HostPool::start(&options, of_one) }?;
        // SAFETY: the caller vouches for the call's pointers.
        unsafe { submit_one(&pool, &call) }?;
        pool.close();
        let name = CString::new(name).unwrap_or_default();
        process_out.write(aiopool_process::own(Arc::new(HostProcess { pool, name })));
        Ok(())
    }
}

ffi_fn! {
    /// Waits at most `timeout_ms` for the outcome of the function, and lends it.
    ///
    /// A process that died has one, too: `AIOPOOL_OUTCOME_WORKER_LOST`. The caller releases it with
    /// `aiopool_outcome_release`. The process itself may live a moment longer: join it.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_UNKNOWN` if the outcome was
    /// received before.
    fn aiopool_process_wait(
        process: Option<NonNull<aiopool_process>>,
        timeout_ms: u64,
        outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
    ) -> aiopool_status = waits => {
        let outcome_out: &mut _ = out("outcome_out", outcome_out)?;
        let process = process_of(process)?;
        let inbox = &process.pool.inbox;
        let arrived = inbox.wait(process.pool.shared(), timeout_ms).map_err(|failure| {
            match failure.status {
                AIOPOOL_ERR_CLOSED => {
                    Failure::new(AIOPOOL_ERR_UNKNOWN, "the process's outcome was received before")
                }
                _ => failure,
            }
        })?;
        outcome_out.write(lend(arrived));
        Ok(())
    }
}

ffi_fn! {
    /// Writes the process's descriptor, which any event loop can watch for reading.
    ///
    /// It is readable when there may be an outcome, until `aiopool_process_wait` has found none;
    /// that call does not block with a `timeout_ms` of 0. Do not read, write or close it; it is
    /// valid until the process is freed.
    ///
    /// Returns `AIOPOOL_OK`.
    fn aiopool_process_fd(
        process: Option<NonNull<aiopool_process>>,
        fd_out: Option<&mut MaybeUninit<i32>>,
    ) -> aiopool_status {
        let fd_out = out("fd_out", fd_out)?;
        let process = process_of(process)?;
        process.pool.inbox.set_polled();
        fd_out.write(process.shared().common.host_bell.as_fd().as_raw_fd());
        Ok(())
    }
}

ffi_fn! {
    /// Waits until the process is gone, at most `timeout_ms`.
    ///
    /// A function that failed, or a process that was killed, is no error here: see
    /// `aiopool_process_exit_code`. The outcome can be received before and after.
    ///
    /// Returns `AIOPOOL_OK`, also the second time; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_FAILED` if
    /// its init function failed.
    fn aiopool_process_join(
        process: Option<NonNull<aiopool_process>>,
        timeout_ms: u64,
    ) -> aiopool_status = waits => {
        let process = process_of(process)?;
        let shared = process.shared();
        let left = deadline(timeout_ms).map(|at| at.saturating_duration_since(Instant::now()));
        if !shared.wait_ended(left) {
            return Err(Failure::new(AIOPOOL_ERR_TIMEOUT, "the process has not ended in that time"));
        }
        match shared.reason() {
            None => Ok(()),
            Some(reason) => Err(Failure::new(AIOPOOL_ERR_FAILED, in_c(&reason))),
        }
    }
}

ffi_fn! {
    /// Writes whether the process is alive.
    ///
    /// Returns `AIOPOOL_OK`.
    fn aiopool_process_is_alive(
        process: Option<NonNull<aiopool_process>>,
        alive_out: Option<&mut MaybeUninit<bool>>,
    ) -> aiopool_status {
        let alive_out = out("alive_out", alive_out)?;
        let single = process_of(process)?.shared().single();
        alive_out.write(single.is_some_and(|single| single.exit.is_none()));
        Ok(())
    }
}

ffi_fn! {
    /// Writes its process id, which another process may have once this one has ended.
    ///
    /// Returns `AIOPOOL_OK`.
    fn aiopool_process_pid(
        process: Option<NonNull<aiopool_process>>,
        pid_out: Option<&mut MaybeUninit<u32>>,
    ) -> aiopool_status {
        let pid_out = out("pid_out", pid_out)?;
        pid_out.write(process_of(process)?.shared().single().map_or(0, |single| single.pid));
        Ok(())
    }
}

ffi_fn! {
    /// Writes its exit code: 0 if the function succeeded, 1 if it failed, minus the signal's number
    /// if one killed it, else the number that the process itself passed to `exit`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_EMPTY` while it is alive; `AIOPOOL_ERR_UNKNOWN` if the
    /// exit code is not known, or the process never ran anything.
    fn aiopool_process_exit_code(
        process: Option<NonNull<aiopool_process>>,
        code_out: Option<&mut MaybeUninit<i32>>,
    ) -> aiopool_status {
        let code_out: &mut _ = out("code_out", code_out)?;
        let process = process_of(process)?;
        match (exit_code(process.pool.pool()), process.shared().single().and_then(|single| single.exit)) {
            (Some(code), _) => {
                code_out.write(code);
                Ok(())
            }
            (None, None) => Err(Failure::new(AIOPOOL_ERR_EMPTY, "the process is alive")),
            (None, Some(exit)) => {
                let text = format!("there is no exit code: the process {exit}");
                Err(Failure::new(AIOPOOL_ERR_UNKNOWN, text))
            }
        }
    }
}

ffi_fn! {
    /// Sends the process `SIGTERM`, which ends it unless its code handles that.
    ///
    /// Returns `AIOPOOL_OK`, also if it has ended; `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_process_terminate(process: Option<NonNull<aiopool_process>>) -> aiopool_status {
        process_of(process)?.signal(libc::SIGTERM)
    }
}

ffi_fn! {
    /// Sends the process `SIGKILL`.
    ///
    /// Returns `AIOPOOL_OK`, also if it has ended; `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_process_kill(process: Option<NonNull<aiopool_process>>) -> aiopool_status {
        process_of(process)?.signal(libc::SIGKILL)
    }
}

ffi_fn! {
    /// Returns its name, valid until it is freed; empty for no process; never NULL.
    fn aiopool_process_name(process: Option<NonNull<aiopool_process>>) -> *const c_char = c"".as_ptr() => {
        of_handle(process).and_then(|cell| cell.look()?.as_ref().map(|process| process.name.as_ptr()))
            .unwrap_or(c"".as_ptr())
    }
}

ffi_fn! {
    /// Frees a process: ends it if it has not ended, kills it after the `grace_ms` of its options,
    /// and waits for its end.
    ///
    /// It refuses nothing. An outcome that the caller holds stays valid until it is released, and
    /// calls of other threads with this process return as for one that has ended. NULL is accepted
    /// and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT` when it lives 10 seconds after it was killed
    /// (the handle is freed all the same); `AIOPOOL_ERR_HANDLE` for one that was freed.
    fn aiopool_process_free(process: Option<NonNull<aiopool_process>>) -> aiopool_status {
        if process.is_none() {
            return Ok(());
        }
        drop(process_of(process)?);
        let cell = of_handle(process).ok_or_else(aiopool_process::gone)?;
        cell.disown(|_| Ok(()))?.pool.end()
    }
}
