//! Submitting.
//!
//! Thread rule: as for pools; several threads may submit at once.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use super::boundary::{Failure, in_c};
use super::call::{AIOPOOL_CALL_ON_QUEUE, aiopool_call};
use super::pointer::{out, sized, sized_in_place};
use super::pool::{HostPool, Numbered, aiopool_pool, pool_of};
use super::reading::{Input, check, function_of, goes, input_of, options_of};
use super::status::*;
use super::turns::{self, deadline};
use super::usual::{SMALL, submit_at_once, submit_run};
use crate::error::{Error, Result as EngineResult};
use crate::queue::{For, Submission, Ticket};
use crate::scheduler::NewTask;
use crate::supervisor::Shared;

/// Submits a call; waits up to `timeout_ms` for room, if that is given.
///
/// # Safety
///
/// The call's pointers are what its fields say.
#[inline]
unsafe fn submit(
    pool: &HostPool,
    call: &aiopool_call,
    mut wait: Option<&mut Wait>,
) -> Result<u64, Failure> {
    let (shared, inbox) = (pool.shared(), &pool.inbox);
    check(pool, call)?;
    // SAFETY: the caller vouches for the pointers.
    let (input, function) = unsafe { (input_of(pool, call)?, function_of(pool, call)?) };
    let Numbered { number, name } = function;
    let options = options_of(call)?;
    if !inbox.has_room() {
        let made = inbox.make_room(shared, || Some(wait.as_mut()?.until()));
        made.or_else(|full| if inbox.look_for_room(shared) { Ok(()) } else { Err(full) })?;
    }
    let task = shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
    let number_of_queue = if call.flags & AIOPOOL_CALL_ON_QUEUE != 0 {
        call.queue as usize
    } else if pool.no_choice {
        0
    } else {
        let input_bytes = input.len();
        let priority = call.priority as u8;
        shared.queue_for(&NewTask { task, function: name, priority, input_bytes })
    };
    let queue = &shared.queues[number_of_queue];
    let goes = goes(call)?;
    if let Some(goes) = goes {
        inbox.expect(task, goes);
    }
    let submission = || Submission {
        task,
        function: number,
        input: &[],
        options,
        receiver: For::Many(&pool.receiver),
        token: call.user_data,
    };
    let push = || match &input {
        Input::Bytes(input) => queue.try_submit(Submission { input, ..submission() }),
        Input::Parts(parts, len) => queue.try_submit_parts(submission(), parts, *len),
        Input::Loan(_, block, len) => queue.try_submit_block(submission(), *block, *len),
    };
    let refused = match push() {
        Ok(_) => None,
        Err(Error::Full) => {
            let memory = match &input {
                Input::Loan(..) => 0,
                input if input.len() <= SMALL => 0,
                input => input.len(),
            };
            wait_for_room(pool, (number_of_queue, memory), wait, push).err()
        }
        Err(error) => Some(told(shared, error)),
    };
    match (refused, input) {
        (Some(refused), _) => {
            if goes.is_some() {
                inbox.withdraw(task);
            }
            Err(refused)
        }
        (None, Input::Loan(loan, _, _)) => {
            // The block is the task's now.
            loan.take()?;
            Ok(task)
        }
        (None, _) => Ok(task),
    }
}

/// How long a call may wait for room: the limit is made a time when the pool is full first.
struct Wait {
    timeout_ms: u64,
    until: Option<Option<Instant>>,
}

impl Wait {
    fn at_most(timeout_ms: u64) -> Self {
        Self { timeout_ms, until: None }
    }

    /// Returns until when the caller waits, in this turn.
    fn until(&mut self) -> Option<Instant> {
        *self.until.get_or_insert_with(|| deadline(self.timeout_ms))
    }
}

/// Pushes once more when there is room, if the caller waits for it.
#[cold]
fn wait_for_room(
    pool: &HostPool,
    (number, memory): (usize, usize),
    wait: Option<&mut Wait>,
    push: impl Fn() -> EngineResult<Ticket>,
) -> Result<(), Failure> {
    let (shared, inbox) = (pool.shared(), &pool.inbox);
    let queue = &shared.queues[number];
    let until = wait.map(Wait::until);
    let pushed = inbox.looking(|| {
        let (waker, mut turn) = (shared.bell_waker(), None);
        let mut admit = || match shared.admit(queue, &mut turn, &waker, &push) {
            Poll::Ready(pushed) => Some(pushed),
            Poll::Pending => None,
        };
        match until {
            Some(until) => shared.block(until, admit),
            None => admit(),
        }
    });
    let again = || Some(push()).filter(|pushed| !matches!(pushed, Err(Error::Full)));
    let pushed = match pushed {
        None | Some(Err(Error::Full)) => refused(pool, number, memory, again),
        pushed => pushed,
    };
    match pushed {
        Some(Ok(_)) => Ok(()),
        None if until.is_some() => {
            Err(Failure::new(AIOPOOL_ERR_TIMEOUT, "the pool stayed full for the time given"))
        }
        None => Err(Error::Full.into()),
        Some(Err(error)) => Err(told(shared, error)),
    }
}

/// A task of queue `number` was refused that needs `memory` bytes for its input, perhaps none: has
/// the descriptor for room say when it can be submitted. Returns what `again` found.
fn refused<T>(
    pool: &HostPool,
    number: usize,
    memory: usize,
    mut again: impl FnMut() -> Option<T>,
) -> Option<T> {
    let (shared, inbox) = (pool.shared(), &pool.inbox);
    let (queue, inputs) = (&shared.queues[number], &inbox.common.inputs);
    if memory == 0 {
        let stand = |waker: &_| Some((number, queue.wait_for_room(None, waker)));
        return inbox.room.refused(shared, stand, again);
    }
    loop {
        let mut stands = false;
        let stand = |waker: &_| {
            let place = queue.watch_for_room(waker)?;
            stands = true;
            Some((number, place))
        };
        let found = inbox.room.refused(shared, stand, &mut again);
        if found.is_some() || stands || !inbox.room.is_given() {
            return found;
        }
        // There was a record. If there is memory, too, another thread took one of them meanwhile.
        match inputs.loan(memory) {
            Ok((block, _)) => inputs.free(block),
            Err(_) => return None,
        }
        inputs.wake_waiting();
    }
}

/// Returns what C is told of a submission that the engine refused.
#[cold]
pub(super) fn told(shared: &Shared, error: Error) -> Failure {
    match (error, shared.reason()) {
        (Error::Closed, Some(reason)) => Failure::new(AIOPOOL_ERR_FAILED, in_c(&reason)),
        (error, _) => error.into(),
    }
}

/// Submits the one call of a process, which has room for it.
///
/// # Safety
///
/// The call's pointers are what its fields say.
pub(super) unsafe fn submit_one(pool: &HostPool, call: &aiopool_call) -> Result<u64, Failure> {
    // SAFETY: the caller vouches for them.
    unsafe { submit(pool, call, None) }
}

ffi_fn! {
    /// Submits a task; waits at most `timeout_ms` for room if the pool is full.
    ///
    /// The input is copied. `ticket_out` may be NULL; a ticket is the number of a task in its
    /// pool and is never used again.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT` if there was no room in time; `AIOPOOL_ERR_FULL`
    /// at once if as many outcomes wait to be received as the pool holds tasks and no other thread
    /// receives any, since waiting would not help; `AIOPOOL_ERR_CLOSED`; `AIOPOOL_ERR_FAILED`;
    /// `AIOPOOL_ERR_INVALID`, `AIOPOOL_ERR_STRUCT`, `AIOPOOL_ERR_UNKNOWN` or
    /// `AIOPOOL_ERR_TOO_LARGE` for the call;
    /// `AIOPOOL_ERR_SYSTEM` if memory has run out.
    fn aiopool_pool_submit(
        pool: Option<NonNull<aiopool_pool>>,
        call: *const aiopool_call,
        timeout_ms: u64,
        ticket_out: Option<&mut MaybeUninit<u64>>,
    ) -> aiopool_status = at_once {
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let ticket = unsafe { submit_at_once(pool, call) }?;
        if let Some(out) = ticket_out {
            out.write(ticket);
        }
        Some(())
    } waits => {
        let pool = pool_of(pool)?;
        let mut room = MaybeUninit::uninit();
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let ticket = unsafe {
            let call = sized_in_place(call, &mut room)?;
            submit(&pool, call, Some(&mut Wait::at_most(timeout_ms)))?
        };
        if let Some(out) = ticket_out {
            out.write(ticket);
        }
        Ok(())
    }
}

ffi_fn! {
    /// Submits a task if there is room now.
    ///
    /// Returns as `aiopool_pool_submit`; `AIOPOOL_ERR_FULL` if there is no room.
    fn aiopool_pool_try_submit(
        pool: Option<NonNull<aiopool_pool>>,
        call: *const aiopool_call,
        ticket_out: Option<&mut MaybeUninit<u64>>,
    ) -> aiopool_status = at_once {
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let ticket = unsafe { submit_at_once(pool, call) }?;
        if let Some(out) = ticket_out {
            out.write(ticket);
        }
        Some(())
    } waits => {
        let pool = pool_of(pool)?;
        let mut room = MaybeUninit::uninit();
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let ticket = unsafe { submit(&pool, sized_in_place(call, &mut room)?, None) }?;
        if let Some(out) = ticket_out {
            out.write(ticket);
        }
        Ok(())
    }
}

ffi_fn! {
    /// Submits `count` tasks, in order; waits at most `timeout_ms` in all for room.
    ///
    /// `calls` is an array of structs of the size that the first one states. `tickets_out`, which
    /// may be NULL, has room for `count` tickets.
    ///
    /// `submitted_out` is written unless an argument is NULL. It is the number of submitted tasks,
    /// and so the index of the call that was refused.
    ///
    /// Returns `AIOPOOL_OK` if all were submitted, else the status of the first that was not, as
    /// `aiopool_pool_submit`.
    fn aiopool_pool_submit_many(
        pool: Option<NonNull<aiopool_pool>>,
        calls: *const aiopool_call,
        count: usize,
        timeout_ms: u64,
        tickets_out: *mut u64,
        submitted_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status = waits => {
        let submitted_out: &mut _ = out("submitted_out", submitted_out)?;
        let submitted = submitted_out.write(turns::submitted());
        let pool = pool_of(pool)?;
        let mut wait = Wait::at_most(timeout_ms);
        let stride = match count {
            0 => 0,
            _ => {
                // SAFETY: the caller gives a call that begins with its size.
                unsafe { sized(calls) }?;
                // SAFETY: not NULL, or `sized` had said so.
                unsafe { calls.cast::<u32>().read_unaligned() as usize }
            }
        };
        while *submitted < count {
            let index = *submitted;
            let at = calls.wrapping_byte_add(index * stride);
            if stride == size_of::<aiopool_call>() {
                // SAFETY: the caller gives `count` calls of this size, and their pointers are good.
                let (ticket, together) = unsafe { submit_run(&pool, at, count - index) };
                if !tickets_out.is_null() {
                    for other in 0..together {
                        // SAFETY: the caller gives room for `count` tickets, and less are written.
                        unsafe { tickets_out.add(index + other).write(ticket + other as u64) };
                    }
                }
                *submitted += together;
                turns::set_submitted(*submitted);
                if together > 0 {
                    continue;
                }
            }
            // SAFETY: the caller gives `count` calls of the size that the first one says.
            let call = unsafe { sized(at) }?;
            // SAFETY: the call's pointers are good, as the caller says.
            let ticket = unsafe { submit(&pool, &call, Some(&mut wait)) }?;
            if !tickets_out.is_null() {
                // SAFETY: the caller gives room for `count` tickets, and less are written.
                unsafe { tickets_out.add(index).write(ticket) };
            }
            *submitted = index + 1;
            turns::set_submitted(*submitted);
        }
        Ok(())
    }
}
