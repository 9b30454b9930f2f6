//! Which program a process runs: whether it has executed another one since it was asked first.
//!
//! A kernel gives each program that it executes a list of facts (its auxiliary vector), some of
//! which are addresses that it has just chosen. A fork keeps them, an execution replaces them.
#![allow(unsafe_code)] // reads a value that libc keeps

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// What of the list tells two executions apart, of the same program too: where the random bytes on
/// the stack are, the program's entry, its loader, and the kernel's own library.
const TELLING: [u64; 4] = [libc::AT_RANDOM, libc::AT_ENTRY, libc::AT_BASE, libc::AT_SYSINFO_EHDR];

/// Returns a word for the program that this process runs: its pid below, a hash above.
///
/// `None` where another process may read something else about this one: without `/proc`, and in an
/// emulator, which has a list of its own. Those answer for `/proc/self`, and not for this path.
pub(crate) fn own() -> Option<u64> {
    let seen = hash(&fs::read("/proc/thread-self/auxv").ok()?)?;
    // SAFETY: reads a list that never changes.
    let known = mix(TELLING.map(|key| unsafe { libc::getauxval(key) }));
    (seen == known).then(|| word(std::process::id(), seen))
}

/// Returns whether the process `pid`, which `pidfd` is, has executed another program since it
/// called [`own`]. `None` where that cannot be known: `said` is not of this process, the process
/// is dead, or `/proc` does not show it to this user.
pub(crate) fn was_replaced(pid: u32, pidfd: BorrowedFd<'_>, said: u64) -> Option<bool> {
    let seen = hash(&fs::read(entry(pidfd, "auxv")?).ok()?)?;
    (said as u32 == pid).then_some(said != word(pid, seen))
}

/// Returns the file of the program that the process runs, if this user may know.
pub(crate) fn file(pidfd: BorrowedFd<'_>) -> Option<PathBuf> {
    fs::read_link(entry(pidfd, "exe")?).ok()
}

/// Returns the path of an entry of the process in this `/proc`, which may be one of another pid
/// namespace than this process's: there the pid that this process knows is that of a stranger.
fn entry(pidfd: BorrowedFd<'_>, name: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    let pid: u32 = pid.trim().parse().ok()?; // -1 is a process that has been reaped
    (pid != 0).then(|| format!("/proc/{pid}/{name}"))
}

fn word(pid: u32, hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(pid)
}

/// Returns the hash of the list as the kernel shows it: pairs of words. `None` for an empty one, as
/// a dead process has it.
fn hash(list: &[u8]) -> Option<u32> {
    let (pairs, _) = list.as_chunks::<16>();
    let value_of = |key: u64| {
        let halves = pairs.iter().map(|pair| pair.split_at(8));
        let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().unwrap_or_default());
        halves.map(|(k, v)| (word(k), word(v))).find(|(k, _)| *k == key).map_or(0, |(_, v)| v)
    };
    (!pairs.is_empty()).then(|| mix(TELLING.map(value_of)))
}

fn mix(values: [u64; 4]) -> u32 {
    let mixed = values.iter().fold(0_u64, |all, value| {
        (all.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::pidfd;

    #[test]
    fn a_process_that_executes_nothing_is_the_same_program() {
        let own = own().expect("this test runs with a /proc, and not in an emulator");
        let pid = std::process::id();
        let pidfd = pidfd::open(pid).unwrap();
        assert_eq!(was_replaced(pid, pidfd.as_fd(), own), Some(false));
        assert_eq!(was_replaced(pid, pidfd.as_fd(), own ^ 1 << 63), Some(true));
        assert_eq!(was_replaced(pid, pidfd.as_fd(), own + 1), None, "of another process");
        assert_eq!(file(pidfd.as_fd()), std::env::current_exe().ok());
    }

    #[test]
    fn each_execution_is_another_one_of_the_same_program_too() {
        let cat = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut children = [cat(), cat()];
        let hashes = children.each_mut().map(|child| {
            let pidfd = pidfd::open(child.id()).unwrap();
            let list = fs::read(entry(pidfd.as_fd(), "auxv").unwrap()).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(was_replaced(child.id(), pidfd.as_fd(), 0), None, "it is gone");
            hash(&list).unwrap()
        });
        assert_ne!(hashes[0], hashes[1]);
    }
}
