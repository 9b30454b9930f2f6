//! One pool's line to the zygote.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::line::Line;
use super::silence::Silence;
use super::snapshot::Snapshot;
use super::wire::{self, Answer, Call, Order};
use super::{ForkOrder, PoolFds, PoolSpec, StartMethod, exec, home};
use crate::error::{Error, Result};
use crate::sync::crash::{self, Point};
use crate::sync::lock;
use crate::sys::own_fd::OwnFd;
use crate::sys::{memfd, socket};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// One pool's line to the zygote. Dropping it ends the pool's workers.
#[derive(Debug)]
pub(crate) struct Launcher {
    line: OwnFd,
    zygote: Arc<Line>,
    opening: Arc<Opening>,
    /// Workers whose pidfd did not arrive: they are being killed, and were never reported.
    strays: Mutex<Vec<WorkerId>>,
}

/// What a pool was opened with, for another zygote to be given the same.
#[derive(Debug)]
struct Opening {
    spec: PoolSpec,
    host: Snapshot,
    /// The working directory; a name for what `host` has the identity of.
    directory: PathBuf,
}

/// What the zygote says about a worker.
#[derive(Debug)]
pub(crate) enum ZygoteReport {
    /// The worker runs.
    Forked {
        /// Which one.
        id: WorkerId,
        /// Its process id.
        pid: u32,
        /// Becomes readable when it dies.
        pidfd: OwnedFd,
    },
    /// No process came to be; the order may be given again.
    ForkFailed {
        /// Which one.
        id: WorkerId,
        /// What was refused, and what to do about it.
        reason: String,
    },
    /// The worker is dead and reaped, and so is its process group.
    Died {
        /// Which one.
        id: WorkerId,
        /// The process id it had.
        #[expect(dead_code, reason = "printed by Debug, in events")]
        pid: u32,
        /// What it ended with.
        exit: WorkerExit,
        /// Another one would not start either.
        is_final: bool,
        /// Processor time that it used, in nanoseconds.
        cpu_ns: u64,
    },
}

impl Launcher {
    /// Opens a line for a new pool; starts the zygote if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when a zygote cannot be started or cannot take the descriptors,
    /// [`Error::Misuse`] when the pool keeps descriptors that the zygote has closed.
    pub(crate) fn open(spec: &PoolSpec, fds: PoolFds<'_>) -> Result<Self> {
        let host = Snapshot::take()?;
        let directory = std::env::current_dir().unwrap_or_else(|_| ".".into());
        let opening = Arc::new(Opening { spec: spec.clone(), host, directory });
        Self::open_as(&opening, &fds)
    }

    /// Opens the pool at another zygote, its own being dead, for workers that are as before.
    ///
    /// # Errors
    ///
    /// [`Error::ZygoteLost`] when no other zygote has what this one had; else as
    /// [`open`](Self::open).
    pub(crate) fn reopen(&self, fds: PoolFds<'_>) -> Result<Self> {
        let Opening { spec, .. } = &*self.opening;
        if self.zygote.forked && spec.start == StartMethod::Fork {
            let text = "and with it the memory that workers shared since init(), which cannot be \
                made again";
            return Err(self.lost_for(text));
        }
        if spec.confinement.keep_fds {
            return Err(self.lost_for("and with it the descriptors that workers keep"));
        }
        if spec.held {
            return Err(self.lost_for("and with it the descriptor that the workers hold"));
        }
        Self::open_as(&self.opening, &fds)
    }

    fn lost_for(&self, text: &str) -> Error {
        match self.zygote.lost() {
            Error::ZygoteLost(how) => Error::ZygoteLost(format!("it {how}, {text}")),
            other => other,
        }
    }

    fn open_as(opening: &Arc<Opening>, fds: &PoolFds<'_>) -> Result<Self> {
        match Self::open_once(opening, fds) {
            // It died since it was looked at: once more, with a new one.
            Err(Error::ZygoteLost(_)) => Self::open_once(opening, fds),
            result => result,
        }
    }

    fn open_once(opening: &Arc<Opening>, fds: &PoolFds<'_>) -> Result<Self> {
        let Opening { spec, host, directory } = &**opening;
        let zygote = match &spec.start {
            StartMethod::Preloaded(words) => Arc::new(exec::start_template(words)?),
            _ => home::line(spec.confinement.keep_fds, spec.snapshot)?,
        };
        if spec.confinement.keep_fds && !zygote.keeps_fds {
            return Err(Error::Misuse(
                "this pool's workers are to keep descriptors, but the zygote was started for \
                 another pool and has closed them: build this pool first, or call aiopool::init()",
            ));
        }
        let system = |error| Error::system("make a pool's line to the zygote", error);
        let (line, theirs) = socket::pair().map_err(system)?;
        zygote.post(zygote.socket(), &wire::encode(&Call::NewPool), &[theirs.as_fd()])?;
        drop(theirs);

        let (root, directory) = host.open_directories(directory)?;
        // In a file, because the configuration may be longer than any message.
        let file = memfd::create(c"aiopool-pool").map_err(system)?;
        let mut writer = File::from(file.try_clone().map_err(system)?);
        writer.write_all(&wire::encode(&(spec, host))).map_err(system)?;
        let mut all = vec![file.as_fd(), root.as_fd(), directory.as_fd()];
        all.extend([fds.requests, fds.host_bell, fds.supervisor_bell]);
        all.extend(fds.deadline);
        all.extend(fds.logs);
        all.extend(fds.held);
        all.extend(&fds.control);
        all.extend(fds.bells.iter().flatten());
        let mut order = Order::Open { fds: all.len() as u32 };
        for part in all.chunks(socket::MAX_FDS) {
            zygote.post(line.as_fd(), &wire::encode(&order), part)?;
            order = Order::More;
            // Z10: dies here → the line ends, the zygote drops what came of the pool.
            crash::here(Point::Z10);
        }
        match zygote.wait_for(line.as_fd())? {
            Answer::Opened => {}
            Answer::Refused(reason) => {
                return Err(Error::system(
                    "open a pool at the fork server",
                    io::Error::other(reason),
                ));
            }
            other => return Err(Error::Corrupt(format!("the zygote answered {other:?}"))),
        }
        let strays = Mutex::default();
        Ok(Self { line: line.into(), zygote, opening: Arc::clone(opening), strays })
    }

    /// Orders a worker; the answer comes as a [`ZygoteReport`].
    ///
    /// # Errors
    ///
    /// [`Error::ZygoteLost`], [`Error::Forked`], and [`Error::System`] when the zygote takes no
    /// orders, which it does within microseconds unless it is stopped.
    pub(crate) fn fork(&self, order: &ForkOrder, outputs: BorrowedFd<'_>) -> Result<()> {
        self.post(&Order::Fork(*order), &[outputs])
    }

    /// Orders `SIGKILL` for a worker's process group; nothing happens if `id` lives no more.
    ///
    /// # Errors
    ///
    /// As [`Launcher::fork`].
    pub(crate) fn kill(&self, id: WorkerId) -> Result<()> {
        self.post(&Order::Kill(id), &[])
    }

    /// Gives later workers of `queue` another control region.
    ///
    /// # Errors
    ///
    /// As [`Launcher::fork`]; [`Error::Misuse`] when the pool has no such queue.
    pub(crate) fn replace_control(&self, queue: u32, control: BorrowedFd<'_>) -> Result<()> {
        if queue as usize >= self.opening.spec.slots.len() {
            return Err(Error::Misuse("the pool has no such queue"));
        }
        self.post(&Order::Control { queue }, &[control])
    }

    fn post(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.zygote.check_process()?;
        self.check_line()?;
        self.zygote.post(self.line.as_fd(), &wire::encode(order), fds)
    }

    /// Refuses a line that is another file's by now.
    fn check_line(&self) -> Result<()> {
        self.line.check().map_err(|taken| Error::ZygoteLost(taken.to_string()))
    }

    /// Has the zygote go on, if a signal has stopped it.
    pub(crate) fn nudge(&self) {
        self.zygote.nudge();
    }

    /// Takes note of another second in which the zygote has not answered pool number `pool`; it is
    /// killed where that does not look like ending.
    pub(crate) fn another_silent_second(&self, silence: &mut Silence, pool: usize) {
        self.zygote.another_silent_second(silence, Some(pool));
    }

    /// Returns whether the zygote is dead, and not only out of reach.
    pub(crate) fn zygote_has_died(&self) -> bool {
        self.zygote.has_died()
    }

    /// Returns a descriptor that is readable when [`Launcher::recv`] has a report.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// Returns a descriptor that is readable when the zygote is dead.
    pub(crate) fn zygote_pidfd(&self) -> BorrowedFd<'_> {
        self.zygote.pidfd()
    }

    /// Returns the next report, if there is one; never waits.
    ///
    /// # Errors
    ///
    /// [`Error::ZygoteLost`] when the zygote is gone and every report of it was read,
    /// [`Error::Forked`] in a forked child of the host.
    pub(crate) fn recv(&self) -> Result<Option<ZygoteReport>> {
        self.zygote.check_process()?;
        self.check_line()?;
        loop {
            // Looked at before the line: what it said before it died is still read.
            let dead = self.zygote.is_dead();
            let mut buffer = [0; wire::LONGEST];
            let mut got = match socket::recv(self.line.as_fd(), &mut buffer) {
                Ok(Some(got)) => got,
                Ok(None) => return Err(self.zygote.lost()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if dead { Err(self.zygote.lost()) } else { Ok(None) };
                }
                // It left orders unread; said once, and what it reported comes after it.
                Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => continue,
                Err(error) => return Err(Error::system("hear from the zygote", error)),
            };
            let answer = wire::decode(&buffer[..got.len])
                .ok_or_else(|| Error::Corrupt("a report of the zygote cannot be decoded".into()))?;
            if let Some(report) = self.report(answer, got.fds.pop())? {
                return Ok(Some(report));
            }
        }
    }

    fn report(&self, answer: Answer, pidfd: Option<OwnedFd>) -> Result<Option<ZygoteReport>> {
        Ok(Some(match (answer, pidfd) {
            (Answer::Forked { id, pid }, Some(pidfd)) => ZygoteReport::Forked { id, pid, pidfd },
            (Answer::Forked { id, .. }, None) => {
                // Without a pidfd it cannot be watched, so it must not live.
                lock(&self.strays).push(id);
                self.kill(id)?;
                let reason = "its pidfd did not arrive: raise the limit on open descriptors \
                    (RLIMIT_NOFILE)";
                ZygoteReport::ForkFailed { id, reason: reason.to_owned() }
            }
            (Answer::ForkFailed { id, reason }, _) => ZygoteReport::ForkFailed { id, reason },
            (Answer::Died { id, pid, exit, is_final, cpu_ns }, _) => {
                let mut strays = lock(&self.strays);
                if let Some(index) = strays.iter().position(|&stray| stray == id) {
                    strays.swap_remove(index);
                    return Ok(None);
                }
                ZygoteReport::Died { id, pid, exit, is_final, cpu_ns }
            }
            (other @ (Answer::Opened | Answer::Refused(_)), _) => {
                return Err(Error::Corrupt(format!("the zygote reported {other:?}")));
            }
        }))
    }
}

impl Drop for Launcher {
    /// Ends the line for every copy of it, so that the zygote ends the pool's workers.
    fn drop(&mut self) {
        // Z11. A forked child only has a copy, and must not end its parent's pool.
        if self.zygote.check_process().is_ok() {
            let _ = socket::shut_down(self.line.as_fd());
        }
    }
}
