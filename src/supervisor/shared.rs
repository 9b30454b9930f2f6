//! What a pool's handles and its supervisor share.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::logs::Callers;
use crate::queue::{Common, HostQueue, RoomWait};
use crate::scheduler::{NewTask, Scheduler};
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;
use crate::sys::forked;
use crate::sys::own_fd::OwnFd;
use crate::sys::thread;
use crate::sys::timer::Timer;
use crate::task::{TaskError, WorkerExit};

use super::assignment::Assignment;
use super::notifier::Notifier;
use super::plan::Plan;
use super::seen::Memory;
use super::traced::{Traces, Writer};
use super::waiters::Waiters;
use super::wakers::Wakers;

/// The stages of a pool's life, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Takes tasks.
    Open,
    /// Takes no more tasks, and finishes those it has.
    Closed,
    /// Every task is over; the workers are leaving.
    Terminating,
    /// Nothing is left: no worker, no descriptor, no region.
    Ended,
}

/// Numbers for the pools of this process.
static NEXT_POOL: AtomicUsize = AtomicUsize::new(1);

/// Shared by a pool's handles, futures and supervisor.
pub(crate) struct Shared {
    /// The process that built the pool.
    pub(crate) pid: u32,
    /// Tells this process from its forked children.
    generation: u32,
    /// The pool's number in this process, for events.
    pub(crate) id: usize,
    /// The pool's name, for observers.
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// What earlier looks have seen.
    pub(super) looks: Mutex<Memory>,
    pub(super) traces: Traces,
    /// When the pool was built.
    pub(crate) built_ns: u64,
    pub(crate) common: Arc<Common>,
    pub(crate) queues: Vec<Arc<HostQueue>>,
    pub(super) scheduler: Arc<dyn Scheduler>,
    pub(super) notifier: Notifier,
    /// The spans of the tasks' callers, where workers bring what they log.
    callers: Option<Arc<Callers>>,
    /// When the zygote kills the workers, where there is a time for it.
    pub(crate) deadline: Option<Timer>,
    /// Workers alive, by queue.
    alive: Vec<AtomicUsize>,
    pub(crate) next_task: AtomicUsize,
    /// Whether the supervisor listens to the host's doorbell: a receiver waits that has no event
    /// loop to wake it.
    pub(crate) listen: AtomicBool,
    /// Tasks for one seat each, for the supervisor to assign; `None` after its end.
    pub(super) assignments: Mutex<Option<Vec<Assignment>>>,
    /// How many tasks these are: accepted, and in no queue yet.
    pub(super) unassigned: AtomicUsize,
    /// Workers that can take tasks.
    pub(super) ready: AtomicUsize,
    /// What waits for outcomes.
    pub(super) waiters: Waiters,
    /// The supervisor's thread, until a thread that waits for the pool's end has joined it.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The kernel's id of the supervisor's thread; 0 while it does not run.
    thread_id: AtomicI32,
    life: Mutex<Lifecycle>,
    pub(super) changed: Condvar,
}

pub(super) struct Lifecycle {
    pub(super) stage: Stage,
    /// What ended the pool, unless its owner did.
    pub(super) reason: Option<Arc<Error>>,
    /// Whether the first workers started; `None` until all orders for them are answered.
    started: Option<std::result::Result<(), String>>,
    /// The futures that wait for the end, or until the workers can take tasks.
    pub(super) waiting: Wakers,
    /// Times at which these futures want to be woken at the latest.
    alarms: Vec<u64>,
    workers: Vec<WorkerInfo>,
    /// The process of a pool that never has another one.
    pub(super) single: Option<Single>,
}

/// The process of a pool that never has another one.
#[derive(Clone, Debug)]
pub(crate) struct Single {
    pub(crate) pid: u32,
    pub(super) pidfd: Arc<OwnFd>,
    /// How it ended, if it has.
    pub(crate) exit: Option<WorkerExit>,
}

/// What a pool tells about a worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerInfo {
    pub(crate) pid: u32,
    pub(crate) queue: u16,
    pub(crate) slot: u16,
    pub(crate) incarnation: u32,
    pub(crate) seat: u32,
    /// When it was ordered.
    pub(crate) ordered_ns: u64,
}

impl WorkerInfo {
    /// Returns how timelines name it, its seat and its pid.
    pub(super) fn as_writer(&self) -> (Writer, u32, u32) {
        // A ring has the low bits, as the task table.
        ((self.queue, self.slot, (self.incarnation & 0xFFF) as u16), self.seat, self.pid)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("plan", &self.plan).field("stage", &self.stage()).finish()
    }
}

/// Returns the number of another pool.
pub(crate) fn next_id() -> usize {
    NEXT_POOL.fetch_add(1, Ordering::Relaxed)
}

impl Shared {
    pub(crate) fn new(
        name: String,
        plan: Plan,
        common: Arc<Common>,
        queues: Vec<Arc<HostQueue>>,
        scheduler: Box<dyn Scheduler>,
        deadline: Option<Timer>,
        callers: Option<Arc<Callers>>,
    ) -> Arc<Self> {
        let scheduler: Arc<dyn Scheduler> = Arc::from(scheduler);
        let id = plan.id.unwrap_or_else(next_id);
        let events = Arc::clone(&common.events);
        let notifier = Notifier::new(Arc::clone(&scheduler), id, callers.clone(), events);
        common.set_observer(Box::new(notifier.clone()));
        tracing::info!(
            pool = id,
            processes = plan.processes,
            queues = plan.queues,
            "a pool is built"
        );
        let seats = |queue| plan.seats_of(queue) as usize;
        let alive = (0..plan.queues).map(|queue| AtomicUsize::new(seats(queue))).collect();
        Arc::new(Self {
            pid: std::process::id(),
            generation: forked::generation(),
            id,
            name,
            plan,
            looks: Mutex::default(),
            traces: Traces::default(),
            built_ns: monotonic_ns(),
            common,
            queues,
            scheduler,
            notifier,
            callers,
            deadline,
            alive,
            next_task: AtomicUsize::new(1),
            listen: AtomicBool::new(false),
            assignments: Mutex::new(Some(Vec::new())),
            unassigned: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
            waiters: Waiters::default(),
            thread: Mutex::new(None),
            thread_id: AtomicI32::new(0),
            life: Mutex::new(Lifecycle {
                stage: Stage::Open,
                reason: None,
                started: None,
                waiting: Wakers::default(),
                alarms: Vec::new(),
                workers: Vec::new(),
                single: None,
            }),
            changed: Condvar::new(),
        })
    }

    /// Returns the stage of the pool.
    pub(crate) fn stage(&self) -> Stage {
        self.life().stage
    }

    /// Returns what ended the pool, unless its owner did.
    pub(crate) fn reason(&self) -> Option<Arc<Error>> {
        self.life().reason.clone()
    }

    /// Moves the pool on to `stage`, never back.
    pub(crate) fn advance(&self, stage: Stage) {
        let mut life = self.life();
        if life.stage < stage {
            life.stage = stage;
            self.announce(life);
            tracing::debug!(pool = self.id, ?stage, "a pool moves on");
        }
        if stage < Stage::Ended {
            self.common.call_supervisor();
        }
    }

    /// Ends the pool because of `error`.
    pub(crate) fn fail(&self, error: Error) -> Arc<Error> {
        let mut life = self.life();
        let reason = Arc::clone(life.reason.get_or_insert_with(|| Arc::new(error)));
        life.stage = life.stage.max(Stage::Terminating);
        self.announce(life);
        reason
    }

    /// Notes that the first workers have started, or why they cannot.
    pub(crate) fn set_started(&self, result: std::result::Result<(), String>) {
        let mut life = self.life();
        life.started.get_or_insert(result);
        self.announce(life);
    }

    /// Waits until the orders for the first workers are answered.
    pub(crate) fn wait_started(&self) -> Result<()> {
        let mut life = self.life();
        loop {
            if let Some(reason) = &life.reason {
                return Err(Error::NoWorkers(reason.to_string()));
            }
            match &life.started {
                Some(Ok(())) => return Ok(()),
                Some(Err(reason)) => return Err(Error::NoWorkers(reason.clone())),
                None => life = self.changed.wait(life).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Keeps the supervisor's thread, to be joined.
    pub(super) fn set_thread(&self, thread: JoinHandle<()>) {
        *lock(&self.thread) = Some(thread);
    }

    /// Notes the kernel's id of the calling thread, which is the supervisor's.
    pub(super) fn set_thread_id(&self) {
        self.thread_id.store(thread::own_id(), Ordering::Relaxed);
    }

    /// Waits until the supervisor's thread, which has ended the pool, is gone.
    pub(super) fn join_thread(&self) {
        let mut thread = lock(&self.thread);
        // The supervisor's thread itself comes here when it drops the last handle or waker.
        let own = std::thread::current().id();
        let Some(supervisor) = thread.take_if(|thread| thread.thread().id() != own) else { return };
        // An error would be a panic of its own, which was reported when it happened.
        let _ = supervisor.join();
        // The kernel wakes the joiner a moment before it removes the thread.
        while thread::exists(self.thread_id.load(Ordering::Relaxed)) {
            std::thread::yield_now();
        }
    }

    /// Waits until the pool has ended, at most `limit`. False if it has not, and in a forked child.
    pub(crate) fn wait_ended(&self, limit: Option<Duration>) -> bool {
        if !self.is_owner() {
            return false;
        }
        let life = self.life();
        let running = |life: &mut Lifecycle| life.stage != Stage::Ended;
        let life = match limit {
            None => self.changed.wait_while(life, running).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.changed
                    .wait_timeout_while(life, limit, running)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        let ended = life.stage == Stage::Ended;
        drop(life);
        if ended {
            self.join_thread();
        }
        ended
    }

    /// Has the waiters for the end woken at `at` even if it has not come.
    pub(crate) fn wake_all_at(&self, at: u64) {
        self.life().alarms.push(at);
        self.common.call_supervisor();
    }

    /// Wakes the futures whose time has come. Returns the time of the next one.
    pub(super) fn ring_alarms(&self, now: u64) -> Option<u64> {
        let mut life = self.life();
        let all = life.alarms.len();
        life.alarms.retain(|&at| at > now);
        let next = life.alarms.iter().copied().min();
        if life.alarms.len() < all {
            self.announce(life);
        }
        next
    }

    /// Workers that are alive; none in a forked child.
    pub(crate) fn workers(&self) -> Vec<WorkerInfo> {
        if self.is_owner() { self.life().workers.clone() } else { Vec::new() }
    }

    pub(super) fn set_workers(&self, workers: Vec<WorkerInfo>) {
        for (queue, alive) in self.alive.iter().enumerate() {
            let on = |worker: &&WorkerInfo| usize::from(worker.queue) == queue;
            alive.store(workers.iter().filter(on).count(), Ordering::Relaxed);
        }
        self.traces.note_workers(workers.iter().map(WorkerInfo::as_writer));
        self.life().workers = workers;
    }

    /// Returns the number of tasks without an outcome.
    pub(crate) fn pending(&self) -> usize {
        // In this order: a task is in its queue before it is no longer one of these. Acquire: pairs
        // with the Release in `Supervisor::assign`.
        let unassigned = self.unassigned.load(Ordering::Acquire);
        unassigned + self.queues.iter().map(|queue| queue.pending()).sum::<usize>()
    }

    /// Drains all lanes. Returns the number of outcomes delivered.
    pub(crate) fn drain(&self) -> usize {
        self.queues.iter().map(|queue| queue.drain()).sum()
    }

    /// A cheaper [`drain`](Self::drain) for polling loops; call `drain` before going to sleep.
    pub(crate) fn drain_if_any(&self) -> usize {
        let out = self.queues.iter().filter(|queue| queue.has_records_out());
        out.map(|queue| queue.drain_if_any()).sum()
    }

    /// Has workers ring when they complete; the caller drains once more after this.
    pub(crate) fn arm(&self) {
        self.queues.iter().filter(|queue| queue.has_records_out()).for_each(|queue| queue.arm());
    }

    /// Returns whether a thread is to be woken when a lane word comes: for an outcome, or for room.
    pub(crate) fn is_awaited(&self) -> bool {
        self.pending() > 0 && self.common.is_parked()
            || self.queues.iter().any(|queue| queue.is_awaited())
    }

    /// Has the supervisor wake receivers that have no event loop to wake them.
    pub(crate) fn have_supervisor_listen(&self) {
        if !self.listen.swap(true, Ordering::SeqCst) {
            self.common.call_supervisor();
        }
    }

    /// Calls `push` until it is accepted or refused. Pending if `queue` has no room: `waker` is
    /// woken when there may be some, and `turn` keeps the caller's place in the line.
    pub(crate) fn admit<T>(
        &self,
        queue: &Arc<HostQueue>,
        turn: &mut Option<RoomWait>,
        waker: &Waker,
        mut push: impl FnMut() -> Result<T>,
    ) -> Poll<Result<T>> {
        let mut pushed = push();
        if matches!(pushed, Err(Error::Full)) {
            // Outcomes that wait in the lanes hold records and inputs.
            self.drain();
            *turn = Some(queue.wait_for_room(turn.take(), waker));
            // What was freed before the caller stood in line woke nobody.
            pushed = push();
        }
        if matches!(pushed, Err(Error::Full)) {
            return Poll::Pending;
        }
        *turn = None;
        Poll::Ready(pushed)
    }

    /// Returns how many workers serve `queue` now.
    pub(super) fn alive_on(&self, queue: usize) -> usize {
        self.alive.get(queue).map_or(0, |alive| alive.load(Ordering::Relaxed))
    }

    /// Returns the number of the queue for `task`.
    #[inline]
    pub(crate) fn queue_for(&self, task: &NewTask<'_>) -> usize {
        if let Some(callers) = &self.callers {
            callers.submitted(task.task);
        }
        let chosen = self.scheduler.schedule_task(task, self);
        if chosen < self.queues.len() { chosen } else { 0 }
    }

    /// Returns whether tasks may be given their queues some time before they are submitted.
    pub(crate) fn can_stage(&self) -> bool {
        self.queues.len() == 1 || !self.scheduler.minds_load()
    }

    /// Returns the outcome of a task that the pool refused with `error`.
    pub(crate) fn refusal(&self, error: Error) -> TaskError {
        match error {
            Error::Closed => TaskError::PoolClosed { reason: self.reason() },
            other => TaskError::not_submitted(other),
        }
    }

    /// Whether the calling process built the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] if it is a child of the one that did.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.is_owner() {
            return Ok(());
        }
        Err(Error::Forked { owner: self.pid, here: std::process::id() })
    }

    /// Like `check_process`, but returns a `bool`.
    #[inline]
    pub(crate) fn is_owner(&self) -> bool {
        forked::generation() == self.generation
    }

    pub(super) fn announce(&self, mut life: MutexGuard<'_, Lifecycle>) {
        let woken = life.waiting.take();
        drop(life);
        self.changed.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn life(&self) -> MutexGuard<'_, Lifecycle> {
        lock(&self.life)
    }
}
