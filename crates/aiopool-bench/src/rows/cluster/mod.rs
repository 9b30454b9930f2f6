//! Tasks over nodes, beside what the same server and the same client do without us.
//!
//! Server, nodes and rivals are processes of this machine, and the submitter is this one, so that all
//! of them share its processors.

mod bare;
mod costs;
mod faults;
mod profile;
mod scene;

use std::time::{Duration, Instant};

use aiopool::Pool;
use aiopool_cluster::Cluster;

use self::bare::Bare;
use self::scene::Scene;
use super::{ROUNDS_LONG, Spec, same};
use crate::contest::{Bar, Contest, quantile};

pub fn rows() -> Vec<Spec> {
    let mut rows = vec![
        Spec {
            name: "cluster-apply",
            about: "a task that does nothing on a node, one at a time, against a request and its reply and three publishes that wait",
            build: |_| apply(),
        },
        Spec {
            name: "cluster-noop",
            about: "tasks that do nothing, each with messages of its own, against a bare publish, pull, acknowledge, publish, collect",
            build: |_| noop(1),
        },
        Spec {
            name: "cluster-group",
            about: "the same, several to a message as they are by default",
            build: |_| noop(GROUP),
        },
        Spec {
            name: "cluster-wait",
            about: "tasks that wait 1 ms, 2 × 16 at a time on a node, against a pool of this machine",
            build: |_| against_local(waits(), 4_000, 0.9),
        },
        Spec {
            name: "cluster-compute",
            about: "tasks that compute 10 ms on two workers of a node, against a pool of this machine",
            build: |_| against_local(computes(), 80, 0.95),
        },
        Spec {
            name: "cluster-nodes",
            about: "tasks that wait 1 ms on two nodes of 1 × 16, against one node of 2 × 16",
            build: |_| two_nodes(),
        },
    ];
    rows.extend(costs::rows());
    rows.extend(faults::rows());
    rows
}

/// What a handle puts into one message by default.
const GROUP: usize = 64;

/// Tasks in a block of those that do nothing.
const TASKS: u64 = 20_000;

/// Calls in a block of those that come one at a time.
const CALLS: usize = 150;

/// The median time of `CALLS` in microseconds.
fn median_us(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let before = Instant::now();
        once()?;
        times.push(before.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(quantile(&times, 0.5))
}

fn apply() -> anyhow::Result<Contest> {
    let scene = Scene::of_node(2, 16)?;
    let cluster = scene.cluster(GROUP)?;
    let bare = Bare::start(&scene, "echo")?;
    let contest = Contest::new("µs", move || {
        let _ = &scene;
        median_us(|| {
            anyhow::ensure!(cluster.apply(same, 7).wait()? == 7, "a wrong result");
            Ok(())
        })
    });
    let rival = "a request and 3 publishes";
    Ok(contest.against(rival, Some(Bar::AtMost(1.25)), move || median_us(|| bare.four_trips())))
}

/// Tasks a second, in thousands.
fn thousands(tasks: u64, time: Duration) -> f64 {
    tasks as f64 / time.as_secs_f64() / 1e3
}

/// One map of tasks that do nothing.
fn map_noops(cluster: &Cluster, tasks: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut sum = 0;
    for result in cluster.map(same, 0..tasks).into_blocking_iter() {
        sum += result?;
    }
    anyhow::ensure!(sum == tasks * (tasks - 1) / 2, "a task gave a wrong result");
    Ok(start.elapsed())
}

fn noop(group: usize) -> anyhow::Result<Contest> {
    // As many places as the bare one asks for at a time.
    let scene = Scene::of_node(2, 256)?;
    let cluster = scene.cluster(group)?;
    let mut bare = Bare::start(&scene, "bare")?;
    let bar = if group == 1 { 0.45 } else { 2.0 };
    let contest = Contest::new("k/s", move || {
        let _ = &scene;
        Ok(thousands(TASKS, map_noops(&cluster, TASKS)?))
    });
    Ok(contest
        .against("bare", Some(Bar::AtLeast(bar)), move || Ok(thousands(TASKS, bare.round(TASKS)?)))
        .rounds(ROUNDS_LONG))
}

async fn wait(us: u64) -> u64 {
    tokio::time::sleep(Duration::from_micros(us)).await;
    us
}

async fn compute(us: u64) -> u64 {
    let start = Instant::now();
    let mut x = us;
    while start.elapsed() < Duration::from_micros(us) {
        x = std::hint::black_box(x.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17));
    }
    us
}

/// A task function of one argument, in microseconds, on a node and in a pool of this machine.
struct Work {
    there: fn(&Cluster, u64) -> anyhow::Result<()>,
    here: fn(&Pool, u64) -> anyhow::Result<()>,
}

fn waits() -> Work {
    Work {
        there: |cluster, tasks| {
            let items = (0..tasks).map(|_| 1_000);
            cluster.map(wait, items).into_blocking_iter().try_for_each(|r| Ok(r.map(drop)?))
        },
        here: |pool, tasks| {
            let items = (0..tasks).map(|_| 1_000);
            pool.map(wait, items).into_blocking_iter().try_for_each(|r| Ok(r.map(drop)?))
        },
    }
}

fn computes() -> Work {
    Work {
        there: |cluster, tasks| {
            let items = (0..tasks).map(|_| 10_000);
            cluster.map(compute, items).into_blocking_iter().try_for_each(|r| Ok(r.map(drop)?))
        },
        here: |pool, tasks| {
            let items = (0..tasks).map(|_| 10_000);
            pool.map(compute, items).into_blocking_iter().try_for_each(|r| Ok(r.map(drop)?))
        },
    }
}

fn against_local(work: Work, tasks: u64, bar: f64) -> anyhow::Result<Contest> {
    let pool = Pool::builder().processes(2).child_concurrency(16).build()?;
    let scene = Scene::of_node(2, 16)?;
    let cluster = scene.cluster(GROUP)?;
    let contest = Contest::new("/s", move || {
        let _ = &scene;
        let start = Instant::now();
        (work.there)(&cluster, tasks)?;
        Ok(tasks as f64 / start.elapsed().as_secs_f64())
    });
    Ok(contest
        .against("the local pool", Some(Bar::AtLeast(bar)), move || {
            let start = Instant::now();
            (work.here)(&pool, tasks)?;
            Ok(tasks as f64 / start.elapsed().as_secs_f64())
        })
        .rounds(ROUNDS_LONG))
}

fn two_nodes() -> anyhow::Result<Contest> {
    const TASKS: u64 = 4_000;
    let (mut two, one) = (Scene::of_node(1, 16)?, Scene::of_node(2, 16)?);
    two.add_node(1, 16)?;
    let (of_two, of_one) = (two.cluster(GROUP)?, one.cluster(GROUP)?);
    let rate = |cluster: &Cluster| {
        let start = Instant::now();
        (waits().there)(cluster, TASKS)?;
        anyhow::Ok(TASKS as f64 / start.elapsed().as_secs_f64())
    };
    let contest = Contest::new("/s", move || {
        let _ = &two;
        rate(&of_two)
    });
    Ok(contest
        .against("one node", Some(Bar::AtLeast(0.95)), move || {
            let _ = &one;
            rate(&of_one)
        })
        .rounds(ROUNDS_LONG))
}

/// The other process of one of these rows.
pub fn serve(name: &str, arguments: &[String]) -> Option<anyhow::Result<()>> {
    match (name, arguments) {
        ("cluster-node", [url, processes, tasks, name, lease]) => {
            Some(scene::serve(url, processes, tasks, name, lease))
        }
        ("cluster-profile", [what, tasks, items, rounds]) => {
            Some(profile::cluster_profile(what, tasks, items, rounds))
        }
        ("cluster-bare", [url, what]) => Some(bare::serve(url, what)),
        _ => None,
    }
}
