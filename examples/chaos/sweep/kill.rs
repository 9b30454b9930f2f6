//! A worker killed after every instruction from its wake-up to its next sleep.

use std::path::{Path as FilePath, PathBuf};
use std::sync::mpsc;

use super::scene::{Allowed, Handles, Load, Scene, quickly};
use super::trace::Trace;
use super::{Path, Points};
use crate::figures::Figures;
use crate::tracer::Tracee;

/// Visits of a point that may go another way before it counts as not hit.
const TRIES: u32 = 4;

/// Records `path`, and kills a worker at each of its points.
pub fn sweep(figures: &mut Figures, path: Path, points: &Points) {
    let mut scene = Scene::build(path, 1);
    let Some(trace) = record(figures, &scene, points) else { return };
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

/// The instructions of the scene's path.
pub fn record(figures: &mut Figures, scene: &Scene, points: &Points) -> Option<Trace> {
    let path = scene.path;
    let at = format!("{path:?}, recorded");
    let Load { tracee, handles, held } = begin(figures, scene, &at)?;
    let mut trace = None;
    let handles = beside_a_waiter(figures, scene, handles, &at, Allowed::default(), |_| {
        trace = Trace::record(&tracee, Tracee::is_about_to_wait);
        tracee.release();
    });
    crate::books::open_gate();
    handles.settle(figures, &at, Allowed::default());
    let held = held.is_none_or(|held| held.wait().is_ok());
    let Some(trace) = trace.filter(|_| held) else {
        figures.wrong += 1;
        figures.complain(format!("{at}: it has no end"));
        return None;
    };
    figures.steps += trace.len() as u64;
    if points.counts_path() {
        figures.count("path_instructions", trace.len() as u64);
        figures.count("path_states", trace.states.len() as u64);
    }
    Some(trace)
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
