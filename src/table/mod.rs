//! Floor 2: the task table. `README.md` beside this file has the states and the crash points.

mod owner;
mod payload;
mod record;
mod state;
mod transition;

pub(crate) use owner::WorkerId;
pub(crate) use payload::{INLINE_INPUT, INLINE_OUTPUT, InputDesc, OutputDesc, Place};
pub(crate) use record::{Call, Record};
pub(crate) use state::{Owner, State, StateWord};
pub(crate) use transition::CancelResult;
