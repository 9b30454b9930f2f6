//! Code that runs before `main` wherever this library is linked or loaded.
//!
//! In a process that was executed as a zygote or a worker it takes what was left for that, and
//! takes the process over when the last constructor of the program has run: a worker has what its
//! host's constructors made. In every other it looks at two environment variables and is done: what
//! they name is believed only when it is a descriptor from which a first message of this library
//! can be read, and looking takes nothing away. A stray variable does no harm.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::identity::{is_for_us, number_of, restore_environment};
use super::{attach, refuse, run, threads};
use crate::error::{Error, Result};
use crate::launch::wire::{self, Greeting, ZYGOTE_MAGIC, ZYGOTE_VARIABLE};
use crate::sync::lock;
use crate::sys::exit::exit_now;
use crate::sys::process::Side;
use crate::sys::{constructors, fd, process, socket};

/// Set by the constructor: proof that it is part of this image and that it runs.
static RAN: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = construct;

/// Runs before `main`, or while this library is loaded.
extern "C" fn construct() {
    // Relaxed: carries nothing, and is set before a thread of this library can exist.
    RAN.store(true, Ordering::Relaxed);
    // With foreign rights the environment is a stranger's, who could run his code with them.
    if process::has_foreign_rights() {
        return;
    }
    let zygote = || become_zygote(number_of(ZYGOTE_VARIABLE)?);
    let worker = || {
        let arrived = attach::arrive(number_of(wire::WORKER_VARIABLE)?)?;
        Some(Role::Worker(Box::new(arrived)))
    };
    if let Some(role) = zygote().or_else(worker) {
        *lock(&ROLE) = Some(role);
        // Relaxed: carries nothing, and threads that start later see it.
        HAS_ROLE.store(true, Ordering::Relaxed);
        if !constructors::call_after_the_last((&raw const CONSTRUCTOR).cast(), take_over) {
            take_over();
        }
    } else {
        #[cfg(test)]
        crate::launch::tests::before_main();
    }
}

/// What this process was executed to be.
enum Role {
    Zygote { line: OwnedFd, host: OwnedFd },
    Worker(Box<attach::Arrived>),
}

static ROLE: Mutex<Option<Role>> = Mutex::new(None);
static HAS_ROLE: AtomicBool = AtomicBool::new(false);

/// Makes this process what it was executed to be. Never returns.
fn take_over() {
    let Some(role) = lock(&ROLE).take() else { return };
    match role {
        Role::Zygote { line, host } => match process::thread_count() {
            Ok(1) => run_in_child(line, host, None),
            Ok(_) => run_in_child(line, host, Some(threads::text())),
            Err(reason) => refuse(&line, reason),
        },
        Role::Worker(worker) => worker.start(),
    }
}

/// Refuses a pool to a constructor of the program in a process that is to be a zygote or a worker,
/// which would start the next one, and so on.
pub(in crate::launch) fn check_program() -> Result<()> {
    // Relaxed: carries nothing.
    if HAS_ROLE.load(Ordering::Relaxed) && lock(&ROLE).is_some() {
        return Err(Error::Misuse(
            "a constructor of this program builds a pool: it runs in the workers' processes, too; \
             build pools in main",
        ));
    }
    Ok(())
}

/// Refuses to execute this program as a zygote where the constructor would not catch it: `main`
/// would run a second time.
pub(in crate::launch) fn check_catchable() -> Result<()> {
    let refused = |text: &'static str| {
        Err(Error::system("start the zygote by executing this program", io::Error::other(text)))
    };
    // The use of `CONSTRUCTOR` makes the linker take it out of a static library, too.
    // SAFETY: it is a static of this module, initialised and never written.
    let constructor = unsafe { std::ptr::read_volatile(&raw const CONSTRUCTOR) };
    // Relaxed: carries nothing.
    if !RAN.load(Ordering::Relaxed) || constructor as usize == 0 {
        return refused("its loader runs no constructors; call init first thing in main");
    }
    if process::has_foreign_rights() {
        return refused("it has more rights than its caller; call init first thing in main");
    }
    if number_of(ZYGOTE_VARIABLE).is_some_and(|fd| greeting_on(fd).is_some()) {
        return refused("this process was itself started as a zygote, and not caught");
    }
    if number_of(wire::WORKER_VARIABLE).is_some_and(attach::was_missed) {
        return refused("this process was itself started as a worker, and not caught");
    }
    Ok(())
}

pub(super) fn greeting_on(fd: RawFd) -> Option<Greeting> {
    let mut buffer = [0; wire::LONGEST];
    // SAFETY: borrowed for one system call, which answers `EBADF` or `ENOTSOCK` if it is nothing.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let len = socket::peek(socket, &mut buffer).ok()?;
    wire::decode_first(ZYGOTE_MAGIC, &buffer[..len])
}

/// Takes what the host left, if `fd` is the line of a zygote that is to be.
fn become_zygote(fd: RawFd) -> Option<Role> {
    let greeting = greeting_on(fd)?;
    let for_us = is_for_us(&greeting.build);
    if for_us == Ok(false) {
        return None;
    }
    // SAFETY: a greeting of this library lies on it, so the host made it for the zygote, which this
    // process is; no other code here has the number.
    let line = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Err(reason) = for_us {
        refuse(&line, reason);
    }
    // SAFETY: before `main`; should a library have started a thread, no worker is a copy of it.
    unsafe { restore_environment(ZYGOTE_VARIABLE, greeting.preloaded) };
    match receive_host(&line, greeting.keep_fds) {
        Ok(host) => Some(Role::Zygote { line, host }),
        Err(reason) => refuse(&line, reason),
    }
}

/// Runs the zygote in a child of this process, and ends: the host, whose child this process is,
/// may wait for all its children.
fn run_in_child(line: OwnedFd, host: OwnedFd, threads: Option<String>) -> ! {
    // SAFETY: before `main`. Where a library has started a thread, what it had locked stays locked
    // in the copy, which calls none but the C library, whose `fork` sees to its own locks, and
    // makes no worker that is a copy of it.
    match unsafe { process::fork() } {
        Ok(Side::Child) => run(line, host, threads),
        Ok(Side::Parent(_)) => exit_now(0),
        Err(reason) => refuse(&line, reason),
    }
}

/// Receives the host's pidfd and closes what else was inherited.
fn receive_host(line: &OwnedFd, keep_fds: bool) -> io::Result<OwnedFd> {
    let mut buffer = [0; wire::LONGEST];
    let received = socket::recv(line.as_fd(), &mut buffer)?.and_then(|mut got| got.fds.pop());
    let host = received.ok_or_else(|| {
        io::Error::other("the host's pidfd did not arrive: raise the limit on open descriptors")
    })?;
    if !keep_fds {
        // SAFETY: before `main`, nothing of ours owns a descriptor but the two that are kept.
        unsafe { fd::close_all_except(&[line.as_raw_fd(), host.as_raw_fd()]) }?;
    }
    fd::set_close_on_exec(line.as_fd(), true)?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_constructor_ran_before_this_test() {
        check_catchable().unwrap();
    }

    #[test]
    fn what_is_no_greeting_is_left_as_it_was() {
        assert_eq!(greeting_on(RawFd::MAX), None);
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(greeting_on(theirs.as_raw_fd()), None);
        ours.write_all(b"aiopoolZ but not really").unwrap();
        assert_eq!(greeting_on(theirs.as_raw_fd()), None);
        drop(ours);
        let mut left = String::new();
        io::Read::read_to_string(&mut &theirs, &mut left).unwrap();
        assert_eq!(left, "aiopoolZ but not really");
    }
}
