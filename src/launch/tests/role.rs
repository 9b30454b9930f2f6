//! Roles: this binary as a host of its own, caught before the test harness starts a thread.

use std::io::{BufRead, BufReader, Read};
use std::panic::catch_unwind;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::rig::WATCHDOG;
use crate::sys::exit::orderly_exit;
use crate::sys::pidfd;
use crate::sys::poll::{PollFd, poll};

/// Names the role in the environment of a host.
const VARIABLE: &str = "LAUNCH_TEST_ROLE";

/// Tells one host from every other, in its environment.
const HOST: &str = "LAUNCH_TEST_HOST";

/// The zygotes of this process, which is in a role.
pub(super) fn own_zygotes() -> Vec<u32> {
    zygotes(&format!("{HOST}={}", std::env::var(HOST).unwrap()))
}

/// The zygotes whose environment has this entry. They need not be children of their host.
pub(super) fn zygotes(mark: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let entry = |environ: Vec<u8>| environ.split(|&b| b == 0).any(|e| e == mark.as_bytes());
        read("comm") == b"aiopool-zygote\n" && entry(read("environ"))
    };
    let all = std::fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(has).collect()
}

/// Plays the role that the environment asks for, if it does.
pub(in crate::launch) fn before_main() {
    let Ok(name) = std::env::var(VARIABLE) else { return };
    let role = super::host::ROLES.iter().find(|role| role.0 == name).map(|role| role.1);
    let played = catch_unwind(|| role.unwrap_or_else(|| panic!("no role is called {name}"))());
    orderly_exit(if played.is_ok() { 0 } else { 101 })
}

/// Starts this binary in a role.
pub(super) fn start(name: &str) -> Host {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let mark = format!("{HOST}={}.{number}", std::process::id());
    let mut command = Command::new("/proc/self/exe");
    let command = command.env(VARIABLE, name).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.env(HOST, &mark[HOST.len() + 1..]).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Host { child, output, mark }
}

/// Plays a role to its end, which has to be a good one, and gives what it wrote.
pub(super) fn play(name: &str) -> String {
    let mut host = start(name);
    let pidfd = pidfd::open(host.child.id()).unwrap();
    super::rig::wait_for_death(&pidfd);
    let status = host.child.wait().unwrap();
    assert!(status.success(), "role {name}: {status}");
    host.rest()
}

/// A host that is not this process.
pub(super) struct Host {
    pub child: Child,
    /// What its zygotes have in their environment, and no others.
    pub mark: String,
    output: BufReader<std::process::ChildStdout>,
}

impl Host {
    /// Returns the next line it writes.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// Kills this process and no other.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Reads until no writer is left: zygote and workers have the same output.
    pub(super) fn rest(&mut self) -> String {
        use std::os::fd::AsFd;
        let mut text = String::new();
        loop {
            let mut fds = [PollFd::readable(self.output.get_ref().as_fd())];
            if self.output.buffer().is_empty() {
                let ready = poll(&mut fds, Some(WATCHDOG)).unwrap();
                assert_eq!(ready, 1, "somebody is left who could write");
            }
            let mut part = [0; 1024];
            match self.output.read(&mut part).unwrap() {
                0 => return text,
                len => text += str::from_utf8(&part[..len]).unwrap(),
            }
        }
    }
}
