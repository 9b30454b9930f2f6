//! Floor 2: the task table. `README.md` beside this file has the states and the crash points.

mod owner;
mod payload;
mod record;
mod state;
mod transition;

pub use owner::WorkerId;
pub use payload::{INLINE_INPUT, INLINE_OUTPUT, InputDesc, OutputDesc, Place};
pub use record::{Call, Record};
pub use state::{Owner, State, StateWord};
pub(crate) use transition::CancelResult;
