//! Other processes, as seen in `/proc`, and signals that hit the one meant or none.

#![allow(unsafe_code)] // System calls that std has no name for.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A process that cannot be mistaken for another one.
#[derive(Debug)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// The worker `pid`, unless it is gone and the number belongs to another process.
    pub fn worker(pid: u32) -> Option<Self> {
        let process = Self::any(pid)?;
        // Looked at after the pidfd was opened, so it is the pidfd's process that has the name.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        name.starts_with("aiopool ").then_some(process)
    }

    /// The process `pid`.
    pub fn any(pid: u32) -> Option<Self> {
        // SAFETY: takes two numbers, returns a descriptor that is ours or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: new, and no other code has its number.
        (fd >= 0).then(|| Self { pid, pidfd: unsafe { OwnedFd::from_raw_fd(fd as i32) } })
    }

    /// Sends `signal`. False if the process is gone.
    pub fn signal(&self, signal: i32) -> bool {
        let null: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: the descriptor is open; no siginfo is passed.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal, null, 0) == 0
        }
    }

    /// Waits until it is dead, at most `limit`.
    pub fn wait_dead(&self, limit: Duration) -> bool {
        let mut fd = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = limit.as_millis() as i32;
        // SAFETY: one pollfd, and it lives as long as the call.
        unsafe { libc::poll(&mut fd, 1, millis) == 1 }
    }
}

/// Processors that this process may use.
pub fn cores() -> Vec<usize> {
    // SAFETY: an all-zero set is one; the kernel writes at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}

/// Keeps this thread, and whatever it starts from now on, on one processor.
pub fn pin(core: usize) {
    // SAFETY: an all-zero set is one, and `core` came from such a set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// The parent of `pid`.
pub fn parent_of(pid: u32) -> Option<u32> {
    status_field(pid, "PPid:")
}

/// Whether `pid` is stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The living children of this process.
pub fn children() -> Vec<u32> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    let pids: Vec<u32> = lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    let lives = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    pids.into_iter().filter(lives).collect()
}

/// Processes that lose their parent come to this one.
pub fn adopt_orphans() {
    // SAFETY: only sets an attribute of this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}

/// What is executed from now on has its code where every other run has it.
pub fn no_random_addresses() {
    // SAFETY: only sets an attribute of this process and of those that it starts.
    unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) };
}

/// What this process has allocated and not freed, in KiB. Not what the kernel counts: the allocator
/// keeps tens of MiB of freed buffers for itself where outputs are as large as here.
pub fn allocated_kib() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: reads the allocator's own counts, under its locks.
        let counts = unsafe { libc::mallinfo2() };
        (counts.uordblks + counts.hblkhd) as u64 >> 10
    }
    #[cfg(not(target_env = "gnu"))]
    anon_kib(std::process::id()).unwrap_or(0)
}

/// Memory of `pid` that is its own, in KiB.
pub fn anon_kib(pid: u32) -> Option<u64> {
    status_field(pid, "RssAnon:").map(u64::from)
}

/// Open descriptors of `pid`.
pub fn fds(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// Mappings of pool regions in `pid`.
pub fn regions(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter(|line| line.contains("memfd:aiopool-")).count() as u64
}

/// Whether `done` comes true within `limit`.
pub fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn status_field(pid: u32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}
