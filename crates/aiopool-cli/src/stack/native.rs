//! Native stacks: the kernel stops a thread (`ptrace`), its registers and its stack are read, and it
//! goes on as if nothing had been.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use framehop::Unwinder;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::image::{Image, images, names};

#[cfg(target_arch = "aarch64")]
use framehop::aarch64::{CacheAarch64 as Cache, UnwinderAarch64 as Arch};
#[cfg(target_arch = "x86_64")]
use framehop::x86_64::{CacheX86_64 as Cache, UnwinderX86_64 as Arch};

/// Frames of a stack that are shown.
const MOST: usize = 256;
/// Time until a thread must have stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// A thread's stack.
pub struct Thread {
    pub tid: u32,
    pub name: String,
    /// The innermost first.
    pub frames: Vec<String>,
    /// Why there are no more, if that is not the stack's end.
    pub ends: Option<String>,
}

/// Returns the stacks of all threads of process `pid`, that of the first one first.
pub fn stacks(pid: u32) -> anyhow::Result<Vec<Thread>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    let tids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut tids: Vec<u32> = tids.collect();
    tids.sort_by_key(|&tid| (tid != pid, tid));
    let mut known = Vec::new();
    let mut unwinder = Arch::<Vec<u8>>::new();
    for (image, module) in images(pid)? {
        module.into_iter().for_each(|module| unwinder.add_module(module));
        known.push(image);
    }
    let memory = format!("/proc/{pid}/mem");
    let mut threads = Vec::new();
    for tid in tids {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
        let addresses = match addresses(tid, &memory, &unwinder) {
            Ok(addresses) => addresses,
            // Gone meanwhile; the first one is the worker itself.
            Err(error) if tid == pid => return Err(error),
            Err(_) => continue,
        };
        threads.push(thread(tid, name.trim_end().to_owned(), addresses, &known));
    }
    Ok(threads)
}

/// The addresses of a stack, and why there are no more.
type Addresses = (Vec<u64>, Option<String>);

/// Stops thread `tid` for as long as its stack is read; names are looked up after that.
fn addresses(tid: u32, memory: &str, unwinder: &Arch<Vec<u8>>) -> anyhow::Result<Addresses> {
    let stopped = Stopped::new(tid)?;
    let memory = File::open(memory).with_context(|| format!("open {memory}"))?;
    let mut read = |address: u64| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).map_err(|_| ())?;
        Ok(u64::from_le_bytes(word))
    };
    let mut cache = Cache::<_>::new();
    let (pc, regs) = registers(stopped.pid)?;
    let mut frames = unwinder.iter_frames(pc, regs, &mut cache, &mut read);
    let mut found = Vec::new();
    loop {
        match frames.next() {
            Ok(Some(frame)) => found.push(frame.address_for_lookup()),
            Ok(None) => return Ok((found, None)),
            Err(error) => {
                return Ok((found, Some(format!("the stack cannot be followed: {error}"))));
            }
        }
        if found.len() == MOST {
            return Ok((found, Some("and more".to_owned())));
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn registers(pid: Pid) -> anyhow::Result<(u64, framehop::x86_64::UnwindRegsX86_64)> {
    let regs = ptrace::getregs(pid).context("read the registers")?;
    Ok((regs.rip, framehop::x86_64::UnwindRegsX86_64::new(regs.rip, regs.rsp, regs.rbp)))
}

#[cfg(target_arch = "aarch64")]
fn registers(pid: Pid) -> anyhow::Result<(u64, framehop::aarch64::UnwindRegsAarch64)> {
    let regs = ptrace::getregs(pid).context("read the registers")?;
    let (lr, fp) = (regs.regs[30], regs.regs[29]);
    Ok((regs.pc, framehop::aarch64::UnwindRegsAarch64::new(lr, regs.sp, fp)))
}

fn thread(tid: u32, name: String, (addresses, ends): Addresses, images: &[Image]) -> Thread {
    let frames = addresses.iter().flat_map(|&address| names(images, address)).collect();
    Thread { tid, name, frames, ends }
}

/// A thread that is stopped until this is dropped. Should this process die, it goes on, too.
struct Stopped {
    pid: Pid,
    /// A signal that came just then; the thread is to have it.
    signal: Option<Signal>,
}

impl Stopped {
    fn new(tid: u32) -> anyhow::Result<Self> {
        let pid = Pid::from_raw(tid.cast_signed());
        // Not `attach`, which sends a signal that the thread's parent could see.
        if let Err(error) = ptrace::seize(pid, ptrace::Options::empty()) {
            return Err(refused(tid, error));
        }
        let mut stopped = Self { pid, signal: None };
        ptrace::interrupt(pid).context("stop the worker")?;
        let begun = Instant::now();
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        loop {
            match waitpid(pid, Some(flags)).context("wait for the worker")? {
                WaitStatus::StillAlive => {}
                WaitStatus::Stopped(_, signal) => {
                    stopped.signal = Some(signal);
                    return Ok(stopped);
                }
                WaitStatus::PtraceEvent(..) => return Ok(stopped),
                ended => bail!("the worker has ended: {ended:?}"),
            }
            if begun.elapsed() > PATIENCE {
                bail!("the kernel cannot stop it: it waits for a device");
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Refused only if it is gone.
        let _ = ptrace::detach(self.pid, self.signal);
    }
}

fn refused(tid: u32, error: Errno) -> anyhow::Error {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let why = match (error, scope.trim()) {
        (Errno::EPERM, "1" | "2" | "3") => {
            "the system lets only root look into other programs \
             (`kernel.yama.ptrace_scope`): run this as root, or set that to 0"
        }
        (Errno::EPERM, _) => {
            "it is another user's, or a debugger has it, or a container forbids it (`SYS_PTRACE`)"
        }
        (Errno::ESRCH, _) => "it is gone",
        _ => "the system refuses",
    };
    anyhow::Error::new(error).context(format!("cannot look into process {tid}: {why}"))
}
