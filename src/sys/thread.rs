//! Threads of this process, as the kernel counts them.
#![allow(unsafe_code)] // calls into libc

/// Returns the kernel's id of the calling thread.
pub(crate) fn own_id() -> i32 {
    // SAFETY: takes no pointers.
    unsafe { libc::gettid() }
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
