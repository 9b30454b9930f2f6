//! Tasks that do nothing, through the public verbs and tokio.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aiopool::Pool;
use tokio::runtime::Runtime;

#[cfg(feature = "rivals")]
use super::median_us;
use super::spawned::{self, median_us_async, within_a_task};
use super::{Setup, Spec, millions, ns_each, pool, runtime, same};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "apply",
            about: "a task that does nothing, one by one through tokio, p50",
            build: apply,
        },
        Spec {
            name: "map-1-worker",
            about: "tasks that do nothing, 1,000 in flight, 1 worker",
            build: |setup| map(setup, 1),
        },
        Spec {
            name: "map-2-workers",
            about: "tasks that do nothing, 1,000 in flight, 2 workers",
            build: |setup| map(setup, 2),
        },
        Spec { name: "in-flight-1", about: "the same, 1 in flight", build: |_| in_flight(1) },
        Spec { name: "in-flight-10", about: "the same, 10 in flight", build: |_| in_flight(10) },
        Spec { name: "in-flight-100", about: "the same, 100 in flight", build: |_| in_flight(100) },
        Spec {
            name: "in-flight-1000",
            about: "map-2-workers once more, in nanoseconds a task",
            build: |_| in_flight(1_000),
        },
    ]
}

/// In flight at once.
const WINDOW: usize = 1_000;
/// Tasks of a block of tokio's or rayon's: some 6 ms.
const TASKS: u64 = 8_000;
/// Tasks of a block of ours: some 8 ms. A block after Python's finds cold caches, and one that is a
/// quarter as long as the rival's would be spent filling them.
const OURS: u64 = 40_000;

fn apply(setup: &Setup) -> anyhow::Result<Contest> {
    let runtime = Arc::new(runtime()?);
    let pool = pool(1)?;
    let tokio = Arc::clone(&runtime);
    let (within, blocking) = (Arc::clone(&runtime), Arc::clone(&runtime));
    let mut contest = Contest::new("us", move || {
        runtime.block_on(async {
            median_us_async(async || {
                std::hint::black_box(pool.apply(same, 7).await?);
                Ok(())
            })
            .await
        })
    })
    .against("tokio spawn + await", Some(Bar::AtMost(0.1)), move || {
        tokio.block_on(spawned::one_by_one())
    })
    .against("tokio, within a task", None, move || {
        within.block_on(within_a_task(spawned::one_by_one()))
    })
    .against("tokio spawn_blocking", None, move || blocking.block_on(spawned::blocking()));
    #[cfg(feature = "rivals")]
    {
        use super::super::rivals;
        let mut requests = rivals::iceoryx::Requests::start()?;
        let mut ipc = rivals::ipc::Echo::start()?;
        contest = contest
            .against("iceoryx2 request", Some(Bar::AtMost(0.5)), move || requests.median_us())
            .against("ipc-channel", None, move || median_us(|| ipc.once()));
    }
    if let Some(python) = setup.python()? {
        let python = python.shared();
        for (rival, bar) in [("aiomultiprocess", 1.0 / 2000.0), ("ProcessPoolExecutor", 0.0)] {
            let python = python.clone();
            let bar = (bar > 0.0).then_some(Bar::AtMost(bar));
            contest = contest.against(rival, bar, move || python.ask(&format!("apply {rival}")));
        }
    }
    Ok(contest)
}

fn map(setup: &Setup, processes: usize) -> anyhow::Result<Contest> {
    let runtime = Arc::new(runtime()?);
    let pool = pool(processes)?;
    let (tokio, within) = (Arc::clone(&runtime), Arc::clone(&runtime));
    let mut contest =
        Contest::new("M/s", move || Ok(millions(ours(&runtime, &pool, WINDOW, OURS)?, OURS)))
            .against("tokio spawn + await", Some(Bar::AtLeast(3.0)), move || {
                Ok(millions(tokio.block_on(spawned::many(WINDOW, TASKS))?, TASKS))
            })
            .against("tokio, within a task", None, move || {
                let tasks = spawned::many(WINDOW, TASKS);
                Ok(millions(within.block_on(within_a_task(tasks))?, TASKS))
            });
    #[cfg(feature = "rivals")]
    {
        contest = contest.against("rayon spawn", None, rayon_spawn);
    }
    if let (Some(python), 2) = (setup.python()?, processes) {
        let python = python.shared();
        for (rival, bar) in [
            ("aiomultiprocess", Some(200.0)),
            ("ProcessPoolExecutor", Some(1000.0)),
            ("multiprocessing.Pool", Some(4.0)),
        ] {
            let python = python.clone();
            contest = contest
                .against(rival, bar.map(Bar::AtLeast), move || python.ask(&format!("map {rival}")));
        }
    }
    Ok(contest)
}

/// Nanoseconds a task, `window` in flight.
fn in_flight(window: usize) -> anyhow::Result<Contest> {
    let (runtime, pool) = (Arc::new(runtime()?), pool(2)?);
    let tokio = Arc::clone(&runtime);
    // Tasks of a block: few enough that it is short, whatever a task costs that is awaited alone.
    let tasks = (window as u64 * 200).min(TASKS);
    Ok(Contest::new("ns", move || Ok(ns_each(ours(&runtime, &pool, window, tasks)?, tasks)))
        .against("tokio spawn + await", None, move || {
            Ok(ns_each(tokio.block_on(spawned::many(window, tasks))?, tasks))
        }))
}

fn ours(runtime: &Runtime, pool: &Pool, window: usize, tasks: u64) -> anyhow::Result<Duration> {
    runtime.block_on(async {
        // The workers are awake when the time begins.
        for _ in 0..3 {
            pool.apply(same, 1).await?;
        }
        let start = Instant::now();
        let mut results = pool.map(same, 0..tasks).window(window);
        let mut sum = 0;
        while let Some(result) = results.next().await {
            sum += result?;
        }
        let time = start.elapsed();
        anyhow::ensure!(sum == tasks * (tasks - 1) / 2, "a task gave a wrong result");
        Ok(time)
    })
}

/// One by one spawned in a scope: threads of one process, no results to carry.
#[cfg(feature = "rivals")]
fn rayon_spawn() -> anyhow::Result<f64> {
    let start = Instant::now();
    rayon::scope(|scope| {
        for x in 0..TASKS {
            scope.spawn(move |_| {
                std::hint::black_box(x);
            });
        }
    });
    Ok(millions(start.elapsed(), TASKS))
}
