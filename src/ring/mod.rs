//! Floor 2: rings. `README.md` beside this file has the protocols and the crash points.
#![forbid(unsafe_code)]

mod claim;
mod handback;
mod lane;
#[cfg(all(test, aiopool_loom))]
mod model;
mod task_ring;
mod word;

pub use claim::{Claim, MAX_CLASSES, claim, has_task, help_past_stale, place, split_place};
pub(crate) use handback::{HandbackReader, HandbackWriter};
pub use lane::{LaneReader, LaneWriter, Next};
pub use task_ring::{Head, TaskRing};
pub(crate) use word::MAX_RECORDS;
