//! A program that loads what workers are to share, and then is the zygote of one pool.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::constructor::greeting_on;
use super::identity::{number_of, restore_environment};
use super::{refuse, serve};
use crate::error::{Error, Result};
use crate::launch::wire::{self, TEMPLATE_VARIABLE};
use crate::sys::exit::exit_now;
use crate::sys::process::{self, Side};
use crate::sys::{fd, socket};
use crate::worker::{AttachedWorker, WorkerStart};

/// This process as the zygote of the pool that executed it, by
/// [`StartMethod::Preloaded`](crate::StartMethod::Preloaded).
///
/// A program attaches first thing, loads what its workers are to share, and serves.
///
/// ```no_run
/// use aiopool::{Completion, Event, Template};
///
/// fn main() -> aiopool::Result<()> {
///     let template = Template::attach()?;
///     let model = vec![0.5; 1 << 20]; // shared by all workers
///     // Comes back in each worker.
///     let mut worker = template.serve()?;
///     loop {
///         match worker.next_event() {
///             Event::Run { task, .. } => {
///                 let sum: f64 = model.iter().sum();
///                 worker.complete(task, Completion::Ok(&sum.to_le_bytes()))?;
///             }
///             Event::Cancel { task } => worker.complete(task, Completion::Cancelled)?,
///             Event::Nothing => worker.wait(),
///             _ => break,
///         }
///     }
///     worker.leave();
///     Ok(())
/// }
/// ```
pub struct Template {
    line: OwnedFd,
    host: OwnedFd,
}

impl Template {
    /// Takes over what the host left for this process.
    ///
    /// Once per process, before it starts threads that look at the environment and before it
    /// executes others. Descriptors that the process was started with are closed, but for the
    /// three standard ones.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] in a process that a pool has not executed to be its zygote;
    /// [`Error::System`] when the host's library is another version, or the system refuses
    /// descriptors.
    pub fn attach() -> Result<Self> {
        const NOT_A_TEMPLATE: Error = Error::Misuse(
            "this process was not started to preload for a pool, or has attached already: \
             attaching is for a program that StartMethod::Preloaded names, once",
        );
        if process::has_foreign_rights() {
            return Err(NOT_A_TEMPLATE);
        }
        let number = number_of(TEMPLATE_VARIABLE).ok_or(NOT_A_TEMPLATE)?;
        let greeting = greeting_on(number).ok_or(NOT_A_TEMPLATE)?;
        // SAFETY: a greeting of this library lies on it, so the host made it for this process; no
        // other code here has the number.
        let line = unsafe { OwnedFd::from_raw_fd(number) };
        let system = |error| Error::system("attach to the pool", error);
        fd::set_close_on_exec(line.as_fd(), true).map_err(system)?;
        // SAFETY: what this program has opened is close-on-exec, as its caller was asked for; the
        // rest came from the host by accident, and no code here has an owner of it.
        unsafe { fd::close_inherited() }.map_err(system)?;
        if process::thread_count().is_ok_and(|threads| threads == 1) {
            // SAFETY: counted just now, and the one thread is here.
            unsafe { restore_environment(TEMPLATE_VARIABLE, false) };
        }
        let (theirs, ours) = (greeting.build.version, env!("CARGO_PKG_VERSION"));
        if theirs != ours {
            refuse(
                &line,
                format!(
                    "the pool uses aiopool {theirs}, its program aiopool {ours}: use one version"
                ),
            );
        }
        let mut buffer = [0; wire::LONGEST];
        let received = socket::recv(line.as_fd(), &mut buffer).map_err(system)?;
        let host = received.and_then(|mut got| got.fds.pop()).ok_or_else(|| {
            system(io::Error::other("the host's pidfd did not arrive: raise RLIMIT_NOFILE"))
        })?;
        Ok(Self { line, host })
    }

    /// Tells the host why this program cannot be its zygote, and ends this process.
    pub fn refuse(self, reason: &str) -> ! {
        refuse(&self.line, reason)
    }

    /// Serves the pool until its end, which is this process's. Returns in each worker, which is a
    /// copy of this process as it is now.
    ///
    /// A process that has more than one thread cannot be copied: the host is told, and this process
    /// ends.
    ///
    /// # Errors
    ///
    /// In a worker: what the system refuses.
    pub fn serve(self) -> Result<AttachedWorker> {
        AttachedWorker::over(self.fork())
    }

    /// The same, before the worker's memory is mapped.
    pub(in crate::launch) fn fork(self) -> WorkerStart {
        let Self { line, host } = self;
        match process::thread_count() {
            Ok(1) => {}
            Ok(threads) => refuse(
                &line,
                format!(
                    "what was preloaded has started {} threads, which a copy does not have: \
                     preload less, or limit its threads",
                    threads - 1
                ),
            ),
            Err(error) => refuse(&line, error),
        }
        // What C has buffered by now would be written by every copy.
        crate::sys::exit::flush_c();
        // The host, whose child this process is, may wait for all its children.
        // SAFETY: counted just above, and the one thread is here.
        match unsafe { process::fork() } {
            Ok(Side::Child) => {}
            Ok(Side::Parent(_)) => exit_now(0),
            Err(reason) => refuse(&line, reason),
        }
        serve(line, host, None).hand_over()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}
