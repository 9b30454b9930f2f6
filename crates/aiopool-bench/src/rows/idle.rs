//! What a pool takes that has nothing to do: processor time and memory.

use std::time::Duration;

use aiopool::Pool;
use anyhow::Context;

use super::{Spec, pool};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "idle-64",
            about: "processor time in 10 s of a pool of 64 idle workers: workers, zygote and host",
            build: |_| idle(),
        },
        Spec {
            name: "memory-pool-of-4",
            about: "private memory of an idle pool of 4: workers, zygote and what the host grew by",
            build: |_| memory_of_four(),
        },
        Spec {
            name: "memory-per-worker",
            about: "private memory of each worker beyond the fourth",
            build: |_| memory_of_more(),
        },
    ]
}

fn idle() -> anyhow::Result<Contest> {
    let pool = pool(64)?;
    Ok(Contest::new("ms CPU", move || {
        // No worker spins any more.
        std::thread::sleep(Duration::from_millis(500));
        let mut pids = pool.worker_pids();
        pids.push(parent(pids[0])?);
        let before = cpu_ns(&pids)?;
        std::thread::sleep(Duration::from_secs(10));
        Ok((cpu_ns(&pids)? - before) as f64 / 1e6)
    })
    .against("20 ms", Some(Bar::AtMost(1.0)), || Ok(20.0))
    .rounds(1)
    .cold())
}

/// Nanoseconds on a processor, of this process and `pids`.
fn cpu_ns(pids: &[u32]) -> anyhow::Result<u64> {
    Ok(cpu_ns_of(pids)? + cpu_ns_of(&[std::process::id()])?)
}

/// Nanoseconds on a processor, of `pids`.
pub fn cpu_ns_of(pids: &[u32]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        // All threads: the supervisor is one.
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Mebibytes of private memory of `pids`.
fn private_mib(pids: &[u32]) -> anyhow::Result<f64> {
    let mut kib = 0;
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        for line in text.lines().filter(|line| line.starts_with("Private_")) {
            kib += line.split_whitespace().nth(1).context("smaps_rollup")?.parse::<u64>()?;
        }
    }
    Ok(kib as f64 / 1024.0)
}

fn memory_of_four() -> anyhow::Result<Contest> {
    Ok(Contest::new("MiB", || {
        let this = [std::process::id()];
        let before = private_mib(&this)?;
        let pool = pool(4)?;
        let workers = pool.worker_pids();
        let zygote = parent(workers[0])?;
        let memory = private_mib(&workers)? + private_mib(&[zygote])?;
        Ok(memory + (private_mib(&this)? - before).max(0.0))
    })
    .against("20 MiB", Some(Bar::AtMost(1.0)), || Ok(20.0))
    .rounds(3))
}

fn memory_of_more() -> anyhow::Result<Contest> {
    let with = |processes| -> anyhow::Result<f64> {
        let pool: Pool = pool(processes)?;
        private_mib(&pool.worker_pids())
    };
    Ok(Contest::new("MiB", move || Ok((with(20)? - with(4)?) / 16.0))
        .against("1.5 MiB", Some(Bar::AtMost(1.0)), || Ok(1.5))
        .rounds(3))
}

fn parent(pid: u32) -> anyhow::Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("PPid")?;
    Ok(line.trim().parse()?)
}
