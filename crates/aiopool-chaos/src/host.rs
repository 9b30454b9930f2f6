//! `host`: the host killed at a random moment, many times; the zygote killed under load.

#![allow(unsafe_code)] // Becoming a subreaper, and reaping.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aiopool::{Pool, StartMethod, TaskError};

use crate::figures::Figures;
use crate::processes::{Process, parent_of, regions, within};
use crate::random::Random;
use crate::{Ask, books, tasks};

/// The promise: nothing is left a second after the host's end. What comes later is counted as
/// late, what is still there after this as left behind.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it.
pub fn run(ask: Ask) -> Figures {
    books::open();
    let mut figures = Figures::default();
    let runs = if ask.quick { 50 } else { 1_000 };
    let mut random = Random(0xB0B);
    // Orphans come to this process, so none of them can hide.
    crate::processes::adopt_orphans();
    let scratch = std::env::temp_dir().join(format!("chaos-host-{}", std::process::id()));
    std::fs::create_dir(&scratch).expect("a directory for the victims' files");
    let names_before = named_objects();
    let mut longest = Duration::ZERO;
    for n in 0..runs {
        let millis = random.below(220);
        longest = longest.max(kill_host(&mut figures, n, millis, &scratch));
    }
    figures.count("longest_host_cleanup_ms", longest.as_millis() as u64);
    figures.count("host_kills", runs);
    let files = std::fs::read_dir(&scratch).map_or(0, Iterator::count) as u64;
    let names = named_objects().saturating_sub(names_before);
    if files + names > 0 {
        figures.leaked += files + names;
        figures.complain(format!("{files} temporary files and {names} shared objects are left"));
    }
    let _ = std::fs::remove_dir_all(&scratch);
    let mut longest = Duration::ZERO;
    for n in 0..if ask.quick { 10 } else { 100 } {
        longest = longest.max(kill_zygote(&mut figures, n));
    }
    figures.count("longest_zygote_loss_ms", longest.as_millis() as u64);
    figures
}

/// Starts a victim, kills it after `millis`, and waits until nothing of it is left.
fn kill_host(figures: &mut Figures, n: u64, millis: u64, scratch: &std::path::Path) -> Duration {
    let program = std::env::current_exe().expect("this program has a file");
    let mut victim = Command::new(program)
        .args(["victim", ["init", "exec", "spawn"][(n % 3) as usize]])
        .env("TMPDIR", scratch)
        .stdin(Stdio::null())
        .spawn()
        .expect("a victim starts");
    std::thread::sleep(Duration::from_millis(millis));
    let _ = victim.kill();
    let _ = victim.wait();
    figures.kills += 1;
    let died = Instant::now();
    let mut orphans = 0;
    loop {
        // SAFETY: waits for any child; the status is not asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            -1 => break,
            0 if died.elapsed() > PATIENCE => {
                figures.leaked += 1;
                figures.complain(format!("host {n}, killed after {millis} ms, left processes"));
                break;
            }
            0 => std::thread::sleep(Duration::from_millis(1)),
            _ => orphans += 1,
        }
    }
    figures.count("orphans_reaped", orphans);
    let took = died.elapsed();
    if took > Duration::from_secs(1) {
        figures.count("late", 1);
    }
    took
}

/// A host that works until it is killed.
pub fn victim(kind: &str) -> ! {
    books::open();
    if kind == "init" {
        aiopool::init().expect("nothing was started before");
    }
    let method = if kind == "spawn" { StartMethod::Spawn } else { StartMethod::Fork };
    let pool = Pool::builder()
        .processes(3)
        .queues(2)
        .max_payload(1 << 20)
        .max_tasks_per_child(20)
        .start_method(method)
        // A name in /dev/shm, to be gone with the host.
        .stats_page(format!("chaos-{}", std::process::id()));
    let pool = pool.build().expect("the pool starts");
    let mut random = Random(std::process::id().into());
    let mut kept = Vec::new();
    let _parent = pool.apply(sleeping_child, 1_000);
    loop {
        kept.push(pool.apply(sleep_long, random.below(20)));
        kept.truncate(16);
        let mut len = || {
            let bits = random.below(18);
            random.below(1 << bits) as usize
        };
        let lens: Vec<usize> = (0..40).map(|_| len()).collect();
        let _ = aiopool::block_on(pool.map(zeros, lens).results());
    }
}

async fn zeros(len: usize) -> bytes::Bytes {
    vec![0; len].into()
}

async fn sleep_long(millis: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    millis
}

/// A task that has a child of its own, which must not outlive the pool either.
async fn sleeping_child(seconds: u64) -> bool {
    let child = Command::new("sleep").arg(seconds.to_string()).spawn();
    let started = child.is_ok();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    started
}

/// Kills the zygote of a pool with work: what ran is lost, and the pool goes on with another zygote;
/// where the zygote was forked, every handle must say that the pool has ended. The pool after it, of
/// either start method, must be built all the same.
fn kill_zygote(figures: &mut Figures, n: u64) -> Duration {
    let method = if n.is_multiple_of(2) { StartMethod::Fork } else { StartMethod::Spawn };
    let pool = Pool::builder().processes(2).capacity(64).start_method(method).build();
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => {
            figures.wrong += 1;
            figures.complain(format!("after zygote {n} was lost, no pool can be built: {error}"));
            return Duration::ZERO;
        }
    };
    let number = books::number();
    match pool.apply(tasks::small, number).wait_timeout(PATIENCE) {
        Some(Ok(value)) if value == tasks::answer(number) => {}
        other => {
            figures.wrong += 1;
            figures.complain(format!("after zygote {n} was lost, a new pool says {other:?}"));
        }
    }
    let workers: Vec<_> = pool.worker_pids().into_iter().filter_map(Process::any).collect();
    let zygote = workers.first().and_then(|worker| parent_of(worker.pid));
    let Some(zygote) = zygote.and_then(Process::any) else {
        figures.wrong += 1;
        figures.complain("no zygote was found");
        return Duration::ZERO;
    };
    // More than the pool holds, so that some still wait for room.
    let mut handles: Vec<_> =
        (0..100).map(|_| pool.apply(tasks::nap, (books::number(), 40))).collect();
    figures.tasks += 100;
    std::thread::sleep(Duration::from_millis(n % 10));
    zygote.signal(libc::SIGKILL);
    figures.kills += 1;
    let killed = Instant::now();
    let mut closed = false;
    for handle in &mut handles {
        match handle.wait_timeout(PATIENCE) {
            Some(Ok(_) | Err(TaskError::WorkerLost(_))) => {}
            Some(Err(TaskError::PoolClosed { reason: Some(reason) }))
                if reason.to_string().contains("zygote") =>
            {
                closed = true;
            }
            Some(other) => {
                figures.wrong += 1;
                figures.complain(format!("without a zygote, a handle said {other:?}"));
            }
            None => figures.wedged += 1,
        }
    }
    let took = killed.elapsed();
    if took > Duration::from_secs(1) {
        figures.count("late", 1);
    }
    let number = books::number();
    match pool.apply(tasks::small, number).wait_timeout(PATIENCE) {
        Some(Ok(value)) if !closed && value == tasks::answer(number) => {}
        Some(Err(TaskError::PoolClosed { .. })) if closed => {}
        other => {
            figures.wrong += 1;
            figures.complain(format!("after its zygote was lost, the pool says {other:?}"));
        }
    }
    if !workers.iter().all(|worker| worker.wait_dead(PATIENCE)) {
        figures.leaked += 1;
        figures.complain("a worker has outlived its zygote");
    }
    // The handles share the pool's memory.
    drop(handles);
    drop(pool);
    let me = std::process::id();
    within(PATIENCE, || regions(me) == 0);
    let left = regions(me);
    if left > 0 {
        figures.leaked += left;
        figures.complain(format!("{left} regions are mapped after a pool without a zygote"));
    }
    took
}

/// Entries of `/dev/shm` that a pool may have made.
fn named_objects() -> u64 {
    let Ok(entries) = std::fs::read_dir("/dev/shm") else { return 0 };
    entries.flatten().filter(|e| e.file_name().to_string_lossy().contains("aiopool")).count() as u64
}
