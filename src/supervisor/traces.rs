//! Timelines of a pool: what its workers write into their rings is collected by a thread that
//! exists while there is a trace. `trace/README.md` has the protocol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::sys::clock::monotonic_ns;
use crate::sys::gate::Running;
use crate::sys::thread;
use crate::task::Status;
use crate::trace::{DROPPED, Entry, Lane, Mark, PENDING, Reader, Span, Timeline};
use crate::view::{EventView, json};

use super::shared::{Shared, Stage, WorkerInfo};
use super::traced::{Process, Writer};

/// Time between two looks at the rings: less than it takes the shortest tasks to fill one.
const LOOK: Duration = Duration::from_millis(5);
/// How long the end of a trace waits for the zygote's word about a new worker, in nanoseconds.
const HEARSAY_NS: u64 = 1_000_000_000;
/// Entries that a trace keeps, about 40 MB; the oldest go first.
pub(crate) const ENTRIES: usize = 1 << 20;

/// A trace that is under way.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    number: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Collector>>,
}

impl Session {
    /// Begins a trace of each `every`-th task, of which the last `most` entries are kept.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`]; what the system refuses.
    pub(crate) fn begin(shared: &Arc<Shared>, every: u32, most: usize) -> Result<Self> {
        shared.check_process()?;
        let every = every.max(1);
        // Before the lock: it waits for the end of a fork, which waits for a supervisor that may
        // want the lock.
        let running = Running::begin();
        let mut inner = shared.traces.lock();
        let controls: Vec<_> = shared.queues.iter().map(|queue| queue.control()).collect();
        for control in &controls {
            let reserved = control.reserve_traces();
            reserved.map_err(|error| Error::system("reserve memory for a trace", error))?;
        }
        shared.traces.note_from_now(true);
        inner.note(shared.workers().iter().map(WorkerInfo::as_writer));
        let mut collector = Collector::new(shared, &controls, every, most);
        let stop = Arc::new(AtomicBool::new(false));
        let (of, stopped) = (Arc::clone(shared), Arc::clone(&stop));
        let thread =
            std::thread::Builder::new().name("aiopool-trace".to_owned()).spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    running.asleep(|| std::thread::park_timeout(LOOK));
                    collector.look(&of);
                }
                collector
            });
        let thread = thread
            .map_err(|error| Error::system("start the thread of a trace", thread::named(error)))?;
        let number = inner.add(every);
        controls.iter().for_each(|control| inner.switch(control));
        drop(inner);
        Ok(Self { shared: Arc::clone(shared), number, stop, thread: Some(thread) })
    }

    /// Returns whether this process has begun it.
    pub(crate) fn is_owner(&self) -> bool {
        self.shared.is_owner()
    }

    /// Ends it, and returns what was collected. Empty in a forked child.
    pub(crate) fn end(mut self) -> Timeline {
        let Some(mut collector) = self.stop() else { return Timeline::default() };
        collector.look(&self.shared);
        let timeline = collector.timeline(&self.shared);
        self.forget();
        timeline
    }

    fn stop(&mut self) -> Option<Collector> {
        let thread = self.thread.take()?;
        if !self.shared.is_owner() {
            // The thread is not in this process.
            std::mem::forget(thread);
            return None;
        }
        self.stop.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        thread.join().ok()
    }

    /// Has workers write no more than the others want.
    fn forget(&self) {
        let traces = &self.shared.traces;
        let mut inner = traces.lock();
        if inner.remove(self.number) {
            self.shared.queues.iter().for_each(|queue| inner.switch(&queue.control()));
        }
        if inner.is_over() {
            traces.note_from_now(false);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
        if self.shared.is_owner() {
            self.forget();
        }
    }
}

/// What a trace has collected.
#[derive(Debug)]
struct Collector {
    every: u32,
    most: usize,
    begun: u64,
    queues: Vec<Rings>,
    kept: VecDeque<(u16, u16, Entry)>,
    /// Entries that were kept and had to make room.
    dropped: u64,
    /// Entries without an end: where they are, and their number among all that were kept.
    open: Vec<(u16, u16, u64, u64)>,
    /// The pool's events, and the number of the last.
    events: Vec<EventView>,
    last_event: u64,
}

#[derive(Debug)]
struct Rings {
    control: Arc<Control>,
    readers: Vec<Reader>,
    /// What was missed in regions that were replaced.
    lost: u64,
}

impl Rings {
    fn new(control: &Arc<Control>) -> Self {
        let slots = 0..control.shape().slots as usize;
        let readers = slots.map(|slot| Reader::new(control.trace(slot))).collect();
        Self { control: Arc::clone(control), readers, lost: 0 }
    }

    fn lost(&self) -> u64 {
        self.readers.iter().map(Reader::lost).fold(self.lost, u64::saturating_add)
    }
}

impl Collector {
    fn new(shared: &Shared, controls: &[Arc<Control>], every: u32, most: usize) -> Self {
        Self {
            every,
            most,
            begun: monotonic_ns(),
            queues: controls.iter().map(Rings::new).collect(),
            kept: VecDeque::new(),
            dropped: 0,
            open: Vec::new(),
            events: Vec::new(),
            last_event: shared.common.events.count(),
        }
    }

    /// Takes what is new in the rings, and the pool's events.
    fn look(&mut self, shared: &Shared) {
        self.look_again();
        for (queue, host) in (0..).zip(&shared.queues) {
            self.look_at(queue);
            let control = host.control();
            let rings = &mut self.queues[usize::from(queue)];
            if !Arc::ptr_eq(&rings.control, &control) {
                // It was damaged, and its workers are gone.
                shared.traces.carry_over(&control);
                self.open.retain(|&(of, ..)| of != queue);
                *rings = Rings { lost: rings.lost(), ..Rings::new(&control) };
            }
        }
        let new = shared.common.events.since(self.last_event);
        if let Some(last) = new.last() {
            self.last_event = last.number;
            self.events.extend(new);
        }
    }

    fn look_again(&mut self) {
        let Self { queues, open, kept, dropped, .. } = self;
        open.retain(|&(queue, slot, position, number)| {
            let ring = queues[usize::from(queue)].control.trace(usize::from(slot));
            match Reader::look_again(ring, position) {
                Ok(None) => true,
                Ok(Some(end)) => {
                    let at = number.checked_sub(*dropped);
                    if let Some((.., entry)) = at.and_then(|at| kept.get_mut(at as usize)) {
                        entry.end = Some(end);
                    }
                    false
                }
                // It comes again, or its worker is dead.
                Err(()) => false,
            }
        });
    }

    fn look_at(&mut self, queue: u16) {
        let Self { every, most, queues, kept, dropped, open, .. } = self;
        let Rings { control, readers, .. } = &mut queues[usize::from(queue)];
        for (slot, reader) in (0..).zip(readers) {
            reader.visit(control.trace(usize::from(slot)), |position, entry| {
                if !entry.call.task().is_multiple_of(*every) {
                    return;
                }
                if kept.len() == *most {
                    kept.pop_front();
                    *dropped += 1;
                }
                if entry.end.is_none() {
                    open.push((queue, slot, position, *dropped + kept.len() as u64));
                }
                kept.push_back((queue, slot, entry));
            });
        }
    }

    fn timeline(self, shared: &Shared) -> Timeline {
        let now = monotonic_ns();
        let workers = self.workers(shared);
        let mut timeline = Timeline { host_pid: shared.pid, ..Timeline::default() };
        let lost = self.queues.iter().map(Rings::lost).fold(self.dropped, u64::saturating_add);
        let number = |number: u64| number.to_string();
        timeline.about = vec![
            ("pool", json(&shared.name)),
            ("program", json(&super::program())),
            ("version", json(&env!("CARGO_PKG_VERSION"))),
            ("host_pid", number(shared.pid.into())),
            ("every", number(self.every.into())),
            ("entries", number(self.kept.len() as u64)),
            ("lost", number(lost)),
            ("begun_ns", number(self.begun)),
            ("ended_ns", number(now)),
        ];
        let host = format!("pool {} ({})", shared.name, super::program());
        timeline.lanes.push(Lane { pid: shared.pid, name: host, order: 0 });
        for Process { seat, pid, .. } in workers.values() {
            let name = format!("worker {seat} (pid {pid})");
            timeline.lanes.push(Lane { pid: *pid, name, order: seat + 1 });
        }
        let running = self.running(shared, &workers);
        let ends = Ends { complete: completed(&self.kept), workers: &workers, now };
        let spans = self.kept.iter().filter_map(|(queue, slot, entry)| {
            let writer = (*queue, *slot, entry.incarnation);
            span(shared, writer, entry, &ends)
        });
        timeline.spans = spans.chain(running).collect();
        let mark = |event: EventView| Mark {
            // A worker that was never seen has no process there.
            pid: event
                .pid
                .filter(|&pid| workers.values().any(|process| process.pid == pid))
                .unwrap_or(shared.pid),
            at: event.age_ns,
            name: event.kind.name().to_owned(),
            text: event.text,
        };
        timeline.marks = self.events.into_iter().map(mark).collect();
        timeline
    }

    /// Returns the processes that have written. One that has just been forked may have run a task
    /// before the supervisor has heard of it from the zygote.
    fn workers(&self, shared: &Shared) -> BTreeMap<Writer, Process> {
        let writer = |&(queue, slot, entry): &(u16, u16, Entry)| (queue, slot, entry.incarnation);
        let writers: BTreeSet<Writer> = self.kept.iter().map(writer).collect();
        let until = monotonic_ns() + HEARSAY_NS;
        loop {
            let mut inner = shared.traces.lock();
            inner.note(shared.workers().iter().map(WorkerInfo::as_writer));
            let all = writers.iter().all(|writer| inner.workers().contains_key(writer));
            if all || shared.stage() == Stage::Ended || monotonic_ns() >= until {
                return inner.workers().clone();
            }
            drop(inner);
            std::thread::sleep(LOOK);
        }
    }

    /// Returns the polls that had begun before this trace did, and last still.
    fn running(&self, shared: &Shared, workers: &BTreeMap<Writer, Process>) -> Vec<Span> {
        let mut spans = Vec::new();
        if shared.stage() == Stage::Ended {
            return spans;
        }
        for (queue, host) in (0..).zip(&shared.queues) {
            for task in host.taken() {
                let look = host.look_at(task.slot);
                let is_polled = look.polled.record() == Some(task.record) && task.started > 0;
                let low = task.call.task();
                let is_known = self.kept.iter().any(|(of, slot, entry)| {
                    let same = (*of, usize::from(*slot)) == (queue, task.slot);
                    same && entry.call.task() == low
                });
                let alive = workers.iter().find(|((of, slot, _), process)| {
                    (*of, usize::from(*slot)) == (queue, task.slot) && process.ended.is_none()
                });
                let (true, false, Some((_, process))) = (is_polled, is_known, alive) else {
                    continue;
                };
                if !low.is_multiple_of(self.every) {
                    continue;
                }
                spans.push(Span {
                    pid: process.pid,
                    function: shared.common.inputs.function_name(task.call.function),
                    task: shared.whole(low),
                    attempt: u32::from(task.call.attempts) + 1,
                    start: task.started,
                    end: monotonic_ns(),
                    waited: None,
                    is_run: false,
                    goes_on: false,
                    how: "goes on",
                });
            }
        }
        spans
    }
}

/// What says when an entry ended that has no end.
struct Ends<'w> {
    /// Whole runs that have one: their writers, tasks and beginnings.
    complete: BTreeSet<(Writer, u32, u64)>,
    workers: &'w BTreeMap<Writer, Process>,
    now: u64,
}

fn completed(kept: &VecDeque<(u16, u16, Entry)>) -> BTreeSet<(Writer, u32, u64)> {
    let complete = kept.iter().filter(|(.., entry)| entry.is_run && entry.end.is_some());
    let key = |&(queue, slot, entry): &(u16, u16, Entry)| {
        ((queue, slot, entry.incarnation), entry.call.task(), entry.start)
    };
    complete.map(key).collect()
}

fn span(shared: &Shared, writer: Writer, entry: &Entry, ends: &Ends<'_>) -> Option<Span> {
    let process = ends.workers.get(&writer)?;
    let task = entry.call.task();
    let (end, how) = match (entry.end, process.ended) {
        (Some((elapsed, how)), _) => (entry.start.saturating_add(elapsed), text_of(how)),
        // It came again, with its end.
        (None, _) if ends.complete.contains(&(writer, task, entry.start)) => return None,
        (None, Some(ended)) => (ended, "lost"),
        (None, None) => (ends.now, "goes on"),
    };
    Some(Span {
        pid: process.pid,
        function: shared.common.inputs.function_name(entry.call.function),
        task: shared.whole(task),
        attempt: u32::from(entry.call.attempts) + 1,
        // A worker may have written any times.
        start: entry.start.min(ends.now),
        end: end.min(process.ended.unwrap_or(ends.now)).max(entry.start.min(ends.now)),
        waited: entry.waited,
        is_run: entry.is_run,
        goes_on: entry.end.is_some_and(|(_, how)| how == PENDING),
        how,
    })
}

fn text_of(how: u8) -> &'static str {
    match (how, Status::from_bits(how)) {
        (PENDING, _) => "pending",
        (DROPPED, _) | (_, Some(Status::Cancelled)) => "cancelled",
        (_, Some(Status::Ok)) => "ok",
        (_, Some(Status::Failed)) => "failed",
        (_, Some(Status::Panicked)) => "panicked",
        (_, Some(Status::Undecodable | Status::UnknownFunction)) => "refused",
        (_, Some(Status::Unencodable)) => "unencodable",
        (_, Some(Status::OutputSpace)) => "output space",
        (_, Some(Status::Damaged) | None) => "damaged",
    }
}
