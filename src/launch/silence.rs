//! What becomes of a zygote that does not answer.
//!
//! Z14: an answer takes microseconds, so a second without one is worth a word. The zygote is
//! continued then, if a signal has stopped it; where that does not help it is killed, because what
//! it does not do (replace workers, kill them at a deadline) would wait for ever. A second counts
//! only if this process was running in it: the clock goes on while a whole container is stopped.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::sys::{pidfd, process, stderr};

/// How long an answer may take before the first word is said of it.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Seconds without an answer after which a zygote is killed: one that is stopped, although it was
/// just continued, is in a debugger's hands.
const STOPPED: u32 = 2;
/// One that sleeps with an order before it hangs.
const ASLEEP: u32 = 5;
/// One that runs, or waits in the kernel, may only be slow: it copies a large process, or the
/// machine is overloaded.
const BUSY: u32 = 30;

/// Seconds in a row for which a zygote has not answered.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    missed: u32,
    killed: bool,
    /// What was said last of it, until it is taken.
    word: Option<String>,
}

impl Silence {
    /// Returns what there is to say of it since the last call.
    pub(crate) fn take_word(&mut self) -> Option<String> {
        self.word.take()
    }

    /// Takes note of another second without an answer of the zygote, which is process `pid`, for
    /// pool number `pool` if it has one.
    ///
    /// False when it was killed and is not dead a second later, as in a group that is frozen.
    pub(super) fn another_second(
        &mut self,
        pid: u32,
        zygote: BorrowedFd<'_>,
        pool: Option<usize>,
    ) -> bool {
        if self.killed {
            return false;
        }
        self.missed += 1;
        let state = process::state(pid);
        if self.missed == 1 {
            let text = "the fork server has not answered for a second";
            tracing::warn!(pool, ?state, "{text}");
            let stopped = matches!(state, Some('T' | 't'));
            let and = if stopped { " and is stopped: it is continued" } else { "" };
            self.word = Some(format!("{text}{and}"));
            let _ = pidfd::send_signal(zygote, libc::SIGCONT);
        }
        let limit = match state {
            Some('T' | 't') => STOPPED,
            Some('S') => ASLEEP,
            _ => BUSY,
        };
        if self.missed >= limit {
            self.killed = true;
            let seconds = self.missed;
            let how = match limit {
                STOPPED => " and is stopped",
                _ => "",
            };
            let text =
                format!("the fork server has not answered for {seconds} s{how}: it is killed");
            tracing::error!(pool, ?state, "{text}");
            if !tracing::dispatcher::has_been_set() {
                stderr::line(&format!("aiopool: {text}"));
            }
            let _ = pidfd::send_signal(zygote, libc::SIGKILL);
            self.word = Some(text);
        }
        true
    }
}
