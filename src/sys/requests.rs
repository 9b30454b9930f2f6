//! What others ask of a worker by signals, and what its children have of that.
//!
//! A signal that is *caught* has its default action again in every program that the worker starts,
//! which one that is *ignored* has not. So what a worker wants nothing to do with is caught, too.
#![allow(unsafe_code)] // signal handlers

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::signal;

/// The signals that end a process and that a service's manager, a terminal or a broken pipe sends.
pub(crate) const CAUGHT: [libc::c_int; 5] =
    [libc::SIGINT, libc::SIGPIPE, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Comes with a `SIGTERM` that is to end the worker at once.
const AT_ONCE: usize = 0x0a10_0001;

/// The process that catches; its forked children are as if they did not.
static CATCHER: AtomicI32 = AtomicI32::new(0);
/// Whether `SIGTERM` asks the worker to retire.
static RETIRES: AtomicBool = AtomicBool::new(false);
static MUST_RETIRE: AtomicBool = AtomicBool::new(false);
/// The doorbell that wakes the worker; −1 while there is none.
static BELL: AtomicI32 = AtomicI32::new(-1);

/// Catches the signals of [`CAUGHT`] that this process does nothing about by itself.
///
/// `retires`: `SIGTERM` asks it to take no more tasks; otherwise it does nothing.
pub(crate) fn catch(retires: bool) -> io::Result<()> {
    CATCHER.store(std::process::id() as i32, Ordering::Relaxed);
    RETIRES.store(retires, Ordering::Relaxed);
    for signal in CAUGHT {
        if !signal::is_handled(signal)? {
            signal::handle(signal, on_signal)?;
        }
    }
    Ok(())
}

/// The doorbell that is rung when the worker is asked to retire, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// Rings `bell`, of which this keeps a copy.
    pub(crate) fn new(bell: BorrowedFd<'_>) -> io::Result<Self> {
        let bell = bell.try_clone_to_owned()?;
        BELL.store(bell.as_raw_fd(), Ordering::Relaxed);
        Ok(Self(bell))
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let own = self.0.as_raw_fd();
        let _ = BELL.compare_exchange(own, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Whether the worker was asked to take no more tasks.
#[inline]
pub(crate) fn must_retire() -> bool {
    MUST_RETIRE.load(Ordering::Relaxed)
}

/// Sends a process the `SIGTERM` that ends it at once, unless it handles that signal itself.
pub(crate) fn terminate(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    super::pidfd::queue_signal(pidfd, libc::SIGTERM, AT_ONCE)
}

/// Runs in any thread, at any instruction: only calls what may be called there.
extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a handler with `SA_SIGINFO` a valid `info`; the calls are among
    // those that a handler may make, and `errno` is put back.
    unsafe {
        let errno = *libc::__errno_location();
        let at_once = signal == libc::SIGTERM
            && (*info).si_code == libc::SI_QUEUE
            && (*info).si_value().sival_ptr as usize == AT_ONCE;
        let is_child = libc::getpid() != CATCHER.load(Ordering::Relaxed);
        if at_once || is_child && signal != libc::SIGPIPE {
            // It is blocked while this runs, and does what it does by default right after.
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        } else if signal == libc::SIGTERM && RETIRES.load(Ordering::Relaxed) {
            MUST_RETIRE.store(true, Ordering::Relaxed);
            let bell = BELL.load(Ordering::Relaxed);
            if bell >= 0 {
                let one = 1u64;
                libc::write(bell, (&raw const one).cast(), size_of::<u64>());
            }
        }
        *libc::__errno_location() = errno;
    }
}
