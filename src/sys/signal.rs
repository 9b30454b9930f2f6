//! What signals do in this process.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// The highest signal number of any supported platform.
const LAST: libc::c_int = 64;

/// Ignores these signals and takes every other back to its default action; one that was ignored
/// and is to be never has another action meanwhile.
pub(crate) fn default_all_but(ignored: &[libc::c_int]) -> io::Result<()> {
    ignored.iter().try_for_each(|&signal| ignore(signal))?;
    for signal in (1..=LAST).filter(|signal| !ignored.contains(signal)) {
        // What cannot be set (`SIGKILL`, `SIGSTOP`, the C library's own two) has no handler either.
        let _ = set(signal, libc::SIG_DFL);
    }
    Ok(())
}

/// A function that runs when a signal comes.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Whether this process has a handler for a signal.
pub(crate) fn is_handled(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `now` is writable; no new action is given.
    check(unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) })?;
    Ok(![libc::SIG_DFL, libc::SIG_IGN].contains(&now.sa_sigaction))
}

/// Handles a signal; other signals wait meanwhile. The kernel goes on with an interrupted call
/// where it can; sleeps end early.
///
/// On the thread's own stack: a signal stack, which the standard library gives the main thread for
/// reports of overflows, has room for hardly more than one frame.
pub(crate) fn handle(signal: libc::c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler as *const () as libc::sighandler_t;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    new.sa_mask = Mask::all().0;
    // SAFETY: `new` is initialised, and the handler has the type that `SA_SIGINFO` asks for.
    check(unsafe { libc::sigaction(signal, &new, std::ptr::null_mut()) }).map(drop)
}

/// The signals that a thread blocks.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    /// Every signal.
    pub(crate) fn all() -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises the set it is given.
        Self(unsafe {
            libc::sigfillset(set.as_mut_ptr());
            set.assume_init()
        })
    }

    /// These signals.
    pub(crate) fn of(signals: &[libc::c_int]) -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: the first call initialises the set it is given, the others add to it.
        Self(unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            signals.iter().for_each(|&signal| {
                libc::sigaddset(set.as_mut_ptr(), signal);
            });
            set.assume_init()
        })
    }

    /// Blocks these signals in this thread and no others; gives those that it blocked before.
    pub(crate) fn set(self) -> io::Result<Self> {
        let mut before = Self::of(&[]);
        // SAFETY: both sets are initialised and live across the call.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, &mut before.0) };
        if error == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(error)) }
    }
}

/// Makes a descriptor that is readable while one of these signals, which are blocked, is pending.
pub(crate) fn descriptor(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = Mask::of(signals);
    // SAFETY: the set is initialised.
    let fd = check(unsafe { libc::signalfd(-1, &set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the call just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the pending signals off a [`descriptor`].
pub(crate) fn take_pending(descriptor: BorrowedFd<'_>) {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: `info` is writable for its length. The descriptor never waits.
    while unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) } > 0 {}
}

/// Ignores a signal, here and in programs executed from here.
fn ignore(signal: i32) -> io::Result<()> {
    set(signal, libc::SIG_IGN)
}

fn set(signal: libc::c_int, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    // SAFETY: `new` is initialised, and neither action runs code of ours.
    check(unsafe { libc::sigaction(signal, &new, std::ptr::null_mut()) }).map(drop)
}
