//! `libaiopool`: the C functions of `aiopool::ffi` as a shared and a static library.
//!
//! A crate of its own, so that a program in Rust neither builds nor links them. `include/aiopool.h`
//! declares what is exported; `docs/c-api.md` is the tour.
#![forbid(unsafe_code)]

pub use aiopool::ffi::*;
