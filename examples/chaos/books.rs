//! The run counts: how often each task's code has really run, kept where workers can write.
//!
//! The counts lie in a shared mapping that is made before the zygote is, so that every worker has
//! it and it is no part of the pool. A task carries its number; its first act is to count.

#![allow(unsafe_code)] // A shared mapping, and atomics in it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Numbers are used again after this many tasks, long after the first use is over.
const PLACES: usize = 1 << 22;

static RUNS: OnceLock<usize> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Makes the counts; before `aiopool::init`.
pub fn open() {
    // SAFETY: an anonymous mapping; nothing is replaced.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PLACES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert!(at != libc::MAP_FAILED, "no memory for the run counts");
    RUNS.set(at as usize).expect("opened once");
}

/// A number for a task; its count is 0.
pub fn number() -> u32 {
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES;
    place(number).store(0, Ordering::SeqCst);
    number as u32
}

/// The task `number` runs, now.
pub fn ran(number: u32) {
    place(number as usize).fetch_add(1, Ordering::SeqCst);
}

/// How often the task `number` has run.
pub fn runs(number: u32) -> u32 {
    u32::from(place(number as usize).load(Ordering::SeqCst))
}

fn place(number: usize) -> &'static AtomicU8 {
    let base = *RUNS.get().expect("opened before the zygote was started");
    // SAFETY: within the mapping, which stays for good; only atomics ever touch it.
    unsafe { AtomicU8::from_ptr((base as *mut u8).add(number % PLACES)) }
}
