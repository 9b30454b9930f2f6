//! What decides, without a network, a clock or a process: state machines that are given events and
//! answer with actions.
//!
//! `README.md` of this crate has the roles, the transitions and the crash points. The runtime drives
//! these machines with a real server; `tests/model.rs` drives the same ones through every
//! interleaving of a link that drops, delays, doubles and reorders.

mod attempt;
mod chunks;
mod group;
mod kept;
mod lease;
mod word;

pub use attempt::{Attempt, AttemptAction, AttemptEvent};
pub use chunks::{CHUNK, Chunks};
pub use group::Group;
pub use kept::{Allowed, Kept, KeptAction, KeptEvent};
pub use lease::{
    Incarnation, Key, LONGEST, Lease, LeaseAction, LeaseEvent, LeaseTimes, Observer, SHORTEST,
    Sight, Verdict,
};
pub use word::{Ending, Word};
