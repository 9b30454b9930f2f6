//! `soak`: mixed load while workers are killed and stopped at random, and the books after it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aiopool::{Pool, Stats, Task, TaskError, TaskOptions};

use crate::figures::Figures;
use crate::processes::{Process, allocated_kib, anon_kib, fds, parent_of, regions, within};
use crate::random::Random;
use crate::{Ask, books, tasks};

const CLIENTS: u64 = 48;
const QUEUES: usize = 2;
const CAPACITY: usize = 1024;
const LARGEST: usize = 16 << 20;
/// Longer than any task here can take on any machine.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Growth of what the host has allocated that is still no leak: lists that have grown.
const SLACK_KIB: u64 = 8 << 10;
/// The zygote keeps next to nothing.
const ZYGOTE_SLACK_KIB: u64 = 1 << 10;

/// Everything the clients and the killer share.
struct Run {
    pool: Pool,
    began: Instant,
    until: Until,
    stopping: AtomicBool,
    tasks: AtomicU64,
    kills: AtomicU64,
    resolved: AtomicU64,
    dropped: AtomicU64,
    lost_workers: AtomicU64,
    figures: Mutex<Figures>,
}

/// When it is over: all of it must have come.
#[derive(Clone, Copy)]
struct Until {
    time: Duration,
    tasks: u64,
    kills: u64,
}

impl Run {
    /// How much of it is over, in hundredths.
    fn progress(&self) -> u64 {
        let part = |done: u64, all: u64| (done * 100).checked_div(all).unwrap_or(100);
        let time =
            part(self.began.elapsed().as_millis() as u64, self.until.time.as_millis() as u64);
        let tasks = part(self.tasks.load(Relaxed), self.until.tasks);
        let kills = part(self.kills.load(Relaxed), self.until.kills);
        time.min(tasks).min(kills)
    }

    fn is_over(&self) -> bool {
        self.progress() >= 100
    }
}

/// Runs it.
pub fn run(ask: Ask) -> Figures {
    books::open();
    aiopool::init().expect("nothing was started before");
    let counted = ask.tasks.is_some() || ask.kills.is_some();
    let seconds = ask.seconds.unwrap_or(match (counted, ask.quick) {
        (true, _) => 0,
        (false, true) => 20,
        (false, false) => 600,
    });
    let until = Until {
        time: Duration::from_secs(seconds),
        tasks: ask.tasks.unwrap_or(0),
        kills: ask.kills.unwrap_or(0),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system refuses a runtime");
    let pool = build();
    let run = Arc::new(Run {
        pool,
        began: Instant::now(),
        until,
        stopping: AtomicBool::new(false),
        tasks: AtomicU64::new(0),
        kills: AtomicU64::new(0),
        resolved: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        lost_workers: AtomicU64::new(0),
        figures: Mutex::default(),
    });
    let me = std::process::id();
    let zygote = run.pool.worker_pids().iter().find_map(|&pid| parent_of(pid)).unwrap_or(me);
    runtime.block_on(async {
        for _ in 0..8 {
            let _ = small(&run, TaskOptions::new()).await;
        }
        // Longer than any spin: the runtime listens from now on, by a descriptor of its own.
        nap(&run, 100, TaskOptions::new()).await;
    });
    let before = (fds(me), fds(zygote));
    let killer = {
        let run = Arc::clone(&run);
        std::thread::spawn(move || kill_and_stop(&run))
    };
    let mut warm = None;
    runtime.block_on(async {
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| tokio::spawn(client(Arc::clone(&run), n))).collect();
        while run.progress() < 33 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        warm = Some(allocated_kib()).zip(anon_kib(zygote));
        for client in clients {
            if client.await.is_err() {
                run.figures.lock().unwrap().wrong += 1;
            }
        }
    });
    run.stopping.store(true, Relaxed);
    killer.join().expect("the killer does not panic");
    // Workers that were stopped or are starting get done; then everything must be back.
    settle(&run, &runtime);
    let stats = run.pool.stats();
    let after = settled_fds(|| (fds(me), fds(zygote)), &before);
    let (host, zygotes) = warm.unwrap_or_default();
    let grown = allocated_kib().saturating_sub(host);
    let zygote_grown = anon_kib(zygote).unwrap_or(0).saturating_sub(zygotes);
    let run = Arc::into_inner(run).expect("clients and killer are over");
    let mut figures = run.figures.into_inner().unwrap();
    figures.tasks = run.tasks.load(Relaxed);
    let handles = run.resolved.load(Relaxed) + run.dropped.load(Relaxed);
    audit(&mut figures, &stats, handles);
    if before != after {
        figures.leaked += 1;
        figures.complain(format!("descriptors of host and zygote: {before:?}, then {after:?}"));
    }
    if grown > SLACK_KIB {
        figures.leaked += 1;
        figures.complain(format!("the host's own memory grew by {grown} KiB"));
    }
    if zygote_grown > ZYGOTE_SLACK_KIB {
        figures.leaked += 1;
        figures.complain(format!("the zygote's own memory grew by {zygote_grown} KiB"));
    }
    figures.count("memory_growth_kib", grown);
    figures.count("zygote_growth_kib", zygote_grown);
    let pids = run.pool.worker_pids();
    run.pool.close();
    run.pool.join_blocking().unwrap_or_else(|error| {
        figures.wrong += 1;
        figures.complain(format!("the pool ended with: {error}"));
    });
    drop(run.pool);
    let gone = || pids.iter().all(|&pid| Process::worker(pid).is_none()) && regions(me) == 0;
    if !within(WATCHDOG, gone) {
        figures.leaked += 1;
        figures.complain("workers or regions are left after join");
    }
    figures
}

fn build() -> Pool {
    Pool::builder()
        .processes(4)
        .queues(QUEUES)
        .child_concurrency(4)
        .capacity(CAPACITY)
        .max_tasks_per_child(3_000)
        .max_payload(LARGEST + 64)
        .input_arena(128 << 20)
        .output_arena(64 << 20)
        .grace(Duration::from_millis(100))
        .build()
        .expect("the pool starts")
}

/// Waits until nothing is pending and every record is back; a task per worker has lanes drained.
fn settle(run: &Arc<Run>, runtime: &tokio::runtime::Runtime) {
    let full = (QUEUES * CAPACITY) as u64;
    let end = Instant::now() + WATCHDOG;
    loop {
        runtime.block_on(async {
            for _ in 0..4 {
                let _ = small(run, TaskOptions::new()).await;
            }
        });
        let stats = run.pool.stats();
        let back = stats.pending == 0 && stats.free_records == full && stats.input_bytes == 0;
        if back && stats.workers == 4 || Instant::now() > end {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What `count` says as soon as it is what was there `before`, or after the watchdog's time: the
/// descriptors of a worker are closed when it is buried, which on a busy machine takes its time.
fn settled_fds<T: PartialEq>(count: impl Fn() -> T, before: &T) -> T {
    let end = Instant::now() + WATCHDOG;
    loop {
        let now = count();
        if now == *before || Instant::now() > end {
            return now;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn audit(figures: &mut Figures, stats: &Stats, handles: u64) {
    let outcomes = stats.outcomes();
    if stats.submitted > outcomes {
        figures.lost += stats.submitted - outcomes;
    }
    figures.doubled += outcomes.saturating_sub(stats.submitted);
    figures.lost += figures.tasks.saturating_sub(handles);
    figures.wedged += stats.pending;
    let missing = (QUEUES * CAPACITY) as u64 - stats.free_records.min((QUEUES * CAPACITY) as u64);
    figures.leaked += missing + stats.input_bytes;
    if missing + stats.input_bytes + stats.pending > 0 || stats.submitted != outcomes {
        figures.complain(format!("{stats:?}"));
    }
    let counted = [
        ("deaths", stats.deaths),
        ("recycles", stats.recycles),
        ("retries", stats.retries),
        ("requeued", stats.requeued),
        ("ok", stats.ok),
        ("failed", stats.failed),
        ("panicked", stats.panicked),
        ("cancelled", stats.cancelled),
        ("timed_out", stats.timed_out),
        ("worker_lost", stats.worker_lost),
        ("other", stats.other),
    ];
    counted.into_iter().for_each(|(name, n)| figures.count(name, n));
}

/// Kills and stops workers until the clients are done.
fn kill_and_stop(run: &Run) {
    let mut random = Random(0x5EED);
    let mut stopped: Vec<(Instant, Process)> = Vec::new();
    while !run.stopping.load(Relaxed) {
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let now = Instant::now();
        stopped.retain(|(until, process)| *until > now || !process.signal(libc::SIGCONT));
        let pids = run.pool.worker_pids();
        // A second of peace in three, so that what takes longer than a worker's life gets done.
        let peace = run.began.elapsed().as_secs() % 3 == 2;
        if pids.is_empty() || run.is_over() || peace {
            continue;
        }
        let pid = pids[random.below(pids.len() as u64) as usize];
        let Some(process) = Process::worker(pid) else { continue };
        let kill = random.below(100) < 80;
        if !process.signal(if kill { libc::SIGKILL } else { libc::SIGSTOP }) {
            continue;
        }
        let mut figures = run.figures.lock().unwrap();
        if kill {
            figures.kills += 1;
            run.kills.fetch_add(1, Relaxed);
        } else {
            figures.stops += 1;
            stopped.push((now + Duration::from_millis(random.below(120)), process));
        }
    }
    for (_, process) in stopped {
        process.signal(libc::SIGCONT);
    }
}

async fn client(run: Arc<Run>, number: u64) {
    let mut random = Random(number * 0x1234_5678_9ABC + 1);
    while !run.is_over() {
        one(&run, &mut random).await;
    }
}

/// One task, or one burst of them, of a kind chosen at random.
async fn one(run: &Run, random: &mut Random) {
    let options = match random.below(4) {
        0 => TaskOptions::new().retries(3),
        1 => TaskOptions::new().retries(2).backoff(Duration::from_millis(random.below(20))),
        _ => TaskOptions::new(),
    };
    match random.below(1000) {
        0..400 => small(run, options).await,
        400..500 => burst(run, random.below(300) as usize, options).await,
        500..640 => {
            let (number, len) = (books::number(), size(random));
            let task = run.pool.with(options).apply(tasks::make, (number, len));
            let right = |out: &bytes::Bytes| *out == tasks::pattern(number, len);
            settled(run, number, options, task, right, |_| false).await;
        }
        640..760 => {
            let (number, len) = (books::number(), size(random));
            let bytes = tasks::pattern(number, len);
            let sum = (len, bytes.iter().map(|&byte| u64::from(byte)).sum());
            let task = run.pool.with(options).apply(tasks::weigh, (number, bytes));
            settled(run, number, options, task, |out| *out == sum, |_| false).await;
        }
        760..800 => {
            let number = books::number();
            let task = run.pool.with(options).try_apply(tasks::fail, number);
            let text = format!("no {number}");
            let expected =
                |error: &TaskError| matches!(error, TaskError::Failed(f) if f.message() == text);
            settled(run, number, options, task, |_| false, expected).await;
        }
        800..802 => {
            let number = books::number();
            let task = run.pool.with(options).apply(tasks::panic, number);
            let expected = |error: &TaskError| matches!(error, TaskError::Panicked(_));
            settled(run, number, options, task, |_| false, expected).await;
        }
        802..805 => {
            let number = books::number();
            let task = run.pool.with(options).apply(tasks::die, number);
            settled(run, number, options, task, |_| false, |_| false).await;
        }
        805..870 => cancelled(run, random, options).await,
        870..930 => dropped(run, random).await,
        930..990 => timed_out(run, random, options, false).await,
        990..993 => timed_out(run, random, options, true).await,
        _ => {
            nap(run, random.below(30), options).await;
        }
    }
}

async fn small(run: &Run, options: TaskOptions) {
    let number = books::number();
    let task = run.pool.with(options).apply(tasks::small, number);
    settled(run, number, options, task, |out| *out == tasks::answer(number), |_| false).await;
}

async fn nap(run: &Run, millis: u64, options: TaskOptions) {
    let number = books::number();
    let task = run.pool.with(options).apply(tasks::nap, (number, millis));
    settled(run, number, options, task, |out| *out == tasks::answer(number), |_| false).await;
}

/// A whole `map`.
async fn burst(run: &Run, len: usize, options: TaskOptions) {
    let numbers: Vec<u32> = (0..len).map(|_| books::number()).collect();
    run.tasks.fetch_add(len as u64, Relaxed);
    let map = run.pool.with(options).map(tasks::small, numbers.clone()).results();
    let Ok(results) = tokio::time::timeout(WATCHDOG, map).await else {
        let mut figures = run.figures.lock().unwrap();
        figures.wedged += 1;
        figures.complain(format!("a map of {len} did not end: {:?}", run.pool.stats()));
        return;
    };
    run.resolved.fetch_add(results.len() as u64, Relaxed);
    for (number, result) in numbers.into_iter().zip(results) {
        check(run, number, options, &result, |out| *out == tasks::answer(number), |_| false);
    }
}

async fn cancelled(run: &Run, random: &mut Random, options: TaskOptions) {
    let number = books::number();
    let mut task = run.pool.with(options).apply(tasks::nap, (number, random.below(40)));
    if random.below(2) == 0 {
        tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
    }
    task.cancel();
    let expected = |error: &TaskError| matches!(error, TaskError::Cancelled);
    let right = |out: &u64| *out == tasks::answer(number);
    settled(run, number, options, task, right, expected).await;
}

async fn dropped(run: &Run, random: &mut Random) {
    let number = books::number();
    run.tasks.fetch_add(1, Relaxed);
    let mut task = run.pool.apply(tasks::nap, (number, random.below(40)));
    let wait = Duration::from_micros(random.below(3_000));
    // Polled, so that one that waits for room is submitted, and given up in the midst of it.
    let _ = tokio::time::timeout(wait, &mut task).await;
    drop(task);
    run.dropped.fetch_add(1, Relaxed);
}

async fn timed_out(run: &Run, random: &mut Random, options: TaskOptions, stubborn: bool) {
    let number = books::number();
    let options = options.timeout(Duration::from_millis(1 + random.below(10)));
    let submit = run.pool.with(options);
    let millis = if stubborn { 400 } else { 5 + random.below(400) };
    let task = if stubborn {
        submit.apply(tasks::block, (number, millis))
    } else {
        submit.apply(tasks::nap, (number, millis))
    };
    let expected = |error: &TaskError| {
        matches!(error, TaskError::TimedOut { started: true, .. } | TaskError::NeighbourBlocked(_))
    };
    settled(run, number, options, task, |out| *out == tasks::answer(number), expected).await;
}

/// Awaits `task` and checks what it ended with.
async fn settled<T: serde::de::DeserializeOwned + 'static>(
    run: &Run,
    number: u32,
    options: TaskOptions,
    task: Task<T>,
    right: impl Fn(&T) -> bool,
    expected: impl Fn(&TaskError) -> bool,
) {
    run.tasks.fetch_add(1, Relaxed);
    match tokio::time::timeout(WATCHDOG, task).await {
        Ok(result) => {
            run.resolved.fetch_add(1, Relaxed);
            check(run, number, options, &result, right, expected);
        }
        Err(_) => {
            let mut figures = run.figures.lock().unwrap();
            figures.wedged += 1;
            figures.complain(format!("a task did not end: {:?}", run.pool.stats()));
        }
    }
}

/// Whether `result` is something that the task can have ended with, and how often it ran.
fn check<T>(
    run: &Run,
    number: u32,
    options: TaskOptions,
    result: &Result<T, TaskError>,
    right: impl Fn(&T) -> bool,
    expected: impl Fn(&TaskError) -> bool,
) {
    let runs = books::runs(number);
    let may_repeat = options != TaskOptions::new() && options != retries_off(options);
    let mut complaint = None;
    match result {
        Ok(value) if !right(value) => complaint = Some("a wrong value".to_owned()),
        Ok(_) if runs == 0 => complaint = Some("a value without a run".to_owned()),
        Ok(_) => {}
        Err(TaskError::WorkerLost(_)) => {
            run.lost_workers.fetch_add(1, Relaxed);
        }
        Err(error) if !expected(error) => complaint = Some(format!("an unexpected end: {error}")),
        Err(_) => {}
    }
    if complaint.is_none() && (runs <= 1 || may_repeat) {
        return;
    }
    let mut figures = run.figures.lock().unwrap();
    if let Some(complaint) = complaint {
        figures.wrong += 1;
        figures.complain(complaint);
    }
    if runs > 1 && !may_repeat {
        figures.doubled += 1;
        figures.complain(format!("a task that may run once ran {runs} times"));
    }
}

fn retries_off(options: TaskOptions) -> TaskOptions {
    options.retries(0)
}

/// A length from 0 to [`LARGEST`], most of them small.
fn size(random: &mut Random) -> usize {
    let bits = match random.below(100) {
        0..60 => random.below(9),
        60..97 => random.below(17),
        97..99 => random.below(22),
        _ => 24,
    };
    random.below((1 << bits) + 1) as usize
}
