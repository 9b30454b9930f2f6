//! The other end of an execution: a program that was executed as a worker takes over what the
//! zygote left for it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use super::child::{bear_name, begin, confine, fail, say_attached};
use super::identity::{is_for_us, named_by, number_of, restore_environment};
use super::threads;
use crate::error::{Error, Result};
use crate::launch::wire::{self, Handover, Started, WORKER_MAGIC, WORKER_VARIABLE};
use crate::launch::{ForkOrder, Sandbox};
use crate::sys::exit::{exit_now, orderly_exit};
use crate::sys::{credentials, fd, process, socket, stderr, surroundings};
use crate::worker::{WorkerFds, WorkerStart};

/// A worker that starts before `main`, once the program's constructors have run.
pub(super) struct Arrived {
    start: WorkerStart,
    started: OwnedFd,
    pid: u32,
    sandbox: Option<Sandbox>,
    locale: Option<CString>,
    dumpable: bool,
}

/// Takes what the zygote left, if `fd` has the handover of a worker that starts before `main`.
pub(super) fn arrive(fd: RawFd) -> Option<Arrived> {
    let handover = read(fd).filter(|handover| handover.before_main)?;
    let for_us = is_for_us(&handover.build);
    if for_us == Ok(false) {
        return None;
    }
    // SAFETY: before `main`; should a library have started a thread, the worker fails later.
    unsafe { restore_environment(WORKER_VARIABLE, handover.preloaded) };
    let pid = handover.pid;
    let (sandbox, locale) = (handover.sandbox.clone(), handover.locale.clone());
    let dumpable = handover.dumpable;
    match take(fd, handover) {
        Ok((start, started)) => match for_us {
            Err(reason) => fail(started.as_fd(), pid, reason),
            Ok(_) => Some(Arrived { start, started, pid, sandbox, locale, dumpable }),
        },
        // The zygote then reports a program that did not attach.
        Err(_) => exit_now(super::child::NOT_STARTED),
    }
}

impl Arrived {
    /// Makes this process the worker.
    pub(super) fn start(self) -> ! {
        let Self { start, started, pid, sandbox, locale, dumpable } = self;
        if process::thread_count().is_ok_and(|threads| threads != 1) {
            fail(started.as_fd(), pid, threads::text());
        }
        if let Err(reason) = confine(sandbox.as_ref()) {
            fail(started.as_fd(), pid, reason);
        }
        let _ = locale.is_none_or(|locale| surroundings::set_locale(&locale));
        if !dumpable && let Err(error) = credentials::set_dumpable(false) {
            fail(started.as_fd(), pid, format!("cannot keep others from looking into it: {error}"));
        }
        bear_name(start.id);
        say_attached(&started, pid);
        drop(started);
        // SAFETY: the zygote left it for this process, with the host's configuration, and
        // `is_for_us` has compared its build with the image that runs here.
        unsafe { begin(start) }
    }
}

/// Returns whether `fd` has the handover of a worker that should have started before `main`.
pub(super) fn was_missed(fd: RawFd) -> bool {
    read(fd).is_some_and(|handover| handover.before_main)
}

/// Ends this process if a pool's command started it and it has not attached: it is about to build a
/// pool of its own, whose workers would do the same, and so on.
///
/// Its pool hears why, so that it starts no other.
pub(in crate::launch) fn end_if_invited() {
    const WHY: &str = "this program was started as a worker of a pool, and builds a pool instead \
        of attaching: name a program that attaches (AttachedWorker::attach, in C \
        aiopool_worker_attach), or attach before building a pool";
    let Some((fd, process)) = named_by(WORKER_VARIABLE) else { return };
    let handover = read(fd);
    let started = match (&handover, process) {
        (Some(Handover { before_main: false, fds, pid, .. }), _) => {
            fds.first().map(|fd| (*fd, *pid))
        }
        // The descriptors were closed on the way here, and the worker that has them has not
        // attached: that would have closed this one.
        (None, Some(worker)) if worker != process::own_pid() && is_start_file(worker, fd) => None,
        _ => return,
    };
    stderr::line(&format!("aiopool: {WHY} (process {})", process::own_pid()));
    if let Some((started, pid)) = started {
        // SAFETY: borrowed for one system call, which answers `EBADF` if it is nothing.
        let started = unsafe { BorrowedFd::borrow_raw(started) };
        let refused = Started { pid, result: Err(wire::reason(WHY)), is_final: true };
        // The worker is killed as soon as the zygote has read it.
        let _ = socket::send(started, &wire::encode(&refused), &[]);
    }
    orderly_exit(super::child::NOT_STARTED);
}

/// Returns whether a descriptor of a process is what a zygote leaves for a worker.
fn is_start_file(process: u32, fd: RawFd) -> bool {
    let file = std::fs::read_link(format!("/proc/{process}/fd/{fd}"));
    file.is_ok_and(|file| file.as_os_str().as_bytes().starts_with(b"/memfd:aiopool-start"))
}

/// Takes over what the zygote left for a worker that was executed as a command.
///
/// To be called once, before the program starts threads that look at the environment. The program
/// has to be executed, not called by another that waits for it: a wrapper ends with `exec`.
///
/// # Errors
///
/// [`Error::Misuse`] in a process that was not started as a worker, or has attached already;
/// [`Error::System`] when the pool's library is another version, or a descriptor is missing.
pub(crate) fn attach() -> Result<WorkerStart> {
    const NOT_A_WORKER: Error = Error::Misuse(
        "this process was not started as a worker of a pool, or has attached already: attaching \
         is for a program that a pool's start command names, once",
    );
    if process::has_foreign_rights() {
        return Err(Error::Misuse("a program with more rights than its caller cannot be a worker"));
    }
    let fd = number_of(WORKER_VARIABLE).ok_or(NOT_A_WORKER)?;
    let handover = read(fd).filter(|handover| !handover.before_main).ok_or(NOT_A_WORKER)?;
    attach_to(fd, handover)
}

fn attach_to(fd: RawFd, handover: Handover) -> Result<WorkerStart> {
    // With threads it stays: the descriptor it names is closed below, so it means nothing.
    if process::thread_count().is_ok_and(|threads| threads == 1) {
        // SAFETY: counted just now, and the one thread is here.
        unsafe { restore_environment(WORKER_VARIABLE, false) };
    }
    let (pid, zygote, theirs) = (handover.pid, handover.zygote, handover.build.version.clone());
    let system = |error| Error::system("attach to the pool", error);
    let (start, started) = take(fd, handover).map_err(system)?;
    let refuse = |text: String| {
        let refused = Started { pid, result: Err(wire::reason(&text)), is_final: true };
        let _ = socket::send(started.as_fd(), &wire::encode(&refused), &[]);
        Err(system(io::Error::other(text)))
    };
    let ours = env!("CARGO_PKG_VERSION");
    if theirs != ours {
        return refuse(format!(
            "the pool uses aiopool {theirs}, its worker program aiopool {ours}: use one version"
        ));
    }
    if process::own_pid() != pid {
        // A wrapper that waits for us: the zygote's death ends it, so let its death end us.
        if let Err(error) = process::die_with_parent() {
            return refuse(error.to_string());
        }
    } else if process::parent_pid() != zygote {
        // Z3, as for a forked worker.
        exit_now(super::child::NOT_STARTED);
    }
    say_attached(&started, pid);
    Ok(start)
}

/// Returns the handover in the file `fd`, if it is one; takes nothing away.
fn read(fd: RawFd) -> Option<Handover> {
    // SAFETY: only read by position while it lives, and never closed here; a number that is not
    // open answers `EBADF`, and what has no positions `ESPIPE`.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let mut magic = [0; WORKER_MAGIC.len()];
    file.read_exact_at(&mut magic, 0).ok()?;
    if magic != WORKER_MAGIC {
        return None;
    }
    let mut bytes = vec![0; file.metadata().ok()?.len().try_into().ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    wire::decode_first(WORKER_MAGIC, &bytes)
}

/// Takes over the descriptors; the second is the start line.
fn take(file: RawFd, handover: Handover) -> io::Result<(WorkerStart, OwnedFd)> {
    let numbers = [file].into_iter().chain(handover.fds.iter().copied());
    let mut owned = Vec::new();
    for number in numbers {
        // SAFETY: borrowed for one system call, which answers `EBADF` if it is not open.
        fd::set_close_on_exec(unsafe { BorrowedFd::borrow_raw(number) }, true)?;
        // SAFETY: open, and the zygote left it for us: no other code here has the number. Taken
        // once, because the file that names it is among them and closed below.
        owned.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    if let Some(held) = handover.held {
        // Open to this process's end, and not handed to programs that tasks start.
        // SAFETY: borrowed for one system call, which answers `EBADF` if it is not open.
        fd::set_close_on_exec(unsafe { BorrowedFd::borrow_raw(held) }, true)?;
    }
    let missing = || io::Error::other("the start file names too few descriptors");
    let mut owned = owned.into_iter();
    let mut next = || owned.next().ok_or_else(missing);
    drop(next()?);
    let started = next()?;
    let (control, requests, outputs) = (next()?, next()?, next()?);
    let (host_bell, supervisor_bell) = (next()?, next()?);
    let logs = if handover.logs { Some(next()?) } else { None };
    let bells = owned.collect();
    let fds = WorkerFds { control, requests, outputs, host_bell, supervisor_bell, bells };
    let ForkOrder { id, seat, lane_start, handback_start } = handover.order;
    let config = handover.config;
    Ok((WorkerStart { id, seat, lane_start, handback_start, config, fds, logs }, started))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::path::PathBuf;

    use super::*;
    use crate::launch::wire::Build;
    use crate::sys::memfd;
    use crate::table::WorkerId;

    #[test]
    fn another_version_is_refused_here_and_said_to_the_zygote() {
        let (zygote, started) = socket::pair().unwrap();
        let mut fds: Vec<_> =
            (0..5).map(|_| memfd::create(c"aiopool-test").unwrap().into_raw_fd()).collect();
        fds.insert(0, started.into_raw_fd());
        let id = WorkerId { queue: 0, slot: 0, incarnation: 1 };
        let handover = Handover {
            before_main: false,
            build: Build { version: "0.0.1".into(), path: PathBuf::new(), identity: "x".into() },
            preloaded: false,
            zygote: 1,
            pid: 7,
            order: ForkOrder { id, seat: 0, lane_start: 0, handback_start: 0 },
            fds,
            logs: false,
            held: None,
            config: Vec::new(),
            locale: None,
            dumpable: true,
            sandbox: None,
        };
        let file = memfd::create(c"aiopool-test").unwrap();
        let mut file = File::from(file);
        file.write_all(&wire::encode_first(WORKER_MAGIC, &handover)).unwrap();
        assert_eq!(read(file.as_raw_fd()).as_ref(), Some(&handover));
        let refused = attach_to(file.into_raw_fd(), handover).unwrap_err().to_string();
        assert!(refused.contains("the pool uses aiopool 0.0.1"), "{refused}");
        let mut buffer = [0; wire::LONGEST];
        let got = socket::recv(zygote.as_fd(), &mut buffer).unwrap().unwrap();
        let said: Started = wire::decode(&buffer[..got.len]).unwrap();
        assert_eq!(said.pid, 7);
        assert!(said.result.unwrap_err().contains("use one version"));
    }

    #[test]
    fn what_is_no_start_file_is_left_alone() {
        assert_eq!(read(RawFd::MAX), None);
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert_eq!(read(pipe.as_raw_fd()), None);
        let file = memfd::create(c"aiopool-test").unwrap();
        assert_eq!(read(file.as_raw_fd()), None);
        File::from(file.try_clone().unwrap()).write_all(b"aiopoolW????").unwrap();
        assert_eq!(read(file.as_raw_fd()), None);
    }
}
