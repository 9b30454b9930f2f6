//! What goes wrong around a pool, and what it costs: each test in a process of its own where it does
//! something to the process.

mod clock;
mod isolation;
mod profiles;
mod regions;
mod resources;
mod rig;
mod signals;
mod tasks;
