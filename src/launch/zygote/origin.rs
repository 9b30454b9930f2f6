//! What a zygote knows about itself from its start on.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use super::super::wire::Build;

/// What a zygote found about itself when it started, and its workers need.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// This very build, which executed workers must be too.
    pub build: Build,
    /// The zygote's own process id.
    pub pid: u32,
    /// Why its memory is no worker's, where the program starts threads before `main`.
    pub threads: Option<String>,
}

/// What a zygote hears its children by.
#[derive(Debug)]
pub(super) struct Lines {
    pub start_line: StartLine,
    /// Readable when a child has died.
    pub deaths: OwnedFd,
}

/// Where starting workers say how it went.
#[derive(Debug)]
pub(super) struct StartLine {
    /// The zygote's end.
    pub ours: OwnedFd,
    /// The end that every worker has until it runs.
    pub theirs: OwnedFd,
}
