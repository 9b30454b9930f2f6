//! What tasks print, each into files of its own, where the pool is asked for that.
//!
//! The standard output and error of a worker that has one task at a time lead to the task's files
//! from its start to its end, and to the worker's own else. What is buffered when a task ends is
//! written out first, so it is there before the outcome is. A task that kills its worker leaves
//! what had been written; another attempt writes behind it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::sys::{exit, fd, stderr};

/// The kinds of output, with their descriptors.
pub(crate) const OUTPUTS: [(RawFd, &str); 2] = [(1, "out"), (2, "err")];

/// Returns where the output of `kind` of task number `task` is; the low 31 bits count.
pub(crate) fn file_of_task(directory: &Path, task: u32, kind: &str) -> PathBuf {
    directory.join(format!("task-{task}.{kind}"))
}

/// Where a worker's tasks print.
#[derive(Debug)]
pub(super) struct Printed {
    directory: PathBuf,
    /// Where the worker's own output goes.
    own: [OwnedFd; 2],
    /// The files of the task that runs.
    files: Option<[(File, PathBuf); 2]>,
    /// It has said that it cannot.
    has_failed: bool,
}

impl Printed {
    /// Takes note of where the output of this process goes.
    pub(super) fn into(directory: PathBuf) -> io::Result<Self> {
        let own = [
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        ];
        Ok(Self { directory, own, files: None, has_failed: false })
    }

    /// The task of that number starts; its files are new where `is_first` attempt.
    pub(super) fn begin(&mut self, task: u32, is_first: bool) {
        let open = |kind: &str| {
            let path = file_of_task(&self.directory, task, kind);
            let file = File::options().append(true).create(true).open(&path)?;
            if is_first {
                // Another pool's, which had the directory before.
                file.set_len(0)?;
            }
            Ok::<_, io::Error>((file, path))
        };
        let opened = OUTPUTS.map(|(_, kind)| open(kind));
        let [Ok(out), Ok(err)] = opened else {
            let error = opened.into_iter().find_map(Result::err);
            if let Some(error) = error.filter(|_| !std::mem::replace(&mut self.has_failed, true)) {
                let directory = self.directory.display();
                stderr::line(&format!(
                    "aiopool: tasks print where the worker does: no file in {directory} \
                     (output_per_task): {error}"
                ));
            }
            return;
        };
        flush();
        let files = [out, err];
        for ((number, _), (file, _)) in OUTPUTS.iter().zip(&files) {
            let _ = fd::replace_output(*number, file.as_fd());
        }
        self.files = Some(files);
    }

    /// The task is over, or nothing of it is left. A file that is empty goes.
    pub(super) fn end(&mut self) {
        let Some(files) = self.files.take() else { return };
        flush();
        for ((number, _), own) in OUTPUTS.iter().zip(&self.own) {
            let _ = fd::replace_output(*number, own.as_fd());
        }
        for (file, path) in files {
            if file.metadata().is_ok_and(|file| file.len() == 0) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Writes out what Rust's and C's streams have buffered.
fn flush() {
    let _ = io::stdout().flush();
    exit::flush_c();
}
