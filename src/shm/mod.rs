//! Floor 1: shared memory as regions. The only place that maps anything.

mod region;

pub use region::Region;
