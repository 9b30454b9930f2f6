//! The whole cycle without an executor: the pool's own queue on one side, the worker's own engine
//! on the other, and nothing between them and the caller.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aiopool::TaskOptions;
use aiopool::internals::Region;
use aiopool::internals::spin_hint;
use aiopool::internals::sys::EventFd;
use aiopool::internals::{Common, For, HostQueue, Inputs, Receiver, Submission};
use aiopool::internals::{Control, Shape};
use aiopool::internals::{Engine, Look, WorkerFds};
use aiopool::internals::{INLINE_INPUT, WorkerId};
use aiopool::internals::{Outcome, Status};

use super::partner::Partner;

const CAPACITY: u32 = 4096;
/// Half of the table: at its edge each step would wait for the other side's last one.
const AHEAD: u64 = CAPACITY as u64 / 2;
/// Tasks submitted between two looks at the lane.
const BATCH: u64 = 64;
/// Turns of a spin between two looks at a lane that was empty.
const PAUSE: u32 = 32;

/// Submit, claim, start, complete, receive: every step of a task but its future.
pub struct Cycle {
    partner: Partner,
    queue: Arc<HostQueue>,
    received: Arc<Received>,
    task: u64,
}

#[derive(Default)]
struct Received(AtomicUsize);

impl Received {
    fn in_flight(&self, submitted: u64) -> u64 {
        submitted - self.0.load(Ordering::Relaxed) as u64
    }
}

impl Receiver for Received {
    fn deliver(&self, _: u64, outcome: Outcome) -> bool {
        assert!(outcome.result.is_ok(), "{outcome:?}");
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

impl Cycle {
    pub fn new() -> io::Result<Self> {
        let shape = Shape { capacity: CAPACITY, slots: 2, classes: 1 };
        let control = Control::create(shape)?;
        let inputs = Inputs::create(1 << 20)?;
        let outputs = Region::create(c"aiopool-bench", 1 << 20)?;
        let (host_bell, supervisor_bell) = (EventFd::new()?, EventFd::new()?);
        let bells = [EventFd::new()?, EventFd::new()?];
        let copy = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
        let fds = WorkerFds {
            control: copy(&control)?,
            requests: copy(&inputs)?,
            outputs: copy(&outputs)?,
            host_bell: copy(&host_bell)?,
            supervisor_bell: copy(&supervisor_bell)?,
            bells: bells.iter().map(|b| copy(b)).collect::<io::Result<Vec<OwnedFd>>>()?,
        };
        let id = WorkerId { queue: 0, slot: 0, incarnation: 1 };
        let (mut fds, mut engine) = (Some(fds), None);
        let mut input = [0; INLINE_INPUT];
        let partner = Partner::fork(move |_, operations| {
            let engine = engine.get_or_insert_with(|| {
                let fds = fds.take().expect("taken once");
                Engine::open(id, 0, 0, shape, fds).expect("the regions are there")
            });
            for _ in 0..operations {
                serve_one(engine, &mut input);
            }
        })?;
        let common = Common::new(inputs, host_bell, supervisor_bell, 0);
        let queue = HostQueue::new(0, control, bells.into(), common);
        Ok(Self { partner, queue, received: Arc::default(), task: 0 })
    }

    /// Runs `operations` tasks, up to [`AHEAD`] in flight.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, queue, received, task } = self;
        partner.block(operations, |_, operations| {
            for _ in 0..operations {
                *task += 1;
                submit(queue, received, *task).expect("fewer are in flight than there are records");
                if task.is_multiple_of(BATCH) {
                    queue.drain();
                    if received.in_flight(*task) >= AHEAD {
                        drain_to(queue, received, *task, AHEAD / 2);
                    }
                }
            }
            drain_to(queue, received, *task, 0);
        })
    }

    /// Runs `operations` tasks, one after the other.
    pub fn one_by_one(&mut self, operations: u64) -> Duration {
        let Self { partner, queue, received, task } = self;
        partner.block(operations, |_, operations| {
            for _ in 0..operations {
                *task += 1;
                submit(queue, received, *task).expect("an empty queue has room");
                while received.in_flight(*task) > 0 {
                    queue.drain();
                    spin_hint();
                }
            }
        })
    }
}

/// Drains until no more than `left` of `submitted` tasks are in flight. Not without a pause: each
/// look takes the line away that the worker is about to write.
fn drain_to(queue: &HostQueue, received: &Received, submitted: u64, left: u64) {
    while received.in_flight(submitted) > left {
        if queue.drain() == 0 {
            (0..PAUSE).for_each(|_| spin_hint());
        }
    }
}

fn submit(queue: &HostQueue, received: &Arc<Received>, task: u64) -> aiopool::Result<()> {
    let submission = Submission {
        task,
        function: 0,
        input: &task.to_le_bytes(),
        options: TaskOptions::new(),
        receiver: For::One(received.clone()),
        token: 0,
    };
    queue.try_submit(submission).map(drop)
}

fn serve_one(engine: &mut Engine, input: &mut [u8; INLINE_INPUT]) {
    let mut task = loop {
        match engine.claim(true) {
            Look::Task(task) => break task,
            _ => spin_hint(),
        }
    };
    // The clock is read as in a worker: once before and once after.
    let started = aiopool::internals::now();
    assert!(engine.start(&mut task, started), "nobody calls it off");
    let read = engine.input(&task, input).expect("a sound input");
    assert!(!read.stays, "a small input is copied to where it can be used again");
    let len = read.bytes.len();
    let elapsed = aiopool::internals::now() - started;
    engine.complete(task, Status::Ok, &input[..len], elapsed).expect("8 bytes fit the record");
}
