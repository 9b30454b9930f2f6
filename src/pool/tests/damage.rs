//! A worker damages one part of its queue's control region, in a real process: what is its own
//! costs that worker, what is everybody's costs the queue its workers, and never the pool.

use std::fs::{File, read_dir, read_link};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::control::{Control, Part, Phase};
use crate::supervisor::WorkerInfo;
use crate::sync::atomic::Ordering::Relaxed;
use crate::table::{Record, State};
use crate::{Pool, Task, TaskError, TaskOptions};

/// Far above what any of this takes.
const WATCHDOG: Duration = Duration::from_secs(120);
const CAPACITY: u64 = 64;

/// Maps the control region of the queue that this worker serves once more.
pub(super) fn own_control() -> Control {
    let found = read_dir("/proc/self/fd").unwrap().find_map(|entry| {
        let path = entry.ok()?.path();
        let target = read_link(&path).ok()?;
        let file = File::options().read(true).write(true).open(&path);
        target.to_str()?.contains("aiopool-control").then(|| file.unwrap())
    });
    Control::open_by_header(found.expect("a worker has its control region").into()).unwrap()
}

/// Damages, and says who did.
async fn spoil(part: u8) -> u32 {
    let control = own_control();
    // The only task that runs now is this one.
    let running = control.records().iter().find(|record| {
        let word = record.state();
        word.state() == Some(State::Running)
    });
    let slot = running.expect("this task runs").state().owner().slot();
    match part {
        0 => control.lane(slot).iter().for_each(|word| word.store(0xDEAD << 40, Relaxed)),
        1 => control.report(slot).handback_taken().store(12_345, Relaxed),
        2 => control.part(Part::Header)[2].store(5, Relaxed),
        3 => control.part(Part::Heads)[0].store(1 << 40, Relaxed),
        9 => control.handback(slot).iter().for_each(|word| word.store(0, Relaxed)),
        // Its own too: it commits nothing.
        _ => control.records().iter().for_each(|record| record.release(77)),
    }
    std::process::id()
}

async fn double(n: u64) -> u64 {
    2 * n
}

/// Long enough for an audit.
async fn nap(n: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(100)).await;
    n
}

fn workers(pool: &Pool) -> Vec<WorkerInfo> {
    pool.shared.workers()
}

fn damaged(part: u8, costs_the_queue: bool) {
    let pool = Pool::builder().processes(4).queues(2).capacity(CAPACITY as usize).build().unwrap();
    let end = Instant::now() + WATCHDOG;
    let left = || {
        assert!(Instant::now() < end, "part {part}: {:?}", pool.stats());
        std::thread::sleep(Duration::from_millis(1));
    };
    let before = workers(&pool);
    let options = TaskOptions::new().retries(3);
    let task = pool.apply(spoil, part);
    // The outcome is not taken until the others are there: they pend while it is found.
    let others: Vec<_> = (0..40).map(|n| pool.with(options).apply(double, n)).collect();
    let spoiler = task.wait();
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(other.wait().unwrap(), 2 * n as u64, "part {part}");
    }
    match &spoiler {
        Ok(_) | Err(TaskError::WorkerLost(_)) => {}
        Err(TaskError::Corrupt(what)) => assert!(!what.is_empty() && costs_the_queue),
        Err(error) => panic!("part {part}: {error}"),
    }
    // Something pends until the damage is found.
    let want = if costs_the_queue { 2 } else { 1 };
    while pool.stats().deaths < want || workers(&pool).len() < 4 {
        let naps: Vec<_> = (0..4).map(|n| pool.with(options).apply(nap, n)).collect();
        assert!(naps.into_iter().all(|nap| nap.wait().is_ok()), "part {part}");
        left();
    }
    assert_eq!((pool.stats().damages, pool.stats().deaths), (1, want), "part {part}");
    let gone = |queue: u16| {
        let now = workers(&pool);
        let ours = before.iter().filter(|worker| worker.queue == queue);
        ours.filter(|worker| now.iter().all(|now| now.pid != worker.pid)).count()
    };
    let queues = [gone(0), gone(1)];
    let costs = queues.into_iter().max().unwrap();
    assert_eq!(queues.into_iter().min(), Some(0), "part {part}: both queues paid, {queues:?}");
    assert_eq!(costs as u64, want, "part {part}: {queues:?}");
    if !costs_the_queue {
        let spoiler = match spoiler {
            Ok(pid) => pid,
            // The damage was found before the outcome.
            Err(TaskError::WorkerLost(lost)) => lost.pid,
            Err(error) => panic!("part {part}: {error}"),
        };
        assert!(workers(&pool).iter().all(|worker| worker.pid != spoiler), "part {part}");
    }
    loop {
        let stats = pool.stats();
        if (stats.pending, stats.free_records) == (0, 2 * CAPACITY) {
            break;
        }
        left();
    }
    pool.close();
    pool.join_blocking().unwrap();
}

/// Returns an output that needs a block.
async fn large(n: u64) -> Vec<u64> {
    vec![n; 20_000]
}

#[test]
fn blocks_that_never_come_back_cost_the_worker_that_lost_them() {
    let pool = Pool::builder().processes(1).capacity(CAPACITY as usize);
    let pool = pool.output_arena(1 << 20).max_payload(256 << 10).build().unwrap();
    let options = TaskOptions::new().retries(3);
    let check = |count: u64| {
        let tasks: Vec<_> = (0..count).map(|n| pool.with(options).apply(large, n)).collect();
        for (n, mut task) in tasks.into_iter().enumerate() {
            let ended = task.wait_timeout(WATCHDOG).expect("no task waits for ever for room");
            assert_eq!(ended.unwrap(), vec![n as u64; 20_000]);
        }
    };
    let end = Instant::now() + WATCHDOG;
    let stats = loop {
        // The last of these blocks are in the lane when the next task empties it, unless the worker
        // has had nothing to do before, and has taken them back.
        check(3);
        let _ = pool.apply(spoil, 9).wait();
        check(40);
        let stats = pool.stats();
        if stats.deaths > 0 {
            break stats;
        }
        assert!(Instant::now() < end, "no block was lost, or no loss was found: {stats:?}");
    };
    assert_eq!((stats.damages, stats.deaths), (1, 1), "{stats:?}");
}

#[test]
fn damage_in_what_is_a_workers_own_costs_that_worker() {
    [0, 1].into_iter().for_each(|part| damaged(part, false));
}

#[test]
fn damage_in_what_is_everybodys_costs_the_queue_its_workers_and_nobody_else() {
    [2, 3, 4].into_iter().for_each(|part| damaged(part, true));
}

#[test]
fn a_worker_starts_whatever_the_header_says_meanwhile() {
    let pool = Pool::builder().processes(1).capacity(CAPACITY as usize).build().unwrap();
    let control = pool.shared.queues[0].control();
    let end = Instant::now() + WATCHDOG;
    let until = |deaths: u64, condition: &dyn Fn() -> bool| {
        while !condition() {
            let stats = pool.stats();
            assert!(Instant::now() < end && stats.deaths <= deaths, "{stats:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let is_ready = || control.report(0).phase() == Some(Phase::Ready);
    until(0, &is_ready);
    // No control region, another layout, and a region that could be one, of another shape.
    let lies = [(0, 5), (1, 5), (2, 1), (3, 1), (4, 2)];
    for (n, (word, lie)) in lies.into_iter().enumerate() {
        let word = &control.part(Part::Header)[word];
        let truth = word.load(Relaxed);
        word.store(lie, Relaxed);
        let before = workers(&pool)[0].pid;
        let killed = Command::new("kill").args(["-9", &before.to_string()]).status().unwrap();
        assert!(killed.success());
        let is_replaced = || workers(&pool).first().is_some_and(|worker| worker.pid != before);
        let deaths = n as u64 + 1;
        until(deaths, &is_replaced);
        until(deaths, &is_ready);
        word.store(truth, Relaxed);
        let ended = pool.apply(double, 4).wait_timeout(WATCHDOG).expect("the worker works");
        assert_eq!(ended.unwrap(), 8);
        let stats = pool.stats();
        assert_eq!((stats.deaths, stats.damages), (deaths, 0), "{stats:?}");
    }
}

/// Says that its initializer has failed, and dies; once another task waits.
async fn pretend(_: u8) {
    let control = own_control();
    let is_queued = |record: &Record| record.state().state() == Some(State::Queued);
    while !control.records().iter().any(is_queued) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let slots = control.shape().slots as usize;
    let ready = (0..slots).find(|&slot| control.report(slot).phase() == Some(Phase::Ready));
    control.report(ready.expect("this worker is ready")).set_phase(Phase::InitFailed);
    std::process::abort();
}

#[test]
fn a_worker_that_was_ready_cannot_fail_the_pool_as_if_its_initializer_had() {
    // Such a pool fails at the first initializer that does.
    let builder = Pool::builder().processes(1).child_concurrency(1).without_replacement();
    let pool = builder.build().unwrap();
    // By the supervisor, which has read by then that the worker is ready.
    let options = TaskOptions::new().timeout(Duration::from_millis(1));
    let late = pool.with(options).apply(nap, 0).wait();
    assert!(matches!(late, Err(TaskError::TimedOut { .. })), "{late:?}");
    let tasks = [pool.apply(pretend, 0), pool.apply(pretend, 1)];
    for lost in tasks.map(Task::wait) {
        assert!(matches!(lost, Err(TaskError::WorkerLost(_))), "{lost:?}");
    }
}

/// Once all tasks are taken, one takes head back, and all end.
async fn take_head_back(number: u8) {
    let control = own_control();
    let head = &control.part(Part::Heads)[0];
    if number == 0 {
        while head.load(Relaxed) < 32 {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        head.store(3, Relaxed);
    }
    while head.load(Relaxed) != 3 {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

#[test]
fn a_submitter_that_waits_for_records_that_never_come_back_has_the_damage_found() {
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let builder = Pool::builder().processes(1).child_concurrency(16).capacity(16);
        let pool = builder.build().unwrap();
        for n in 0..16 {
            assert_eq!(pool.apply(double, n).wait().unwrap(), 2 * n);
        }
        let all: Vec<_> = (0..16).map(|n| pool.apply(take_head_back, n)).collect();
        // An audit that comes between has the queue's worker killed.
        all.into_iter().for_each(|task| drop(task.wait()));
        // Nothing is pending, and no record can be used again.
        sender.send(pool.apply(double, 8).wait().unwrap()).unwrap();
    });
    assert_eq!(ended.recv_timeout(WATCHDOG), Ok(16));
}

/// Overwrites this worker's phase as fast as it can, for as long as the worker lives.
async fn overwrite_phase(value: u64) -> Result<(), String> {
    let control = own_control();
    std::thread::spawn(move || {
        loop {
            // All reports: that of this worker is one of them.
            for slot in 0..control.shape().slots as usize {
                control.phase_word(slot).store(value, Relaxed);
            }
        }
    });
    Ok(())
}

async fn pid_after(ms: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    std::process::id()
}

#[test]
fn a_worker_whose_phase_is_overwritten_takes_tasks_and_is_no_failed_start() {
    for value in [Phase::Starting as u64, Phase::InitFailed as u64] {
        // Time enough to start in, however busy the machine is.
        let limit = Duration::from_secs(2);
        let builder = Pool::builder().processes(1).capacity(CAPACITY as usize);
        let pool =
            builder.start_timeout(limit).initializer(overwrite_phase, value).build().unwrap();
        let end = Instant::now() + 2 * limit;
        let pid = pool.apply(pid_after, 400).wait().unwrap();
        while Instant::now() < end {
            assert_eq!(pool.apply(pid_after, 1).wait().unwrap(), pid, "the worker was killed");
        }
        pool.terminate();
        pool.join_blocking().unwrap();
    }
}

#[test]
fn a_storm_over_the_reports_costs_the_queue_its_workers_and_not_the_pool() {
    let pool = Pool::builder().processes(2).capacity(CAPACITY as usize).build().unwrap();
    let patient = pool.with(TaskOptions::new().retries(100));
    for _ in 0..10 {
        // Its thread outlives the task.
        let _ = pool.try_apply(overwrite_phase, 0xDEAD).wait();
        for _ in 0..20 {
            assert_ne!(patient.apply(pid_after, 1).wait().unwrap(), 0);
        }
    }
    assert!(pool.stats().damages > 0);
}
