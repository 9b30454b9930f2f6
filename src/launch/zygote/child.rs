//! A worker between `fork` and its loop: the contract of a start, as `../README.md` has it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;

use super::super::recipe::{self, PROGRAM, Recipe, c_strings, inherit};
use super::super::snapshot::{Places, Snapshot};
use super::super::wire::{self, Handover, Started, WORKER_MAGIC, WORKER_VARIABLE};
use super::super::{Confinement, ForkOrder, Sandbox, StartMethod, after_fork};
use super::origin::Origin;
use super::pool::KeptPool;
use crate::sync::crash::{self, Point};
use crate::sys::exit::exit_now;
use crate::sys::{exec, fd, image, memfd, process, requests, signal, socket, surroundings};
use crate::table::WorkerId;
use crate::worker::{self, WorkerFds, WorkerStart};

/// The exit status of a worker that could not start; why is said on the start line.
pub(super) const NOT_STARTED: i32 = 125;

/// What a worker has no use for and keeps all the same: its memory is shared with the zygote and
/// the other workers until it is written, which freeing it does.
static KEPT: OnceLock<(Snapshot, StartMethod)> = OnceLock::new();

/// What a child is to become.
#[derive(Debug)]
pub(super) struct NewWorker {
    order: ForkOrder,
    method: StartMethod,
    confinement: Confinement,
    config: Vec<u8>,
    fds: WorkerFds,
    logs: Option<OwnedFd>,
    /// Kept open to this process's end, and of no other use.
    held: Option<OwnedFd>,
    started: io::Result<OwnedFd>,
    host: Snapshot,
    /// Where the host is, until this process has gone there.
    places: Option<Places>,
    origin: Origin,
}

impl NewWorker {
    /// Takes out of a pool what one worker gets; the rest is closed.
    pub(super) fn new(
        mut kept: KeptPool,
        order: ForkOrder,
        outputs: OwnedFd,
        started: io::Result<OwnedFd>,
        origin: &Origin,
    ) -> Self {
        let queue = usize::from(order.id.queue);
        let fds = WorkerFds {
            control: kept.control.swap_remove(queue),
            requests: kept.requests,
            outputs,
            host_bell: kept.host_bell,
            supervisor_bell: kept.supervisor_bell,
            bells: kept.bells.swap_remove(queue),
        };
        let spec = kept.spec;
        Self {
            order,
            method: spec.start,
            confinement: spec.confinement,
            config: spec.worker,
            fds,
            logs: kept.logs,
            held: kept.held,
            started,
            host: kept.host,
            places: Some(kept.places),
            origin: origin.clone(),
        }
    }

    /// Makes this process the worker.
    pub(super) fn start(mut self) -> ! {
        let started = self.follow();
        if self.method != StartMethod::Fork {
            let reason = self.execute(&started);
            fail(started.as_fd(), process::own_pid(), reason);
        }
        self.confine_forked(&started);
        drop(started);
        // SAFETY: forked, so this process has the zygote's image, and that is the host's: the
        // zygote was forked from the host, or it compared the build in the host's greeting.
        unsafe { begin(self.orders()) }
    }

    /// Makes this process a worker of the program that it was forked from, which goes on by itself.
    pub(super) fn hand_over(mut self) -> WorkerStart {
        let started = self.follow();
        self.confine_forked(&started);
        say_attached(&started, process::own_pid());
        self.orders()
    }

    /// Makes this process what the host is. Returns the start line.
    fn follow(&mut self) -> OwnedFd {
        // Z5: dies here → a zombie whose number is held until the zygote has opened it.
        crash::here(Point::Z5);
        // Without the line no reason can be reported, so a missing line is the first thing to end
        // for.
        let Ok(started) = std::mem::replace(&mut self.started, Err(io::ErrorKind::Other.into()))
        else {
            exit_now(NOT_STARTED)
        };
        if let Err(reason) = self.prepare(&started) {
            fail(started.as_fd(), process::own_pid(), reason);
        }
        started
    }

    /// The last steps of a worker that executes nothing.
    fn confine_forked(&self, started: &OwnedFd) {
        if let Err(reason) = confine(self.confinement.sandbox.as_ref()) {
            fail(started.as_fd(), process::own_pid(), reason);
        }
        if let Err(reason) = after_fork::run_hooks() {
            fail(started.as_fd(), process::own_pid(), reason);
        }
    }

    fn orders(mut self) -> WorkerStart {
        // The kernel closes it when this process has ended, and no code before.
        let _ = self.held.take().map(IntoRawFd::into_raw_fd);
        let ForkOrder { id, seat, lane_start, handback_start } = self.order;
        let (config, fds, logs) = (self.config, self.fds, self.logs);
        let _ = KEPT.set((self.host, self.method));
        WorkerStart { id, seat, lane_start, handback_start, config, fds, logs }
    }

    fn prepare(&mut self, started: &OwnedFd) -> Result<(), String> {
        let cannot = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
        process::lead_session().map_err(cannot("lead a session"))?;
        crash::here(Point::Z3);
        self.die_with_zygote()?;
        // A worker of ours unblocks the rest when it catches it, so that nothing is lost and there
        // is no moment at which it ends a worker. A foreign program must not start with a mask.
        let foreign = self.method.is_other_program();
        let (ignored, blocked): (&[_], &[_]) = match foreign {
            true => (&[libc::SIGINT, libc::SIGPIPE], &[]),
            false => (&[], &requests::CAUGHT),
        };
        signal::default_all_but(ignored).map_err(cannot("set what signals do"))?;
        signal::Mask::of(blocked).set().map_err(cannot("unblock signals"))?;
        fd::silence_stdin().map_err(cannot("open /dev/null"))?;
        // A preloaded program has opened what it needs.
        if !self.confinement.keep_fds && !matches!(self.method, StartMethod::Preloaded(_)) {
            let mut keep: Vec<_> = self.all_fds(started).iter().map(AsRawFd::as_raw_fd).collect();
            keep.extend(self.held.iter().map(AsRawFd::as_raw_fd));
            keep.extend(self.places.iter().flat_map(Places::numbers));
            keep.sort_unstable();
            // SAFETY: the zygote's own are dropped; what else is open came from the host, whose
            // frames are never returned to, and is closed by contract.
            unsafe { fd::close_all_except(&keep) }.map_err(cannot("close descriptors"))?;
        }
        if let Some(places) = self.places.take() {
            self.host.take_on(&places)?;
        }
        self.confinement.surroundings.take_on()?;
        self.confinement.surroundings.redirect(self.order.seat)?;
        // A change of user has taken the death signal away.
        self.die_with_zygote()?;
        let changed = self.confinement.surroundings.environment(self.host.environment());
        if let Some(environment) = changed.or_else(|| self.host.other_environment()) {
            // SAFETY: a worker has one thread until its loop.
            unsafe { surroundings::replace_environment(environment) };
        }
        // The system may lack it by now; every program goes on in the locale that it has then.
        let locale = self.host.locale.as_deref();
        let _ = locale.is_none_or(surroundings::set_locale);
        bear_name(self.order.id);
        self.confinement.limit().map_err(cannot("set a resource limit"))
    }

    fn die_with_zygote(&self) -> Result<(), String> {
        process::die_with_parent()
            .map_err(|error| format!("cannot ask to die with the zygote: {error}"))?;
        // Z3: asked too late if it is dead already, but then this process has another parent.
        if process::parent_pid() != self.origin.pid {
            exit_now(NOT_STARTED);
        }
        Ok(())
    }

    /// Returns what the worker has, in the order of [`Handover::fds`].
    fn all_fds<'a>(&'a self, started: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        let WorkerFds { control, requests, outputs, host_bell, supervisor_bell, bells } = &self.fds;
        let fixed = [started, control, requests, outputs, host_bell, supervisor_bell];
        fixed.into_iter().chain(&self.logs).chain(bells).map(|fd| fd.as_fd()).collect()
    }

    /// Executes the worker's program; comes back only with the reason why that is impossible.
    fn execute(&mut self, started: &OwnedFd) -> String {
        match self.try_execute(started) {
            Err(reason) => reason,
            Ok(never) => match never {},
        }
    }

    fn try_execute(&mut self, started: &OwnedFd) -> Result<std::convert::Infallible, String> {
        let cannot = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
        let file = memfd::create(c"aiopool-start").map_err(cannot("make the start file"))?;
        let number = file.as_raw_fd();
        let (program, arguments, recipe) = match std::mem::take(&mut self.method) {
            StartMethod::Command(words) => {
                let arguments = c_strings(words).map_err(cannot("pass on the command"))?;
                let recipe = Recipe::of_command(WORKER_VARIABLE, number);
                (arguments[0].clone(), arguments, recipe)
            }
            _ => {
                let image = image::own().map_err(cannot("find the file of this library"))?;
                let name = c_strings(std::env::args_os().take(1)).unwrap_or_default();
                let name = name.into_iter().next().unwrap_or(c"aiopool-worker".into());
                let arguments =
                    recipe::arguments(&name).map_err(cannot("find the program's file"))?;
                (PROGRAM.to_owned(), arguments, Recipe::new(&image, WORKER_VARIABLE, number))
            }
        };
        let recipe = recipe.map_err(cannot("prepare the environment"))?;
        let before_main = program.as_c_str() == PROGRAM;
        let fds = self.all_fds(started);
        let handover = Handover {
            before_main,
            build: self.origin.build.clone(),
            preloaded: recipe.preloaded,
            zygote: self.origin.pid,
            pid: process::own_pid(),
            order: self.order,
            fds: fds.iter().map(AsRawFd::as_raw_fd).collect(),
            logs: self.logs.is_some(),
            held: self.held.as_ref().map(AsRawFd::as_raw_fd),
            config: std::mem::take(&mut self.config),
            locale: self.host.locale.clone().filter(|_| before_main),
            dumpable: self.host.dumpable,
            // Our own program confines itself when it is loaded: it needs its files for that.
            sandbox: self.confinement.sandbox.clone().filter(|_| before_main),
        };
        let bytes = wire::encode_first(WORKER_MAGIC, &handover);
        File::from(file.try_clone().map_err(cannot("copy a descriptor"))?)
            .write_all(&bytes)
            .map_err(cannot("write the start file"))?;
        let mut inherited = self.all_fds(started);
        inherited.push(file.as_fd());
        inherited.extend(self.held.as_ref().map(AsFd::as_fd));
        inherited.extend(recipe.library.as_ref().map(|library| library.as_fd()));
        inherit(&inherited).map_err(cannot("pass on descriptors"))?;
        if !before_main {
            confine(self.confinement.sandbox.as_ref())?;
        }
        let error = exec::execute(&program, &arguments, &recipe.environment);
        Err(format!("cannot execute {}: {error}", program.to_string_lossy()))
    }
}

/// Gives this process the name of a worker, for `ps`; executing a program takes it away.
pub(super) fn bear_name(id: WorkerId) {
    if let Ok(name) = CString::new(format!("aiopool {}.{}", id.queue, id.slot)) {
        let _ = process::set_name(&name);
    }
}

/// Forbids this process what the pool wants it to be forbidden, for ever.
pub(super) fn confine(sandbox: Option<&Sandbox>) -> Result<(), String> {
    sandbox.map_or(Ok(()), Sandbox::apply)
}

/// Enters the worker's loop.
///
/// # Safety
///
/// As [`worker::run`].
pub(super) unsafe fn begin(start: WorkerStart) -> ! {
    #[cfg(test)]
    super::super::tests::act(&start);
    // SAFETY: the caller vouches for it.
    unsafe { worker::run(start) }
}

/// Tells the zygote that a worker that is another program runs.
pub(super) fn say_attached(started: &OwnedFd, pid: u32) {
    // Room for it was never needed by many at once; without it only a cause of death is less exact.
    let attached = Started { pid, result: Ok(()), is_final: false };
    let _ = socket::send(started.as_fd(), &wire::encode(&attached), &[]);
}

/// Ends a worker that cannot start, and says why.
pub(super) fn fail(started: BorrowedFd<'_>, pid: u32, reason: impl ToString) -> ! {
    let failed = Started { pid, result: Err(wire::reason(reason)), is_final: false };
    // If this cannot be sent, the zygote is gone, or reports the exit status.
    let _ = socket::send(started, &wire::encode(&failed), &[]);
    exit_now(NOT_STARTED)
}
