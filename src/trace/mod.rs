//! Floor 2: timelines. What workers do, in rings of theirs, and as a text that Perfetto opens.
//! `README.md` beside this file has the protocol.
#![forbid(unsafe_code)]

#[cfg(not(aiopool_loom))]
mod chrome;
#[cfg(all(test, aiopool_loom))]
mod model;
mod ring;

#[cfg(not(aiopool_loom))]
pub(crate) use chrome::{Lane, Mark, Span, Timeline};
pub(crate) use ring::{
    DROPPED, ENTRY_WORDS, Entry, Open, PENDING, Reader, Ring, Writer, entries_for, every_word,
};
