//! Receiving.
//!
//! Outcomes are received in the order in which they arrive. Those asked for by ticket are kept for
//! `aiopool_pool_wait_ticket`; the others go to the next call of try_wait or wait.
//!
//! Thread rule: as for pools; several threads may wait at once, each outcome goes to one.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::time::Duration;

use super::boundary::Failure;
use super::outcome::{aiopool_outcome, lend};
use super::pointer::out;
use super::pool::{aiopool_pool, pool_at_once, pool_of};
use super::status::*;

fn none_now() -> Failure {
    Failure::new(AIOPOOL_ERR_EMPTY, "there is no outcome now")
}

/// Lends the first outcome that has arrived already; `None` for all else.
fn take_at_once(
    pool: Option<NonNull<aiopool_pool>>,
    outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
) -> Option<()> {
    let pool = pool_at_once(pool)?;
    outcome_out?.write(pool.inbox.lend_first()?);
    Some(())
}

/// Lends the next outcome, if there is one.
fn take_now(
    pool: Option<NonNull<aiopool_pool>>,
    outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
) -> Result<(), Failure> {
    let outcome_out = out("outcome_out", outcome_out)?;
    let pool = pool_of(pool)?;
    let arrived = pool.inbox.try_wait(pool.shared()).ok_or_else(none_now)?;
    outcome_out.write(lend(arrived));
    Ok(())
}

ffi_fn! {
    /// Lends an outcome if there is one.
    ///
    /// The caller releases it with `aiopool_outcome_release`. Outcomes of calls with `on_complete`
    /// are handed to their functions first.
    ///
    /// Returns `AIOPOOL_OK`, or `AIOPOOL_ERR_EMPTY` if there is none now; then the pool's
    /// descriptor is not readable until there is one.
    fn aiopool_pool_try_wait(
        pool: Option<NonNull<aiopool_pool>>,
        outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
    ) -> aiopool_status = at_once {
        take_at_once(pool, outcome_out)
    } waits => {
        take_now(pool, outcome_out)
    }
}

ffi_fn! {
    /// Deprecated: the name of `aiopool_pool_try_wait` before it was said that it takes.
    fn aiopool_pool_peek(
        pool: Option<NonNull<aiopool_pool>>,
        outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
    ) -> aiopool_status = at_once {
        take_at_once(pool, outcome_out)
    } waits => {
        take_now(pool, outcome_out)
    }
}

ffi_fn! {
    /// Waits at most `timeout_ms` for an outcome and lends it.
    ///
    /// The caller releases it with `aiopool_outcome_release`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_CLOSED` if the pool is closed
    /// and every outcome was received.
    fn aiopool_pool_wait(
        pool: Option<NonNull<aiopool_pool>>,
        timeout_ms: u64,
        outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
    ) -> aiopool_status = at_once {
        let pool = pool_at_once(pool)?;
        outcome_out?.write(pool.inbox.lend_first()?);
        Some(())
    } waits => {
        let outcome_out: &mut _ = out("outcome_out", outcome_out)?;
        let pool = pool_of(pool)?;
        let arrived = pool.inbox.wait(pool.shared(), timeout_ms)?;
        outcome_out.write(lend(arrived));
        Ok(())
    }
}

ffi_fn! {
    /// Waits at most `timeout_ms` for the first outcome and lends it together with up to `max - 1`
    /// others that have arrived by then.
    ///
    /// `outcomes_out` has room for `max` handles; each is released by the caller.
    ///
    /// Returns as `aiopool_pool_wait`; `AIOPOOL_ERR_INVALID` if `max` is 0.
    fn aiopool_pool_wait_many(
        pool: Option<NonNull<aiopool_pool>>,
        outcomes_out: *mut *mut aiopool_outcome,
        max: usize,
        timeout_ms: u64,
        count_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status = at_once {
        let pool = pool_at_once(pool)?;
        let (outcomes_out, count_out) = (NonNull::new(outcomes_out)?, count_out?);
        // SAFETY: the caller gives room for `max` handles, and `at` is less.
        let place = |at, lent| unsafe { outcomes_out.add(at).write(lent) };
        let count = pool.inbox.lend_many(max, place);
        if count == 0 {
            return None;
        }
        count_out.write(count);
        Some(())
    } waits => {
        let count_out: &mut _ = out("count_out", count_out)?;
        if outcomes_out.is_null() {
            return Err(Failure::null("outcomes_out"));
        }
        if max == 0 {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "max = 0: no outcome can be lent"));
        }
        let pool = pool_of(pool)?;
        // SAFETY: the caller gives room for `max` handles, and `at` is less.
        let place = |at, lent| unsafe { outcomes_out.add(at).write(lent) };
        place(0, lend(pool.inbox.wait(pool.shared(), timeout_ms)?));
        pool.inbox.call_functions();
        let count = 1 + pool.inbox.lend_many(max - 1, |at, lent| place(1 + at, lent));
        count_out.write(count);
        Ok(())
    }
}

ffi_fn! {
    /// Waits at most `timeout_ms` for the outcome of one task and lends it.
    ///
    /// From this call on the outcome is kept for its ticket, also if the call times out. Those of
    /// tasks submitted with `AIOPOOL_CALL_BY_TICKET` are kept from the submission on, so no other
    /// thread's wait can take them before.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_UNKNOWN` if there is no such
    /// task or its outcome was received before.
    fn aiopool_pool_wait_ticket(
        pool: Option<NonNull<aiopool_pool>>,
        ticket: u64,
        timeout_ms: u64,
        outcome_out: Option<&mut MaybeUninit<*mut aiopool_outcome>>,
    ) -> aiopool_status = waits => {
        let outcome_out: &mut _ = out("outcome_out", outcome_out)?;
        let pool = pool_of(pool)?;
        let arrived = pool.inbox.wait_task(pool.shared(), ticket, timeout_ms)?;
        outcome_out.write(lend(arrived));
        Ok(())
    }
}

ffi_fn! {
    /// Cancels a task. A queued one ends at once; a running asynchronous one has its cancel
    /// function called.
    ///
    /// Its outcome arrives at once, as `AIOPOOL_OUTCOME_CANCELLED` unless the task was over before.
    /// A cancel never kills: a function that continues keeps its worker busy until it returns. For
    /// a task that must not run on, set `run_limit_ms`, which does kill, or call
    /// `aiopool_pool_cancel_within`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_UNKNOWN` if there is no such task or it is over.
    fn aiopool_pool_cancel(pool: Option<NonNull<aiopool_pool>>, ticket: u64) -> aiopool_status {
        let pool = pool_of(pool)?;
        let known = pool.shared().queues.iter().find_map(|queue| queue.find(ticket));
        if known.is_some_and(|ticket| pool.shared().cancel(ticket)) {
            return Ok(());
        }
        let text = format!("no task has the ticket {ticket}, or it is over");
        Err(Failure::new(AIOPOOL_ERR_UNKNOWN, text))
    }
}

ffi_fn! {
    /// Cancels a task as `aiopool_pool_cancel` does, and has its worker killed if it has not
    /// dropped the task within `grace_ms`: for a function that computes and does not ask
    /// `aiopool_task_is_cancelled`.
    ///
    /// What else runs in that worker is lost with it, or runs again where its call has `retries`.
    ///
    /// Returns as `aiopool_pool_cancel`.
    fn aiopool_pool_cancel_within(
        pool: Option<NonNull<aiopool_pool>>,
        ticket: u64,
        grace_ms: u64,
    ) -> aiopool_status {
        let pool = pool_of(pool)?;
        let shared = pool.shared();
        let known = shared.queues.iter().find_map(|queue| queue.find(ticket));
        if known.is_some_and(|ticket| shared.cancel_within(ticket, Duration::from_millis(grace_ms))) {
            return Ok(());
        }
        let text = format!("no task has the ticket {ticket}, or it is over");
        Err(Failure::new(AIOPOOL_ERR_UNKNOWN, text))
    }
}

ffi_fn! {
    /// Writes how far a running task says it is (`aiopool_task_progress`) to `progress_out`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_UNKNOWN` if there is no such task, it is over, or it has
    /// said nothing in its current attempt.
    fn aiopool_pool_progress(
        pool: Option<NonNull<aiopool_pool>>,
        ticket: u64,
        progress_out: Option<&mut MaybeUninit<u64>>,
    ) -> aiopool_status {
        let progress_out = out("progress_out", progress_out)?;
        let pool = pool_of(pool)?;
        let shared = pool.shared();
        let known = shared.queues.iter().find_map(|queue| queue.find(ticket));
        let progress = known.and_then(|ticket| shared.progress(ticket)).ok_or_else(|| {
            let text = format!("no running task with the ticket {ticket} has said how far it is");
            Failure::new(AIOPOOL_ERR_UNKNOWN, text)
        })?;
        progress_out.write(progress);
        Ok(())
    }
}
