//! Lines on standard error that arrive whole, whatever other processes write there.
#![forbid(unsafe_code)]

use std::io::Write;

/// Writes `text` and a line end with one system call.
pub(crate) fn line(text: &str) {
    // `eprintln!` makes a call for each piece of its format.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
