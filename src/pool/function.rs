//! A task function as its pool knows it.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::scheduler::NewTask;
use crate::supervisor::Shared;
use crate::task::{TaskOptions, codec};

/// A function that a pool knows: its number there and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) number: u32,
    pub(super) name: &'static str,
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

    /// Encodes `argument` into `buffer`.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`], and [`Error::PayloadTooLarge`] beyond the pool's limit.
    pub(super) fn encode<A: Serialize + 'static>(
        self,
        shared: &Shared,
        argument: &A,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        buffer.clear();
        codec::encode(argument, buffer)
            .map_err(|reason| Error::Encode { function: self.name, reason })?;
        check_size(shared, buffer.len())
    }
}

/// Refuses an input of `size` bytes that is larger than the pool's `max_payload`.
pub(super) fn check_size(shared: &Shared, size: usize) -> Result<()> {
    let max = shared.plan.max_payload;
    if size > max { Err(Error::PayloadTooLarge { size, max }) } else { Ok(()) }
}
