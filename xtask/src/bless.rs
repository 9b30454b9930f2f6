//! The files that tests compare with, written anew after a change that is meant.

use std::process::ExitCode;

use crate::steps::{all, command};

/// Writes the C header, the lists of its symbols and sizes, the layout of shared memory, and what
/// the compiler says of wrong calls.
pub fn run() -> ExitCode {
    let test = |words: &[&str]| {
        let mut command = command(words);
        command.env("AIOPOOL_BLESS", "1");
        command
    };
    all([
        test(&["cargo", "test", "--package=aiopool-capi", "--test=c_api", "header"]),
        test(&["cargo", "test", "--package=aiopool", "--lib", "control::listing"]),
    ])
}
