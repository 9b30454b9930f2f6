//! A worker under `ptrace`: stepped, compared with what it wrote, killed or stopped.

#![allow(unsafe_code)] // ptrace, waitpid, and reading the mapped control region.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a step may take before the tracee is taken to sleep in a system call.
const ASLEEP: Duration = Duration::from_millis(150);

/// A seized process; the seizing thread is the only one that may use this.
#[derive(Debug)]
pub struct Tracee {
    pid: i32,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The process stopped again.
    Stopped,
    /// It waits in a system call.
    Asleep,
    /// It is dead and reaped by this tracer.
    Dead,
}

impl Tracee {
    /// Seizes `pid` and stops it where it is.
    pub fn seize(pid: u32) -> Option<Self> {
        let tracee = Self { pid: pid as i32 };
        // SYSGOOD tells system-call stops from signals.
        let options = libc::PTRACE_O_TRACESYSGOOD as usize;
        if !tracee.ask(libc::PTRACE_SEIZE, options) {
            return None;
        }
        if !tracee.interrupt() {
            tracee.release();
            return None;
        }
        Some(tracee)
    }

    /// Stops it.
    pub fn interrupt(&self) -> bool {
        self.ask(libc::PTRACE_INTERRUPT, 0) && self.wait(Duration::from_secs(5)) == Step::Stopped
    }

    /// One instruction.
    pub fn step(&self) -> Step {
        self.go(libc::PTRACE_SINGLESTEP)
    }

    /// To the next entry or exit of a system call.
    pub fn to_syscall(&self) -> Step {
        self.go(libc::PTRACE_SYSCALL)
    }

    /// Runs it until it comes out of `epoll_wait` with an event. False if it does not.
    pub fn to_wake_up(&self) -> bool {
        // It was seized in its sleep.
        WAITS.set(true);
        let mut asleep = 0;
        for _ in 0..2_000 {
            match self.to_syscall() {
                Step::Dead => return false,
                // Nobody has rung yet.
                Step::Asleep => {
                    asleep += 1;
                    if asleep > 10 || !self.interrupt() {
                        return false;
                    }
                }
                Step::Stopped if self.returned_events() => return true,
                Step::Stopped => {}
            }
        }
        false
    }

    /// Whether it stands at the exit of an `epoll_wait` that found something.
    fn returned_events(&self) -> bool {
        let at_entry = self.syscall_info(libc::PTRACE_SYSCALL_INFO_ENTRY);
        if at_entry.is_some() {
            let number = at_entry.unwrap_or(0) as i64;
            WAITS.set(number == libc::SYS_epoll_pwait || is_epoll_wait(number));
            return false;
        }
        let value = self.syscall_info(libc::PTRACE_SYSCALL_INFO_EXIT);
        WAITS.get() && value.is_some_and(|value| (value as i64) > 0)
    }

    /// The number at an entry, the result at an exit.
    fn syscall_info(&self, op: u8) -> Option<u64> {
        // SAFETY: an all-zero value is one; the kernel writes at most its size.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: as above.
        let got = unsafe {
            libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.pid, size, ptr::from_mut(&mut info))
        };
        if got <= 0 || info.op != op {
            return None;
        }
        // SAFETY: `op` says which of the variants was written; both begin with one u64.
        Some(unsafe {
            if op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                info.u.entry.nr
            } else {
                info.u.exit.sval as u64
            }
        })
    }

    /// Kills it and waits until that is so.
    pub fn kill(self) {
        // SAFETY: this tracer has not reaped it, so the number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let end = Instant::now() + Duration::from_secs(10);
        while self.wait(Duration::from_secs(1)) != Step::Dead && Instant::now() < end {
            let _ = self.ask(libc::PTRACE_CONT, 0);
        }
    }

    /// Lets it go on by itself.
    pub fn release(self) {
        self.detach(0);
    }

    /// Lets it go, stopped as by `SIGSTOP`.
    pub fn leave_stopped(self) {
        self.detach(libc::SIGSTOP);
    }

    fn detach(self, signal: i32) {
        if self.ask_detach(signal) {
            return;
        }
        // Only a process that is stopped can be let go.
        self.interrupt();
        self.ask_detach(signal);
    }

    fn ask_detach(&self, signal: i32) -> bool {
        self.ask(libc::PTRACE_DETACH, signal as usize)
    }

    fn go(&self, request: libc::c_uint) -> Step {
        if !self.ask(request, 0) {
            return self.wait(ASLEEP);
        }
        self.wait(ASLEEP)
    }

    fn ask(&self, request: libc::c_uint, data: usize) -> bool {
        // SAFETY: none of the requests used here takes memory.
        unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<u8>(), data) == 0 }
    }

    fn wait(&self, limit: Duration) -> Step {
        let mut status = 0;
        let mut looks = 0_u32;
        let start = Instant::now();
        loop {
            // SAFETY: writes one int.
            let got = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG | libc::__WALL) };
            if got == self.pid {
                let dead = libc::WIFEXITED(status) || libc::WIFSIGNALED(status);
                return if dead { Step::Dead } else { Step::Stopped };
            }
            if got == -1 {
                return Step::Dead;
            }
            looks += 1;
            if looks > 200 {
                std::thread::yield_now();
                if looks.is_multiple_of(64) && start.elapsed() > limit {
                    return Step::Asleep;
                }
            }
        }
    }
}

thread_local! {
    /// Whether the system call that was entered last waits for events.
    static WAITS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(target_arch = "x86_64")]
fn is_epoll_wait(number: i64) -> bool {
    number == libc::SYS_epoll_wait
}

#[cfg(not(target_arch = "x86_64"))]
fn is_epoll_wait(_: i64) -> bool {
    false
}

/// The words of the pool's control region, as this process has it mapped.
#[derive(Debug)]
pub struct Watched {
    words: &'static [AtomicU64],
    seen: Vec<u64>,
}

impl Watched {
    /// The first control region of this process; it must stay mapped.
    pub fn open() -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let line = maps.lines().find(|line| line.contains("memfd:aiopool-control"))?;
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let count = (usize::from_str_radix(end, 16).ok()? - start) / 8;
        // SAFETY: mapped for as long as the pool is, which the sweep keeps for the whole of a
        // scenario; all accesses are atomic.
        let words = unsafe { std::slice::from_raw_parts(start as *const AtomicU64, count) };
        Some(Self { words, seen: words.iter().map(|word| word.load(Relaxed)).collect() })
    }

    /// Whether anything was written since the last look.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (seen, word) in self.seen.iter_mut().zip(self.words) {
            let now = word.load(Relaxed);
            changed |= std::mem::replace(seen, now) != now;
        }
        changed
    }
}
