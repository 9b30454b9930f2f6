//! A task function as its pool knows it.

use crate::error::{Error, Result};
use crate::scheduler::NewTask;
use crate::supervisor::Shared;
use crate::task::{Argument, TaskOptions, codec, context};

/// A function that a pool knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) number: u32,
    pub(super) name: &'static str,
    /// A context follows the arguments of its tasks.
    pub(super) has_context: bool,
}

impl Function {
    /// Returns what the scheduler sees of a task of this function.
    pub(super) fn new_task(
        self,
        task: u64,
        options: &TaskOptions,
        input: &[u8],
    ) -> NewTask<'static> {
        let (function, priority, input_bytes) = (self.name, options.priority, input.len());
        NewTask { task, function, priority, input_bytes }
    }

    /// Encodes `argument` into `buffer`, and the calling code's context behind it.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`], and [`Error::PayloadTooLarge`] beyond the pool's limit.
    pub(super) fn encode<A: Argument>(
        self,
        shared: &Shared,
        argument: &A,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        buffer.clear();
        codec::encode(argument, buffer)
            .map_err(|reason| Error::Encode { function: self.name, reason })?;
        if self.has_context {
            let of_caller = shared.plan.context_of_caller.and_then(|of_caller| of_caller());
            context::append(&of_caller.unwrap_or_default(), buffer);
        }
        check_size(shared, buffer.len())
    }
}

/// Refuses an input of `size` bytes that is larger than the pool's `max_payload`.
pub(super) fn check_size(shared: &Shared, size: usize) -> Result<()> {
    let max = shared.plan.max_payload;
    if size > max { Err(Error::PayloadTooLarge { size, max }) } else { Ok(()) }
}
