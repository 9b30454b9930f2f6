//! The rings alone, and what other queues do with as much.

use std::time::Duration;

use crate::parts::{
    BareAccesses, Bells, CacheLine, Cycle, ResultLane, RingCycle, RoundTrip, SubmitClaim,
};

use super::{Setup, Spec, millions, ns_each, pool};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "result-lane",
            about: "8 bytes from one process to another through a result lane",
            build: result_lane,
        },
        Spec {
            name: "submit-claim",
            about: "a task with 8 bytes of input: submitted here, claimed there",
            build: submit_claim,
        },
        Spec {
            name: "cycle-rings",
            about: "submit, claim, complete, receive over rings and table alone",
            build: |_| cycle(RingCycle::new()?, RingCycle::block),
        },
        Spec {
            name: "cycle-queue",
            about: "the same through the host's queue and the worker's engine; no executor",
            build: |_| cycle(Cycle::new()?, Cycle::block),
        },
        Spec {
            name: "round-trip",
            about: "ring, table and lane and back, both sides spinning",
            build: round_trip,
        },
        Spec {
            name: "sleeping-worker",
            about: "a task for a worker that sleeps, the caller asleep meanwhile",
            build: sleeping,
        },
    ]
}

const MANY: u64 = 50_000;
const FEW: u64 = 5_000;

fn result_lane(setup: &Setup) -> anyhow::Result<Contest> {
    const WORDS: u64 = 4 * MANY;
    let mut lane = ResultLane::new()?;
    let contest = Contest::new("M/s", move || Ok(millions(lane.block(WORDS), WORDS)));
    #[cfg(feature = "rivals")]
    let contest = {
        use super::super::rivals::threads::{ArrayQueue, Rtrb};
        let (mut rtrb, mut queue) = (Rtrb::new()?, ArrayQueue::new()?);
        contest
            .against("rtrb", Some(Bar::AtLeast(1.0)), move || {
                Ok(millions(rtrb.block(WORDS), WORDS))
            })
            .against("ArrayQueue", None, move || Ok(millions(queue.block(WORDS), WORDS)))
    };
    against_line(against_locked(contest, setup)?)
}

fn submit_claim(setup: &Setup) -> anyhow::Result<Contest> {
    let mut ring = SubmitClaim::new()?;
    let contest = Contest::new("M/s", move || Ok(millions(ring.block(MANY), MANY)));
    let contest = against_array_queue(contest, "ArrayQueue", 0.5)?;
    against_line(against_locked(contest, setup)?)
}

fn cycle<C: 'static>(mut ours: C, block: fn(&mut C, u64) -> Duration) -> anyhow::Result<Contest> {
    let contest = Contest::new("M/s", move || Ok(millions(block(&mut ours, MANY), MANY)));
    against_line(against_array_queue(contest, "ArrayQueue one way", 0.3)?)
}

/// crossbeam's queue between two threads, if it was built in.
#[cfg_attr(not(feature = "rivals"), allow(unused_variables))]
fn against_array_queue(contest: Contest, name: &'static str, bar: f64) -> anyhow::Result<Contest> {
    #[cfg(feature = "rivals")]
    let contest = {
        let mut queue = super::super::rivals::threads::ArrayQueue::new()?;
        contest
            .against(name, Some(Bar::AtLeast(bar)), move || Ok(millions(queue.block(MANY), MANY)))
    };
    Ok(contest)
}

/// Queues between two processes that are built with a lock, or with Python's manager process.
fn against_locked(contest: Contest, setup: &Setup) -> anyhow::Result<Contest> {
    #[cfg(feature = "rivals")]
    let contest = {
        use crate::parts::{Idle, LockedQueue};
        let (mut waits, mut spins) =
            (LockedQueue::new(Idle::Waits)?, LockedQueue::new(Idle::Spins)?);
        let bar = Some(Bar::AtLeast(20.0));
        contest
            .against("raw_sync, events", bar, move || Ok(millions(waits.block(FEW), FEW)))
            .against("raw_sync, spinning", bar, move || Ok(millions(spins.block(FEW), FEW)))
    };
    let Some(python) = setup.python()? else { return Ok(contest) };
    let python = python.shared();
    Ok(contest.against("Manager().Queue()", Some(Bar::AtLeast(1000.0)), move || {
        python.ask("queue Manager")
    }))
}

/// Round trips of one cache line, in millions a second: what one transfer each way costs.
fn against_line(contest: Contest) -> anyhow::Result<Contest> {
    let mut line = CacheLine::new()?;
    Ok(contest
        .against("cache line, there and back", None, move || Ok(millions(line.block(FEW), FEW))))
}

fn round_trip(_: &Setup) -> anyhow::Result<Contest> {
    let (mut ours, mut line) = (RoundTrip::new()?, CacheLine::new()?);
    let (mut bare, mut whole) = (BareAccesses::new()?, Cycle::new()?);
    #[cfg_attr(not(feature = "rivals"), allow(unused_mut))]
    let mut contest = Contest::new("ns", move || Ok(ns_each(ours.block(FEW), FEW)))
        .against("cache line", Some(Bar::AtMost(2.5)), move || Ok(ns_each(line.block(FEW), FEW)))
        .against("bare accesses", None, move || Ok(ns_each(bare.block(FEW), FEW)))
        .against("queue and engine", None, move || Ok(ns_each(whole.one_by_one(FEW), FEW)));
    #[cfg(feature = "rivals")]
    {
        use super::super::rivals::iceoryx;
        let mut samples = iceoryx::Samples::start()?;
        contest = contest
            .against("iceoryx2 publish", None, move || Ok(ns_each(samples.block(FEW)?, FEW)));
    }
    Ok(contest)
}

/// Longer than any spin: worker and caller have gone to sleep.
const PAUSE: Duration = Duration::from_millis(2);

/// Both sides sleep before each task, as they would when tasks are rare.
fn sleeping(_: &Setup) -> anyhow::Result<Contest> {
    let pool = pool(1)?;
    let mut bells = Bells::new()?;
    Ok(Contest::new("us", move || {
        let mut times = Vec::new();
        for x in 0..4 {
            std::thread::sleep(PAUSE);
            let before = std::time::Instant::now();
            std::hint::black_box(pool.apply(super::same, x).wait()?);
            times.push(before.elapsed().as_nanos() as f64 / 1e3);
        }
        Ok(crate::contest::quantile(&times, 0.5))
    })
    .against("eventfd there and back", Some(Bar::AtMost(1.25)), move || {
        let times: Vec<f64> =
            (0..4).map(|_| bells.after_pause(PAUSE).as_nanos() as f64 / 1e3).collect();
        Ok(crate::contest::quantile(&times, 0.5))
    }))
}
