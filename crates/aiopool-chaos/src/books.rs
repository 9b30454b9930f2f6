//! The run counts: how often each task's code has really run, kept where workers can write.
//!
//! The counts lie in shared memory of their own, no part of the pool: forked workers have it from
//! their host, executed ones find it by its descriptor there. A task carries its number; its first act is to count.

#![allow(unsafe_code)] // A shared mapping, and atomics in it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// Numbers are used again after this many tasks, long after the first use is over.
const PLACES: usize = 1 << 22;

/// Behind the counts: who stands at the gate.
const GATE_BYTES: usize = 4096;

static RUNS: OnceLock<usize> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Where workers that do not share this process's memory find the counts.
const VARIABLE: &str = "CHAOS_BOOKS";

/// Makes the counts; before there is a zygote or a second thread.
pub fn open() {
    // SAFETY: a name that ends with 0; the descriptor is ours and stays open for good.
    let fd = unsafe { libc::memfd_create(c"chaos-books".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: two numbers.
    assert_eq!(unsafe { libc::ftruncate(fd, (PLACES + GATE_BYTES) as i64) }, 0, "no run counts");
    let place = format!("/proc/{}/fd/{fd}", std::process::id());
    // SAFETY: there is one thread yet.
    unsafe { std::env::set_var(VARIABLE, place) };
    RUNS.set(map(fd)).expect("opened once");
}

/// Maps the counts in a worker that was executed.
fn find() -> usize {
    let place = std::env::var_os(VARIABLE).expect("opened before the zygote was started");
    let file = std::fs::File::options().read(true).write(true).open(place);
    map(std::os::fd::AsRawFd::as_raw_fd(&file.expect("the host's descriptor")))
}

fn map(fd: i32) -> usize {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let len = PLACES + GATE_BYTES;
    let nowhere = std::ptr::null_mut();
    // SAFETY: a new mapping; nothing is replaced.
    let at = unsafe { libc::mmap(nowhere, len, protection, libc::MAP_SHARED, fd, 0) };
    assert!(at != libc::MAP_FAILED, "no memory for the run counts");
    at as usize
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

/// Closes the gate: a task that comes to it waits there.
pub fn close_gate() {
    at_gate().store(0, Ordering::SeqCst);
}

/// Lets who stands at the gate go on.
pub fn open_gate() {
    at_gate().store(u32::MAX, Ordering::SeqCst);
}

/// The process that stands at the gate, if there is one.
pub fn gatekeeper() -> Option<u32> {
    Some(at_gate().load(Ordering::SeqCst)).filter(|&pid| pid != 0 && pid != u32::MAX)
}

/// Waits until the gate is opened.
pub fn stand_at_gate() {
    let me = std::process::id();
    if at_gate().compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return;
    }
    while at_gate().load(Ordering::SeqCst) == me {
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn at_gate() -> &'static AtomicU32 {
    let base = *RUNS.get_or_init(find);
    // SAFETY: the page behind the counts, aligned; only atomics ever touch it.
    unsafe { AtomicU32::from_ptr((base + PLACES) as *mut u32) }
}

fn place(number: usize) -> &'static AtomicU8 {
    let base = *RUNS.get_or_init(find);
    // SAFETY: within the mapping, which stays for good; only atomics ever touch it.
    unsafe { AtomicU8::from_ptr((base as *mut u8).add(number % PLACES)) }
}
