//! One record, as it travels.

use log::Level;
use serde::{Deserialize, Serialize};

use crate::view::cut;

/// Bytes of the longest message: as much as a terminal's screen shows, and an eighth of what the
/// kernel gives a socket by default.
pub(super) const LONGEST: usize = 8 << 10;
/// Bytes of the longest text; the other strings are shorter, so that all fit into a message.
const LONGEST_TEXT: usize = 6 << 10;
/// Bytes of the longest list of spans.
const LONGEST_SPANS: usize = 1 << 10;
/// Bytes of the longest name: a target's, a function's.
const LONGEST_NAME: usize = 256;

/// What a worker sends. All strings are the worker's, and so input for the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    /// 1 for an error to 5 for a trace, as in `log`.
    pub level: u8,
    /// The worker's seat in its pool.
    pub worker: u32,
    pub pid: u32,
    /// The low 31 bits of the task's number, where a task made the record.
    pub task: Option<u32>,
    pub function: Option<&'a str>,
    pub target: &'a str,
    /// The spans around the event, outermost first.
    pub spans: &'a str,
    pub text: &'a str,
    /// Records that this worker has dropped since its last one.
    pub dropped: u64,
}

impl Record<'_> {
    /// Returns the bytes of the record, its strings cut to their longest.
    pub(super) fn encode(mut self) -> Vec<u8> {
        self.target = cut(self.target, LONGEST_NAME);
        self.function = self.function.map(|name| cut(name, LONGEST_NAME));
        self.spans = cut(self.spans, LONGEST_SPANS);
        self.text = cut(self.text, LONGEST_TEXT);
        postcard::to_stdvec(&self).unwrap_or_default()
    }

    /// Returns the record in `bytes`, or `None` where there is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
        postcard::from_bytes(bytes).ok()
    }

    /// Returns the level, or `Error` for a number that is none.
    pub(super) fn level(&self) -> Level {
        Level::iter().find(|&level| level as u8 == self.level).unwrap_or(Level::Error)
    }
}

/// Returns `tracing`'s name of a level of `log`.
pub(super) fn tracing_level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}

/// Returns `log`'s name of a level of `tracing`.
pub(super) fn level_of(level: &tracing::Level) -> Level {
    match *level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record<'_> {
        Record {
            level: Level::Info as u8,
            worker: u32::MAX,
            pid: u32::MAX,
            task: Some(7),
            function: Some("page"),
            target: "app::page",
            spans: "",
            text,
            dropped: u64::MAX,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let bytes = record("two\nlines").encode();
        assert_eq!(Record::decode(&bytes), Some(record("two\nlines")));
    }

    #[test]
    fn the_longest_record_fits_into_a_message_and_is_cut_between_characters() {
        let long = "ü".repeat(LONGEST);
        let record = Record { function: Some(&long), target: &long, spans: &long, ..record(&long) };
        let bytes = record.encode();
        assert!(bytes.len() <= LONGEST, "{}", bytes.len());
        assert_eq!(Record::decode(&bytes).unwrap().text.len(), LONGEST_TEXT);
    }

    #[test]
    fn bytes_that_are_no_record_are_none_and_no_level_is_an_error() {
        assert_eq!(Record::decode(&[0xff; 40]), None);
        assert_eq!(Record::decode(b""), None);
        assert_eq!(Record { level: 99, ..record("") }.level(), Level::Error);
    }
}
