//! What the host is at the build of a pool, which each of the pool's workers becomes.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::wire::{WORKER_VARIABLE, ZYGOTE_VARIABLE};
use crate::error::{Error, Result};
use crate::sys::cpus::Mask;
use crate::sys::credentials::{self, Credentials};
use crate::sys::habits::Habits;
use crate::sys::rlimit::{self, Limit};
use crate::sys::{oom, place, process, scheduling, surroundings};

/// The identity of a directory or namespace.
type Identity = (u64, u64);

/// What the host is at the build of a pool, as the thread that builds it has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The host's process id.
    pub host: u32,
    pub credentials: Credentials,
    /// Whether other processes of its user may look into it.
    pub dumpable: bool,
    /// Resource limits of every kind.
    limits: Vec<Limit>,
    /// Scheduling policy and priority.
    policy: (i32, i32),
    niceness: i32,
    processors: Mask,
    habits: Habits,
    /// How likely it is chosen when memory runs out.
    oom_score: i32,
    /// The bits that new files lack.
    file_mask: u32,
    root: Identity,
    directory: Identity,
    /// One for each kind of [`place::NAMESPACES`].
    pub namespaces: Vec<Option<Identity>>,
    environment: Vec<(OsString, OsString)>,
    pub locale: Option<CString>,
}

/// The directories and namespaces of a [`Snapshot`], to be gone to.
#[derive(Debug)]
pub(crate) struct Places {
    pub root: OwnedFd,
    pub directory: OwnedFd,
    /// Those in which the zygote is not, with their kinds.
    pub namespaces: Vec<(&'static str, OwnedFd)>,
}

impl Places {
    /// The numbers of all its descriptors.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let namespaces = self.namespaces.iter().map(|(_, namespace)| namespace);
        [&self.root, &self.directory].into_iter().chain(namespaces).map(AsRawFd::as_raw_fd)
    }
}

impl Snapshot {
    /// Takes note of what the calling process is.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the system does not say.
    pub(crate) fn take() -> Result<Self> {
        let cannot = |what: &'static str| move |error| Error::system(what, error);
        let namespace = |kind| place::namespace("thread-self", kind);
        let namespaces: io::Result<_> = place::NAMESPACES.into_iter().map(namespace).collect();
        Ok(Self {
            host: process::own_pid(),
            credentials: Credentials::of_this_thread()
                .map_err(cannot("know this process's user (it is in /proc)"))?,
            dumpable: credentials::is_dumpable().map_err(cannot("ask for dumpability"))?,
            limits: rlimit::all().map_err(cannot("read the resource limits"))?,
            policy: scheduling::policy().map_err(cannot("read the scheduling policy"))?,
            niceness: scheduling::niceness().map_err(cannot("read the niceness"))?,
            processors: Mask::of_this_thread().map_err(cannot("read the processor affinity"))?,
            habits: Habits::of_this_thread(),
            oom_score: oom::score_adjustment()
                .map_err(cannot("read /proc/self/oom_score_adj: is /proc mounted?"))?,
            file_mask: place::file_mask()
                .map_err(cannot("read the umask from /proc/self/status: is /proc mounted?"))?,
            root: place::identity("/").map_err(cannot("look at the root directory"))?,
            directory: place::identity(".").map_err(cannot("look at the working directory"))?,
            namespaces: namespaces.map_err(cannot("look at /proc/thread-self/ns"))?,
            environment: environment().collect(),
            locale: surroundings::locale(),
        })
    }

    /// Makes the calling process, which has one thread, what the host was; all but environment
    /// and locale, which only its own code sees.
    ///
    /// Takes its death signal away where the user changes.
    ///
    /// # Errors
    ///
    /// What this process cannot become. It may have become a part of it, and must end.
    pub(super) fn take_on(&self, places: &Places) -> Result<(), String> {
        let cannot = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
        for (kind, namespace) in &places.namespaces {
            place::enter(namespace.as_fd())
                .map_err(|error| format!("cannot enter the host's {kind} namespace: {error}"))?;
        }
        if place::identity("/").ok() != Some(self.root) {
            place::go_to(places.root.as_fd())
                .and_then(|()| place::take_root_here())
                .map_err(cannot("take the host's root directory"))?;
        }
        if place::identity(".").ok() != Some(self.directory) {
            place::go_to(places.directory.as_fd())
                .map_err(cannot("go to the host's working directory"))?;
        }
        rlimit::set_all(&self.limits).map_err(cannot("take the host's resource limits"))?;
        if scheduling::policy().ok() != Some(self.policy) {
            scheduling::set_policy(self.policy).map_err(cannot("take the host's scheduling"))?;
        }
        if scheduling::niceness().ok() != Some(self.niceness) {
            scheduling::set_niceness(self.niceness).map_err(cannot("be as nice as the host"))?;
        }
        if Mask::of_this_thread().ok().as_ref() != Some(&self.processors) {
            self.processors.apply().map_err(cannot("run on the host's processors"))?;
        }
        self.habits.take_on().map_err(cannot("take the host's priority of input and output"))?;
        place::set_file_mask(self.file_mask);
        // A host may be set to be killed last, in a place where that cannot be undone.
        let _ = oom::be_chosen_before(self.oom_score);
        self.credentials.take_on().map_err(|reason| format!("cannot {reason}"))?;
        credentials::set_dumpable(self.dumpable).map_err(cannot("be looked into or not"))?;
        Ok(())
    }

    /// Opens the host's root and working directory, if they still are what they were: where the
    /// working directory is another one by now, it is looked for at `directory`.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when another directory is there by now.
    pub(super) fn open_directories(&self, directory: &Path) -> Result<(OwnedFd, OwnedFd)> {
        let open = |path: &Path, identity| {
            let opened = place::open_directory(path).and_then(|opened| {
                if place::identity(path)? == identity {
                    return Ok(opened);
                }
                Err(io::Error::other("it is another directory by now"))
            });
            opened.map_err(|error| {
                Error::system(format!("open {} for the workers", path.display()), error)
            })
        };
        // Its path may lead elsewhere, if something was mounted over it.
        let is_here = place::identity(".").ok() == Some(self.directory);
        let directory = if is_here { Path::new(".") } else { directory };
        Ok((open(Path::new("/"), self.root)?, open(directory, self.directory)?))
    }

    /// Returns the host's environment.
    pub(super) fn environment(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.environment.iter().cloned()
    }

    /// The host's environment as `NAME=value`; `None` if this process has the same.
    pub(super) fn other_environment(&self) -> Option<Vec<CString>> {
        if environment().eq(self.environment.iter().cloned()) {
            return None;
        }
        let entry = |(name, value): &(OsString, OsString)| {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            // It came out of C strings.
            CString::new(entry).ok()
        };
        Some(self.environment.iter().filter_map(entry).collect())
    }

    /// Whether the process that `own` was taken of can be sure to become this.
    ///
    /// Otherwise it has to be tried.
    pub(super) fn is_sure_from(&self, own: &Self) -> bool {
        let limits = self.limits.iter().zip(&own.limits);
        self.credentials == own.credentials
            && self.namespaces == own.namespaces
            && (self.root, self.directory) == (own.root, own.directory)
            && (self.policy, self.niceness) == (own.policy, own.niceness)
            && self.processors == own.processors
            && self.habits.io_priority == own.habits.io_priority
            && limits.into_iter().all(|(wanted, own)| wanted.hard <= own.hard)
    }
}

/// This process's environment, without what is said by it to zygotes and workers.
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    let ours = [ZYGOTE_VARIABLE, WORKER_VARIABLE].map(OsStr::new);
    std::env::vars_os().filter(move |(name, _)| !ours.contains(&name.as_os_str()))
}
