//! A worker dies, and another time stops, at every crash point that the READMEs number: what they
//! say of it comes true, nothing is lost, doubled or left behind, and the pool goes on.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sync::crash::{Action, Point, WORKERS, arm};
use crate::sys::pidfd;
use crate::{Pool, Task, TaskError, TaskOptions, WorkerExit};

/// Far above what any of this takes.
const WATCHDOG: Duration = Duration::from_secs(120);
/// Records of the pool.
const CAPACITY: usize = 64;
/// Bytes of an output, too many for the record: it goes through the result arena.
const OUTPUT: usize = 300;

/// Where the workers write what the test wants to know.
struct Notes(PathBuf);

impl Notes {
    fn new(name: &str) -> Self {
        // Two tests may be at the same point at the same time.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{pid}-{number}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn text(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }

    /// Returns the worker that was armed, once it is.
    fn armed(&self) -> Option<u32> {
        fs::read_to_string(self.0.join("armed")).ok()?.parse().ok()
    }

    /// Returns how often the user code of each task ran.
    fn runs(&self) -> HashMap<u64, usize> {
        let mut runs = HashMap::new();
        for line in fs::read_to_string(self.0.join("runs")).unwrap_or_default().lines() {
            *runs.entry(line.parse().unwrap()).or_default() += 1;
        }
        runs
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn note_armed(notes: &str) {
    // A reader that sees the file finds it whole.
    let (new, path) = (Path::new(notes).join("new"), Path::new(notes).join("armed"));
    fs::write(&new, std::process::id().to_string()).unwrap();
    fs::rename(new, path).unwrap();
}

/// Has its worker do the action at the point, which this very task may come to.
async fn arm_worker((index, stop, notes): (usize, bool, String)) -> Vec<u8> {
    note_armed(&notes);
    arm(WORKERS[index], if stop { Action::Stop } else { Action::Kill });
    vec![0; OUTPUT]
}

/// Does the same, and does not end by itself.
async fn arm_worker_and_linger((index, stop, notes): (usize, bool, String)) -> Vec<u8> {
    arm(WORKERS[index], if stop { Action::Stop } else { Action::Kill });
    note_armed(&notes);
    std::future::pending().await
}

/// Says that it ran.
async fn victim((number, notes): (u64, String)) -> Vec<u8> {
    use std::io::Write;
    let path = Path::new(&notes).join("runs");
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{number}\n").as_bytes()).unwrap();
    vec![number as u8; OUTPUT]
}

/// A pool, the tasks in it, and what they came to.
struct Scene {
    pool: Pool,
    notes: Notes,
    tasks: Vec<(u64, Task<Vec<u8>>)>,
    /// The numbers of those that ended with a value.
    ok: Vec<u64>,
    lost: usize,
    late: usize,
    next: u64,
    options: TaskOptions,
}

impl Scene {
    fn new(point: Point, action: Action) -> Self {
        Self::with(point, action, TaskOptions::new())
    }

    /// Gives its tasks these options.
    fn with(point: Point, action: Action, options: TaskOptions) -> Self {
        let builder = Pool::builder().processes(2).child_concurrency(2).capacity(CAPACITY);
        // Soon, where tasks have a limit.
        let limited = options != TaskOptions::new();
        let builder = if limited { builder.grace(Duration::from_secs(1)) } else { builder };
        // Retiring is a phase to die at.
        let builder = if point == Point::P1 { builder.max_tasks_per_child(8) } else { builder };
        let notes = Notes::new(&format!("crash-{point:?}-{action:?}"));
        let pool = builder.build().unwrap();
        let (tasks, ok) = (vec![], vec![]);
        let mut scene = Self { pool, notes, tasks, ok, lost: 0, late: 0, next: 1, options };
        // Blocks that come back, for A3.
        scene.submit(4);
        scene.settle();
        scene
    }

    fn submit(&mut self, count: usize) {
        for _ in 0..count {
            // Long enough for the request arena.
            let notes = format!("{}{}", self.notes.text(), "/.".repeat(50));
            let task = self.pool.with(self.options).apply(victim, (self.next, notes));
            self.tasks.push((self.next, task));
            self.next += 1;
        }
    }

    /// Waits for all tasks that were submitted.
    fn settle(&mut self) {
        let end = Instant::now() + WATCHDOG;
        self.collect(end);
        assert!(self.tasks.is_empty(), "{:?} hang: {:?}", self.tasks, self.pool.stats());
    }

    /// Takes the outcomes that come until `end`.
    fn collect(&mut self, end: Instant) {
        let mut left = Vec::new();
        for (number, mut task) in std::mem::take(&mut self.tasks) {
            match task.wait_timeout(end.saturating_duration_since(Instant::now())) {
                None => left.push((number, task)),
                Some(Ok(output)) => {
                    assert_eq!(output, vec![number as u8; OUTPUT]);
                    self.ok.push(number);
                }
                Some(Err(TaskError::WorkerLost(lost))) => {
                    assert!(matches!(lost.exit, WorkerExit::Signalled { signal: 9, .. }), "{lost}");
                    self.lost += 1;
                }
                Some(Err(TaskError::TimedOut { .. })) if self.options != TaskOptions::new() => {
                    self.late += 1;
                }
                Some(Err(error)) => panic!("task {number}: {error}"),
            }
        }
        self.tasks = left;
    }

    /// Has one of the workers do `action` at `point`, and says which.
    fn arm(&mut self, point: Point, action: Action) -> u32 {
        let index = WORKERS.iter().position(|known| *known == point).unwrap();
        let order = (index, action == Action::Stop, self.notes.text());
        if point != Point::C8 {
            // Number 0: it writes no line.
            self.tasks.push((0, self.pool.apply(arm_worker, order)));
            return self.wait_for(|scene| scene.notes.armed());
        }
        let mut task = self.pool.apply(arm_worker_and_linger, order);
        let pid = self.wait_for(|scene| scene.notes.armed());
        task.cancel();
        let outcome = task.wait_timeout(WATCHDOG).expect("a cancelled task is over");
        assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
        pid
    }

    fn wait_for<T>(&mut self, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + WATCHDOG;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < end, "{:?}", self.pool.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Keeps both workers busy, until `look` finds something.
    fn work_until(&mut self, mut look: impl FnMut(&Self) -> bool) {
        self.wait_for(|scene| {
            if scene.tasks.len() < CAPACITY / 2 {
                scene.submit(3);
            }
            // What the armed worker holds may take until it is continued.
            scene.collect(Instant::now() + Duration::from_millis(20));
            look(scene).then_some(())
        });
    }

    /// Nothing is lost, doubled or left behind.
    fn check_books(mut self) {
        self.submit(20);
        self.settle();
        let runs = self.notes.runs();
        assert!(runs.values().all(|runs| *runs == 1), "{runs:?}");
        let ran = |number: &u64| *number == 0 || runs.contains_key(number);
        assert!(self.ok.iter().all(ran), "a value of a task that never ran");
        self.wait_for(|scene| {
            let stats = scene.pool.stats();
            let back = (stats.free_records, stats.input_bytes, stats.pending);
            (back == (CAPACITY as u64, 0, 0)).then_some(())
        });
        assert_eq!(self.pool.stats().damages, 0);
        self.pool.close();
        self.pool.join_blocking().unwrap();
    }
}

/// Returns how many tasks the death costs, and how many it has queued again.
fn cost(point: Point) -> (usize, u64) {
    match point {
        // Nothing was claimed.
        Point::C1 | Point::B8 => (0, 0),
        // Claimed, and no user code ran.
        Point::C2 | Point::C3 | Point::B7 => (0, 1),
        // Running.
        Point::C4 | Point::C5 | Point::A1 | Point::A2 | Point::A3 | Point::P1 => (1, 0),
        // Done, or over before.
        Point::C6 | Point::C7 | Point::C8 | Point::B3 => (0, 0),
        other => unreachable!("{other:?} is no worker's"),
    }
}

#[test]
fn a_worker_that_dies_at_a_crash_point_costs_what_the_readme_says() {
    for point in WORKERS {
        let mut scene = Scene::new(point, Action::Kill);
        let pid = scene.arm(point, Action::Kill);
        scene.work_until(|scene| scene.pool.stats().deaths == 1);
        scene.settle();
        let (lost, requeued) = cost(point);
        let stats = scene.pool.stats();
        let costs = (scene.lost, stats.requeued);
        // A worker that has nothing to do takes blocks back, too: then its death costs nothing.
        let cheaper = point == Point::A3 && costs == (0, 0);
        assert!(costs == (lost, requeued) || cheaper, "{point:?}, {costs:?}: {stats:?}");
        assert!(!scene.pool.worker_pids().contains(&pid), "{point:?}");
        scene.check_books();
    }
}

#[test]
fn a_worker_that_stops_at_a_crash_point_holds_up_what_it_has_and_nothing_else() {
    for point in WORKERS {
        let mut scene = Scene::new(point, Action::Stop);
        let pid = scene.arm(point, Action::Stop);
        let stopped = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        };
        scene.work_until(|_| stopped());
        // What was there before may be in its hands; what comes now is not.
        let held = std::mem::take(&mut scene.tasks);
        scene.submit(20);
        scene.settle();
        scene.tasks = held;
        assert!(stopped(), "{point:?}");
        let process = pidfd::open(pid).unwrap();
        pidfd::send_signal(process.as_fd(), libc::SIGCONT).unwrap();
        scene.settle();
        assert_eq!((scene.lost, scene.pool.stats().deaths), (0, 0), "{point:?}");
        scene.check_books();
    }
}

#[test]
fn a_worker_that_stops_with_a_task_it_has_not_begun_does_not_hold_up_the_tasks_limit() {
    // Longer than a busy machine holds up a worker that runs.
    let limit = Duration::from_millis(500);
    let limits = [TaskOptions::new().timeout(limit), TaskOptions::new().queue_ttl(limit)];
    for (point, options) in [Point::C2, Point::C3].into_iter().zip(limits) {
        let mut scene = Scene::with(point, Action::Stop, options);
        let pid = scene.arm(point, Action::Stop);
        // It is not continued: the limits of what it holds have to end it.
        scene.work_until(|scene| scene.pool.stats().killed_for_deadline == 1);
        scene.settle();
        assert!(!scene.pool.worker_pids().contains(&pid), "{point:?}");
        assert_eq!(scene.lost, 0, "{point:?}: no code of a task was running");
        scene.check_books();
    }
}
