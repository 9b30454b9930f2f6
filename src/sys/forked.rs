//! Whether this process is still the one it was. Notices any fork without asking the kernel at each
//! call.
#![allow(unsafe_code)] // one call into libc

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns a number that differs between a process and the children that `fork` made of it.
#[inline]
pub(crate) fn generation() -> u32 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler only touches an atomic, which is safe in a child of any process.
        // A refusal (no memory) leaves the children of this process unnoticed, nothing worse.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Relaxed)
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
}
