//! What a user can forbid each worker: files, the network, programs, signals, system calls.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::{landlock, seccomp};

/// What each worker process is forbidden, for
/// [`PoolBuilder::sandbox`](crate::PoolBuilder::sandbox).
///
/// It holds from before the worker's initializer on, for the worker and all that it starts, and
/// cannot be taken off. Files and signals are ruled by Landlock, the rest by a seccomp filter;
/// either brings `no_new_privs` with it. What is open when a worker starts stays usable: the pool's
/// own memory, the standard outputs, and with `keep_fds` all that the zygote had.
///
/// A rule that the kernel cannot enforce is an error at build, unless the caller asks for
/// [`best_effort`](Self::best_effort).
///
/// ```
/// # fn main() -> aiopool::Result<()> {
/// use aiopool::{Pool, Sandbox};
/// let sandbox = Sandbox::new().read_only(["/usr", "/etc"]).no_network().no_exec().best_effort();
/// let missing = sandbox.unsupported();
/// if !missing.is_empty() {
///     eprintln!("this kernel cannot enforce: {}", missing.join(", "));
/// }
/// let pool = Pool::builder().processes(1).sandbox(sandbox).build()?;
/// # Ok(())
/// # }
/// ```
///
/// # Under a sandbox
///
/// - **Backtraces** have no names where the program's file and `/proc/self` cannot be read; a
///   panic's message and place arrive all the same.
/// - **Output memory**: a worker that cannot read `/proc` and its control group takes memory for
///   outputs without a look at how much is left. If there is none, the kernel kills it, which is
///   contained.
/// - **Start methods**: forked and spawned workers are confined before any function of the program
///   runs. One that runs a *command* is confined before the command is executed, so `read_only`
///   names what the program needs to start, and `no_exec` is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    files: bool,
    read_only: Vec<OsString>,
    read_write: Vec<OsString>,
    no_network: bool,
    no_exec: bool,
    no_signals: bool,
    denied: Vec<i64>,
    best_effort: bool,
}

impl Sandbox {
    /// Forbids nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows workers to read, list and execute only these files and what lies below these
    /// directories. May be called several times, and together with
    /// [`read_write`](Self::read_write). With no path at all no file can be opened.
    ///
    /// Needs Landlock 3 (Linux 6.2).
    #[must_use]
    pub fn read_only<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.files = true;
        self.read_only.extend(paths.into_iter().map(|path| path.as_ref().as_os_str().to_owned()));
        self
    }

    /// Like [`read_only`](Self::read_only), but also allows writing, creating and removing.
    #[must_use]
    pub fn read_write<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.files = true;
        self.read_write.extend(paths.into_iter().map(|path| path.as_ref().as_os_str().to_owned()));
        self
    }

    /// Forbids sockets of any kind: `socket` and `io_uring_setup` fail with `EPERM`. Pairs of
    /// sockets within the process (`socketpair`) are still allowed.
    #[must_use]
    pub fn no_network(mut self) -> Self {
        self.no_network = true;
        self
    }

    /// Forbids executing programs: `execve` and `execveat` fail with `EPERM`.
    #[must_use]
    pub fn no_exec(mut self) -> Self {
        self.no_exec = true;
        self
    }

    /// Forbids sending a signal to a process that is not the worker's own child, and reaching one
    /// by an abstract Unix socket.
    ///
    /// Needs Landlock 6 (Linux 6.12).
    #[must_use]
    pub fn no_signals(mut self) -> Self {
        self.no_signals = true;
        self
    }

    /// Forbids these system calls, by their numbers on this machine (`libc::SYS_…`): they fail with
    /// `EPERM`.
    ///
    /// A worker lives by memory, event descriptors, epoll, futexes and signals of its own: one
    /// that is denied such a call does not come up, and the pool fails with that.
    #[must_use]
    pub fn deny_system_calls(mut self, numbers: impl IntoIterator<Item = i64>) -> Self {
        self.denied.extend(numbers);
        self
    }

    /// Goes without the rules that the kernel cannot enforce, instead of refusing to build;
    /// [`unsupported`](Self::unsupported) says which those are.
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// Returns the rules of this sandbox that the running kernel cannot enforce, each with what it
    /// needs; empty where all of it holds.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        let landlock = landlock::version();
        let have = match landlock {
            0 => "this kernel has no Landlock, or has it switched off".to_owned(),
            version => format!("this kernel has Landlock {version}"),
        };
        let mut missing = Vec::new();
        if self.files && landlock < landlock::FILES {
            missing.push(format!("read_only and read_write need Landlock 3 (Linux 6.2): {have}"));
        }
        if self.no_signals && landlock < landlock::SCOPES {
            missing.push(format!("no_signals needs Landlock 6 (Linux 6.12): {have}"));
        }
        if !self.denied_calls().is_empty() && !seccomp::is_available() {
            let rules = "no_network, no_exec and deny_system_calls";
            missing.push(format!("{rules} need seccomp filters: this kernel has none"));
        }
        missing
    }

    /// Checked, with paths that mean the same in every process; `command`: workers execute one.
    pub(crate) fn checked(mut self, command: bool) -> Result<Self> {
        let refuse = |name, value: String, allowed: String| {
            Err(Error::InvalidOption { name, value, allowed })
        };
        if command && self.no_exec {
            let allowed = "workers that run a command have to execute it".to_owned();
            return refuse("sandbox", "no_exec".to_owned(), allowed);
        }
        if let Some(&number) = self.denied.iter().find(|&&n| !seccomp::is_number(n)) {
            let allowed = "a system call's number, one of SYS_…".to_owned();
            return refuse("sandbox", format!("deny_system_calls({number})"), allowed);
        }
        let missing = self.unsupported();
        if !missing.is_empty() && !self.best_effort {
            let allowed = format!("{}; with best effort the pool goes without", missing.join("; "));
            return refuse("sandbox", "set".to_owned(), allowed);
        }
        for path in self.read_only.iter_mut().chain(&mut self.read_write) {
            match std::fs::canonicalize(&*path) {
                Ok(absolute) => *path = absolute.into_os_string(),
                Err(error) => {
                    let value = path.to_string_lossy().into_owned();
                    return refuse("sandbox", value, format!("a path that exists: {error}"));
                }
            }
        }
        Ok(self)
    }

    /// Confines this process, which has one thread, for ever.
    ///
    /// # Errors
    ///
    /// What could not be done. The process may be confined in part then, and must end.
    pub(super) fn apply(&self) -> Result<(), String> {
        let landlock = landlock::version();
        // Less than asked for only where the user chose so: everybody else was refused at build.
        let enough = |needed| landlock >= needed || !self.best_effort;
        let files = self.files && enough(landlock::FILES);
        let scopes = self.no_signals && enough(landlock::SCOPES);
        if files || scopes {
            let rules = landlock::Rules {
                files: files.then_some((&self.read_only, &self.read_write)),
                scopes,
            };
            landlock::restrict(&rules)
                .map_err(|error| format!("cannot confine by Landlock: {error}"))?;
        }
        let denied = self.denied_calls();
        if !denied.is_empty() && (seccomp::is_available() || !self.best_effort) {
            seccomp::deny(&denied)
                .map_err(|error| format!("cannot set a seccomp filter: {error}"))?;
        }
        Ok(())
    }

    fn denied_calls(&self) -> Vec<i64> {
        let network: &[i64] = if self.no_network { &seccomp::NETWORK } else { &[] };
        let exec: &[i64] = if self.no_exec { &seccomp::EXECUTION } else { &[] };
        [network, exec, &self.denied].concat()
    }
}
