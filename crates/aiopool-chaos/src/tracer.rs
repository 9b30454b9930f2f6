//! A process under `ptrace`: stepped by instructions or system calls, run to an address, killed or
//! stopped.
//!
//! A step blocks in `waitpid`. With tracer and tracee on one core it then costs two changes of
//! process, a few microseconds; on two cores, or with a tracer that polls, it costs a wake-up
//! across cores, which is more than ten times as much.

#![allow(unsafe_code)] // ptrace and waitpid.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::time::{Duration, Instant};

/// After this nothing is waited for any longer.
const WATCHDOG: Duration = Duration::from_secs(60);

/// The word of the general registers that is the program counter.
#[cfg(target_arch = "x86_64")]
const PC: usize = 16;
#[cfg(target_arch = "x86_64")]
const BREAKPOINT: &[u8] = &[0xCC];
/// How far the program counter is behind a breakpoint that was hit.
#[cfg(target_arch = "x86_64")]
const BEHIND: u64 = 1;
#[cfg(target_arch = "x86_64")]
const SYSCALL: &[u8] = &[0x0F, 0x05];
/// The registers with a system call's number and its fourth argument, which is the time limit.
#[cfg(target_arch = "x86_64")]
const CALL: usize = 10;
#[cfg(target_arch = "x86_64")]
const FOURTH: usize = 7;

#[cfg(target_arch = "aarch64")]
const PC: usize = 32;
#[cfg(target_arch = "aarch64")]
const BREAKPOINT: &[u8] = &[0x00, 0x00, 0x20, 0xD4];
#[cfg(target_arch = "aarch64")]
const BEHIND: u64 = 0;
#[cfg(target_arch = "aarch64")]
const SYSCALL: &[u8] = &[0x01, 0x00, 0x00, 0xD4];
#[cfg(target_arch = "aarch64")]
const CALL: usize = 8;
#[cfg(target_arch = "aarch64")]
const FOURTH: usize = 3;

/// A seized process; the seizing thread is the only one that may use this.
#[derive(Debug)]
pub struct Tracee {
    pid: i32,
    memory: File,
    /// Whether a system call stands at an address: code does not change.
    calls: RefCell<HashMap<u64, bool>>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The process stopped again.
    Stopped,
    /// It has forked: this is the child's number.
    Forked(u32),
    /// It waits for events in a system call.
    Asleep,
    /// It is dead and reaped by this tracer.
    Dead,
}

/// A system call that a process stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Before it: its number.
    Entry(i64),
    /// After it: what it returned.
    Exit(i64),
}

impl Tracee {
    /// Seizes `pid` and stops it where it is.
    pub fn seize(pid: u32) -> Option<Self> {
        Self::seize_with(pid, 0)
    }

    /// Seizes `pid`, and with it every child that it forks from now on.
    pub fn seize_with_children(pid: u32) -> Option<Self> {
        Self::seize_with(pid, libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK)
    }

    fn seize_with(pid: u32, options: i32) -> Option<Self> {
        // SYSGOOD tells system-call stops from signals.
        let options = options | libc::PTRACE_O_TRACESYSGOOD;
        let memory =
            File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
        let tracee = Self { pid: pid as i32, memory, calls: RefCell::default() };
        if !tracee.ask(libc::PTRACE_SEIZE, options as usize) {
            return None;
        }
        if !tracee.interrupt() {
            tracee.release();
            return None;
        }
        Some(tracee)
    }

    /// Takes over the child `pid` of a process that was seized with its children; it stands at
    /// its first instruction.
    pub fn adopt(pid: u32) -> Option<Self> {
        let memory =
            File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
        let tracee = Self { pid: pid as i32, memory, calls: RefCell::default() };
        (tracee.wait() == Step::Stopped).then_some(())?;
        // Children of its own are their own.
        let options = libc::PTRACE_O_TRACESYSGOOD as usize;
        tracee.ask(libc::PTRACE_SETOPTIONS, options).then_some(tracee)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Stops it.
    pub fn interrupt(&self) -> bool {
        self.ask(libc::PTRACE_INTERRUPT, 0) && self.wait() == Step::Stopped
    }

    /// One instruction.
    pub fn step(&self) -> Step {
        let calls = self.at_syscall();
        if !self.ask(libc::PTRACE_SINGLESTEP, 0) {
            return self.wait();
        }
        if calls { self.wait_or_sleep() } else { self.wait() }
    }

    /// To the next entry or exit of a system call.
    pub fn to_syscall(&self) -> Step {
        if !self.ask(libc::PTRACE_SYSCALL, 0) {
            return self.wait();
        }
        self.wait_or_sleep()
    }

    /// Runs it until it comes out of its wait for events with one. False if it does not; it must
    /// have been seized in that wait, with something to wake up for on the way.
    pub fn to_wake_up(&self) -> bool {
        let mut waits = true;
        let mut step = self.to_syscall();
        loop {
            step = match step {
                Step::Dead | Step::Forked(_) => return false,
                // The bell has not rung yet; the audit rings, if no other does.
                Step::Asleep => match self.wait_awake(Duration::from_secs(5)) {
                    Some(step) => step,
                    None => {
                        self.interrupt();
                        return false;
                    }
                },
                Step::Stopped => {
                    match self.call() {
                        Some(Call::Entry(number)) => waits = is_wait(number),
                        Some(Call::Exit(value)) if waits && value > 0 => return true,
                        _ => {}
                    }
                    self.to_syscall()
                }
            }
        }
    }

    /// Lets it run until it stops or dies, if it does within `limit`.
    pub fn run(&self, limit: Duration) -> Option<Step> {
        self.ask(libc::PTRACE_CONT, 0);
        self.wait_awake(limit)
    }

    /// Waits until one that slept stops or dies.
    pub fn wait_awake(&self, limit: Duration) -> Option<Step> {
        let end = Instant::now() + limit;
        loop {
            if let Some(step) = self.look() {
                return Some(step);
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Runs it until it stands at `address` for the n-th time, or at something else that stops it.
    pub fn run_to(&self, address: u64, times: usize) -> Step {
        for time in 1..=times {
            if time > 1 && self.step() != Step::Stopped {
                return Step::Asleep;
            }
            match self.run_to_next(address) {
                Step::Stopped if self.pc() == address => {}
                other => return other,
            }
        }
        Step::Stopped
    }

    fn run_to_next(&self, address: u64) -> Step {
        let mut covered = [0; 4];
        let covered = &mut covered[..BREAKPOINT.len()];
        if self.memory.read_exact_at(covered, address).is_err()
            || self.memory.write_all_at(BREAKPOINT, address).is_err()
        {
            return Step::Asleep;
        }
        let mut step =
            if self.ask(libc::PTRACE_CONT, 0) { self.wait_or_sleep() } else { self.wait() };
        if step == Step::Asleep && self.interrupt() {
            // It may have come there in this last moment.
            step = if self.pc() == address + BEHIND { Step::Stopped } else { Step::Asleep };
        }
        if step == Step::Dead {
            return step;
        }
        // A process that stops can be written to: this is what was there before.
        let _ = self.memory.write_all_at(covered, address);
        if step == Step::Stopped && self.pc() == address + BEHIND {
            self.set_pc(address);
        }
        step
    }

    /// The system call it stands at.
    pub fn call(&self) -> Option<Call> {
        // SAFETY: an all-zero value is one; the kernel writes at most its size.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: as for the call before.
        let got = unsafe {
            libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.pid, size, ptr::from_mut(&mut info))
        };
        if got <= 0 {
            return None;
        }
        // SAFETY: `op` says which of the variants was written.
        unsafe {
            match info.op {
                libc::PTRACE_SYSCALL_INFO_ENTRY => Some(Call::Entry(info.u.entry.nr as i64)),
                libc::PTRACE_SYSCALL_INFO_EXIT => Some(Call::Exit(info.u.exit.sval)),
                _ => None,
            }
        }
    }

    /// The address of its next instruction.
    pub fn pc(&self) -> u64 {
        self.registers().map_or(0, |(registers, _)| registers[PC])
    }

    fn set_pc(&self, address: u64) {
        let Some((mut registers, size)) = self.registers() else { return };
        registers[PC] = address;
        let mut vector = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size };
        // SAFETY: the kernel reads `size` bytes of `registers`, which it has written before.
        unsafe {
            libc::ptrace(libc::PTRACE_SETREGSET, self.pid, libc::NT_PRSTATUS, &raw mut vector);
        }
    }

    fn registers(&self) -> Option<([u64; 40], usize)> {
        let mut registers = [0_u64; 40];
        let size = size_of_val(&registers);
        let mut vector = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size };
        // SAFETY: the kernel writes at most `size` bytes.
        let got = unsafe {
            libc::ptrace(libc::PTRACE_GETREGSET, self.pid, libc::NT_PRSTATUS, &raw mut vector)
        };
        (got == 0).then_some((registers, vector.iov_len))
    }

    /// Whether its next instruction puts it to sleep until there is something to do.
    pub fn is_about_to_wait(&self) -> bool {
        self.at_syscall()
            && self.registers().is_some_and(|(registers, _)| {
                is_wait(registers[CALL] as i64) && registers[FOURTH] as i32 != 0
            })
    }

    /// Whether its next instruction is a system call.
    pub fn at_syscall(&self) -> bool {
        let pc = self.pc();
        *self.calls.borrow_mut().entry(pc).or_insert_with(|| {
            let mut code = [0; 4];
            let code = &mut code[..SYSCALL.len()];
            // What cannot be read may be one.
            self.memory.read_exact_at(code, pc).is_err() || code == SYSCALL
        })
    }

    /// Kills it and waits until that is so.
    pub fn kill(self) {
        // SAFETY: this tracer has not reaped it, so the number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        while self.wait() != Step::Dead {}
    }

    /// Lets it go on by itself.
    pub fn release(self) {
        if !self.ask(libc::PTRACE_DETACH, 0) {
            // Only a process that is stopped can be let go.
            self.interrupt();
            self.ask(libc::PTRACE_DETACH, 0);
        }
    }

    /// Lets it go, stopped by `SIGSTOP` before its next instruction.
    pub fn leave_stopped(self) {
        // SAFETY: this tracer has not reaped it, so the number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGSTOP) };
        self.release();
    }

    fn ask(&self, request: libc::c_uint, data: usize) -> bool {
        // SAFETY: none of the requests used here takes memory.
        unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<u8>(), data) == 0 }
    }

    /// Waits until it stops or dies.
    fn wait(&self) -> Step {
        let mut status = 0;
        loop {
            // SAFETY: writes one int.
            let got = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
            if got == self.pid {
                return self.what(status);
            }
            // The child of another thread, or interrupted.
            if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                return Step::Dead;
            }
        }
    }

    /// Waits until it stops, dies or sleeps in a wait for events.
    fn wait_or_sleep(&self) -> Step {
        let end = Instant::now() + WATCHDOG;
        let mut pause = Duration::from_micros(0);
        while Instant::now() < end {
            if let Some(step) = self.look() {
                return step;
            }
            if pause.is_zero() {
                // On one core this is when it runs.
                for _ in 0..3 {
                    std::thread::yield_now();
                    if let Some(step) = self.look() {
                        return step;
                    }
                }
            } else {
                std::thread::sleep(pause);
            }
            if waits_for_events(self.pid as u32) {
                // Once more: it may have been on its way.
                return self.look().unwrap_or(Step::Asleep);
            }
            pause = (pause * 2).clamp(Duration::from_micros(20), Duration::from_millis(1));
        }
        Step::Asleep
    }

    fn look(&self) -> Option<Step> {
        let mut status = 0;
        // SAFETY: writes one int.
        let got = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG | libc::__WALL) };
        match got {
            0 => None,
            got if got == self.pid => Some(self.what(status)),
            _ => Some(Step::Dead),
        }
    }

    fn what(&self, status: i32) -> Step {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Step::Dead;
        }
        let event = status >> 16;
        if event == libc::PTRACE_EVENT_FORK || event == libc::PTRACE_EVENT_VFORK {
            let mut child: libc::c_ulong = 0;
            // SAFETY: the kernel writes one long.
            unsafe {
                libc::ptrace(
                    libc::PTRACE_GETEVENTMSG,
                    self.pid,
                    ptr::null_mut::<u8>(),
                    &raw mut child,
                );
            }
            return Step::Forked(child as u32);
        }
        Step::Stopped
    }
}

/// Whether the process waits in a system call for events; one that is stopped there does not.
pub fn waits_for_events(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let sleeps = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'));
    if !sleeps {
        return false;
    }
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split_whitespace().next().and_then(|n| n.parse().ok()).is_some_and(is_wait)
}

#[cfg(target_arch = "x86_64")]
fn is_wait(number: i64) -> bool {
    matches!(number, libc::SYS_epoll_wait | libc::SYS_poll | libc::SYS_epoll_pwait)
        || number == libc::SYS_ppoll
}

#[cfg(not(target_arch = "x86_64"))]
fn is_wait(number: i64) -> bool {
    number == libc::SYS_epoll_pwait || number == libc::SYS_ppoll
}
