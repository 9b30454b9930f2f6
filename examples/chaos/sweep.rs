//! `sweep` and `stop`: a worker of this release build stepped from its wake-up through claim,
//! run, output, completion and ring back to sleep, and killed, or stopped, after each step.
//!
//! Kill points with no write to shared memory between them leave the same state: for the kill
//! sweep, `--quick` visits each of these states once and samples the rest.

use std::time::{Duration, Instant};

use aiopool::{Pool, Task, TaskError, TaskOptions};

use crate::figures::Figures;
use crate::processes::{Process, within};
use crate::tracer::{Step, Tracee, Watched};
use crate::{Ask, books, tasks};

const WATCHDOG: Duration = Duration::from_secs(20);
const CAPACITY: usize = 16;

/// A path that is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// Eight bytes in, eight out.
    Small,
    /// The same with a host that sleeps on its doorbell.
    Parked,
    /// 4 KiB in and out, both through an arena.
    Large,
    /// A task in flight is called off.
    Cancel,
    /// Every record is taken.
    Full,
}

const PATHS: [Path; 5] = [Path::Small, Path::Parked, Path::Large, Path::Cancel, Path::Full];

/// Where a worker is killed or stopped.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// After so many instructions.
    Step(u64),
    /// Right after so many writes to shared memory.
    Write(u64),
}

/// Runs the kill sweep.
pub fn run(ask: Ask) -> Figures {
    start();
    let mut figures = Figures::default();
    let limit = ask.seconds.or(ask.quick.then_some(25)).map(Duration::from_secs);
    let began = Instant::now();
    for (done, path) in PATHS.into_iter().enumerate() {
        let share = limit.map(|limit| limit * (done as u32 + 1) / PATHS.len() as u32);
        sweep(&mut figures, path, ask.quick, |figures, pool, path, point| {
            kill_at(figures, pool, path, point);
            share.is_none_or(|share| began.elapsed() < share)
        });
    }
    figures
}

/// Runs the stop sweep.
pub fn run_stops(ask: Ask) -> Figures {
    start();
    let mut figures = Figures::default();
    let limit = ask.seconds.or(ask.quick.then_some(25)).map(Duration::from_secs);
    let began = Instant::now();
    let paths = [Path::Small, Path::Parked, Path::Large, Path::Cancel];
    for (done, path) in paths.into_iter().enumerate() {
        let share = limit.map(|limit| limit * (done as u32 + 1) / paths.len() as u32);
        sweep(&mut figures, path, ask.quick, |figures, pool, path, point| {
            stop_at(figures, pool, path, point);
            share.is_none_or(|share| began.elapsed() < share)
        });
    }
    figures
}

fn start() {
    crate::processes::hurry();
    books::open();
    aiopool::init().expect("nothing was started before");
}

fn build() -> Pool {
    Pool::builder()
        .processes(1)
        .child_concurrency(4)
        .capacity(CAPACITY)
        .max_payload(64 << 10)
        .grace(Duration::from_millis(20))
        .build()
        .expect("the pool starts")
}

/// Measures the path and visits its points until `visit` says that time is up.
fn sweep(
    figures: &mut Figures,
    path: Path,
    quick: bool,
    mut visit: impl FnMut(&mut Figures, &Pool, Path, Point) -> bool,
) {
    let pool = build();
    let Some((steps, writes)) = measure(figures, &pool, path) else {
        figures.wrong += 1;
        figures.complain(format!("{path:?}: the path could not be measured"));
        return;
    };
    figures.count("path_steps", steps);
    figures.count("path_states", writes + 1);
    let states = (0..=writes).map(Point::Write);
    let stride = if quick { (steps / 40).max(1) } else { 1 };
    let every = (1..=steps).step_by(stride as usize).map(Point::Step);
    let mut visited = 0;
    let points: Vec<Point> = states.chain(every).collect();
    let all = points.len();
    for point in points {
        visited += 1;
        if !visit(figures, &pool, path, point) {
            break;
        }
    }
    if figures.kills + figures.stops == 0 {
        figures.wrong += 1;
        figures.complain(format!("{path:?}: no point was reached"));
    }
    figures.count("points_visited", visited);
    figures.count("points_not_visited", all as u64 - visited);
    check_books(figures, &pool, path);
}

/// The instructions from wake-up to sleep, and how many of them write to shared memory.
fn measure(figures: &mut Figures, pool: &Pool, path: Path) -> Option<(u64, u64)> {
    let load = Load::begin(pool, path)?;
    let mut watched = Watched::open()?;
    let (mut steps, mut writes) = (0, 0);
    watched.changed();
    while load.tracee.step() == Step::Stopped {
        steps += 1;
        writes += u64::from(watched.changed());
        if steps > 3_000_000 {
            return None;
        }
    }
    figures.steps += steps;
    // It sleeps: the step that put it to sleep is not over.
    if !load.tracee.interrupt() {
        return None;
    }
    load.tracee.release();
    load.handles.settle(figures, path, None);
    Some((steps, writes))
}

/// A worker about to wake up for work.
struct Load {
    tracee: Tracee,
    pid: u32,
    handles: Handles,
}

/// The tasks of one visit.
struct Handles {
    /// The one that the worker wakes up for.
    first: Task<u64>,
    large: Option<Task<(usize, u64)>>,
    others: Vec<(u32, Task<u64>)>,
    number: u32,
}

impl Load {
    fn begin(pool: &Pool, path: Path) -> Option<Self> {
        // The code has run once, and the worker sleeps again.
        warm(pool, path)?;
        let pid = *pool.worker_pids().first()?;
        let number = books::number();
        let early = (path == Path::Cancel).then(|| pool.apply(tasks::nap, (number, 600_000)));
        if early.is_some() && !within(WATCHDOG, || books::runs(number) > 0) {
            return None;
        }
        within(WATCHDOG, || sleeps(pid)).then_some(())?;
        let tracee = Tracee::seize(pid)?;
        let mut large = None;
        let mut others = Vec::new();
        let first = match early {
            Some(mut nap) => {
                nap.cancel();
                nap
            }
            None if path == Path::Large => {
                let input = vec![1_u8; 4 << 10];
                large = Some(pool.apply(tasks::weigh, (number, input)));
                let second = books::number();
                others.push((second, pool.apply(tasks::small, second)));
                let third = books::number();
                pool.apply(tasks::small, third)
            }
            None => pool.apply(tasks::small, number),
        };
        if path == Path::Full {
            for _ in 0..CAPACITY + 2 {
                let number = books::number();
                others.push((number, pool.apply(tasks::small, number)));
            }
        }
        if !tracee.to_wake_up() {
            tracee.release();
            return None;
        }
        Some(Self { tracee, pid, handles: Handles { first, large, others, number } })
    }
}

/// Steps to `point`; false if the worker went to sleep or died before.
fn go_to(tracee: &Tracee, figures: &mut Figures, point: Point) -> bool {
    let mut watched = Watched::open();
    let (mut steps, mut writes) = (0, 0);
    loop {
        let there = match point {
            Point::Step(wanted) => steps >= wanted,
            Point::Write(wanted) => writes >= wanted,
        };
        if there {
            return true;
        }
        if tracee.step() != Step::Stopped {
            return false;
        }
        steps += 1;
        figures.steps += 1;
        if matches!(point, Point::Write(_)) {
            writes += u64::from(watched.as_mut().is_some_and(Watched::changed));
        }
    }
}

impl Handles {
    /// Every handle must resolve with what it can have ended with. `deadline`: the first task may
    /// have timed out.
    fn settle(mut self, figures: &mut Figures, path: Path, point: Option<Point>) {
        figures.tasks += 1 + self.others.len() as u64 + u64::from(self.large.is_some());
        let at = format!("{path:?} at {point:?}");
        let mut check =
            |what: &str, ended: Option<Result<bool, TaskError>>, called_off: bool| match ended {
                None => {
                    figures.wedged += 1;
                    figures.complain(format!("{at}: the {what} task did not end"));
                }
                Some(Ok(true)) => {}
                Some(Err(TaskError::WorkerLost(_))) if point.is_some() => {
                    figures.count("worker_lost", 1);
                }
                Some(Err(TaskError::Cancelled)) if called_off => {}
                Some(other) => {
                    figures.wrong += 1;
                    figures.complain(format!("{at}: the {what} task ended with {other:?}"));
                }
            };
        let mut doubled = 0;
        let number = self.number;
        let first = self.first.wait_timeout(WATCHDOG);
        let right = |value: u64| path == Path::Large || value == tasks::answer(number);
        check("first", first.map(|r| r.map(right)), path == Path::Cancel);
        if let Some(mut large) = self.large {
            let ended = large.wait_timeout(WATCHDOG);
            check("large", ended.map(|r| r.map(|out| out.0 == 4 << 10)), false);
        }
        for (number, mut other) in self.others {
            let ended = other.wait_timeout(WATCHDOG);
            check("other", ended.map(|r| r.map(|value| value == tasks::answer(number))), false);
            doubled += u64::from(books::runs(number) > 1);
        }
        doubled += u64::from(books::runs(number) > 1);
        figures.doubled += doubled;
    }
}

fn kill_at(figures: &mut Figures, pool: &Pool, path: Path, point: Point) {
    let Some(load) = begin(figures, pool, path) else { return };
    if path == Path::Parked {
        return kill_parked(figures, pool, load, point);
    }
    go_to(&load.tracee, figures, point);
    figures.kills += 1;
    load.tracee.kill();
    load.handles.settle(figures, path, Some(point));
    check_pool(figures, pool, path, point);
}

/// The host waits on its doorbell in a thread of its own while the worker is stepped.
fn kill_parked(figures: &mut Figures, pool: &Pool, load: Load, point: Point) {
    let Load { tracee, handles, .. } = load;
    let mut waited = Figures::default();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| handles.settle(&mut waited, Path::Parked, Some(point)));
        // Long enough to be parked; nothing depends on it.
        std::thread::sleep(Duration::from_millis(2));
        go_to(&tracee, figures, point);
        figures.kills += 1;
        tracee.kill();
        waiter.join().expect("the waiter does not panic");
    });
    figures.add(waited);
    check_pool(figures, pool, Path::Parked, point);
}

/// The same, stopped instead of killed; every third is given up by deadline.
fn stop_at(figures: &mut Figures, pool: &Pool, path: Path, point: Point) {
    let Some(load) = begin(figures, pool, path) else { return };
    go_to(&load.tracee, figures, point);
    let Load { tracee, pid, handles } = load;
    let Some(process) = Process::worker(pid) else { return };
    figures.stops += 1;
    tracee.leave_stopped();
    // The host does not block on a stopped worker: submitting and asking take no time to speak
    // of; the watchdog is for a host that hangs.
    let number = books::number();
    let limit = TaskOptions::new().timeout(Duration::from_millis(10));
    let mut late = pool.with(limit).apply(tasks::small, number);
    let _ = pool.stats();
    let _ = late.wait_timeout(Duration::from_millis(1));
    if figures.stops.is_multiple_of(3) {
        process.signal(libc::SIGKILL);
        figures.kills += 1;
    } else {
        process.signal(libc::SIGCONT);
    }
    handles.settle(figures, path, Some(point));
    figures.tasks += 1;
    match late.wait_timeout(WATCHDOG) {
        None => {
            figures.wedged += 1;
            figures.complain(format!("{path:?} at {point:?}: the late task did not end"));
        }
        Some(Ok(_) | Err(TaskError::TimedOut { .. } | TaskError::WorkerLost(_))) => {}
        Some(other) => {
            figures.wrong += 1;
            figures.complain(format!("{path:?} at {point:?}: the late task said {other:?}"));
        }
    }
    check_pool(figures, pool, path, point);
}

fn begin(figures: &mut Figures, pool: &Pool, path: Path) -> Option<Load> {
    for _ in 0..5 {
        if let Some(load) = Load::begin(pool, path) {
            return Some(load);
        }
        figures.count("begun_again", 1);
    }
    // The tracer's failure, not the pool's: the pool must work all the same, and the next point
    // begins with another worker.
    figures.count("points_not_begun", 1);
    check_pool(figures, pool, path, Point::Step(0));
    for process in pool.worker_pids().into_iter().filter_map(Process::worker) {
        process.signal(libc::SIGKILL);
    }
    None
}

/// The pool still works, and its worker is up and asleep again.
fn warm(pool: &Pool, path: Path) -> Option<()> {
    let number = books::number();
    pool.apply(tasks::small, number).wait_timeout(WATCHDOG)?.ok()?;
    if path == Path::Large {
        let task = (books::number(), vec![1_u8; 4 << 10]);
        pool.apply(tasks::weigh, task).wait_timeout(WATCHDOG)?.ok()?;
    }
    Some(())
}

fn check_pool(figures: &mut Figures, pool: &Pool, path: Path, point: Point) {
    figures.tasks += 1;
    let number = books::number();
    match pool.apply(tasks::small, number).wait_timeout(WATCHDOG) {
        Some(Ok(value)) if value == tasks::answer(number) => {}
        other => {
            figures.wedged += 1;
            figures.complain(format!("{path:?} at {point:?}: afterwards the pool says {other:?}"));
        }
    }
    let stats = pool.stats();
    if stats.pending > 0 {
        figures.lost += stats.pending;
        figures.complain(format!("{path:?} at {point:?}: {stats:?}"));
    }
}

/// Every record and every byte is back.
fn check_books(figures: &mut Figures, pool: &Pool, path: Path) {
    let back = || {
        let _ = pool.apply(tasks::small, books::number()).wait_timeout(WATCHDOG);
        let stats = pool.stats();
        stats.free_records == CAPACITY as u64 && stats.input_bytes == 0 && stats.pending == 0
    };
    if !within(WATCHDOG, back) {
        let stats = pool.stats();
        figures.leaked += (CAPACITY as u64).abs_diff(stats.free_records) + stats.input_bytes;
        figures.complain(format!("{path:?}: {stats:?}"));
    }
}

/// Whether the process waits in a system call.
fn sleeps(pid: u32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split_whitespace().next().and_then(|n| n.parse::<i64>().ok());
    // 232, 281 and 441: epoll_wait, epoll_pwait and epoll_pwait2 on x86-64; 22 on aarch64.
    matches!(number, Some(232 | 281 | 441 | 22))
}
