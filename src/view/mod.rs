//! What a pool shows of itself, and where the pools of a user are found.
//!
//! A [`Snapshot`] is the one source of all views: [`Pool::snapshot`](crate::Pool::snapshot) gives
//! it to the pool's own program, and each pool answers with it, as one line of JSON, on a socket in
//! the user's runtime directory. `README.md` says who may ask, and why an observer can neither slow
//! nor stop a pool.
//!
//! ```
//! # fn main() -> aiopool::Result<()> {
//! let pool = aiopool::Pool::builder().processes(1).name("shown").build()?;
//! // Another program of the same user, or this one:
//! let found = aiopool::view::pools();
//! let address = found.iter().find(|found| found.is_called("shown")).expect("it listens");
//! let text = address.ask()?;
//! assert!(text.contains("\"name\":\"shown\""));
//! # Ok(())
//! # }
//! ```
#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod address;
mod cut;
mod events;
mod json;
mod metrics;
mod numbers;
mod place;
mod request;
mod snapshot;

pub use address::{Address, Observer, pools};
pub(crate) use cut::{cut, shortened};
pub(crate) use events::Events;
pub use events::{EventView, Kind};
pub(crate) use json::to_line as json;
pub use metrics::{Metric, MetricValue};
pub use numbers::{FunctionStats, Stats};
pub(crate) use place::Seat;
pub(crate) use place::{Listener, allowed_name};
pub(crate) use request::Request;
pub use snapshot::{PoolView, QueueView, Snapshot, State, TaskView, WorkerView};
