//! What real programs do to a pool, and what must not come of it.

mod codec;
mod end;
mod env;
mod logs;
mod runtimes;
mod wait;
