//! Threads of this process, as the kernel counts them and the C library cancels them.
#![allow(unsafe_code)] // calls into libc

use std::cell::Cell;
use std::ffi::c_int;

use super::forked;

/// Returns the kernel's id of the calling thread.
pub(crate) fn own_id() -> i32 {
    thread_local! {
        /// The id, and the process that it is from: a forked child has a copy.
        static KNOWN: Cell<(u32, i32)> = const { Cell::new((0, 0)) };
    }
    let generation = forked::generation();
    match KNOWN.get() {
        (known, id) if known == generation && id != 0 => id,
        _ => {
            // SAFETY: takes no pointers.
            let id = unsafe { libc::gettid() };
            KNOWN.set((generation, id));
            id
        }
    }
}

/// Returns whether this process has a thread that is neither the calling one nor of this library;
/// true where the system does not say.
pub(crate) fn has_others() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return true };
    let own = own_id().to_string();
    threads.flatten().any(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        thread.file_name() != *own && !name.starts_with("aiopool-")
    })
}

/// Says what the system has refused where a thread could not be started.
pub(crate) fn named(error: std::io::Error) -> std::io::Error {
    super::named("clone3 or clone", error)
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

// Ends the thread by unwinding it.
unsafe extern "C-unwind" {
    fn pthread_testcancel();
}

/// As long as there is one, `pthread_cancel` does not end the calling thread.
#[derive(Debug)]
pub(crate) struct Uncancelled(c_int);

impl Uncancelled {
    /// Begins the time in which the calling thread is not cancelled.
    pub(crate) fn begin() -> Self {
        const DISABLE: c_int = 1;
        let mut before = 0;
        // SAFETY: `before` is writable.
        unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
        Self(before)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state that the C library gave; the one before is not asked for.
        unsafe { pthread_setcancelstate(self.0, std::ptr::null_mut()) };
    }
}

/// Ends the calling thread if `pthread_cancel` was called for it.
///
/// # Safety
///
/// No frame up to the one that C called has anything to drop, or catches panics.
#[inline(always)]
pub(crate) unsafe fn end_if_cancelled() {
    // SAFETY: takes nothing; the caller vouches for the frames that it unwinds.
    unsafe { pthread_testcancel() };
}

/// Returns whether the kernel still has thread `id` of this process. A thread is joined a moment
/// before that.
pub(crate) fn exists(id: i32) -> bool {
    // SAFETY: takes numbers only; signal 0 is looked up and not sent.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_exists_until_it_has_ended() {
        assert!(exists(own_id()));
        let id = std::thread::spawn(own_id).join().unwrap();
        while exists(id) {
            std::thread::yield_now();
        }
    }
}
