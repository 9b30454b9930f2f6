//! The reference workload: 50 list pages of a book shop lead to 1,000 book pages, which become the
//! rows of a CSV file.
//!
//! The two tasks, [`fetch_list`] and [`fetch_detail`], are ordinary async functions ([`pipeline`]).
//! They do not know who calls them; only the driver differs: [`pooled`] runs them in the workers of
//! a pool, [`single`] side by side in this process. Every driver reports to the same [`Observer`] in the order of the lists, so all
//! write the same rows.
//!
//! [`site`] is a book shop of our own, for work without a network and with known answers.
#![forbid(unsafe_code)]

mod book;
mod charset;
pub mod csv;
pub mod fetch;
mod harvest;
pub mod parse;
pub mod pipeline;
mod pipelined;
pub mod pooled;
mod read;
pub mod single;
pub mod site;

pub use book::Book;
pub use harvest::{Failure, Harvest, Observer};
pub use pipeline::{Job, fetch_detail, fetch_list};
