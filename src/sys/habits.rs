//! What a process has from its parent and nobody thinks of: how its files are read and written, how
//! late its timers may be, what a dump of it has.
#![allow(unsafe_code)] // calls into libc

use std::io;

use serde::{Deserialize, Serialize};

use super::check;
use super::credentials::control;

const DUMP_FILTER: &str = "/proc/self/coredump_filter";

/// What the calling thread and its process have of it; `None` where the system does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Habits {
    /// Class and level of its input and output (`ioprio_get`).
    pub io_priority: Option<i32>,
    /// How late its timers may be, in nanoseconds.
    timer_slack: Option<i32>,
    /// Whether it does without huge pages.
    no_huge_pages: Option<i32>,
    /// How it learns of memory that broke (`PR_MCE_KILL`).
    broken_memory: Option<i32>,
    /// The personality of the kernel (`personality`).
    personality: Option<i32>,
    /// Which memory a dump of it has, as `/proc/self/coredump_filter` says.
    dump_filter: Option<String>,
}

impl Habits {
    /// Reads those of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        // SAFETY: takes a number only. This one asks and changes nothing.
        let personality = check(unsafe { libc::personality(0xFFFF_FFFF) });
        Self {
            io_priority: io_priority().ok(),
            timer_slack: control(libc::PR_GET_TIMERSLACK, 0, 0).ok(),
            no_huge_pages: control(libc::PR_GET_THP_DISABLE, 0, 0).ok(),
            broken_memory: control(libc::PR_MCE_KILL_GET, 0, 0).ok(),
            personality: personality.ok(),
            dump_filter: std::fs::read_to_string(DUMP_FILTER).ok(),
        }
    }

    /// Gives them to the calling process, which has one thread.
    ///
    /// # Errors
    ///
    /// A priority of input and output that it may not have. The rest is left where the system does
    /// not want it.
    pub(crate) fn take_on(&self) -> io::Result<()> {
        let own = Self::of_this_thread();
        if let Some(priority) = unlike(&self.io_priority, &own.io_priority) {
            set_io_priority(*priority)?;
        }
        // A real-time thread has none, and 0 would set what it has by default.
        if let Some(slack) = unlike(&self.timer_slack, &own.timer_slack).filter(|&&slack| slack > 0)
        {
            let _ = control(libc::PR_SET_TIMERSLACK, *slack as u64, 0);
        }
        if let Some(without) = unlike(&self.no_huge_pages, &own.no_huge_pages) {
            let _ = control(libc::PR_SET_THP_DISABLE, *without as u64, 0);
        }
        if let Some(policy) = unlike(&self.broken_memory, &own.broken_memory) {
            let _ = control(libc::PR_MCE_KILL, libc::PR_MCE_KILL_SET as u64, *policy as u64);
        }
        if let Some(persona) = unlike(&self.personality, &own.personality) {
            // SAFETY: takes a number only.
            let _ = check(unsafe { libc::personality(*persona as libc::c_ulong) });
        }
        if let Some(filter) = unlike(&self.dump_filter, &own.dump_filter) {
            let _ = std::fs::write(DUMP_FILTER, format!("0x{}", filter.trim()));
        }
        Ok(())
    }
}

/// Returns what is wanted, if that is known and not there already.
fn unlike<'w, T: PartialEq>(wanted: &'w Option<T>, own: &Option<T>) -> Option<&'w T> {
    wanted.as_ref().filter(|_| wanted != own)
}

/// `IOPRIO_WHO_PROCESS`: a thread, 0 for the calling one.
const WHO_PROCESS: libc::c_int = 1;

fn io_priority() -> io::Result<i32> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) } as libc::c_int)
}

fn set_io_priority(priority: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) };
    check(result as libc::c_int).map(drop)
}

#[cfg(test)]
impl Habits {
    /// Returns some that a process may take on and does not have by itself.
    pub(crate) fn other() -> Self {
        let before = Self::of_this_thread();
        assert!(before.io_priority.is_some() && before.timer_slack > Some(0), "{before:?}");
        Self {
            io_priority: Some(2 << 13 | 6),
            timer_slack: Some(70_000),
            no_huge_pages: Some(1),
            broken_memory: Some(libc::PR_MCE_KILL_EARLY),
            personality: Some(libc::ADDR_NO_RANDOMIZE),
            dump_filter: Some("00000010\n".to_owned()),
        }
    }
}
