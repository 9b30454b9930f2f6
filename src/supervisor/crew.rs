//! The workers of a pool: seats, worker slots, and the processes in them.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::own_fd::OwnFd;
use crate::sys::pidfd;
use crate::sys::poll::{PollFd, poll};
use crate::table::WorkerId;
use crate::task::{LossCause, WorkerExit};

use super::plan::{Plan, Respawn};

/// Failed starts in a row after which a seat counts as hopeless.
const HOPELESS: u32 = 6;

/// A worker slot of a queue.
#[derive(Debug, Default)]
pub(super) struct WorkerSlot {
    /// The incarnation that was ordered last.
    pub(super) incarnation: u32,
    /// The worker, from its order to its recovery.
    pub(super) worker: Option<Member>,
}

/// What a worker that died has shown of its seat: whether the next one can be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It had finished a task.
    Completed,
    /// It had begun one, or lived for a while without, or was killed from outside.
    Served,
    /// It was never ready; or it was, and died by itself before it had begun a task.
    Nothing,
}

/// A worker process, or the order for one.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: WorkerId,
    pub(super) seat: u32,
    /// `None` while the order is not answered.
    pub(super) process: Option<ProcessHandle>,
    /// When it was ordered.
    pub(super) ordered_ns: u64,
    /// Whether its initializer has returned.
    pub(super) ready: bool,
    /// Whether it was reported that its start takes long.
    pub(super) slow: bool,
    /// The error's text, if its start took too long.
    pub(super) late: Option<String>,
    /// Whether it takes no more tasks; its replacement has the seat already.
    pub(super) retiring: bool,
    /// Why the pool has it killed, if it does.
    pub(super) killed: Option<LossCause>,
    /// Its death, once that was noticed.
    pub(super) death: Option<Death>,
}

/// A worker's death. The supervisor learns of it twice: at once from the worker's pidfd, and from
/// the zygote, which reports how the worker ended. The death is handled when both have come, or
/// when the report has not come for too long.
#[derive(Debug)]
pub(super) struct Death {
    /// When it was noticed.
    noticed_ns: u64,
    /// The zygote's report, if it has come.
    report: Option<DeathReport>,
}

/// What the zygote reports of a worker's death.
#[derive(Clone, Debug)]
pub(super) struct DeathReport {
    pub(super) exit: WorkerExit,
    /// Whether another process of its program would not start either.
    pub(super) is_final: bool,
    /// Processor time that the worker used, in nanoseconds.
    pub(super) cpu_ns: u64,
}

#[derive(Debug)]
pub(super) struct ProcessHandle {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnFd>,
}

impl ProcessHandle {
    /// Kills it, and not its group.
    pub(super) fn kill(&self) {
        if self.pidfd.is_ours() {
            // An error: it is dead.
            let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

/// A place for one worker at a time; a replacement takes over the seat.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) queue: u16,
    /// When a worker is to be ordered for it; `None` while it is taken.
    pub(super) vacant_since: Option<u64>,
    respawn: Respawn,
    /// Failed starts in a row: workers that ended before they were ready.
    failures: u32,
}

/// The seats and worker slots of a pool.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) seats: Vec<Seat>,
    /// By queue and slot.
    pub(super) slots: Vec<Vec<WorkerSlot>>,
}

impl Crew {
    /// Makes empty seats, to be filled at once.
    pub(super) fn new(plan: &Plan) -> Self {
        let seats = (0..plan.processes)
            .map(|seat| Seat {
                queue: (seat % plan.queues) as u16,
                vacant_since: Some(0),
                respawn: plan.respawn,
                failures: 0,
            })
            .collect();
        let slots = (0..plan.queues)
            .map(|queue| (0..plan.shape(queue).slots).map(|_| WorkerSlot::default()).collect())
            .collect();
        Self { seats, slots }
    }

    /// Returns the worker that `id` is, unless its slot has another by now.
    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Member> {
        let slot = self.slots.get_mut(usize::from(id.queue))?.get_mut(usize::from(id.slot))?;
        slot.worker.as_mut().filter(|worker| worker.id == id)
    }

    /// Returns all workers, ordered ones too.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().flatten().filter_map(|slot| slot.worker.as_ref())
    }

    /// Workers that cannot take tasks yet.
    pub(super) fn starting(&self) -> impl Iterator<Item = &Member> {
        self.workers().filter(|worker| worker.is_starting())
    }

    pub(super) fn starting_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let workers = self.slots.iter_mut().flatten().filter_map(|slot| slot.worker.as_mut());
        workers.filter(|worker| worker.is_starting())
    }

    /// Ends what a zygote that is gone has left, and waits until every worker is dead, at most
    /// `limit`. False if one lives.
    pub(super) fn end_with_zygote(&self, limit: Option<Duration>) -> bool {
        let processes = || self.workers().filter_map(|worker| worker.process.as_ref());
        for process in processes().filter(|process| process.pidfd.is_ours()) {
            // Z8 of `launch/README.md`. What tasks had started; an error: the group is empty, or
            // this Linux (before 6.9) has no safe way to name it.
            let _ = pidfd::kill_group(process.pidfd.as_fd());
            // A task may have turned its death signal off.
            process.kill();
        }
        let end = limit.map(|limit| Instant::now() + limit);
        processes().all(|process| {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            poll(&mut [PollFd::readable(process.pidfd.as_fd())], left).is_ok_and(|dead| dead > 0)
        })
    }

    /// Takes a free slot of `queue` for a new incarnation on `seat`.
    pub(super) fn enlist(&mut self, queue: u16, seat: u32, now: u64) -> Option<WorkerId> {
        let slots = &mut self.slots[usize::from(queue)];
        let index = slots.iter().position(|slot| slot.worker.is_none())?;
        let slot = &mut slots[index];
        slot.incarnation += 1;
        let id = WorkerId { queue, slot: index as u16, incarnation: slot.incarnation };
        slot.worker = Some(Member {
            id,
            seat,
            process: None,
            ordered_ns: now,
            ready: false,
            slow: false,
            late: None,
            retiring: false,
            killed: None,
            death: None,
        });
        Some(id)
    }

    /// Empties the slot of `id`.
    pub(super) fn discharge(&mut self, id: WorkerId) -> Option<Member> {
        self.get_mut(id)?;
        self.slots[usize::from(id.queue)][usize::from(id.slot)].worker.take()
    }

    /// Returns whether a queue has no worker and only hopeless seats: its tasks would wait for
    /// ever. While another seat of the queue has a worker, a hopeless one goes on trying.
    pub(super) fn is_hopeless(&self) -> bool {
        let queues = 0..self.slots.len();
        queues.into_iter().any(|queue| {
            let mut seats = self.seats.iter().filter(|seat| usize::from(seat.queue) == queue);
            seats.all(|seat| seat.failures >= HOPELESS && seat.vacant_since.is_some())
        })
    }
}

impl Member {
    fn is_starting(&self) -> bool {
        !self.ready && self.death.is_none() && self.killed.is_none()
    }

    /// Notes that its death was noticed at `now`, or before. Returns what is known of the death.
    pub(super) fn notice_death(&mut self, now: u64) -> &mut Death {
        self.death.get_or_insert(Death { noticed_ns: now, report: None })
    }
}

impl Death {
    /// How long the zygote's report is waited for, in nanoseconds.
    const REPORT_NS: u64 = 100_000_000;

    /// Adds the zygote's report.
    pub(super) fn set_report(&mut self, report: DeathReport) {
        self.report = Some(report);
    }

    /// Returns the report, or what is assumed while there is none.
    pub(super) fn report(&self) -> DeathReport {
        let unknown = DeathReport { exit: WorkerExit::Unknown, is_final: false, cpu_ns: 0 };
        self.report.clone().unwrap_or(unknown)
    }

    /// Returns until when the report is waited for; `None` if it has come.
    pub(super) fn waits_until(&self) -> Option<u64> {
        self.report.is_none().then_some(self.noticed_ns.saturating_add(Self::REPORT_NS))
    }

    /// Returns whether the death can be handled at `now`.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.waits_until().is_none_or(|at| at <= now)
    }
}

impl Seat {
    /// Frees the seat for the next worker at once: its worker left in order, or takes no more
    /// tasks.
    pub(super) fn vacate(&mut self, now: u64) {
        if self.respawn == Respawn::Always {
            self.vacant_since = Some(now);
        }
    }

    /// Notes that its worker was of use.
    pub(super) fn proved(&mut self) {
        self.failures = 0;
    }

    /// Frees the seat after a death, with a pause for one that may repeat itself.
    pub(super) fn lost(&mut self, now: u64, proof: Proof) {
        let pause = match proof {
            Proof::Completed => Duration::ZERO,
            // Its task is the likelier cause. The pause keeps a pool of such tasks from using a
            // whole processor for starts.
            Proof::Served => Duration::from_millis(1),
            Proof::Nothing => Duration::from_millis(20 << (self.failures + 1).min(6)),
        };
        self.failures = if proof == Proof::Nothing { self.failures + 1 } else { 0 };
        self.vacate(now + pause.as_nanos() as u64);
    }

    /// Frees the seat of a worker that could not be forked. A seat that is not filled again is
    /// hopeless then.
    pub(super) fn not_forked(&mut self, now: u64) {
        self.lost(now, Proof::Nothing);
        if self.respawn == Respawn::Never {
            (self.failures, self.vacant_since) = (HOPELESS, Some(now));
        }
    }
}
