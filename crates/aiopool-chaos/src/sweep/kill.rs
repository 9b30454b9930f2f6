//! A worker killed after every instruction from its wake-up to its next sleep.

use std::path::{Path as FilePath, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::scene::{Allowed, Handles, Load, Scene, quickly};
use super::trace::Trace;
use super::{Path, Points};
use crate::figures::Figures;
use crate::tracer::Tracee;

/// Visits of a point that may go another way before it counts as not hit.
const TRIES: u32 = 24;
/// So long a worker is stepped for a recording.
const PIECE: Duration = Duration::from_millis(8);
/// At least this many instructions, however long it took to get there.
const LEAST: usize = 100;

/// Records `path`, and kills a worker at each of its points.
pub fn sweep(figures: &mut Figures, path: Path, points: &Points) {
    let mut scene = Scene::build(path, 1);
    let Some(trace) = the_trace(figures, &mut scene, points, true) else { return };
    let wanted = points.of(&trace.states, trace.len() + 1);
    for (visited, &point) in wanted.iter().enumerate() {
        if points.time_is_up() {
            figures.count("points_not_visited", (wanted.len() - visited) as u64);
            break;
        }
        let at = format!("{path:?}, killed after {point} instructions");
        let hit = (0..TRIES).any(|n| kill_at(figures, &mut scene, &trace, point, n, &at));
        figures.count(if hit { "points_hit" } else { "points_not_hit" }, 1);
    }
}

/// The trace that another process has recorded; if there is none, this one records it. `None` if
/// that was all there was to do.
pub fn the_trace(
    figures: &mut Figures,
    scene: &mut Scene,
    points: &Points,
    kills: bool,
) -> Option<Trace> {
    if let Some(trace) = points.trace().and_then(Trace::load) {
        return Some(trace);
    }
    let trace = record(figures, scene, kills)?;
    figures.count("path_instructions", trace.len() as u64);
    figures.count("path_states", trace.states.len() as u64);
    match points.trace() {
        Some(file) => {
            if let Err(error) = trace.save(file) {
                figures.wrong += 1;
                figures.complain(format!("{}: {error}", file.display()));
            }
            None
        }
        None => Some(trace),
    }
}

/// The instructions of the scene's path, as they are when nothing holds the worker up: after
/// 20 ms without a move the host audits, rings and calls, and a worker does more. So a worker
/// records a piece only, and the next one goes on where it ended. `kills`: as the visits will.
fn record(figures: &mut Figures, scene: &mut Scene, kills: bool) -> Option<Trace> {
    let at = format!("{:?}, recorded", scene.path);
    let mut trace: Option<Trace> = None;
    let mut pieces = vec![0];
    let (mut done, mut misses, mut tries) = (false, 0, 0);
    // The farthest point that was reached again, and how many pieces the last step back took away.
    let (mut farthest, mut back) = (0, 0);
    while !done && tries < 5_000 {
        tries += 1;
        // No worker gets there again: something has held it up in the last piece after all. If it
        // was in an earlier piece (which some get through by chance), going back further and
        // further finds it.
        if misses > 12 && pieces.len() > 1 {
            back = (2 * back).clamp(1, pieces.len() - 1);
            let start = pieces.drain(pieces.len() - back..).next().unwrap_or(0);
            trace.iter_mut().for_each(|trace| trace.truncate(start));
            misses = 0;
        }
        let Load { tracee, handles, held } = begin(figures, scene, &at)?;
        let allowed = Allowed { lost: usize::from(kills), ..Allowed::default() };
        let mut hit = true;
        let handles = beside_a_waiter(figures, scene, handles, &at, allowed, |figures| {
            let began = Instant::now();
            let trace = trace.get_or_insert_with(|| Trace::begin(&tracee));
            let so_far = trace.len();
            hit = so_far == 0 || lead(figures, trace, &tracee, so_far, misses);
            if hit {
                if so_far > farthest {
                    (farthest, back) = (so_far, 0);
                }
                pieces.push(so_far);
                let mut steps = 0;
                done = trace.record(&tracee, |_| {
                    steps += 1;
                    steps > LEAST && began.elapsed() > PIECE
                });
                figures.steps += (trace.len() - so_far) as u64;
            }
            if kills {
                tracee.kill();
            } else {
                tracee.release();
            }
        });
        misses = if hit { 0 } else { misses + 1 };
        crate::books::open_gate();
        handles.settle(figures, &at, allowed);
        done |= held.is_some_and(|held| held.wait().is_err());
        scene.check(figures, &at);
    }
    if !done {
        figures.wrong += 1;
        figures.complain(format!("{at}: it has no end"));
    }
    trace.filter(|_| done)
}

/// Brings a worker out of its sleep. A try can fail: the audit may have rung it before.
pub fn begin(figures: &mut Figures, scene: &Scene, at: &str) -> Option<Load> {
    for _ in 0..20 {
        if let Some(load) = scene.begin(None) {
            return Some(load);
        }
        figures.count("begun_again", 1);
    }
    figures.wedged += 1;
    figures.complain(format!("{at}: no worker could be woken up"));
    None
}

/// Does `act`; where the path has a parked host, while a thread waits for the tasks. The handles
/// that are left to settle.
pub fn beside_a_waiter(
    figures: &mut Figures,
    scene: &Scene,
    handles: Handles,
    at: &str,
    allowed: Allowed,
    act: impl FnOnce(&mut Figures),
) -> Handles {
    if scene.path != Path::Parked {
        act(figures);
        return handles;
    }
    let mut waited = Figures::default();
    let figures_of_waiter = &mut waited;
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let me = std::fs::read_link("/proc/thread-self").expect("/proc is there");
            say.send(me).expect("it is heard");
            handles.settle(figures_of_waiter, at, allowed);
        });
        let thread = PathBuf::from("/proc").join(hear.recv().expect("it runs"));
        quickly(|| sleeps(&thread));
        act(figures);
    });
    figures.add(waited);
    Handles::default()
}

/// True if the worker was killed exactly there.
fn kill_at(
    figures: &mut Figures,
    scene: &mut Scene,
    trace: &Trace,
    point: usize,
    tried: u32,
    at: &str,
) -> bool {
    let Some(Load { tracee, handles, .. }) = begin(figures, scene, at) else { return false };
    let allowed = Allowed { lost: 1, ..Allowed::default() };
    let mut hit = false;
    let handles = beside_a_waiter(figures, scene, handles, at, allowed, |figures| {
        hit = lead(figures, trace, &tracee, point, tried);
        tracee.kill();
    });
    figures.kills += 1;
    handles.settle(figures, at, allowed);
    scene.check(figures, at);
    hit
}

/// [`Trace::lead`], counted.
pub fn lead(
    figures: &mut Figures,
    trace: &Trace,
    tracee: &Tracee,
    point: usize,
    tried: u32,
) -> bool {
    let (steps, hit) = trace.lead(tracee, point, tried % 2 == 1);
    figures.steps += steps;
    hit
}

/// Whether a thread sleeps.
fn sleeps(thread: &FilePath) -> bool {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}
