//! Floor 8: the C API, `include/aiopool.h`.
//!
//! One file per C concept is one section of the header, in the order of the `mod` lines below.
//! Every exported function is made by `ffi_fn!` (in `boundary`), so none can let a panic out;
//! `crates/aiopool-capi/tests/c_api/header.rs` checks that, and that the committed header is what
//! the files say.
//!
//! Handles are cells of memory that is never given back (`handle`), so that a handle which was
//! freed is recognised instead of read after free. The contract of each function is its comment
//! in the header.

#![cfg(not(aiopool_loom))]
#![allow(non_camel_case_types)] // C names
#![allow(clippy::missing_safety_doc)] // the contract of each function is its comment in the header
#![allow(unsafe_code)] // An island: pointers that C gives.

#[macro_use]
mod boundary;
#[macro_use]
mod handle;
mod aligned;
mod arrivals;
mod at_hand;
mod by_task;
mod contexts;
mod entry;
mod inbox;
mod library;
mod pointer;
mod reading;
mod registry;
mod room;
mod task_cell;
mod work;

mod version;

mod status;

mod task;
mod turns;
mod usual;

mod function;

mod waits;

mod exception;

mod init;

mod log;

mod context;

mod scheduler;

mod surroundings;

mod options;

mod pool;

mod loan;

mod outcome;

mod call;

mod submit;

mod broadcast;

mod wait;

mod process;
mod receivers;

mod worker;

mod stats;

mod trace;

mod printed;

mod views;

pub use broadcast::*;
pub use call::*;
pub use context::*;
pub use exception::*;
pub use function::*;
pub use init::*;
pub use library::serve_library;
pub use loan::*;
pub use log::*;
pub use options::*;
pub use outcome::*;
pub use pool::*;
pub use printed::*;
pub use process::*;
pub use scheduler::*;
pub use stats::*;
pub use status::*;
pub use submit::*;
pub use surroundings::*;
pub use task::*;
pub use trace::*;
pub use version::*;
pub use views::*;
pub use wait::*;
pub use waits::*;
pub use worker::*;
