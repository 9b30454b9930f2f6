//! Calls that need nothing but a record, which most are: a small input, no limits of time, nothing
//! to be done with the outcome. They have a short way each, and several of them one together.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::call::aiopool_call;
use super::pool::{HostPool, aiopool_pool, pool_at_once};
use crate::queue::{Batch, Staged};
use crate::task::TaskOptions;

/// Submits a call that needs nothing but a record: a small input, no limits of time, no function or
/// ticket for its outcome, no scheduler to ask. None, and nothing is done, for any other call and
/// where anything is wrong.
///
/// # Safety
///
/// `call` is NULL or begins with its size, and its pointers are what its fields say.
#[inline(always)]
pub(super) unsafe fn submit_at_once(
    pool: Option<NonNull<aiopool_pool>>,
    call: *const aiopool_call,
) -> Option<u64> {
    let pool = pool_at_once(pool)?;
    // SAFETY: as the caller says.
    let (call, input) = unsafe { usual(&pool, call) }?;
    let (shared, inbox) = (pool.shared(), &pool.inbox);
    if !inbox.has_room() {
        return None;
    }
    let function = pool.known_number(call.function)?;
    let batch = Batch::new(function, &usual_options(call), &pool.receiver);
    let task = shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
    shared.queues[0].try_submit_small(&batch, (task, call.user_data), input).then_some(task)
}

/// Returns a call that needs nothing but a record, and its input; none for any other.
///
/// # Safety
///
/// As for [`submit_at_once`].
#[inline(always)] // once a task
unsafe fn usual<'c>(
    pool: &HostPool,
    call: *const aiopool_call,
) -> Option<(&'c aiopool_call, &'c [u8])> {
    if call.is_null() || !call.is_aligned() {
        return None;
    }
    // SAFETY: every version begins with the size, and this is ours.
    let call = unsafe {
        if call.cast::<u32>().read() as usize != size_of::<aiopool_call>() {
            return None;
        }
        &*call
    };
    let unusual = call.flags as u64
        | u64::from(call.queue)
        | call.run_limit_ms
        | call.wait_limit_ms
        | call.parts_len as u64
        | call.longest_backoff_ms
        | call.reserved.iter().fold(0, |all, word| all | word)
        | call.retry_if.map_or(0, |function| function as usize as u64)
        | (call.parts.addr() | call.loan.addr()) as u64
        | call.on_complete.map_or(0, |function| function as usize as u64);
    if unusual != 0
        || call.priority >= pool.shared().plan.classes
        || call.input_len > SMALL
        || call.input_len > 0 && call.input.is_null()
        || !pool.no_choice
    {
        return None;
    }
    let input = match call.input_len {
        0 => &[][..],
        // SAFETY: not NULL, and the caller gives that many bytes.
        len => unsafe { std::slice::from_raw_parts(call.input.cast::<u8>(), len) },
    };
    Some((call, input))
}

/// Returns the options of a [`usual`] call.
#[inline(always)] // once a task
fn usual_options(call: &aiopool_call) -> TaskOptions {
    TaskOptions::of_milliseconds(0, 0, call.backoff_ms)
        .retries(call.retries)
        .priority(call.priority as u8)
}

/// As many calls are submitted under one lock, at most.
const RUN: usize = 64;

/// Submits those of `count` calls together that come first, are [`usual`], and of one function and
/// one kind. Returns the ticket of the first of them, and how many they are: perhaps none.
///
/// # Safety
///
/// `calls` is an array of `count` of them, whose pointers are good.
pub(super) unsafe fn submit_run(
    pool: &HostPool,
    calls: *const aiopool_call,
    count: usize,
) -> (u64, usize) {
    let most = count.min(RUN).min(pool.inbox.room());
    // SAFETY: the caller gives that many.
    let call_at = |index| unsafe { usual(pool, calls.wrapping_add(index)) };
    let Some((first, _)) = (most > 1).then(|| call_at(0)).flatten() else { return (0, 0) };
    let Some(function) = pool.known_number(first.function) else { return (0, 0) };
    let kind = |call: &aiopool_call| (call.function, call.priority, call.retries, call.backoff_ms);
    let shared = pool.shared();
    let ticket = shared.next_task.fetch_add(most, Ordering::Relaxed) as u64;
    let (mut staged, mut bytes) = (Vec::with_capacity(most), Vec::new());
    for index in 0..most {
        let Some((call, input)) = call_at(index) else { break };
        if kind(call) != kind(first) {
            break;
        }
        let task = ticket + index as u64;
        staged.push(Staged::new(task, call.user_data, input, &mut bytes));
    }
    let batch = Batch::new(function, &usual_options(first), &pool.receiver);
    let mut records = Vec::with_capacity(staged.len());
    // Why the next one is refused is found when that is submitted by itself.
    let _ = shared.queues[0].try_submit_staged(&staged, &bytes, &batch, &mut records);
    (ticket, records.len())
}

/// The longest input, in bytes, that needs no memory of its own.
pub(super) const SMALL: usize = Staged::MAX_INPUT;
