//! Floor 1: shared memory as regions. The only place that maps anything.

#![cfg(not(aiopool_loom))]

mod region;

pub use region::Region;
