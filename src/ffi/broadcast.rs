//! A task on every worker.
//!
//! To warm a cache, to change a key, to collect a number. What every worker, replacements among
//! them, needs before its first task is the init function's.
//!
//! Thread rule: as for pools.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use super::boundary::Failure;
use super::call::{
    AIOPOOL_CALL_ALONE, AIOPOOL_CALL_JITTER, AIOPOOL_CALL_ON_QUEUE, AIOPOOL_CALL_RETRY_ON_ERROR,
    AIOPOOL_CALL_RETRY_ON_TIMEOUT, aiopool_call,
};
use super::inbox::Goes;
use super::pointer::{out, sized};
use super::pool::{HostPool, aiopool_pool, pool_of};
use super::reading::{Input, check, function_of, goes, input_of, options_of};
use super::status::*;
use super::submit::told;
use crate::supervisor::Assignment;

/// Refuses what a task has no use for that is one worker's alone and is tried once.
fn refuse_useless(call: &aiopool_call) -> Result<(), Failure> {
    let flags = [
        ("AIOPOOL_CALL_ON_QUEUE", AIOPOOL_CALL_ON_QUEUE),
        ("AIOPOOL_CALL_ALONE", AIOPOOL_CALL_ALONE),
        ("AIOPOOL_CALL_RETRY_ON_ERROR", AIOPOOL_CALL_RETRY_ON_ERROR),
        ("AIOPOOL_CALL_RETRY_ON_TIMEOUT", AIOPOOL_CALL_RETRY_ON_TIMEOUT),
        ("AIOPOOL_CALL_JITTER", AIOPOOL_CALL_JITTER),
    ];
    let fields = [
        ("retries", call.retries != 0),
        ("retry_if", call.retry_if.is_some()),
        ("wait_limit_ms", call.wait_limit_ms != 0),
        ("priority", call.priority != 0),
        ("loan", !call.loan.is_null()),
    ];
    let flags = flags.into_iter().map(|(name, flag)| (name, call.flags & flag != 0));
    let Some((name, _)) = flags.chain(fields).find(|(_, is_set)| *is_set) else { return Ok(()) };
    let text = format!(
        "{name}: a broadcast copies its input, and runs its function once on each worker as soon as \
         that comes round to it"
    );
    Err(Failure::new(AIOPOOL_ERR_INVALID, text))
}

/// Has every worker run a call; returns the ticket of the first one's task.
///
/// # Safety
///
/// The call's pointers are what its fields say.
unsafe fn spread(pool: &HostPool, call: &aiopool_call) -> Result<u64, Failure> {
    check(pool, call)?;
    refuse_useless(call)?;
    let (shared, inbox) = (pool.shared(), &pool.inbox);
    // SAFETY: the caller vouches for the pointers.
    let (input, function) = unsafe { (input_of(pool, call)?, function_of(pool, call)?) };
    let input = match input {
        Input::Parts(parts, _) => parts.concat(),
        Input::Bytes(bytes) => bytes.to_vec(),
        Input::Loan(..) => unreachable!("refused above"),
    };
    let goes = goes(call)?.unwrap_or(Goes::ToAny);
    let made = inbox.make_room(shared, || None);
    made.or_else(|full| if inbox.look_for_room(shared) { Ok(()) } else { Err(full) })?;
    let first_task = shared.tasks_for_all();
    let seats = shared.plan.processes;
    let tasks = first_task..first_task + u64::from(seats);
    tasks.clone().for_each(|task| inbox.expect(task, goes));
    let assigned = shared.assign(Assignment {
        function: function.number,
        input,
        options: options_of(call)?,
        receiver: Arc::clone(&pool.receiver),
        token: call.user_data,
        first_task,
        seats: (0..seats).collect(),
    });
    if let Err(error) = assigned {
        tasks.for_each(|task| inbox.withdraw(task));
        return Err(told(shared, error));
    }
    Ok(first_task)
}

ffi_fn! {
    /// Runs a call once on every worker. Each runs it beside the tasks that it has, as soon as it
    /// comes round to it, and one that is being replaced has its successor do so. A worker that
    /// starts later does not run it.
    ///
    /// There are `count_out` outcomes, one for each seat of the pool: that of the worker on seat
    /// `n` (`aiopool_worker_id`) has the ticket `ticket_out + n` and the call's `user_data`. They
    /// go where those of submitted calls go, by the call's flags and `on_complete`. `ticket_out`
    /// may be NULL. A worker that dies of it is its own task's `AIOPOOL_OUTCOME_WORKER_LOST`, and
    /// no task is tried again. `aiopool_pool_cancel` knows a task once a worker has it.
    ///
    /// The input is copied, from `input` or `parts`; of the options `run_limit_ms` counts. It does
    /// not wait: where a queue is full, the tasks do.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_FULL` if as many outcomes wait to be received as the pool
    /// holds tasks; `AIOPOOL_ERR_CLOSED`; `AIOPOOL_ERR_FAILED`; `AIOPOOL_ERR_INVALID`, also for
    /// what such a call has no use for (retries, a queue, a priority, a loan), and
    /// `AIOPOOL_ERR_STRUCT`, `AIOPOOL_ERR_UNKNOWN` or `AIOPOOL_ERR_TOO_LARGE`.
    fn aiopool_pool_broadcast(
        pool: Option<NonNull<aiopool_pool>>,
        call: *const aiopool_call,
        ticket_out: Option<&mut MaybeUninit<u64>>,
        count_out: Option<&mut MaybeUninit<u32>>,
    ) -> aiopool_status {
        let count_out = out("count_out", count_out)?;
        let pool = pool_of(pool)?;
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let first = unsafe { spread(&pool, &sized(call)?) }?;
        if let Some(out) = ticket_out {
            out.write(first);
        }
        count_out.write(pool.shared().plan.processes);
        Ok(())
    }
}
