//! The one zygote of this process, shared by all its pools.
//!
//! The static remembers the process it belongs to: in a forked child it is as if there were none,
//! and the child's first pool starts a zygote of its own.
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock};
#[cfg(feature = "capi")]
use std::time::{Duration, Instant};

use super::line::{Line, Made};
use super::zygote;
use super::{after_fork, exec};
use crate::error::{Error, Result};
use crate::sync::lock;
use crate::sys::forked::PerProcess;
#[cfg(feature = "capi")]
use crate::sys::gate;
use crate::sys::{fd, pidfd, process, random, socket, starter, stderr};

/// A forked child begins with none.
static HERE: PerProcess<Option<&'static Home>> = PerProcess::new(|_| None);

/// What one process has of a zygote.
struct Home {
    process: u32,
    /// Held while a zygote starts.
    line: Mutex<Option<Arc<Line>>>,
}

fn here() -> &'static Home {
    let mut here = HERE.write();
    let process = process::own_pid();
    match *here {
        Some(home) if home.process == process => home,
        // None yet, or that of a parent which forked unseen by the C library.
        _ => here.insert(Box::leak(Box::new(Home { process, line: Mutex::new(None) }))),
    }
}

/// Returns the zygote's line; starts a zygote where there is none, or only a dead one.
///
/// `keep_fds` holds for one that is started now. `snapshot`: only one that [`init`] has forked will
/// do.
pub(super) fn line(keep_fds: bool, snapshot: bool) -> Result<Arc<Line>> {
    zygote::end_if_invited();
    zygote::check_program()?;
    let mut line = lock(&here().line);
    let living = line.as_ref().filter(|line| !line.is_dead());
    if snapshot && !living.is_some_and(|line| line.forked) {
        return Err(Error::ZygoteLost(
            "it had the functions that were registered before init, and a new one would not"
                .to_owned(),
        ));
    }
    if let Some(line) = living {
        return Ok(Arc::clone(line));
    }
    Ok(Arc::clone(line.insert(Arc::new(exec::start(keep_fds)?))))
}

/// Starts the zygote by forking this process, so that workers share the memory of this moment.
///
/// Call it first thing in `main`, after loading what workers are to share and before anything
/// that starts a thread. Without it the zygote is started, with the first pool, by executing this
/// program anew; everything works then but the sharing.
///
/// The descriptors that are open now are what workers of a pool that keeps descriptors have.
///
/// # Errors
///
/// [`Error::Misuse`] when this process has a second thread, is inside of a tokio runtime, or has a
/// zygote already. [`Error::System`] when the system refuses a process or descriptors.
///
/// # Examples
///
/// ```
/// fn main() -> aiopool::Result<()> {
///     aiopool::init()?;
///     // Load nothing that starts threads before this line; build pools after it.
///     Ok(())
/// }
/// ```
pub fn init() -> Result<()> {
    zygote::check_program()?;
    let mut line = lock(&here().line);
    if line.as_ref().is_some_and(|line| !line.is_dead()) {
        return Err(Error::Misuse(
            "aiopool::init() comes too late: a zygote runs already, from an earlier init() or pool; \
             call it once, first thing in main",
        ));
    }
    fd::fill_stdio().map_err(|e| Error::system("open /dev/null for closed descriptors", e))?;
    let threads = process::thread_count().map_err(|e| Error::system("count threads", e))?;
    if threads != 1 {
        return Err(Error::Misuse(too_many_threads()));
    }
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(Error::Misuse(
            "aiopool::init() forks this process, which tokio does not allow inside of a runtime: \
             call it first thing in main, outside of #[tokio::main] and block_on, or leave it out \
             and lose only the shared memory",
        ));
    }
    if random::is_warm() && !after_fork::is_given() {
        let text = "the C library's random() or rand() was used before aiopool::init(): all \
            workers go on from one state and draw the same numbers; seed it in an \
            aiopool::after_fork hook (in C: pthread_atfork)";
        tracing::warn!("{text}");
        if !tracing::dispatcher::has_been_set() {
            stderr::line(&format!("aiopool: {text}"));
        }
    }
    *line = Some(Arc::new(fork(1)?));
    Ok(())
}

/// Says why a process with threads cannot be forked, and which library's the other thread is.
fn too_many_threads() -> &'static str {
    // Made once: it is never given back.
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let file = starter::of_another_thread();
        let whose = file.map(|file| format!(", and {file} runs another")).unwrap_or_default();
        format!(
            "aiopool::init() forks this process, which is only possible while it has one \
             thread{whose}: call it first thing in main, before anything starts a thread (a \
             multi-threaded #[tokio::main] has), or leave it out and lose only the shared memory"
        )
    })
}

/// Returns whether [`init`] was called in this process: what is loaded later is not in its workers.
pub(crate) fn has_snapshot() -> bool {
    lock(&here().line).as_ref().is_some_and(|line| line.forked)
}

/// Takes another snapshot, for pools that are built from now on; those that there are keep theirs.
///
/// For a second library of the program, whose functions are registered after the first one has
/// called [`init`] and built pools.
///
/// # Errors
///
/// As [`init`]; this library's own threads do not count.
#[cfg(feature = "capi")]
pub(crate) fn init_again() -> Result<()> {
    let mut line = lock(&here().line);
    // A pool that ends has its thread for a moment longer.
    let patience = Instant::now() + PATIENCE;
    loop {
        let forked = gate::closed(|own| match process::thread_count() {
            Ok(threads) if threads == own + 1 => Some(fork(threads)),
            Ok(_) => None,
            Err(error) => Some(Err(Error::system("count threads", error))),
        });
        if let Some(forked) = forked {
            *line = Some(Arc::new(forked?));
            return Ok(());
        }
        if Instant::now() > patience {
            return Err(Error::Misuse(
                "functions were registered after an earlier init(), so this process is to be forked \
                 again, which is only possible while no thread runs but the calling one and those of \
                 this library: register and call init() before other threads are started",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends this process's zygote, if there is one. False, and nothing is done, while a pool has it.
#[cfg(feature = "capi")]
pub(crate) fn end() -> bool {
    let mut line = lock(&here().line);
    let Some(mut held) = line.take() else { return true };
    let patience = Instant::now() + END_PATIENCE;
    loop {
        held = match Arc::try_unwrap(held) {
            // It is gone, and reaped, with its line.
            Ok(_) => return true,
            Err(held) => held,
        };
        if Instant::now() > patience {
            *line = Some(held);
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How long the end of a pool that was freed may take, on a machine with much else to do: only then
/// is something in use.
#[cfg(feature = "capi")]
const END_PATIENCE: Duration = Duration::from_secs(5);

/// How long threads of pools that have ended may still be there.
#[cfg(feature = "capi")]
const PATIENCE: Duration = Duration::from_millis(200);

/// Forks the zygote from this process, which has this many threads, all asleep but the calling one.
fn fork(threads: usize) -> Result<Line> {
    let system = |what: &'static str| move |error| Error::system(what, error);
    let (ours, theirs) = socket::pair().map_err(system("make the zygote's line"))?;
    let theirs = fd::above_stdio(theirs).map_err(system("make the zygote's line"))?;
    let host = pidfd::open(process::own_pid()).map_err(system("open this process"))?;
    let host = fd::above_stdio(host).map_err(system("open this process"))?;
    // What is buffered now would be written a second time by every worker.
    std::io::stdout().flush().map_err(system("flush standard output"))?;
    crate::sys::exit::flush_c();
    let pid = zygote::fork_from_host(threads, ours.as_fd(), theirs, host)
        .map_err(system("fork the zygote: a limit on processes or memory is reached"))?;
    Line::greet(ours, Made::Zygote(pid), true)
}
