//! Values within values, each of which takes a part of the stack: an end that is an error.
#![forbid(unsafe_code)]

use super::refusal::Refusal;
use crate::sys::stack;

/// Bytes of the stack that one value takes before anybody asks how many there are.
const UNASKED: usize = 32 << 10;

/// Where on the stack a value began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth(usize);

impl Depth {
    /// Returns where the stack of the calling function is.
    #[inline(always)]
    pub(super) fn here() -> Self {
        // A byte that is made here: a constant would lie in the program.
        Self(std::ptr::from_ref(&0_u8.clone()).addr())
    }

    /// Refuses a value within that for which the stack has no room.
    #[inline(always)]
    pub(super) fn check(self) -> Result<(), Refusal> {
        let Self(here) = Self::here();
        if self.0.wrapping_sub(here) < UNASKED || stack::has_room(here) {
            return Ok(());
        }
        Err(Refusal::deep())
    }
}
