//! Loans.
//!
//! A loan avoids the copy of a large input: borrow memory that the workers have mapped, write the
//! input there and submit the loan. The task function reads it in place. For outputs see
//! `aiopool_output_loan` and `AIOPOOL_CALL_BORROW_OUTPUT`.
//!
//! Thread rule: as for pools; one thread at a time for one loan.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use super::boundary::Failure;
use super::handle::of_handle;
use super::inbox::Inbox;
use super::pointer::out;
use super::pool::{aiopool_pool, pool_of};
use super::status::*;
use crate::arena::Block;
use crate::error::Error;

handle! {
    /// Memory for one input, borrowed from a pool.
    pub struct aiopool_loan(Borrowed) in LOANS, gone: "this loan was submitted or given back";
}

/// A block in the caller's hands.
#[derive(Debug)]
pub struct Borrowed {
    inbox: Arc<Inbox>,
    block: Block,
    len: usize,
}

impl aiopool_loan {
    /// Returns the block of a loan that `inbox`'s pool has lent, and its length.
    pub(super) fn block(&self, inbox: &Arc<Inbox>) -> Result<(Block, usize), Failure> {
        match &*self.enter()? {
            Some(loan) if Arc::ptr_eq(&loan.inbox, inbox) => Ok((loan.block, loan.len)),
            Some(_) => {
                let text =
                    "this loan is of another pool: an input is borrowed where it is submitted";
                Err(Failure::new(AIOPOOL_ERR_INVALID, text))
            }
            None => Err(Self::gone()),
        }
    }

    /// Takes the block out: the loan is over.
    pub(super) fn take(&'static self) -> Result<Block, Failure> {
        Ok(self.disown(|_| Ok(()))?.block)
    }
}

ffi_fn! {
    /// Borrows `len` bytes from the pool's memory for inputs; their initial content is undefined.
    ///
    /// `data_out` is valid until the loan is submitted, as `loan` of an `aiopool_call`, or given
    /// back with `aiopool_loan_return`, also when the pool is freed meanwhile.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` if `len` is 0; `AIOPOOL_ERR_TOO_LARGE`;
    /// `AIOPOOL_ERR_FULL` if other inputs take the memory now; `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_pool_loan(
        pool: Option<NonNull<aiopool_pool>>,
        len: usize,
        data_out: Option<&mut MaybeUninit<*mut c_void>>,
        loan_out: Option<&mut MaybeUninit<*mut aiopool_loan>>,
    ) -> aiopool_status {
        let data_out: &mut _ = out("data_out", data_out)?;
        let loan_out: &mut _ = out("loan_out", loan_out)?;
        let pool = pool_of(pool)?;
        if len == 0 {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "len = 0: nothing can be borrowed"));
        }
        let max = pool.shared().plan.max_payload;
        if len > max {
            return Err(Error::PayloadTooLarge { size: len, max }.into());
        }
        let inbox = Arc::clone(&pool.inbox);
        let lend = || inbox.common.inputs.loan(len);
        let again = || Some(lend()).filter(|lent| !matches!(lent, Err(Error::Full)));
        let lent = match lend() {
            Err(Error::Full) => {
                let stand = |waker: &_| {
                    inbox.common.inputs.wait_for_room(waker);
                    None
                };
                let found = inbox.room.refused(pool.shared(), stand, again);
                found.unwrap_or(Err(Error::Full))
            }
            lent => lent,
        };
        let (block, data) = lent?;
        data_out.write(data.cast());
        loan_out.write(aiopool_loan::own(Borrowed { inbox, block, len }));
        Ok(())
    }
}

ffi_fn! {
    /// Gives back a loan that will not be submitted. NULL is accepted and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_HANDLE` if it was submitted or given back before;
    /// `AIOPOOL_ERR_FORKED` in a forked child.
    fn aiopool_loan_return(loan: Option<NonNull<aiopool_loan>>) -> aiopool_status {
        let Some(loan) = of_handle(loan) else { return Ok(()) };
        let inbox = loan.enter()?.as_ref().map(|loan| Arc::clone(&loan.inbox));
        let inbox = inbox.ok_or_else(aiopool_loan::gone)?;
        let block = loan.take()?;
        inbox.common.inputs.free(block);
        inbox.common.inputs.wake_waiting();
        if inbox.common.inputs.has_slack() {
            // No task that ends has it look.
            inbox.common.call_supervisor();
        }
        Ok(())
    }
}
