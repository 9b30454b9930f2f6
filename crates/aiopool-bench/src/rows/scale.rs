//! What more of everything costs: tasks, queues, workers.

use std::fs;
use std::time::Instant;

use aiopool::{Pool, TaskError};
use anyhow::Context;

use super::{Spec, ns_each, pool, same};
use crate::contest::{Bar, Contest, ROUNDS, quantile};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "workers-64",
            about: "a task that does nothing with 64 workers on this machine, against 2",
            build: |_| workers(),
        },
        Spec {
            name: "wake-ups-64",
            about: "how often a worker fell asleep per 1,000 such tasks: 64 workers, against 2",
            build: |_| wake_ups(),
        },
        Spec {
            name: "queues-2",
            about: "a task that does nothing, 16 workers at 2 queues, against 1 queue",
            build: |_| queues(2),
        },
        Spec { name: "queues-4", about: "the same with 4 queues", build: |_| queues(4) },
        Spec { name: "queues-8", about: "the same with 8 queues", build: |_| queues(8) },
        Spec { name: "queues-16", about: "the same with 16 queues", build: |_| queues(16) },
        Spec {
            name: "tasks-1e4",
            about: "each of 10,000 tasks of one map, against each of 1,000",
            build: |_| maps(10_000),
        },
        Spec { name: "tasks-1e5", about: "the same for 100,000", build: |_| maps(100_000) },
        Spec {
            name: "tasks-1e6",
            about: "the same for 1,000,000, all of one map in 22 parts",
            build: |_| parts(1_000_000, 1),
        },
        Spec { name: "tasks-1e7", about: "for 10,000,000", build: |_| parts(10_000_000, 1) },
        Spec {
            name: "tasks-1e6-16q",
            about: "the same for 1,000,000 with 16 queues and workers, against 1,000 with those",
            build: |_| parts(1_000_000, 16),
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

fn wake_ups() -> anyhow::Result<Contest> {
    let (many, few) = (pool(64)?, pool(2)?);
    Ok(Contest::new("/1000", move || sleeps(&many))
        .against("2 workers", None, move || sleeps(&few)))
}

/// How often a worker went to sleep, per 1,000 tasks of a map: each time it had to be woken.
fn sleeps(pool: &Pool) -> anyhow::Result<f64> {
    let pids = pool.worker_pids();
    let before = given_up(&pids)?;
    each(pool, TASKS)?;
    // At least once in a block, so that there is a ratio.
    Ok((given_up(&pids)? - before).max(1) as f64 * 1e3 / TASKS as f64)
}

/// How often `pids` have given up their processor of their own accord.
fn given_up(pids: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.context("voluntary_ctxt_switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

fn queues(queues: usize) -> anyhow::Result<Contest> {
    let (many, one) = (with_queues(16, queues)?, with_queues(16, 1)?);
    Ok(Contest::new("ns", move || each(&many, TASKS)).against(
        "1 queue",
        Some(Bar::Within(1.3)),
        move || each(&one, TASKS),
    ))
}

fn with_queues(processes: usize, queues: usize) -> aiopool::Result<Pool> {
    Pool::builder().processes(processes).queues(queues).build()
}

/// Whole maps of `tasks`.
fn maps(tasks: u64) -> anyhow::Result<Contest> {
    let pool = pool(2)?;
    against_1000(2, 1, Contest::new("ns", move || each(&pool, tasks)))
}

fn against_1000(processes: usize, queues: usize, contest: Contest) -> anyhow::Result<Contest> {
    let pool = with_queues(processes, queues)?;
    Ok(contest.against("1,000 tasks at a time", Some(Bar::Within(1.3)), move || {
        let times: anyhow::Result<Vec<f64>> = (0..10).map(|_| each(&pool, 1_000)).collect();
        Ok(quantile(&times?, 0.5))
    }))
}

/// One map of `tasks`, a part of it in each round: the last part is as far into it as can be.
fn parts(tasks: u64, queues: usize) -> anyhow::Result<Contest> {
    let processes = queues.max(2);
    let pool = with_queues(processes, queues)?;
    let start = move || pool.map(same, 0..tasks).into_blocking_iter();
    let part = tasks / (ROUNDS as u64 + 1);
    let (mut results, mut next) = (start(), 0);
    let contest = Contest::new("ns", move || {
        if next + part > tasks {
            (results, next) = (start(), 0);
        }
        let before = Instant::now();
        for _ in 0..part {
            let result: Result<u64, TaskError> = results.next().context("there are more")?;
            anyhow::ensure!(result? == next, "a task gave a wrong result");
            next += 1;
        }
        Ok(ns_each(before.elapsed(), part))
    });
    against_1000(processes, queues, contest)
}
