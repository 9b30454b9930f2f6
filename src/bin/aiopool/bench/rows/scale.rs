//! What more of everything costs: tasks, queues, workers.

use std::time::Instant;

use aiopool::Pool;

use super::super::contest::{Bar, Contest};
use super::{Spec, ns_each, pool, same};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "workers-64",
            about: "a task that does nothing with 64 workers on this machine, against 2",
            build: |_| workers(),
        },
        Spec {
            name: "queues-2",
            about: "a task that does nothing with 2 queues, against 1",
            build: |_| queues(2),
        },
        Spec {
            name: "queues-16",
            about: "a task that does nothing with 16 queues and workers, against 1 queue of 16",
            build: |_| queues(16),
        },
        Spec {
            name: "tasks-1e6",
            about: "each of 1,000,000 tasks of one map, against each of 1,000",
            build: |_| tasks(1_000_000),
        },
        Spec {
            name: "tasks-1e7",
            about: "each of 10,000,000 tasks of one map, against each of 1,000",
            build: |_| tasks(10_000_000),
        },
    ]
}

/// Nanoseconds a task of one `map` over `tasks`.
fn each(pool: &Pool, tasks: u64) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut sum = 0;
    for result in pool.map(same, 0..tasks).into_blocking_iter() {
        sum += result?;
    }
    let time = start.elapsed();
    anyhow::ensure!(sum == tasks * (tasks - 1) / 2, "a task gave a wrong result");
    Ok(ns_each(time, tasks))
}

const TASKS: u64 = 8_000;

fn workers() -> anyhow::Result<Contest> {
    let (many, few) = (pool(64)?, pool(2)?);
    Ok(Contest::new("ns", move || each(&many, TASKS)).against(
        "2 workers",
        Some(Bar::AtMost(2.0)),
        move || each(&few, TASKS),
    ))
}

fn queues(queues: usize) -> anyhow::Result<Contest> {
    let with = |n: usize| Pool::builder().processes(queues).queues(n).build();
    let (many, one) = (with(queues)?, with(1)?);
    Ok(Contest::new("ns", move || each(&many, TASKS)).against(
        "1 queue",
        Some(Bar::AtMost(1.3)),
        move || each(&one, TASKS),
    ))
}

fn tasks(tasks: u64) -> anyhow::Result<Contest> {
    let (many, few) = (pool(2)?, pool(2)?);
    Ok(Contest::new("ns", move || each(&many, tasks))
        .against("1,000 tasks at a time", Some(Bar::AtMost(1.3)), move || {
            let times: anyhow::Result<Vec<f64>> = (0..20).map(|_| each(&few, 1_000)).collect();
            Ok(super::super::contest::quantile(&times?, 0.5))
        })
        .at_most(if tasks > 5_000_000 { 1 } else { 3 }))
}
