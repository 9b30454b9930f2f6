//! Floor 5: the host's side of a queue.
//!
//! One mutex guards the free list, the tails, the private entries and the closed flag, for
//! nanoseconds; another guards the host's ends of the lanes, which waiting threads drain. No system
//! call, await or user code runs under the first.

#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod again;
mod assign;
mod audit;
mod cancel;
mod counters;
mod delivery;
mod entry;
#[cfg(any(all(test, not(aiopool_loom)), aiopool_fuzz))]
pub(crate) mod fuzz;
mod inputs;
mod lanes;
mod loan;
mod look;
mod probation;
mod rebuild;
mod receive;
mod recover;
mod requeue;
mod shared;
mod submit;
#[cfg(all(test, not(aiopool_loom)))]
mod tests;
mod timers;
mod times;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Waker;

use crate::control::Control;
use crate::doorbell::{DrainBaton, Room};
use crate::error::Error;
use crate::ring::{MAX_CLASSES, Next, split_place};
use crate::sync::lock;
use crate::sys::clock::QuickClock;
use crate::sys::eventfd::EventFd;
use crate::task::TaskError;

pub(crate) use cancel::Reason;
pub use delivery::For;
pub use entry::{Delivery, Receiver, Ticket};
pub use inputs::Inputs;
pub(crate) use look::Taken;
pub(crate) use recover::{DeadWorker, Held};
pub use shared::{Common, Observer, searchers};
pub use submit::{Batch, RoomWait, Staged, Submission};

use delivery::{Deliveries, Receivers};
use entry::{Entry, Pending};
use lanes::Lane;
use times::{AllTimes, Times};

/// Freed records are collected until there are this many; only then are the heads read, because
/// every reading takes their cache line away from the workers that claim.
const DEFERRED: usize = 64;

/// The host's side of one queue.
#[derive(Debug)]
pub struct HostQueue {
    index: u16,
    common: Arc<Common>,
    /// One doorbell per worker slot.
    bells: Vec<EventFd>,
    state: Mutex<QueueState>,
    lanes: Mutex<Lanes>,
    /// Whether a thread wants to drain while another one does.
    baton: DrainBaton,
    /// Tasks whose outcome is not delivered; a copy for readers without the lock.
    pending: AtomicUsize,
    /// Records that a task uses; also a copy.
    out: AtomicUsize,
    /// Number of submissions and deliveries so far.
    moved: AtomicUsize,
    /// Number of submissions so far; written under the mutex.
    submitted: AtomicUsize,
    /// Batches of outcomes that were taken under the mutex and are not handed over yet.
    delivering: Arc<AtomicUsize>,
    /// How long tasks took; written under the mutex, read without it.
    times: Arc<AllTimes>,
    /// Tasks that the worker in each slot has finished; likewise.
    done: Vec<AtomicUsize>,
    /// Worker slot at which the next search for a sleeper starts, so that each gets its turn.
    rotate: AtomicUsize,
    /// What is wrong with a worker slot's lane or arena, for the supervisor to act on.
    damage: Mutex<Vec<(usize, String)>>,
    /// Tasks for the next worker on a seat, by seat: the last one died before it began them.
    unassigned: Mutex<Vec<(u32, Ticket)>>,
    /// This queue, for the outputs that it lends.
    me: Weak<HostQueue>,
}

#[derive(Debug)]
struct QueueState {
    control: Arc<Control>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// FREE records whose ring entry head may not have passed yet.
    deferred: Vec<u32>,
    tails: [u64; MAX_CLASSES],
    /// The heads as last read.
    heads: [u64; MAX_CLASSES],
    receivers: Receivers,
    room: Room,
    /// Why there is no worker and never will be, where that is so.
    orphaned: Option<String>,
    pending: usize,
    /// When tasks without timers were submitted.
    clock: QuickClock,
}

#[derive(Debug)]
struct Lanes {
    control: Arc<Control>,
    lanes: Vec<Lane>,
}

impl HostQueue {
    /// Returns the host's side of the queue that `control` is.
    pub fn new(
        index: u16,
        control: Control,
        bells: Vec<EventFd>,
        common: Arc<Common>,
    ) -> Arc<Self> {
        let control = Arc::new(control);
        let shape = control.shape();
        let times = Arc::new(AllTimes::default());
        let delivering = Arc::<AtomicUsize>::default();
        let state = QueueState {
            control: Arc::clone(&control),
            entries: (0..shape.capacity).map(|_| Entry::default()).collect(),
            free: (0..shape.capacity).rev().collect(),
            deferred: Vec::new(),
            tails: [0; MAX_CLASSES],
            heads: [0; MAX_CLASSES],
            receivers: Receivers::new(Arc::clone(&times), Arc::clone(&delivering)),
            room: Room::default(),
            orphaned: None,
            pending: 0,
            clock: QuickClock::new(),
        };
        let lanes = (0..shape.slots).map(|_| Lane::new()).collect();
        Arc::new_cyclic(|me| Self {
            index,
            common,
            bells,
            state: Mutex::new(state),
            lanes: Mutex::new(Lanes { control, lanes }),
            baton: DrainBaton::new(),
            pending: AtomicUsize::new(0),
            out: AtomicUsize::new(0),
            moved: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            delivering,
            times,
            done: (0..shape.slots).map(|_| AtomicUsize::new(0)).collect(),
            rotate: AtomicUsize::new(0),
            damage: Mutex::default(),
            unassigned: Mutex::default(),
            me: Weak::clone(me),
        })
    }

    /// Returns the current control region.
    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.lock().control)
    }

    /// Returns the doorbells of the worker slots.
    pub(crate) fn bells(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.bells.iter().map(AsFd::as_fd)
    }

    /// Tasks whose outcome is not delivered.
    pub(crate) fn pending(&self) -> usize {
        // Acquire: pairs with the Release in `note_counts`.
        self.pending.load(Ordering::Acquire)
    }

    /// Tasks in priority class `class` or a more urgent one that no worker has taken, about.
    pub(crate) fn depth(&self, class: usize) -> usize {
        let state = self.lock();
        let classes = state.control.classes().min(class.saturating_add(1));
        let waiting = |class: usize| {
            // A scribbled head does not matter here: the audit finds it.
            state.tails[class].saturating_sub(state.control.ring(class).head()) as usize
        };
        (0..classes).map(waiting).sum()
    }

    /// Returns whether a lane word may still come: of an outcome, or of a cancelled task, whose
    /// record a submitter may wait for.
    pub(crate) fn has_records_out(&self) -> bool {
        self.out.load(Ordering::Relaxed) > 0
    }

    /// Returns whether a worker of this queue may be running beside the caller, which waits on
    /// processor `own` from now on.
    pub(crate) fn may_worker_run(&self, own: Option<u32>) -> bool {
        let state = self.lock();
        let processors = state.control.processors();
        processors.set_host(own);
        processors.may_worker_run(own)
    }

    /// Returns whether the queue takes no more tasks.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().room.is_closed()
    }

    /// Returns whether a submitter waits for a record.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.lock().room.is_empty()
    }

    /// Returns whether outcomes are on their way: of tasks that are not pending any more, and whose
    /// receivers do not have them yet.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub(crate) fn is_delivering(&self) -> bool {
        // SeqCst: the caller has seen the task gone before this. Both are changed under the mutex,
        // this one first.
        self.delivering.load(Ordering::SeqCst) > 0
    }

    /// Changes whenever a task is submitted or an outcome delivered.
    pub(crate) fn moved(&self) -> usize {
        self.moved.load(Ordering::Relaxed)
    }

    /// Returns how many tasks were submitted so far.
    pub(crate) fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed) as u64
    }

    /// Returns how long the tasks of each function waited and ran, by the function's number.
    pub(crate) fn times(&self) -> impl Iterator<Item = (u32, &Times)> {
        self.times.all()
    }

    /// Records that are free or will be when head has passed their entry.
    pub(crate) fn free_records(&self) -> usize {
        let state = self.lock();
        state.free.len() + state.deferred.len()
    }

    /// Closes the queue: it takes no more tasks, and waiting submitters are woken.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        let woken = state.room.close();
        self.common.set_closing();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Ends every pending task with [`TaskError::PoolClosed`]. Workers are the caller's to end.
    pub(crate) fn end_all(&self, reason: Option<Arc<Error>>) {
        self.close();
        let mut deliveries = Deliveries::default();
        let mut lanes = lock(&self.lanes);
        self.drain_lanes(&mut lanes, &mut deliveries);
        let mut state = self.lock();
        for index in 0..state.entries.len() {
            if let Some(pending) = state.take_pending(index) {
                let error = TaskError::PoolClosed { reason: reason.clone() };
                deliveries.push_error(&mut state.receivers, &pending, error);
            }
        }
        self.note_pending(&state);
        drop(state);
        self.release(lanes);
        self.deliver(&mut deliveries);
    }

    /// Rings every worker of the queue.
    pub(crate) fn ring_all(&self) {
        for bell in &self.bells {
            // A worker that is gone does not hear it; the eventfd itself is ours.
            let _ = bell.ring_nonblocking();
        }
    }

    /// Rings the worker in `slot`.
    pub(crate) fn ring(&self, slot: usize) {
        if let Some(bell) = self.bells.get(slot) {
            let _ = bell.ring_nonblocking();
        }
    }

    /// Like `ring`, for a task that was pushed: a submitter may block until the audit if a hostile
    /// worker has caused that; the supervisor must not.
    fn ring_for_push(&self, slot: usize) {
        if let Some(bell) = self.bells.get(slot) {
            let _ = bell.ring();
        }
    }

    /// Repairs doorbells that a worker may have corrupted, and wakes a thread that was left waiting
    /// on one.
    fn mend_bells(&self) {
        for bell in self.bells.iter().chain([&self.common.host_bell]) {
            let _ = bell.mend();
        }
    }

    /// Arms the doorbell, since the host is about to wait: workers ring from now on. The caller
    /// drains after this, for itself and for threads that could not lock the lanes meanwhile.
    pub(crate) fn arm(&self) {
        lock(&self.lanes).control.host_flag().arm();
    }

    /// Takes the arming back, of the one thread that waits for outcomes: it looks itself.
    pub(crate) fn disarm(&self) {
        lock(&self.lanes).control.host_flag().disarm();
    }

    /// Returns what was found wrong with worker slots since the last call.
    pub(crate) fn take_damage(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut *lock(&self.damage))
    }

    fn report_damage(&self, slot: usize, what: String) {
        let mut damage = lock(&self.damage);
        // A damaged lane is found at every drain; one report is enough until the supervisor acts on
        // it.
        if damage.iter().all(|(known, _)| *known != slot) {
            damage.push((slot, what));
        }
        drop(damage);
        self.common.call_supervisor();
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }

    /// Notes that `count` tasks were submitted.
    fn note_submitted(&self, state: &QueueState, count: usize) {
        self.note_pending(state);
        // A store: as in `note_pending`.
        let submitted = self.submitted.load(Ordering::Relaxed).wrapping_add(count);
        self.submitted.store(submitted, Ordering::Relaxed);
    }

    fn note_pending(&self, state: &QueueState) {
        self.note_counts(state);
        // A store: the caller holds the lock, so no other thread writes.
        self.moved.store(self.moved.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn note_counts(&self, state: &QueueState) {
        let at_home = state.free.len() + state.deferred.len();
        self.out.store(state.entries.len() - at_home, Ordering::Relaxed);
        // Release: pairs with the Acquire of `pending`; see `is_delivering`.
        self.pending.store(state.pending, Ordering::Release);
    }

    /// Makes record `index` FREE, and frees the block of its input.
    fn free(&self, state: &mut QueueState, index: usize) {
        if let Some(block) = state.free_record(index) {
            self.common.inputs.free(block);
        }
    }

    /// Releases the lanes, and drains them once more if another thread requested that meanwhile.
    /// Returns the number of outcomes delivered.
    fn release(&self, lanes: MutexGuard<'_, Lanes>) -> usize {
        drop(lanes);
        if self.baton.is_asked() { self.drain() } else { 0 }
    }
}

impl Lanes {
    /// Returns whether no lane has a word for the host now.
    fn are_empty(&self) -> bool {
        let mut lanes = self.lanes.iter().enumerate();
        lanes.all(|(slot, lane)| lane.reader.peek(self.control.lane(slot)) == Next::Empty)
    }
}

impl QueueState {
    /// Takes the task of entry `index`: from here on its outcome is this caller's to deliver.
    fn take_pending(&mut self, index: usize) -> Option<Pending> {
        let pending = self.entries[index].pending.take()?;
        self.pending -= 1;
        Some(pending)
    }

    /// Drops the task of entry `index` where it is; its outcome was taken.
    fn drop_pending(&mut self, index: usize) {
        let pending = &mut self.entries[index].pending;
        debug_assert!(pending.is_some());
        *pending = None;
        self.pending -= 1;
    }

    /// Drops the task of entry `index`, which has [no earlier attempts](Pending::is_first), where
    /// it is; its outcome was taken.
    #[inline(always)] // once a task
    fn forget_pending(&mut self, index: usize) {
        let pending = self.entries[index].pending.take();
        debug_assert!(pending.as_ref().is_some_and(Pending::is_first));
        // It owns nothing, which the compiler does not know.
        std::mem::forget(pending);
        self.pending -= 1;
    }

    /// Gives entry `index` a task whose outcome is to be delivered.
    #[inline(always)] // once a task: as a call, `pending` is moved through memory
    fn set_pending(&mut self, index: usize, pending: Pending) {
        let place = &mut self.entries[index].pending;
        debug_assert!(place.is_none());
        // Nothing is there to be dropped, which the compiler does not know.
        std::mem::forget(place.replace(pending));
        self.pending += 1;
    }

    /// Makes record `index` FREE. Returns the block of its input, for the caller to free.
    ///
    /// The record can be used again when head has passed its ring entry, and not before: a
    /// record never has two entries in `[head, tail)`, so a ring cannot overflow.
    #[inline(always)] // once a task
    fn free_record(&mut self, index: usize) -> Option<crate::arena::Block> {
        let entry = &mut self.entries[index];
        debug_assert!(entry.in_use && entry.pending.is_none());
        self.control.records()[index].release(entry.generation);
        entry.in_use = false;
        entry.held = false;
        debug_assert!(entry.standing == entry::Standing::Plain);
        let (input, place) = (entry.input.take(), entry.place);
        if self.was_passed(place) {
            self.free.push(index as u32);
        } else {
            self.deferred.push(index as u32);
            // If head does not move, the next look is at twice as many: each goes through all.
            let deferred = self.deferred.len();
            if deferred >= DEFERRED && deferred.is_power_of_two() {
                self.look_at_heads();
            }
        }
        input
    }

    /// Returns the submitters that may have found room, to be woken outside the lock.
    fn take_waiting(&mut self) -> Vec<Waker> {
        if self.room.is_empty() {
            return Vec::new();
        }
        self.look_at_heads();
        self.room.take(self.free.len())
    }

    /// Returns whether head had passed the ring entry at `place` when it was last looked at.
    #[inline]
    fn was_passed(&self, place: u64) -> bool {
        let (class, position) = split_place(place);
        self.heads[class] > position
    }

    /// Reads the heads, and makes those deferred records usable whose entries they have passed.
    fn look_at_heads(&mut self) {
        for class in 0..self.control.classes() {
            // A head only moves on, so what it has passed stays passed. It is never taken to be
            // beyond the tail, whatever a faulty worker wrote there.
            self.heads[class] = self.control.ring(class).head().min(self.tails[class]);
        }
        let mut deferred = std::mem::take(&mut self.deferred);
        deferred.retain(|&index| {
            let passed = self.was_passed(self.entries[index as usize].place);
            if passed {
                self.free.push(index);
            }
            !passed
        });
        self.deferred = deferred;
    }
}
