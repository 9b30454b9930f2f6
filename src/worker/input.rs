//! Where the input of a task is, checked before it is read.
#![forbid(unsafe_code)]

use crate::table::{INLINE_INPUT, InputDesc, Place};
use crate::task::entry::Input;

use super::claimed::Claimed;
use super::engine::Engine;

impl Engine {
    /// Returns the task's input: a large one where it is, a small one in `scratch`.
    ///
    /// # Errors
    ///
    /// The text of what is wrong with its descriptor.
    #[inline(always)]
    pub fn input<'i>(
        &'i self,
        task: &Claimed,
        scratch: &'i mut [u8; INLINE_INPUT],
    ) -> Result<Input<'i>, String> {
        Ok(self.input_at(task, self.checked_input(task)?, scratch))
    }

    /// Returns where the task's input is.
    ///
    /// # Errors
    ///
    /// As [`input`](Self::input).
    #[inline(always)]
    pub(crate) fn checked_input(&self, task: &Claimed) -> Result<InputDesc, String> {
        let desc = self.record(task).input();
        let len = desc.len as usize;
        let is_possible = match desc.place {
            Place::Word(_) => len <= 8,
            Place::Inline => len <= INLINE_INPUT,
            Place::Block(block) => block.holds(len, self.requests().len()),
            Place::Unknown => false,
        };
        if is_possible { Ok(desc) } else { Err(no_input(len, desc.place)) }
    }

    /// Returns the input that `desc` names, which was [checked](Self::checked_input).
    #[inline(always)]
    pub(crate) fn input_at<'i>(
        &'i self,
        task: &Claimed,
        desc: InputDesc,
        scratch: &'i mut [u8; INLINE_INPUT],
    ) -> Input<'i> {
        let len = desc.len as usize;
        match desc.place {
            Place::Word(word) => {
                scratch[..8].copy_from_slice(&word.to_le_bytes());
                Input::passing(&scratch[..len])
            }
            Place::Inline => {
                self.record(task).read_inline_input(&mut scratch[..len]);
                Input::passing(&scratch[..len])
            }
            Place::Block(block) => Input::in_place(self.requests().bytes(block.offset(), len)),
            Place::Unknown => Input::passing(&[]),
        }
    }
}

#[cold]
fn no_input(len: usize, place: Place) -> String {
    format!("the input's descriptor names {len} bytes at {place:?}")
}
