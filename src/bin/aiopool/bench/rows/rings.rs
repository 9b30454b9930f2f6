//! The rings alone, and what other queues do with as much.

use aiopool::bench::{Bells, CacheLine, Cycle, ResultLane, RoundTrip, SubmitClaim};

use super::super::contest::{Bar, Contest};
use super::{Setup, Spec, millions, ns_each, pool};

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
            name: "cycle",
            about: "submit, claim, complete, receive; no executor",
            build: cycle,
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

fn result_lane(_: &Setup) -> anyhow::Result<Contest> {
    let mut lane = ResultLane::new()?;
    let mut contest = Contest::new("M/s", move || Ok(millions(lane.block(4 * MANY), 4 * MANY)));
    #[cfg(feature = "rivals")]
    {
        use super::super::rivals::threads;
        contest = contest
            .against("rtrb", Some(Bar::AtLeast(1.0)), || {
                Ok(millions(threads::rtrb(4 * MANY)?, 4 * MANY))
            })
            .against("ArrayQueue", None, || {
                Ok(millions(threads::array_queue(4 * MANY)?, 4 * MANY))
            });
    }
    contest = against_line(contest)?;
    Ok(contest)
}

fn submit_claim(_setup: &Setup) -> anyhow::Result<Contest> {
    let mut ring = SubmitClaim::new()?;
    let mut contest = Contest::new("M/s", move || Ok(millions(ring.block(MANY), MANY)));
    #[cfg(feature = "rivals")]
    {
        use super::super::rivals::threads;
        let mut locked = aiopool::bench::LockedQueue::new()?;
        contest = contest
            .against("ArrayQueue", Some(Bar::AtLeast(0.5)), || {
                Ok(millions(threads::array_queue(MANY)?, MANY))
            })
            .against("shared_memory + raw_sync", Some(Bar::AtLeast(20.0)), move || {
                Ok(millions(locked.block(FEW), FEW))
            });
    }
    if let Some(python) = _setup.python()? {
        let python = python.shared();
        contest = contest.against("Manager().Queue()", Some(Bar::AtLeast(1000.0)), move || {
            python.ask("queue Manager")
        });
    }
    contest = against_line(contest)?;
    Ok(contest)
}

fn cycle(_: &Setup) -> anyhow::Result<Contest> {
    let mut cycle = Cycle::new()?;
    let mut contest = Contest::new("M/s", move || Ok(millions(cycle.block(MANY), MANY)));
    #[cfg(feature = "rivals")]
    {
        use super::super::rivals::threads;
        contest = contest.against("ArrayQueue one way", Some(Bar::AtLeast(0.3)), || {
            Ok(millions(threads::array_queue(MANY)?, MANY))
        });
    }
    contest = against_line(contest)?;
    Ok(contest)
}

/// Round trips of one cache line, in millions a second: what one transfer each way costs.
fn against_line(contest: Contest) -> anyhow::Result<Contest> {
    let mut line = CacheLine::new()?;
    Ok(contest
        .against("cache line, there and back", None, move || Ok(millions(line.block(FEW), FEW))))
}

fn round_trip(_: &Setup) -> anyhow::Result<Contest> {
    let (mut ours, mut line) = (RoundTrip::new()?, CacheLine::new()?);
    let mut whole = Cycle::new()?;
    #[cfg_attr(not(feature = "rivals"), allow(unused_mut))]
    let mut contest = Contest::new("ns", move || Ok(ns_each(ours.block(FEW), FEW)))
        .against("cache line", Some(Bar::AtMost(2.5)), move || Ok(ns_each(line.block(FEW), FEW)))
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
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

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
        Ok(super::super::contest::quantile(&times, 0.5))
    })
    .against("eventfd there and back", Some(Bar::AtMost(1.25)), move || {
        let times: Vec<f64> =
            (0..4).map(|_| bells.after_pause(PAUSE).as_nanos() as f64 / 1e3).collect();
        Ok(super::super::contest::quantile(&times, 0.5))
    }))
}
