//! How long it takes until what was lost is known.

use std::cell::RefCell;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aiopool_cluster::{Cluster, ClusterError};
use aiopool_nats::{NEWEST, Three};
use anyhow::Context;
use async_nats::Client;
use bytes::Bytes;
use serde_json::{Value, json};

use super::bare::{ask, runtime, store};
use super::scene::Scene;
use super::wait;
use crate::contest::{Bar, Contest};
use crate::rows::Spec;

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "cluster-lost",
            about: "seconds from the kill of a node, lease 6 s, to the news of it for its task",
            build: |_| lost(),
        },
        Spec {
            name: "cluster-restart",
            about: "the same where the node is started again under its name, lease 150 s",
            build: |_| restarted(),
        },
        Spec {
            name: "cluster-leader",
            about: "the longest gap between outcomes when the leader of three servers is killed",
            build: |_| leader(),
        },
    ]
}

fn kill(pids: &[u32]) -> anyhow::Result<()> {
    let status =
        Command::new("kill").arg("-KILL").args(pids.iter().map(u32::to_string)).status()?;
    anyhow::ensure!(status.success(), "a process had gone");
    Ok(())
}

/// A task that outlasts the row, once it runs on the scene's node.
fn long(cluster: &Cluster) -> anyhow::Result<aiopool_cluster::Task<u64>> {
    let task = cluster.apply(wait, 600_000_000);
    // What is submitted later and over has been pulled later.
    cluster.apply(wait, 1_000).wait()?;
    Ok(task)
}

fn seconds_until_lost(task: aiopool_cluster::Task<u64>, since: Instant) -> anyhow::Result<f64> {
    match task.wait() {
        Err(ClusterError::NodeLost { .. }) => Ok(since.elapsed().as_secs_f64()),
        other => anyhow::bail!("its node was killed, and it ended with {other:?}"),
    }
}

fn lost() -> anyhow::Result<Contest> {
    const LEASE: u64 = 6;
    let mut scene = Scene::of_node(1, 4)?;
    let cluster = scene.cluster(1)?;
    let contest = Contest::new("s", move || {
        let name = format!("lost-{}", random());
        // The only one that has room: the scene's first node is full.
        let full: Vec<_> = (0..4).map(|_| cluster.apply(wait, 600_000_000)).collect();
        std::thread::sleep(Duration::from_millis(500));
        scene.add_named(1, 4, &name, LEASE)?;
        let task = long(&cluster)?;
        let family = scene.family();
        let since = Instant::now();
        kill(&family)?;
        let seconds = seconds_until_lost(task, since)?;
        scene.forget_killed();
        drop(full);
        std::thread::sleep(Duration::from_millis(500));
        Ok(seconds)
    });
    let most = LEASE as f64 + 3.0;
    let contest = contest.against("lease + 3 s", Some(Bar::AtMost(1.0)), move || Ok(most));
    Ok(contest.rounds(3).cold())
}

/// A number for names that were not used before.
fn random() -> u64 {
    aiopool::remote::monotonic_ns() & 0xffff_ffff
}

fn restarted() -> anyhow::Result<Contest> {
    let first = Scene::of_node(1, 1)?;
    let mut scene = Scene::elsewhere(first.url.clone());
    let cluster = first.cluster(1)?;
    let full = cluster.apply(wait, 600_000_000);
    std::thread::sleep(Duration::from_millis(500));
    let name = format!("again-{}", random());
    scene.add_named(1, 4, &name, 150)?;
    let contest = Contest::new("s", move || {
        let _ = (&first, &full);
        let task = long(&cluster)?;
        // The agent alone: zygote and workers follow by themselves.
        kill(&[scene.agent().context("the node's agent")?])?;
        scene.forget_killed();
        let since = Instant::now();
        scene.add_named(1, 4, &name, 150)?;
        seconds_until_lost(task, since)
    });
    let contest = contest.against("3 s", Some(Bar::AtMost(1.0)), || Ok(3.0));
    Ok(contest.rounds(3).cold())
}

/// How long a gap is looked for after the kill.
const LOOK: Duration = Duration::from_secs(25);

fn leader() -> anyhow::Result<Contest> {
    let three = Rc::new(RefCell::new(Three::of([NEWEST; 3])));
    let url = three.borrow().url();
    let access = || aiopool_cluster::Connection::new(url.as_str()).replicas(3);
    let mut scene = Scene::elsewhere(url.clone());
    // The first to connect makes the streams, of three replicas.
    let cluster = Cluster::builder(access()).pool("bench").connect_blocking()?;
    scene.add_node(2, 16)?;
    cluster.ready_blocking()?;
    let runtime = runtime()?;
    let servers: Vec<String> = url.split(',').map(str::to_owned).collect();
    let client = runtime.block_on(async {
        let options = async_nats::ConnectOptions::new()
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .request_timeout(Some(Duration::from_millis(500)));
        let client = options.connect(servers).await?;
        let stream = json!({"name": "BARE", "subjects": ["bare.>"], "num_replicas": 3});
        ask(&client, "STREAM.CREATE.BARE", &stream).await?;
        anyhow::Ok(client)
    })?;
    let runtime = Rc::new(runtime);
    let (ours, theirs) =
        ((three.clone(), runtime.clone(), client.clone()), (three, runtime, client));
    let contest = Contest::new("s", move || {
        let _ = &scene;
        let (three, runtime, client) = &ours;
        runtime.block_on(async {
            let killed = kill_leader(three, client, "AIOPOOL_bench").await?;
            let mut results = cluster.map(wait, std::iter::repeat(1_000)).window(64);
            let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
            while start.elapsed() < LOOK {
                results.next().await.context("an endless map")??;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
            restart(three, killed, client).await?;
            Ok(gap.as_secs_f64())
        })
    });
    let contest = contest.against("a bare publisher + 1 s", Some(Bar::AtMost(1.0)), move || {
        let (three, runtime, client) = &theirs;
        runtime.block_on(async {
            let killed = kill_leader(three, client, "BARE").await?;
            let (start, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
            while start.elapsed() < LOOK {
                let stored = store(client, "bare.x".to_owned(), Bytes::from_static(b"x")).await;
                if stored.is_ok() {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                }
            }
            restart(three, killed, client).await?;
            Ok(gap.as_secs_f64() + 1.0)
        })
    });
    Ok(contest.rounds(3).cold())
}

/// Kills the server that leads a stream, and returns which one it was.
async fn kill_leader(
    three: &RefCell<Three>,
    client: &Client,
    stream: &str,
) -> anyhow::Result<usize> {
    let info = ask(client, &format!("STREAM.INFO.{stream}"), &Value::Null).await?;
    let leader = info["cluster"]["leader"].as_str().context("a leader")?.to_owned();
    let port = |url: String| url.rsplit(':').next().unwrap_or_default().to_owned();
    let mut three = three.borrow_mut();
    let number = three.servers.iter().position(|s| format!("s{}", port(s.url())) == leader);
    let number = number.with_context(|| format!("{leader} is none of the three"))?;
    three.servers[number].kill();
    Ok(number)
}

/// Starts a server again, and waits until it has what it missed.
async fn restart(three: &RefCell<Three>, number: usize, client: &Client) -> anyhow::Result<()> {
    three.borrow_mut().servers[number].restart();
    let start = Instant::now();
    loop {
        let mut current = true;
        for stream in ["AIOPOOL_bench", "KV_AIOPOOL_NODES", "KV_AIOPOOL_JOBS", "BARE"] {
            let info = ask(client, &format!("STREAM.INFO.{stream}"), &Value::Null).await;
            let replicas =
                info.ok().and_then(|info| info["cluster"]["replicas"].as_array().cloned());
            current &= replicas.is_some_and(|replicas| {
                replicas.len() == 2 && replicas.iter().all(|replica| replica["current"] == true)
            });
        }
        if current {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < Duration::from_secs(60), "it does not catch up");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
