//! What a worker finds when it starts.

use std::os::fd::AsFd;

use super::rig::{FIRST, Rig, spec};
use crate::launch::{Confinement, Limits};
use crate::sys::eventfd::EventFd;
use crate::sys::{fd, oom, process};
use crate::table::WorkerId;

/// The mask of the signals that a worker blocks until its loop catches them.
pub(super) const AWAITED: u64 = bit(libc::SIGINT)
    | bit(libc::SIGPIPE)
    | bit(libc::SIGTERM)
    | bit(libc::SIGHUP)
    | bit(libc::SIGQUIT);
/// The mask of the signals that a command ignores until it attaches.
pub(super) const IGNORED: u64 = bit(libc::SIGINT) | bit(libc::SIGPIPE);
/// Two signals are the C library's own, and cannot be changed.
pub(super) const DECIDED: u64 = !(bit(32) | bit(33));

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[test]
fn a_worker_has_its_orders_and_its_own_descriptors_only() {
    // What the host leaves open for programs it executes is not for workers.
    let stray = EventFd::new().unwrap();
    fd::set_close_on_exec(stray.as_fd(), false).unwrap();
    let rig = Rig::new("describe");
    let id = WorkerId { queue: 0, slot: 1, incarnation: 9 };
    let worker = rig.describe(id);
    assert_eq!(worker.get("id"), "worker 0.1#9");
    assert_eq!(worker.get("seat"), "5");
    assert_eq!(worker.get("lanes"), "17 1099511627776");
    assert_eq!(worker.get("bells"), "2");
    assert_eq!(worker.get("foreign"), "[]");
    assert_eq!(worker.get("missing"), "0");
    assert_eq!(worker.get("inherited"), "false");
    assert_eq!(worker.get("stdin"), "/dev/null");
    assert_eq!(worker.all("variable").next(), None);
}

#[test]
fn a_worker_is_alone_in_a_session_under_a_zygote_that_is_not_the_host() {
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    assert_eq!(worker.get("group"), worker.get("pid"));
    assert_eq!(worker.get("session"), worker.get("pid"));
    assert_eq!(worker.get("Threads"), "1");
    assert_eq!(worker.get("Name"), "aiopool 0.0");
    let parent: u32 = worker.get("parent").parse().unwrap();
    assert_ne!(parent, process::own_pid());
    let zygote = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap();
    assert_eq!(zygote.trim(), "aiopool-zygote");
}

#[test]
fn a_worker_has_default_signals_and_dies_before_its_host() {
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    assert_eq!(worker.mask("SigBlk"), AWAITED);
    assert_eq!(worker.mask("SigCgt"), 0);
    assert_eq!(worker.mask("SigIgn") & DECIDED, 0);
    let host = oom::score_adjustment().unwrap();
    let own: i32 = worker.get("oom").parse().unwrap();
    assert!(own > host || own == 1000, "{own} is not above {host}");
}

#[test]
fn limits_are_what_the_pool_asked_for() {
    let limits =
        Limits { address_space: Some(1 << 40), cpu_seconds: Some(1000), open_files: Some(123) };
    let confinement = Confinement { limits, no_new_privs: true, ..Confinement::default() };
    let spec = crate::launch::PoolSpec { confinement, ..spec("describe") };
    let rig = Rig::open(&spec).unwrap();
    let worker = rig.describe(FIRST);
    assert_eq!(worker.get("Max address space"), "1099511627776 1099511627776");
    assert_eq!(worker.get("Max cpu time"), "1000 1001");
    assert_eq!(worker.get("Max open files"), "123 123");
    assert_eq!(worker.get("NoNewPrivs"), "1");
}

#[test]
fn without_limits_a_worker_has_the_hosts() {
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    for name in ["Max open files", "Max address space", "Max cpu time"] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<_> = line[26..].split_whitespace().take(2).collect();
        assert_eq!(worker.get(name), values.join(" "), "{name}");
    }
}
