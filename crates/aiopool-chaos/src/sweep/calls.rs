//! Start-up, recycling, shutdown and the zygote's work, cut at every entry and exit of a system
//! call and at every write to shared memory.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use aiopool::{Pool, StartMethod, TaskOptions};

use super::scene::{Allowed, Handles, Scene, WATCHDOG, kill_worker, quickly};
use super::trace::{Trace, Watched};
use super::{Path, Points};
use crate::figures::Figures;
use crate::processes::{self, Process, parent_of, regions};
use crate::tracer::{Call, Step, Tracee};

/// Visits of a point that may go another way before it counts as not hit.
const TRIES: u32 = 24;
/// So long a process may sleep on its way.
const PAUSE: Duration = Duration::from_millis(80);

/// Where a process is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// At its n-th stop at a system call.
    Call(usize),
    /// A number of stops at system calls, and of instructions after the last one.
    Store(usize, usize),
}

/// What a process does on its way, as far as others can see.
struct Walk {
    calls: Vec<Option<Call>>,
    /// The parts between two stops in which shared memory is written.
    stores: Vec<(usize, Trace)>,
}

/// Records `path`, and kills a process at each of its points.
pub fn sweep(figures: &mut Figures, path: Path, points: &Points) {
    let Some(walk) = Walk::record(figures, path) else {
        figures.wrong += 1;
        figures.complain(format!("{path:?}: the path could not be recorded"));
        return;
    };
    let all = walk.points();
    figures.count("call_stops", walk.calls.len() as u64);
    figures.count("call_path_stores", (all.len() - walk.calls.len()) as u64);
    let mut stage = Stage::open(path);
    let wanted = points.of(&[], all.len());
    for (visited, &index) in wanted.iter().enumerate() {
        if points.time_is_up() {
            figures.count("points_not_visited", (wanted.len() - visited) as u64);
            break;
        }
        let at = format!("{path:?}, killed at {:?}", all[index]);
        let hit = (0..TRIES).any(|n| stage.kill_at(figures, &walk, all[index], n, &at));
        figures.count(if hit { "points_hit" } else { "points_not_hit" }, 1);
    }
}

impl Walk {
    fn record(figures: &mut Figures, path: Path) -> Option<Self> {
        let mut stage = Stage::open(path);
        let visit = stage.begin()?;
        let (mut calls, mut written) = (Vec::new(), Vec::new());
        loop {
            let mut watched = Watched::of(visit.tracee.pid());
            let step = onwards(&visit.tracee, path);
            if watched.changed() {
                written.push(calls.len());
            }
            if step != Step::Stopped {
                break;
            }
            calls.push(visit.tracee.call());
        }
        figures.steps += calls.len() as u64;
        stage.end(figures, visit, "recorded", None);
        let mut walk = Self { calls, stores: Vec::new() };
        if path != Path::Zygote {
            walk.stores = walk.record_stores(figures, &mut stage, &written)?;
        }
        Some(walk)
    }

    /// The same way once more, by instructions where something was written.
    fn record_stores(
        &self,
        figures: &mut Figures,
        stage: &mut Stage,
        written: &[usize],
    ) -> Option<Vec<(usize, Trace)>> {
        let visit = stage.begin()?;
        let mut stores = Vec::new();
        for stop in 0..=self.calls.len() {
            // During a system call it is the other processes that write.
            let in_call = stop > 0 && matches!(self.calls[stop - 1], Some(Call::Entry(_)));
            if written.contains(&stop) && !in_call {
                let mut trace = Trace::begin(&visit.tracee);
                trace.record(&visit.tracee, Tracee::at_syscall);
                figures.steps += trace.len() as u64;
                stores.push((stop, trace));
            }
            if onwards(&visit.tracee, stage.path) != Step::Stopped {
                break;
            }
        }
        stage.end(figures, visit, "recorded", None);
        Some(stores)
    }

    fn points(&self) -> Vec<Point> {
        let calls = (0..self.calls.len()).map(Point::Call);
        let stores = self.stores.iter().flat_map(|(stop, trace)| {
            trace.states.iter().skip(1).map(|&steps| Point::Store(*stop, steps))
        });
        calls.chain(stores).collect()
    }

    /// Brings `tracee` to `point`; whether it got there by the same way.
    fn lead(
        &self,
        figures: &mut Figures,
        tracee: &Tracee,
        path: Path,
        point: Point,
        tried: u32,
    ) -> bool {
        let (stops, steps) = match point {
            Point::Call(stop) => (stop + 1, None),
            Point::Store(stop, steps) => (stop, Some(steps)),
        };
        for stop in &self.calls[..stops] {
            if onwards(tracee, path) != Step::Stopped {
                return false;
            }
            figures.steps += 1;
            let same = match (tracee.call(), stop) {
                (Some(Call::Entry(now)), Some(Call::Entry(then))) => now == *then,
                (now, then) => now.is_some() == then.is_some(),
            };
            if !same {
                return false;
            }
        }
        let Some(steps) = steps else { return true };
        let trace = self.stores.iter().find(|(stop, _)| *stop == stops).map(|(_, trace)| trace);
        trace.is_some_and(|trace| super::kill::lead(figures, trace, tracee, steps, tried))
    }
}

/// To the next stop at a system call. A worker's start is over when it sleeps, others sleep on
/// their way.
fn onwards(tracee: &Tracee, path: Path) -> Step {
    match tracee.to_syscall() {
        Step::Asleep if !matches!(path, Path::Start | Path::Spawn) => {
            match tracee.wait_awake(PAUSE) {
                Some(step) => step,
                None => {
                    tracee.interrupt();
                    Step::Asleep
                }
            }
        }
        Step::Asleep => {
            tracee.interrupt();
            Step::Asleep
        }
        step => step,
    }
}

/// What the processes of a path are killed in: one pool for all visits, or one each.
struct Stage {
    path: Path,
    scene: Option<Scene>,
}

/// A process at the start of its path.
struct Visit {
    tracee: Tracee,
    handles: Handles,
    /// The pool of this visit only.
    scene: Option<Scene>,
    workers: Vec<Process>,
}

impl Stage {
    fn open(path: Path) -> Self {
        let scene = match path {
            Path::Shutdown | Path::Zygote => None,
            Path::Spawn => Some(Scene::with(path, 1, |b| b.start_method(StartMethod::Spawn))),
            Path::Recycle => Some(Scene::with(path, 1, |b| b.max_tasks_per_child(1))),
            _ => Some(Scene::build(path, 1)),
        };
        Self { path, scene }
    }

    fn begin(&mut self) -> Option<Visit> {
        (0..20).find_map(|_| self.try_begin())
    }

    fn try_begin(&mut self) -> Option<Visit> {
        match (self.path, &self.scene) {
            (Path::Recycle, Some(scene)) => {
                let tracee = Tracee::seize(scene.sleeper(None)?)?;
                let mut handles = Handles::default();
                scene.submit(&mut handles, TaskOptions::new());
                awake(tracee).map(|tracee| Visit {
                    tracee,
                    handles,
                    scene: None,
                    workers: Vec::new(),
                })
            }
            (_, Some(scene)) => birth(scene),
            (Path::Shutdown, None) => {
                let scene = Scene::build(self.path, 2);
                let first = scene.sleeper(None)?;
                scene.sleeper(Some(first))?;
                let workers = workers(&scene.pool);
                let tracee = Tracee::seize(first)?;
                scene.pool.close();
                let handles = Handles::default();
                awake(tracee).map(|tracee| Visit { tracee, handles, scene: Some(scene), workers })
            }
            (path, None) => forker(path),
        }
    }

    fn kill_at(
        &mut self,
        figures: &mut Figures,
        walk: &Walk,
        point: Point,
        tried: u32,
        at: &str,
    ) -> bool {
        let Some(visit) = self.begin() else {
            figures.wedged += 1;
            figures.complain(format!("{at}: the path could not be begun"));
            return false;
        };
        let hit = walk.lead(figures, &visit.tracee, self.path, point, tried);
        self.end(figures, visit, at, Some(()));
        hit
    }

    /// Kills the process, or lets it go on, and checks what is left.
    fn end(&mut self, figures: &mut Figures, visit: Visit, at: &str, kill: Option<()>) {
        let Visit { tracee, handles, scene, workers } = visit;
        if kill.is_some() {
            tracee.kill();
            figures.kills += 1;
        } else {
            tracee.release();
        }
        let zygote = self.path == Path::Zygote && kill.is_some();
        if zygote {
            let allowed = Allowed { lost: usize::MAX, closed: true, timed_out: false };
            let killed = Instant::now();
            handles.settle(figures, at, allowed);
            if killed.elapsed() > Duration::from_secs(1) {
                figures.count("late", 1);
            }
        } else {
            handles.settle(figures, at, Allowed { lost: 1, ..Allowed::default() });
        }
        if let Some(scene) = &mut self.scene {
            scene.check(figures, at);
        }
        if let Some(scene) = scene {
            close(figures, scene.pool, workers, at, zygote);
        }
    }
}

/// It comes out of its sleep.
fn awake(tracee: Tracee) -> Option<Tracee> {
    if tracee.to_wake_up() {
        return Some(tracee);
    }
    tracee.release();
    None
}

/// A worker at its first instruction; another one had to die for it.
fn birth(scene: &Scene) -> Option<Visit> {
    let before = scene.sleeper(None)?;
    let zygote = Tracee::seize_with_children(parent_of(before)?)?;
    let mut handles = Handles::default();
    if !kill_worker(before) {
        zygote.release();
        return None;
    }
    scene.submit(&mut handles, TaskOptions::new());
    let child = loop {
        match zygote.run(WATCHDOG) {
            Some(Step::Forked(child)) => break Some(child),
            // A signal, which it does without.
            Some(Step::Stopped | Step::Asleep) => {}
            Some(Step::Dead) | None => break None,
        }
    };
    let tracee = child.and_then(Tracee::adopt);
    zygote.release();
    Some(Visit { tracee: tracee?, handles, scene: None, workers: Vec::new() })
}

/// The zygote, with a worker to bury and the next one to fork.
fn forker(path: Path) -> Option<Visit> {
    let scene = Scene::with(path, 2, |builder| builder);
    let first = scene.sleeper(None)?;
    scene.sleeper(Some(first))?;
    let workers = workers(&scene.pool);
    let tracee = Tracee::seize(parent_of(first)?)?;
    let mut handles = Handles::default();
    kill_worker(first);
    scene.submit(&mut handles, TaskOptions::new());
    Some(Visit { tracee, handles, scene: Some(scene), workers })
}

fn workers(pool: &Pool) -> Vec<Process> {
    pool.worker_pids().into_iter().filter_map(Process::worker).collect()
}

/// The pool ends, and nothing is left of it.
fn close(figures: &mut Figures, pool: Pool, workers: Vec<Process>, at: &str, failed: bool) {
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || {
        pool.close();
        let ended = pool.join_blocking().map_err(|error| error.to_string());
        drop(pool);
        let _ = say.send(ended);
    });
    match hear.recv_timeout(WATCHDOG) {
        Ok(Ok(())) => {}
        Ok(Err(text)) if failed && text.contains("zygote") => {}
        Ok(Err(text)) => {
            figures.wrong += 1;
            figures.complain(format!("{at}: join said {text}"));
        }
        Err(_) => {
            figures.wedged += 1;
            figures.complain(format!("{at}: the pool does not end"));
            return;
        }
    }
    if !workers.iter().all(|worker| worker.wait_dead(WATCHDOG)) {
        figures.leaked += 1;
        figures.complain(format!("{at}: a worker has outlived its pool"));
    }
    let me = std::process::id();
    if !quickly(|| regions(me) == 0) {
        figures.leaked += regions(me);
        figures.complain(format!("{at}: {} regions are left", regions(me)));
    }
    // The pool may have gone on with another zygote, which stays for the next one.
    let others = || -> Vec<u32> {
        let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let is_zygote = |pid: &u32| name(pid).is_ok_and(|name| name == "aiopool-zygote\n");
        processes::children().into_iter().filter(|pid| !is_zygote(pid)).collect()
    };
    if failed && !quickly(|| others().is_empty()) {
        figures.leaked += others().len() as u64;
        figures.complain(format!("{at}: processes are left: {:?}", others()));
    }
}
