//! What a call says, checked and read: its input, function and options, and where its outcome goes.

use super::boundary::Failure;
use super::call::{
    AIOPOOL_CALL_ALONE, AIOPOOL_CALL_BORROW_OUTPUT, AIOPOOL_CALL_BY_TICKET, AIOPOOL_CALL_JITTER,
    AIOPOOL_CALL_ON_QUEUE, AIOPOOL_CALL_RETRY_ON_ERROR, AIOPOOL_CALL_RETRY_ON_TIMEOUT, FLAGS,
    aiopool_call, retrying,
};
use super::inbox::Goes;
use super::loan::aiopool_loan;
use super::pointer::{bytes, text};
use super::pool::{HostPool, Numbered};
use super::registry;
use super::status::*;
use crate::arena::Block;
use crate::error::Error;
use crate::task::TaskOptions;

/// Where an input is.
pub(super) enum Input<'i> {
    /// The caller's bytes, to be copied.
    Bytes(&'i [u8]),
    /// Several ranges of the caller's, to be copied one behind the other, and their length.
    Parts(Vec<&'i [u8]>, usize),
    /// In the pool's memory already.
    Loan(&'static aiopool_loan, Block, usize),
}

impl Input<'_> {
    pub(super) fn len(&self) -> usize {
        match *self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Parts(_, len) | Self::Loan(_, _, len) => len,
        }
    }
}

/// Returns the input of a call that has more than a pointer and a length.
///
/// # Safety
///
/// The call's pointers are what its fields say.
#[cold]
unsafe fn other_input<'i>(pool: &HostPool, call: &aiopool_call) -> Result<Input<'i>, Failure> {
    let invalid = |text: String| Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    let parts = !call.parts.is_null() || call.parts_len != 0;
    let given = [!call.input.is_null(), parts, !call.loan.is_null()];
    if given.into_iter().filter(|&given| given).count() > 1 {
        return invalid("a call has one of input, parts and loan".to_owned());
    }
    // SAFETY: the caller vouches for the pointers.
    if let Some(loan) = unsafe { call.loan.as_ref() } {
        let (block, len) = loan.block(&pool.inbox)?;
        if call.input_len > len {
            return invalid(format!("input_len = {}: the loan has {len}", call.input_len));
        }
        let len = if call.input_len == 0 { len } else { call.input_len };
        return Ok(Input::Loan(loan, block, len));
    }
    if call.input_len != 0 {
        return invalid("input_len: the parts have lengths of their own".to_owned());
    }
    if call.parts.is_null() {
        return Err(Failure::null("parts"));
    }
    if call.parts_len > MAX_PARTS {
        return invalid(format!("parts_len = {}: 0 to {MAX_PARTS} are possible", call.parts_len));
    }
    // SAFETY: the caller gives that many.
    let parts = unsafe { std::slice::from_raw_parts(call.parts, call.parts_len) };
    // SAFETY: the caller vouches for each.
    let parts = parts.iter().map(|part| unsafe { bytes("a part's data", part.data, part.len) });
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let len = parts.iter().fold(0_usize, |len, part| len.saturating_add(part.len()));
    Ok(Input::Parts(parts, len))
}

/// What `writev` takes, too.
const MAX_PARTS: usize = 1024;

/// Refuses fields that are outside their ranges.
#[cold]
fn refuse(pool: &HostPool, call: &aiopool_call) -> Failure {
    let invalid = |text: String| Failure::new(AIOPOOL_ERR_INVALID, text);
    let plan = &pool.shared().plan;
    if call.reserved != [0; 4] {
        return Failure::new(AIOPOOL_ERR_STRUCT, "a reserved field is not 0");
    }
    if call.flags & !FLAGS != 0 {
        return invalid(format!(
            "flags = {:#x} has unknown bits: known are {FLAGS:#x}",
            call.flags
        ));
    }
    if call.priority >= plan.classes {
        let classes = plan.classes;
        return invalid(format!("priority = {}: 0 to {} are possible", call.priority, classes - 1));
    }
    if call.flags & AIOPOOL_CALL_ON_QUEUE == 0 {
        let queue = call.queue;
        return invalid(format!("queue = {queue} is set, but flags lacks AIOPOOL_CALL_ON_QUEUE"));
    }
    let last = plan.queues - 1;
    invalid(format!("queue = {}: 0 to {last} are possible", call.queue))
}

/// Checks the fields of a call that are numbers.
#[inline]
pub(super) fn check(pool: &HostPool, call: &aiopool_call) -> Result<(), Failure> {
    let plan = &pool.shared().plan;
    let on_queue = call.flags & AIOPOOL_CALL_ON_QUEUE != 0;
    if call.reserved != [0; 4]
        || call.flags & !FLAGS != 0
        || call.priority >= plan.classes
        || (if on_queue { call.queue >= plan.queues } else { call.queue != 0 })
    {
        return Err(refuse(pool, call));
    }
    Ok(())
}

/// Returns the input of a call.
///
/// # Safety
///
/// The call's pointers are what its fields say.
#[inline]
pub(super) unsafe fn input_of<'i>(
    pool: &HostPool,
    call: &aiopool_call,
) -> Result<Input<'i>, Failure> {
    let max = pool.shared().plan.max_payload;
    let too_large = |size| Error::PayloadTooLarge { size, max };
    if call.input_len > max {
        return Err(too_large(call.input_len).into());
    }
    // SAFETY: the caller vouches for the pointers.
    let input = unsafe {
        if call.loan.is_null() && call.parts.is_null() && call.parts_len == 0 {
            Input::Bytes(bytes("input", call.input, call.input_len)?)
        } else {
            other_input(pool, call)?
        }
    };
    if input.len() > max {
        return Err(too_large(input.len()).into());
    }
    Ok(input)
}

/// Returns the function of a call, as its pool knows it.
///
/// # Safety
///
/// The call's pointers are what its fields say.
#[inline]
pub(super) unsafe fn function_of(
    pool: &HostPool,
    call: &aiopool_call,
) -> Result<Numbered, Failure> {
    let function = match call.function {
        // SAFETY: the caller vouches for the pointers.
        0 => registry::by_name(pool.context(), unsafe { text("name", call.name) }?)?,
        number => number,
    };
    pool.number_of(function)
}

/// Returns the options that a call has for its task.
#[inline]
pub(super) fn options_of(call: &aiopool_call) -> Result<TaskOptions, Failure> {
    let mut options =
        TaskOptions::of_milliseconds(call.run_limit_ms, call.wait_limit_ms, call.backoff_ms)
            .retries(call.retries)
            .priority(call.priority as u8);
    if call.flags != 0 {
        options = options
            .retry_on_error(call.flags & AIOPOOL_CALL_RETRY_ON_ERROR != 0)
            .retry_on_timeout(call.flags & AIOPOOL_CALL_RETRY_ON_TIMEOUT != 0)
            .jitter(call.flags & AIOPOOL_CALL_JITTER != 0)
            .alone(call.flags & AIOPOOL_CALL_ALONE != 0)
            .lend_output(call.flags & AIOPOOL_CALL_BORROW_OUTPUT != 0);
    }
    retrying(options, call)
}

/// Returns where the outcome of a call goes, if not to the next thread that receives.
#[inline]
pub(super) fn goes(call: &aiopool_call) -> Result<Option<Goes>, Failure> {
    match (call.flags & AIOPOOL_CALL_BY_TICKET != 0, call.on_complete) {
        (false, None) => Ok(None),
        (true, None) => Ok(Some(Goes::ByTicket)),
        (false, Some(function)) => Ok(Some(Goes::To(function))),
        (true, Some(_)) => {
            let text = "an outcome goes to on_complete or is kept by AIOPOOL_CALL_BY_TICKET";
            Err(Failure::new(AIOPOOL_ERR_INVALID, text))
        }
    }
}
