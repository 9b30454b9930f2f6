//! The zygote process: one thread, no runtime, a loop that forks, reaps, kills and reports.
//!
//! Everything in this folder runs in the zygote or in a worker that is about to start, never in
//! the host, except [`fork_from_host`] and the looks of [`check_catchable`]. Invariant: this
//! process has one thread whenever it forks. The messages, the contract of a worker's start and
//! the crash points are in `../README.md`.
#![allow(unsafe_code)] // forks, and takes over descriptors by their numbers

mod attach;
mod child;
mod child_table;
mod constructor;
mod dead_man;
mod follow;
mod identity;
mod oom_watch;
mod origin;
mod pool;
mod reap;
mod serve;
mod template;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod threads;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use attach::attach;
pub(super) use attach::end_if_invited;
pub(super) use constructor::{check_catchable, check_program};
pub use template::Template;

use self::child::NewWorker;
use self::origin::{Lines, Origin, StartLine};
use self::serve::Zygote;
use super::wire::{self, Build, Hello};
use crate::sync::crash::{self, Point};
use crate::sys::exit::{exit_now, orderly_exit};
use crate::sys::process::{self, Side};
use crate::sys::rlimit::{self, Limit, Resource};
use crate::sys::{fd, forked, image, own_fd, pidfd, signal, socket};

/// Forks the zygote from the host, and says its pid. The host has this many `threads`, and all but
/// the calling one, which are this library's, sleep in the kernel.
///
/// `host` is a pidfd of the caller, `line` the zygote's end and `ours` the host's.
pub(super) fn fork_from_host(
    threads: usize,
    ours: BorrowedFd<'_>,
    line: OwnedFd,
    host: OwnedFd,
) -> io::Result<u32> {
    if process::thread_count()? != threads {
        return Err(io::Error::other("this process has more than one thread"));
    }
    let mask = signal::Mask::all().set()?;
    // SAFETY: counted just above; the one thread is here, and the others change nothing now.
    let forked = unsafe { process::fork_unseen() };
    if !matches!(forked, Ok(Side::Child)) {
        mask.set()?;
    }
    match forked? {
        Side::Parent(pid) => {
            // Done by both sides, so that neither can act before it is.
            let _ = process::lead_group(pid);
            Ok(pid)
        }
        Side::Child => {
            forked::note();
            // SAFETY: its owner is in a frame of the host that this copy never returns to. It has
            // to go: the line would not end with the host's end while the zygote has a copy.
            unsafe { fd::close(ours.as_raw_fd()) };
            // SAFETY: as for that one: pools of the host that would not see each other's end.
            unsafe { own_fd::close_all() };
            run(line, host, None)
        }
    }
}

/// Runs a zygote, however it came to be, until its host is gone. `threads`: why no worker can be a
/// copy of it.
fn run(line: OwnedFd, host: OwnedFd, threads: Option<String>) -> ! {
    serve(line, host, threads).start()
}

/// The same; comes back in each worker that is forked.
fn serve(line: OwnedFd, host: OwnedFd, threads: Option<String>) -> Box<NewWorker> {
    let served = catch_unwind(AssertUnwindSafe(|| {
        let (origin, lines) = match prepare(&line, threads) {
            Ok(prepared) => prepared,
            Err(reason) => refuse(&line, reason),
        };
        Zygote::new(line, host, origin, lines).serve()
    }));
    match served {
        // A worker that was just forked; all that was the zygote's is closed.
        Ok(Some(new_worker)) => new_worker,
        Ok(None) => orderly_exit(0),
        // The panic hook has said what and where. The workers die with this process.
        Err(_) => exit_now(101),
    }
}

/// Makes this process what a zygote is, and tells the host so.
fn prepare(line: &OwnedFd, threads: Option<String>) -> io::Result<(Origin, Lines)> {
    fd::silence_stdin()?;
    process::lead_group(0)?;
    // The host decides when the zygote ends, whatever is sent to all processes of a service.
    // All are blocked already, since before there was this process: none ever had an effect. What
    // is sent to a worker that was just forked waits for the worker to be ready for it.
    signal::Mask::all().set()?;
    signal::default_all_but(&[])?;
    // Z9: a stopped zygote serves no less for it, and sees its host die.
    socket::continue_at_messages(line.as_fd())?;
    process::adopt_orphans()?;
    process::set_name(c"aiopool-zygote")?;
    let open_files = rlimit::get(Resource::OpenFiles)?;
    rlimit::set(Resource::OpenFiles, Limit { soft: open_files.hard, ..open_files })?;
    let pid = process::own_pid();
    let build = Build::own(&image::own()?)?;
    let origin = Origin { build, pid, threads };
    let (ours, theirs) = socket::pair()?;
    let deaths = signal::descriptor(&[libc::SIGCHLD])?;
    let lines = Lines { start_line: StartLine { ours, theirs }, deaths };
    // Z2: dies here → the host's wait ends with its death.
    crash::here(Point::Z2);
    let own = pidfd::open(pid)?;
    socket::send(line.as_fd(), &wire::encode(&Hello::Ready { pid }), &[own.as_fd()])?;
    Ok((origin, lines))
}

/// Tells the host why there is no zygote, and ends.
fn refuse(line: &OwnedFd, reason: impl ToString) -> ! {
    let hello = Hello::Refused(wire::reason(reason));
    // If this cannot be sent, the host sees the line close.
    let _ = socket::send(line.as_fd(), &wire::encode(&hello), &[]);
    exit_now(1)
}
