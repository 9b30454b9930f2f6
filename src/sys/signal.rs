//! What signals do in this process.
#![allow(unsafe_code)] // calls into libc

use std::io;

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

/// Ignores a signal, here and in programs executed from here.
fn ignore(signal: i32) -> io::Result<()> {
    set(signal, libc::SIG_IGN)
}

/// Blocks no signal in this thread any more.
pub(crate) fn clear_mask() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set it is given; the old mask is not asked for.
    let error = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn set(signal: libc::c_int, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    // SAFETY: `new` is initialised, and neither action runs code of ours.
    check(unsafe { libc::sigaction(signal, &new, std::ptr::null_mut()) }).map(drop)
}
