//! Floor 2: the doorbell's words. `README.md` beside this file has the protocol both ways.
//!
//! Nothing here makes a system call: these types say *whether* to ring, the floors above own the
//! eventfds.
#![forbid(unsafe_code)]

mod attention;
mod drain_baton;
mod host_flag;
#[cfg(all(test, aiopool_loom))]
mod model;
mod parked;
mod processors;
mod ready;
mod room;
mod slot_set;
mod wants_room;
mod watching;
mod workers;

pub(crate) use attention::Attention;
pub(crate) use drain_baton::DrainBaton;
pub(crate) use host_flag::{Armed, HostFlag};
pub(crate) use parked::Parked;
pub(crate) use processors::Processors;
pub(crate) use ready::ReadySet;
pub(crate) use room::Room;
pub(crate) use slot_set::SlotSet;
pub(crate) use wants_room::WantsRoom;
pub(crate) use watching::Watching;
pub(crate) use workers::WorkerBells;
