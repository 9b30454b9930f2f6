//! Submitting.
//!
//! Thread rule: as for pools; several threads may submit at once.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::boundary::Failure;
use super::inbox::Inbox;
use super::loan::aiopool_loan;
use super::pointer::{Sized32, bytes, out, sized, text};
use super::pool::{HostPool, Numbered, aiopool_pool, pool_of};
use super::registry;
use super::status::*;
use super::turns::{self, deadline};
use crate::arena::Block;
use crate::error::{Error, Result as EngineResult};
use crate::queue::{For, HostQueue, Receiver, Submission, Ticket};
use crate::scheduler::NewTask;
use crate::supervisor::{Shared, Stage};
use crate::task::TaskOptions;

/// The outcome is kept for `aiopool_pool_wait_ticket`, never given to peek or wait.
pub const AIOPOOL_CALL_BY_TICKET: u32 = 1;
/// Retries also apply to an error that the function returns, not only to its worker's death.
pub const AIOPOOL_CALL_RETRY_ON_ERROR: u32 = 2;
/// A large payload is not copied: the outcome's data points to where the worker wrote it, and that
/// memory stays taken until the outcome's release. At most half of a worker's `output_arena` is
/// lent in this way; payloads beyond that are copied, so release early.
pub const AIOPOOL_CALL_BORROW_OUTPUT: u32 = 4;

const FLAGS: u32 =
    AIOPOOL_CALL_BY_TICKET | AIOPOOL_CALL_RETRY_ON_ERROR | AIOPOOL_CALL_BORROW_OUTPUT;

/// What to run: one call of a task function.
///
/// Everything but `struct_size` and `function` (or `name`) may be 0: begin with
/// `AIOPOOL_CALL_INIT` or `aiopool_call_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_call {
    /// `sizeof(aiopool_call)`.
    pub struct_size: u32,
    /// `AIOPOOL_CALL_*`, or 0.
    pub flags: u32,
    /// The number of the function; 0 to find it by `name`.
    pub function: u32,
    /// The priority class, 0 the most urgent, below the pool's `priorities`.
    pub priority: u32,
    /// The name of the function, where `function` is 0.
    pub name: *const c_char,
    /// The input, which is copied; may be NULL if `input_len` is 0.
    pub input: *const c_void,
    /// Bytes of input.
    pub input_len: usize,
    /// Passed through to the outcome.
    pub user_data: u64,
    /// Milliseconds that an attempt may run; 0 for no limit.
    pub timeout_ms: u64,
    /// Milliseconds that the task may wait for a worker; 0 for no limit.
    pub queue_ttl_ms: u64,
    /// Milliseconds to wait before the second attempt, doubled for each one after.
    pub backoff_ms: u64,
    /// Number of further attempts that the task gets when its worker dies.
    pub retries: u32,
    /// The queue, counted from 1; 0 to let the pool's scheduler choose.
    pub queue: u32,
    /// Instead of `input`: a loan of this pool, of which the first `input_len` bytes are the input
    /// (0 for all). The loan ends when the task is submitted; if the task is refused it stays the
    /// caller's.
    pub loan: *mut aiopool_loan,
    /// 0.
    pub reserved: [u64; 4],
}

//c /**
//c  * A call with all fields at their defaults: `aiopool_call call = AIOPOOL_CALL_INIT;`
//c  */
//c #define AIOPOOL_CALL_INIT                                                                     \
//c     {sizeof(aiopool_call), 0, 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, {0, 0, 0, 0}}

// SAFETY: integers and pointers only, and the size comes first.
unsafe impl Sized32 for aiopool_call {
    const NAME: &'static str = "aiopool_call";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            flags: 0,
            function: 0,
            priority: 0,
            name: std::ptr::null(),
            input: std::ptr::null(),
            input_len: 0,
            user_data: 0,
            timeout_ms: 0,
            queue_ttl_ms: 0,
            backoff_ms: 0,
            retries: 0,
            queue: 0,
            loan: std::ptr::null_mut(),
            reserved: [0; 4],
        }
    }
}

/// A call, checked, with the pool's own numbers.
struct Checked<'i> {
    function: Numbered,
    /// Counted from 1; 0 for any.
    queue: u32,
    input: &'i [u8],
    options: TaskOptions,
    /// The input stands there already.
    loan: Option<(&'static aiopool_loan, Block, usize)>,
    priority: u8,
    user_data: u64,
    kept: bool,
}

impl<'i> Checked<'i> {
    /// # Safety
    ///
    /// The call's pointers are what its fields say.
    unsafe fn new(pool: &HostPool, call: &aiopool_call) -> Result<Self, Failure> {
        let invalid = |text: String| Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        if call.reserved.iter().any(|&word| word != 0) {
            return Err(Failure::new(AIOPOOL_ERR_STRUCT, "a reserved field is not 0"));
        }
        if call.flags & !FLAGS != 0 {
            let text = format!("flags = {:#x} has unknown bits: known are {FLAGS:#x}", call.flags);
            return invalid(text);
        }
        let plan = &pool.shared().plan;
        if call.priority >= plan.classes {
            let classes = plan.classes;
            let text = format!("priority = {}: 0 to {} are possible", call.priority, classes - 1);
            return invalid(text);
        }
        if call.queue > plan.queues {
            let queues = plan.queues;
            return invalid(format!("queue = {}: 0 to {queues} are possible", call.queue));
        }
        if call.input_len > plan.max_payload {
            let error = Error::PayloadTooLarge { size: call.input_len, max: plan.max_payload };
            return Err(error.into());
        }
        // SAFETY: the caller vouches for the pointers.
        let loan = unsafe { call.loan.as_ref() };
        let loan = match loan {
            Some(_) if !call.input.is_null() => {
                return invalid("a call has either an input or a loan".to_owned());
            }
            Some(loan) => {
                let (block, len) = loan.block(&pool.inbox)?;
                if call.input_len > len {
                    return invalid(format!("input_len = {}: the loan has {len}", call.input_len));
                }
                Some((loan, block, if call.input_len == 0 { len } else { call.input_len }))
            }
            None => None,
        };
        let input_len = if loan.is_some() { 0 } else { call.input_len };
        // SAFETY: the caller vouches for the pointers.
        let input = unsafe { bytes("input", call.input, input_len) }?;
        let function = match call.function {
            // SAFETY: the caller vouches for the pointers.
            0 => registry::by_name(unsafe { text("name", call.name) }?)?,
            number => number,
        };
        let mut options = TaskOptions::new()
            .retries(call.retries)
            .retry_on_error(call.flags & AIOPOOL_CALL_RETRY_ON_ERROR != 0)
            .lend_output(call.flags & AIOPOOL_CALL_BORROW_OUTPUT != 0)
            .backoff(Duration::from_millis(call.backoff_ms))
            .priority(call.priority as u8);
        if call.timeout_ms != 0 {
            options = options.timeout(Duration::from_millis(call.timeout_ms));
        }
        if call.queue_ttl_ms != 0 {
            options = options.queue_ttl(Duration::from_millis(call.queue_ttl_ms));
        }
        Ok(Self {
            function: pool.number_of(function)?,
            queue: call.queue,
            input,
            options,
            loan,
            priority: call.priority as u8,
            user_data: call.user_data,
            kept: call.flags & AIOPOOL_CALL_BY_TICKET != 0,
        })
    }

    fn push(
        &self,
        inbox: &Arc<Inbox>,
        queue: &HostQueue,
        task: u64,
        token: u64,
    ) -> EngineResult<Ticket> {
        let submission = Submission {
            task,
            function: self.function.number,
            input: self.input,
            options: self.options,
            receiver: For::One(Arc::clone(inbox) as Arc<dyn Receiver>),
            token,
        };
        match self.loan {
            Some((_, block, len)) => queue.try_submit_block(submission, block, len),
            None => queue.try_submit(submission),
        }
    }

    /// Submits, and waits for room until `until`; `Some(None)` for as long as it takes.
    fn submit(&self, pool: &HostPool, until: Option<Option<Instant>>) -> Result<u64, Failure> {
        let (shared, inbox) = (pool.shared(), &pool.inbox);
        if shared.stage() != Stage::Open {
            return Err(closed(shared));
        }
        let task = shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
        let queue = match self.queue.checked_sub(1) {
            Some(chosen) => chosen as usize,
            None => shared.queue_for(&NewTask {
                task,
                function: self.function.name,
                priority: self.priority,
                input_bytes: self.loan.map_or(self.input.len(), |(_, _, len)| len),
            }),
        };
        let queue = &shared.queues[queue];
        let token = inbox.expect(task, self.user_data, self.kept, shared, until)?;
        let mut pushed = self.push(inbox, queue, task, token);
        if matches!(pushed, Err(Error::Full)) {
            pushed = inbox.looking(|| {
                let (waker, mut turn) = (shared.bell_waker(), None);
                let push = || self.push(inbox, queue, task, token);
                let mut admit = || match shared.admit(queue, &mut turn, &waker, push) {
                    Poll::Ready(pushed) => Some(pushed),
                    Poll::Pending => None,
                };
                let pushed = match until {
                    Some(until) => shared.block(until, admit),
                    None => admit(),
                };
                pushed.unwrap_or(Err(Error::Full))
            });
        }
        if pushed.is_err() {
            inbox.withdraw(token);
        }
        match pushed {
            Ok(_) => {
                if let Some((loan, _, _)) = self.loan {
                    // The block is the task's now.
                    loan.take()?;
                }
                Ok(task)
            }
            Err(Error::Full) if until.is_some() => {
                Err(Failure::new(AIOPOOL_ERR_TIMEOUT, "the pool stayed full for the time given"))
            }
            Err(Error::Closed) => Err(closed(shared)),
            Err(other) => Err(other.into()),
        }
    }
}

/// Submits the one call of a process, which has room for it.
///
/// # Safety
///
/// The call's pointers are what its fields say.
pub(super) unsafe fn submit_one(pool: &HostPool, call: &aiopool_call) -> Result<u64, Failure> {
    // SAFETY: the caller vouches for them.
    unsafe { Checked::new(pool, call) }?.submit(pool, None)
}

/// Returns why a pool takes no more tasks.
fn closed(shared: &Shared) -> Failure {
    match shared.reason() {
        Some(reason) => Failure::new(AIOPOOL_ERR_FAILED, reason.to_string()),
        None => Error::Closed.into(),
    }
}

ffi_fn! {
    /// Sets all fields of a call to their defaults.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_call_init(call_out: Option<&mut MaybeUninit<aiopool_call>>) -> aiopool_status {
        out("call_out", call_out)?.write(aiopool_call::defaults());
        Ok(())
    }
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
        pool: Option<&aiopool_pool>,
        call: *const aiopool_call,
        timeout_ms: u64,
        ticket_out: Option<&mut MaybeUninit<u64>>,
    ) -> aiopool_status = waits => {
        let pool = pool_of(pool)?;
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let call = unsafe { Checked::new(&pool, &sized(call)?) }?;
        let ticket = call.submit(&pool, Some(deadline(timeout_ms)))?;
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
        pool: Option<&aiopool_pool>,
        call: *const aiopool_call,
        ticket_out: Option<&mut MaybeUninit<u64>>,
    ) -> aiopool_status {
        let pool = pool_of(pool)?;
        // SAFETY: the caller gives a call that begins with its size, and its pointers are good.
        let call = unsafe { Checked::new(&pool, &sized(call)?) }?;
        let ticket = call.submit(&pool, None)?;
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
        pool: Option<&aiopool_pool>,
        calls: *const aiopool_call,
        count: usize,
        timeout_ms: u64,
        tickets_out: *mut u64,
        submitted_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status = waits => {
        let submitted_out: &mut _ = out("submitted_out", submitted_out)?;
        let submitted = submitted_out.write(turns::submitted());
        let pool = pool_of(pool)?;
        let until = deadline(timeout_ms);
        let stride = match count {
            0 => 0,
            _ => {
                // SAFETY: the caller gives a call that begins with its size.
                unsafe { sized(calls) }?;
                // SAFETY: not NULL, or `sized` had said so.
                unsafe { calls.cast::<u32>().read_unaligned() as usize }
            }
        };
        for index in *submitted..count {
            let at = calls.wrapping_byte_add(index * stride);
            // SAFETY: the caller gives `count` calls of the size that the first one says.
            let call = unsafe { sized(at) }?;
            // SAFETY: the call's pointers are good, as the caller says.
            let ticket = unsafe { Checked::new(&pool, &call) }?.submit(&pool, Some(until))?;
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
