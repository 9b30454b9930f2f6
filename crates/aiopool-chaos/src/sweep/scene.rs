//! The pool of a sweep, the tasks of one visit, and what is checked after it.

use std::time::Duration;

use aiopool::{Pool, PoolBuilder, Task, TaskError, TaskOptions};
use bytes::Bytes;

use super::Path;
use crate::figures::Figures;
use crate::processes::{Process, parent_of, regions, within};
use crate::tracer::{Tracee, waits_for_events};
use crate::{books, tasks};

pub const WATCHDOG: Duration = Duration::from_secs(60);
pub const CAPACITY: usize = 16;
/// More than a record has room for.
const LARGE: usize = 1_500;

/// A pool, with what it must come back to.
pub struct Scene {
    pub pool: Pool,
    pub path: Path,
    workers: usize,
    visits: u64,
    regions: u64,
}

/// A worker that has come out of its sleep for the tasks of one visit.
pub struct Load {
    pub tracee: Tracee,
    pub handles: Handles,
    /// The other worker's task: it stands at the gate.
    pub held: Option<Task<u64>>,
}

impl Scene {
    /// A pool of one worker; of two for the stop sweep.
    pub fn build(path: Path, workers: usize) -> Self {
        Self::with(path, workers, |builder| builder)
    }

    /// The same with more options.
    pub fn with(path: Path, workers: usize, more: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Self {
        let builder = Pool::builder()
            .processes(workers)
            .child_concurrency(4)
            .capacity(CAPACITY)
            .max_payload(64 << 10)
            .output_arena(1 << 20)
            .grace(Duration::from_millis(20));
        let pool = more(builder).build().expect("the pool starts");
        let scene = Self { pool, path, workers, visits: 0, regions: 0 };
        let _ = scene.warm();
        // Request arena, control region, and the outputs of each worker.
        Self { regions: 2 + workers as u64, ..scene }
    }

    /// Brings a worker out of its sleep for the tasks of the path; in a pool of two the other one
    /// stands at the gate.
    pub fn begin(&self, limit: Option<Duration>) -> Option<Load> {
        let mut held = None;
        if self.workers > 1 {
            books::close_gate();
            held = Some(self.pool.apply(tasks::hold, books::number()));
            within(WATCHDOG, || books::gatekeeper().is_some()).then_some(())?;
        }
        let load = self.wake_one(books::gatekeeper(), limit);
        match load {
            Some((tracee, handles)) => Some(Load { tracee, handles, held }),
            None => {
                books::open_gate();
                held.map(|task| task.wait());
                None
            }
        }
    }

    fn wake_one(&self, but: Option<u32>, limit: Option<Duration>) -> Option<(Tracee, Handles)> {
        // The code has run once, and the worker sleeps again.
        if but.is_none() {
            self.warm()?;
        }
        let mut handles = Handles::default();
        let mut nap = None;
        if self.path == Path::Cancel {
            let number = books::number();
            nap = Some((number, self.pool.apply(tasks::nap, (number, 600_000))));
            within(WATCHDOG, || books::runs(number) > 0).then_some(())?;
        }
        let tracee = Tracee::seize(self.sleeper(but)?)?;
        let options = limit.map_or(TaskOptions::new(), |limit| TaskOptions::new().timeout(limit));
        match nap {
            Some((number, mut nap)) => {
                nap.cancel();
                handles.add(number, Of::Nap(nap));
                self.submit(&mut handles, options);
            }
            None => self.submit(&mut handles, options),
        }
        if tracee.to_wake_up() {
            return Some((tracee, handles));
        }
        tracee.release();
        handles.forget();
        None
    }

    /// The tasks of the path.
    pub fn submit(&self, handles: &mut Handles, options: TaskOptions) {
        let small = match self.path {
            Path::Full => CAPACITY + 2,
            Path::Large | Path::Cancel => 2,
            Path::Small | Path::Parked => 1,
            Path::Start | Path::Spawn | Path::Recycle | Path::Shutdown | Path::Zygote => 3,
        };
        if self.path == Path::Large {
            let number = books::number();
            let input = Bytes::from(tasks::pattern(number, LARGE));
            let task = self.pool.with(options).apply(tasks::mirror, (number, input));
            handles.add(number, Of::Large(task));
        }
        self.more(handles, small, options);
    }

    /// Submits this many more small tasks.
    pub fn more(&self, handles: &mut Handles, count: usize, options: TaskOptions) {
        for _ in 0..count {
            let number = books::number();
            let task = self.pool.with(options).apply(tasks::small, number);
            handles.add(number, Of::Small(task));
        }
    }

    /// A worker that waits for work, and is not `but`.
    pub fn sleeper(&self, but: Option<u32>) -> Option<u32> {
        let mut found = None;
        let looks = || {
            let mut pids = self.pool.worker_pids().into_iter().filter(|&pid| Some(pid) != but);
            found = pids.find(|&pid| waits_for_events(pid));
            found.is_some()
        };
        quickly(looks).then_some(())?;
        found
    }

    /// The pool works.
    fn warm(&self) -> Option<()> {
        let number = books::number();
        self.pool.apply(tasks::small, number).wait_timeout(WATCHDOG)?.ok()?;
        if self.path == Path::Large {
            let task = (books::number(), Bytes::from(vec![1; LARGE]));
            self.pool.apply(tasks::mirror, task).wait_timeout(WATCHDOG)?.ok()?;
        }
        Some(())
    }

    /// After a visit: the pool works, and everything is back. Now and then all records at once.
    pub fn check(&mut self, figures: &mut Figures, at: &str) {
        self.visits += 1;
        let all = self.visits.is_multiple_of(32);
        let mut handles = Handles::default();
        let count = if all { CAPACITY } else { 1 };
        self.more(&mut handles, count, TaskOptions::new());
        handles.settle(figures, &format!("after {at}"), Allowed::default());
        let back = || {
            let stats = self.pool.stats();
            stats.free_records == CAPACITY as u64 && stats.input_bytes == 0 && stats.pending == 0
        };
        if !quickly(back) {
            let stats = self.pool.stats();
            figures.wedged += stats.pending;
            figures.leaked += (CAPACITY as u64).abs_diff(stats.free_records) + stats.input_bytes;
            figures.complain(format!("after {at}: {stats:?}"));
        }
        // The memory of the dead is gone.
        let mine = std::process::id();
        if all && !quickly(|| regions(mine) <= self.regions) {
            figures.leaked += regions(mine) - self.regions;
            figures.complain(format!("after {at}: {} regions are mapped", regions(mine)));
        }
    }
}

/// Like [`within`] the watchdog's time, and looked at often at first.
pub fn quickly(mut done: impl FnMut() -> bool) -> bool {
    for look in 0..400 {
        if done() {
            return true;
        }
        if look < 20 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    within(WATCHDOG, done)
}

/// How the tasks of a visit may have ended, besides with their values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Tasks that may end with their worker's death: it runs one at a time.
    pub lost: usize,
    /// With their deadline.
    pub timed_out: bool,
    /// With the end of the pool.
    pub closed: bool,
}

enum Of {
    Small(Task<u64>),
    Nap(Task<u64>),
    Large(Task<Bytes>),
}

struct Handle {
    number: u32,
    task: Of,
    ended: Option<Result<bool, TaskError>>,
}

/// The handles of one visit.
#[derive(Default)]
pub struct Handles(Vec<Handle>);

impl Handles {
    fn add(&mut self, number: u32, task: Of) {
        self.0.push(Handle { number, task, ended: None });
    }

    /// Waits for the tasks of a visit that could not begin.
    fn forget(self) {
        self.settle(
            &mut Figures::default(),
            "",
            Allowed { lost: 1, timed_out: true, closed: true },
        );
    }

    /// Those that have not ended.
    pub fn pending(&mut self) -> usize {
        self.0.iter_mut().filter_map(|handle| (!handle.wait(Duration::ZERO)).then_some(())).count()
    }

    /// Every handle must resolve, with what it can have ended with.
    pub fn settle(mut self, figures: &mut Figures, at: &str, allowed: Allowed) {
        figures.tasks += self.0.len() as u64;
        let mut lost = 0;
        for handle in &mut self.0 {
            handle.wait(WATCHDOG);
            let runs = books::runs(handle.number);
            let wrong = match &handle.ended {
                None => {
                    figures.wedged += 1;
                    Some("did not end".to_owned())
                }
                Some(Ok(true)) if runs == 1 => None,
                Some(Err(TaskError::WorkerLost(_))) if lost < allowed.lost => {
                    lost += 1;
                    None
                }
                Some(Err(TaskError::Cancelled)) if matches!(handle.task, Of::Nap(_)) => None,
                Some(Err(TaskError::TimedOut { .. } | TaskError::NeighbourBlocked(_)))
                    if allowed.timed_out =>
                {
                    figures.count("timed_out", 1);
                    None
                }
                Some(Err(TaskError::PoolClosed { .. })) if allowed.closed => None,
                Some(other) => {
                    figures.wrong += 1;
                    Some(format!("ended with {other:?} after {runs} runs"))
                }
            };
            if let Some(wrong) = wrong {
                figures.complain(format!("{at}: task {} {wrong}", handle.number));
            }
            if runs > 1 {
                figures.doubled += 1;
                figures.complain(format!("{at}: task {} ran {runs} times", handle.number));
            }
        }
        figures.count("worker_lost", lost as u64);
    }
}

impl Handle {
    /// Whether it has ended within `limit`.
    fn wait(&mut self, limit: Duration) -> bool {
        if self.ended.is_none() {
            let number = self.number;
            let right = |value: u64| value == tasks::answer(number);
            self.ended = match &mut self.task {
                Of::Small(task) | Of::Nap(task) => {
                    task.wait_timeout(limit).map(|ended| ended.map(right))
                }
                Of::Large(task) => task
                    .wait_timeout(limit)
                    .map(|ended| ended.map(|bytes| bytes == tasks::pattern(number, LARGE))),
            };
        }
        self.ended.is_some()
    }
}

/// Kills the worker `pid`, whether it was forked or executed.
pub fn kill_worker(pid: u32) -> bool {
    let zygote = parent_of(pid);
    let Some(process) = Process::any(pid) else { return false };
    // Looked at after the pidfd was opened, so it is the pidfd's process.
    zygote.is_some() && parent_of(pid) == zygote && process.signal(libc::SIGKILL)
}
