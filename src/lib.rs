//! `aiopool`: a process pool for async tasks.
//!
//! Workers are forked processes with an event loop each; tasks and outcomes travel through
//! lock-free rings in shared memory. See `docs/design.md` for how it works.

mod error;
pub(crate) mod sync;
pub(crate) mod sys;

pub use error::{Error, Result};
