//! Floor 6: the supervisor, one thread a pool.
//!
//! It alone orders, recovers, respawns, retries, expires and audits, so that nothing depends on
//! the user's runtime being free. It waits in one `poll`: for its bell, the zygote's line, the
//! pidfds of the workers and the next thing that comes due.

#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod assign;
mod assignment;
mod blocked;
mod crew;
mod damage;
mod death;
mod ending;
#[cfg(feature = "metrics")]
mod exporter;
#[cfg(any(test, aiopool_fuzz))]
pub(crate) mod fuzz;
mod look;
mod notifier;
mod numbers;
mod plan;
#[cfg(feature = "stats-page")]
mod publish;
mod ready;
mod replaced;
mod seen;
mod shared;
mod shared_bell;
mod single;
mod slack;
mod start;
mod succession;
mod tasks;
mod traced;
mod traces;
mod viewers;
mod waiters;
mod waiting;
mod wakers;
mod watch;
mod zygote;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::Error;
use crate::launch::{ForkOrder, Launcher, ZygoteReport};
use crate::logs::Reader;
use crate::scheduler::ProcessInfo;
use crate::shm::Region;
#[cfg(feature = "stats-page")]
use crate::stats::Page;
use crate::sys::clock::monotonic_ns;
use crate::sys::gate::Running;
use crate::sys::own_fd::{OwnFd, TAKEN};
use crate::sys::poll::{PollFd, PollSet};
use crate::sys::thread;
use crate::table::{Owner, WorkerId};
use crate::task::LossCause;
use crate::view::{Kind, Listener};

use blocked::Blocked;
use crew::{Crew, DeathReport, ProcessHandle, Seat};
use slack::Slack;
use viewers::Viewers;
use watch::Watch;
use zygote::Zygote;

pub(crate) use assignment::Assignment;
pub(crate) use look::program;
pub(crate) use plan::{Plan, Respawn};
#[cfg(feature = "capi")]
pub(crate) use shared::next_id;
pub(crate) use shared::{Shared, Stage, WorkerInfo};
pub(crate) use traces::{ENTRIES as TRACE_ENTRIES, Session};
pub(crate) use waiting::{CALLER_SPIN_NS, WORKER_SPIN_NS, with_spin};

/// Timers per record beyond which those of finished tasks are removed: rarely, since that goes
/// through all of them.
const TIMERS_PER_RECORD: usize = 4;

/// What a descriptor that the supervisor waits for stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A doorbell or the zygote's line, which are checked after every wait.
    Call,
    /// The zygote has ended.
    ZygoteEnd,
    /// A worker has ended.
    WorkerEnd(WorkerId),
    /// An observer has come.
    Viewer,
}

/// The supervisor of one pool.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    launcher: Option<Launcher>,
    crew: Crew,
    watch: Watch,
    slack: Slack,
    blocked: Blocked,
    viewers: Option<Viewers>,
    /// What is wrong with the control region of a queue whose workers are being killed for it.
    condemned: Vec<Option<String>>,
    /// By queue: when its workers' programs are looked at next.
    programs_due: Vec<u64>,
    init_failures: u32,
    zygote: Zygote,
    /// When workers are killed that were ordered to leave and have not.
    kill_at: Option<u64>,
    #[cfg(feature = "stats-page")]
    publisher: Option<publish::Publisher>,
    #[cfg(feature = "metrics")]
    exporter: Option<exporter::Exporter>,
    /// Reads what workers log.
    logs: Option<Reader>,
    /// Orders for the first workers that the zygote has not answered; `None` after the last answer.
    first_orders: Option<u32>,
    /// This thread, which sleeps while the process is forked.
    running: Running,
}

impl Supervisor {
    /// Starts the supervisor's thread.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(crate) fn start(
        shared: Arc<Shared>,
        launcher: Launcher,
        logs: Option<Reader>,
        listener: Option<Listener>,
        #[cfg(feature = "stats-page")] page: Option<Page>,
    ) -> io::Result<()> {
        let handle_goes_to = Arc::clone(&shared);
        let supervisor = Self {
            crew: Crew::new(&shared.plan),
            watch: Watch::default(),
            slack: Slack::default(),
            blocked: Blocked::default(),
            viewers: listener.and_then(|listener| Viewers::new(listener).ok()),
            condemned: vec![None; shared.queues.len()],
            programs_due: vec![0; shared.queues.len()],
            init_failures: 0,
            zygote: Zygote::default(),
            kill_at: None,
            #[cfg(feature = "stats-page")]
            publisher: page.map(publish::Publisher::new),
            #[cfg(feature = "metrics")]
            exporter: match shared.plan.metrics {
                true => Some(exporter::Exporter::start(&shared)?),
                false => None,
            },
            first_orders: Some(shared.plan.processes),
            launcher: Some(launcher),
            logs,
            running: Running::begin(),
            shared,
        };
        let thread = std::thread::Builder::new()
            .name("aiopool-supervisor".to_owned())
            .spawn(move || supervisor.run())
            .map_err(thread::named)?;
        handle_goes_to.set_thread(thread);
        Ok(())
    }

    fn run(mut self) {
        self.shared.set_thread_id();
        loop {
            let now = monotonic_ns();
            self.read_phases(now);
            self.handle_deaths(now);
            self.expire_timers(now);
            self.repair_damage();
            self.rebuild();
            if self.is_over(now) {
                break;
            }
            self.fill_seats(now);
            self.assign();
            self.limit_starts(now);
            if let Some(launcher) = &self.launcher {
                self.zygote.watch(now, &self.crew, launcher, &self.shared);
            }
            self.watch(now);
            self.slack.look(&self.shared.common.inputs, now);
            self.blocked.note(&self.shared, now);
            self.wait();
        }
        drop(self.viewers.take());
        // Before the line is closed, when the zygote removes a page that is still there.
        #[cfg(feature = "stats-page")]
        drop(self.publisher.take());
        self.end_assignments();
        // Closes the line: the zygote then frees all that it has of the pool.
        drop(self.launcher.take());
        // Reads what is left (L4), so that a caller that has joined the pool has all of it.
        drop(self.logs.take());
        self.shared.set_workers(Vec::new());
        // A caller that has joined the pool finds its last numbers recorded.
        #[cfg(feature = "metrics")]
        drop(self.exporter.take());
        self.shared.advance(Stage::Ended);
        // Tells event loops that watch this bell that the pool has ended.
        let _ = self.shared.common.host_bell.ring_nonblocking();
    }

    /// Waits for the next event, and takes what the zygote and the kernel report.
    fn wait(&mut self) {
        let timeout = self.timeout();
        #[cfg(feature = "stats-page")]
        let timeout = publish::sooner(timeout, self.publish());
        let listen = self.shared.listen.load(Ordering::SeqCst);
        let mut dead = Vec::new();
        let mut zygote_gone = None;
        let mut reports = Vec::new();
        let mut viewer_came = false;
        if let Some(launcher) = &self.launcher {
            let common = &self.shared.common;
            let mut set = PollSet::new();
            set.add(Source::Call, PollFd::readable(common.supervisor_bell.as_fd()));
            set.add(Source::Call, PollFd::readable(launcher.as_fd()));
            set.add(Source::ZygoteEnd, PollFd::readable(launcher.zygote_pidfd()));
            if listen {
                set.add(Source::Call, PollFd::readable(common.host_bell.as_fd()));
            }
            if let Some(socket) = self.viewers.as_ref().and_then(Viewers::waits_on) {
                set.add(Source::Viewer, PollFd::readable(socket));
            }
            for worker in self.crew.workers().filter(|worker| worker.death.is_none()) {
                if let Some(process) = &worker.process {
                    let pidfd = PollFd::readable(process.pidfd.as_fd());
                    set.add(Source::WorkerEnd(worker.id), pidfd);
                }
            }
            let sleep = set.wait(timeout, |poll| self.running.asleep(poll));
            let ready = sleep.unwrap_or_else(|error| {
                // The supervisor cannot work without poll: end it rather than spin.
                zygote_gone = Some(Error::system("wait for the pool's workers", error));
                Vec::new()
            });
            viewer_came = ready.contains(&Source::Viewer);
            if !common.supervisor_bell.is_ours() {
                zygote_gone = Some(Error::ZygoteLost(TAKEN.to_owned()));
            }
            let _ = common.supervisor_bell.drain();
            dead.extend(ready.iter().filter_map(|source| match *source {
                Source::WorkerEnd(id) => Some(id),
                _ => None,
            }));
            loop {
                match launcher.recv() {
                    Ok(Some(report)) => reports.push(report),
                    Ok(None) => break,
                    Err(error) => {
                        zygote_gone = Some(error);
                        break;
                    }
                }
            }
            if !dead.is_empty() {
                // It has a word to say about them.
                launcher.nudge();
            }
            if ready.contains(&Source::ZygoteEnd) && zygote_gone.is_none() {
                zygote_gone = Some(Error::ZygoteLost("it was killed".to_owned()));
            }
            if listen {
                let _ = common.host_bell.drain();
                self.shared.arm();
                self.shared.drain();
            }
        }
        if viewer_came && let Some(viewers) = &mut self.viewers {
            viewers.serve(&self.shared);
        }
        let now = monotonic_ns();
        for id in dead {
            if let Some(worker) = self.crew.get_mut(id) {
                worker.notice_death(now);
            }
        }
        reports.into_iter().for_each(|report| self.take_report(report, now));
        if let Some(error) = zygote_gone {
            self.lose_zygote(error);
        }
    }

    fn take_report(&mut self, report: ZygoteReport, now: u64) {
        match report {
            ZygoteReport::Forked { id, pid, pidfd } => {
                if let Some(worker) = self.crew.get_mut(id) {
                    let pidfd = Arc::new(OwnFd::from(pidfd));
                    self.shared.process_started(pid, &pidfd);
                    worker.process = Some(ProcessHandle { pid, pidfd });
                    let info = ProcessInfo::new(id.queue, worker.seat, pid);
                    self.shared.notifier.process_started(&info);
                }
                // Before the answer: the caller that built the pool may ask for its workers at
                // once.
                self.publish_workers();
                self.answer_first_order(Ok(()));
            }
            ZygoteReport::ForkFailed { id, reason } => {
                tracing::warn!(pool = self.shared.id, worker = %id, reason, "a worker could not be forked");
                self.shared.common.events.note(Kind::ForkFailed, None, reason.clone());
                let Some(worker) = self.crew.discharge(id) else { return };
                self.shared.queues[usize::from(id.queue)].unprepare(usize::from(id.slot));
                self.crew.seats[worker.seat as usize].not_forked(now);
                self.answer_first_order(Err(reason.clone()));
                if self.crew.is_hopeless() {
                    self.fail(Error::NoWorkers(reason));
                }
            }
            ZygoteReport::Died { id, exit, is_final, cpu_ns, .. } => {
                if let Some(worker) = self.crew.get_mut(id) {
                    let report = DeathReport { exit, is_final, cpu_ns };
                    worker.notice_death(now).set_report(report);
                }
            }
        }
        self.publish_workers();
    }

    fn answer_first_order(&mut self, result: Result<(), String>) {
        if let Some(left) = &mut self.first_orders {
            *left -= 1;
            if result.is_err() || *left == 0 {
                self.shared.set_started(result);
                self.first_orders = None;
            }
        }
    }

    fn publish_workers(&self) {
        let workers = self
            .crew
            .workers()
            .filter(|worker| worker.death.is_none())
            .filter_map(|worker| {
                let pid = worker.process.as_ref()?.pid;
                let WorkerId { queue, slot, incarnation } = worker.id;
                let (seat, ordered_ns) = (worker.seat, worker.ordered_ns);
                Some(WorkerInfo { pid, queue, slot, incarnation, seat, ordered_ns })
            })
            .collect();
        self.shared.set_workers(workers);
    }

    fn expire_timers(&mut self, now: u64) {
        while let Some((ticket, due)) = self.shared.common.timers.take_due(now) {
            let queue = usize::from(ticket.queue);
            if let Some(owner) = self.shared.queues[queue].expire(ticket, due) {
                self.kill(queue, owner.slot(), Some(owner), LossCause::NeighbourTimedOut);
            }
        }
        let limit =
            TIMERS_PER_RECORD * self.shared.plan.capacity as usize * self.shared.queues.len();
        let queues = &self.shared.queues;
        self.shared
            .common
            .timers
            .prune(limit, |ticket, due| queues[usize::from(ticket.queue)].matters(ticket, due));
    }

    /// Has the worker in a slot killed, if it is `owner` or that is `None`. False if it is not, or
    /// is being killed already.
    fn kill(&mut self, queue: usize, slot: usize, owner: Option<Owner>, cause: LossCause) -> bool {
        let Some(worker) = self.crew.slots[queue].get_mut(slot).and_then(|s| s.worker.as_mut())
        else {
            return false;
        };
        if owner.is_some_and(|owner| owner != Owner::of(worker.id)) || worker.killed.is_some() {
            return false;
        }
        worker.killed = Some(cause);
        if let Some(launcher) = &self.launcher {
            // If the line is broken, the next `recv` reports it.
            let _ = launcher.kill(worker.id);
        }
        // The zygote kills its group, too, if it listens.
        worker.process.iter().for_each(ProcessHandle::kill);
        true
    }

    /// Orders a worker for each seat whose time has come.
    fn fill_seats(&mut self, now: u64) {
        if self.shared.stage() >= Stage::Terminating || self.kill_at.is_some() {
            return;
        }
        for seat in 0..self.crew.seats.len() {
            let Seat { queue, vacant_since, .. } = &self.crew.seats[seat];
            let (queue, due) = (*queue, vacant_since.is_some_and(|since| since <= now));
            // A worker that starts now would get the damaged region.
            let due = due && self.condemned[usize::from(queue)].is_none();
            if due && let Some(id) = self.crew.enlist(queue, seat as u32, now) {
                self.crew.seats[seat].vacant_since = None;
                if let Err(reason) = self.order(id, seat as u32) {
                    self.take_report(ZygoteReport::ForkFailed { id, reason }, now);
                }
            }
        }
    }

    fn order(&mut self, id: WorkerId, seat: u32) -> Result<(), String> {
        let arena = Region::create(c"aiopool-results", self.shared.plan.output_arena)
            .map_err(|error| format!("no memory for a worker's results: {error}"))?;
        let arena = Arc::new(arena);
        let queue = &self.shared.queues[usize::from(id.queue)];
        let (lane_start, handback_start) = queue.prepare(usize::from(id.slot), Arc::clone(&arena));
        let order = ForkOrder { id, seat, lane_start, handback_start };
        let launcher = self.launcher.as_ref().ok_or("the zygote is gone")?;
        launcher.fork(&order, arena.as_fd()).map_err(|error| error.to_string())?;
        self.shared.common.counters.respawns.add(1);
        Ok(())
    }

    /// Publishes the pool's numbers if that is due. Returns when it is due next.
    #[cfg(feature = "stats-page")]
    fn publish(&mut self) -> Option<u64> {
        self.publisher.as_mut()?.publish(&self.shared, monotonic_ns())
    }

    fn timeout(&self) -> Option<Duration> {
        let now = monotonic_ns();
        let workers = self.crew.workers();
        let reports = workers.filter_map(|worker| worker.death.as_ref()?.waits_until());
        let seats = self.crew.seats.iter().filter_map(|seat| seat.vacant_since);
        let seats =
            seats.filter(|_| self.kill_at.is_none() && self.shared.stage() < Stage::Terminating);
        // A vacant seat without a free slot waits for a death, which wakes the poll.
        let seats = seats.filter(|&since| since > now);
        self.shared
            .common
            .timers
            .next()
            .into_iter()
            .chain(self.watch.next())
            .chain(self.slack.next())
            .chain(self.blocked.next())
            .chain(self.next_start_limit())
            .chain(self.zygote.next(&self.crew))
            .chain(self.next_assignment(now))
            .chain(self.kill_at.filter(|&at| at > now))
            .chain(self.shared.ring_alarms(now))
            .chain(reports)
            .chain(seats)
            .min()
            .map(|at| Duration::from_nanos(at.saturating_sub(now)))
    }
}
