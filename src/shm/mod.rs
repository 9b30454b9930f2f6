//! Floor 1: shared memory as regions. The only place that maps anything.

#![cfg(not(aiopool_loom))]

mod private;
mod region;

pub use private::PrivateMap;
pub use region::Region;
