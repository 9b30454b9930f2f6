//! Floor 2: arenas, where payloads over the inline size are. `README.md` has the rules.
#![forbid(unsafe_code)]

mod allocator;
mod block;

pub(crate) use allocator::{AllocError, Allocator, CHUNK};
pub use block::Block;
