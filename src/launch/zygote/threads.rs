//! What is said of a program that has threads before its `main`, and so cannot be forked.
#![forbid(unsafe_code)]

use crate::sys::starter;

/// Names the library whose threads this process has, and the remedy.
pub(in crate::launch) fn text() -> String {
    let library = match starter::of_another_thread() {
        Some(file) => format!("{file} starts a thread"),
        None => "a library of this program starts threads".to_owned(),
    };
    format!(
        "{library} before main, so that this program cannot be forked: load it later (dlopen), have \
         it start its threads when it is first used, or use a pool of commands \
         (StartMethod::Command, in C AIOPOOL_START_COMMAND)"
    )
}
