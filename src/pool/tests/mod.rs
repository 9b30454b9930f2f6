//! What needs a whole pool and the crate's insides.

mod crash_points;
mod damage;
mod orphaned;
mod processors;
mod ranges;
