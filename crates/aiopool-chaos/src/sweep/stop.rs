//! A worker stopped after every instruction from its wake-up to its next sleep, beside another
//! one that does all the work meanwhile.

use std::time::Duration;

use aiopool::TaskOptions;

use super::kill::{beside_a_waiter, lead, the_trace};
use super::scene::{Allowed, CAPACITY, Handles, Load, Scene, quickly};
use super::trace::Trace;
use super::{Path, Points};
use crate::figures::Figures;
use crate::processes::Process;
use crate::{books, processes};

/// Visits of a point that may go another way before it counts as not hit.
const TRIES: u32 = 24;
/// The deadline of the tasks of those that are given up.
const LIMIT: Duration = Duration::from_millis(10);

/// Records `path`, and stops a worker at each of its points; at every third it is given up, too.
pub fn sweep(figures: &mut Figures, path: Path, points: &Points) {
    let mut scene = Scene::build(path, 2);
    let Some(trace) = the_trace(figures, &mut scene, points, false) else { return };
    let wanted = points.of(&trace.states, trace.len() + 1);
    for (visited, &point) in wanted.iter().enumerate() {
        if points.time_is_up() {
            figures.count("points_not_visited", (wanted.len() - visited) as u64);
            break;
        }
        let at = format!("{path:?}, stopped after {point} instructions");
        let hit = (0..TRIES).any(|n| stop_at(figures, &mut scene, &trace, (point, n), &at, None));
        figures.count(if hit { "points_hit" } else { "points_not_hit" }, 1);
        if visited % 3 == 0 && path != Path::Cancel {
            let at = format!("{at} and given up");
            stop_at(figures, &mut scene, &trace, (point, 0), &at, Some(LIMIT));
        }
    }
    let given_up = scene.pool.stats().killed_for_deadline;
    figures.kills += given_up;
    figures.count("killed_for_deadline", given_up);
}

/// True if the worker was stopped exactly there.
fn stop_at(
    figures: &mut Figures,
    scene: &mut Scene,
    trace: &Trace,
    (point, tried): (usize, u32),
    at: &str,
    limit: Option<Duration>,
) -> bool {
    let begun = (0..20).find_map(|_| scene.begin(limit));
    let Some(Load { tracee, handles, held }) = begun else {
        figures.wedged += 1;
        figures.complain(format!("{at}: no worker could be woken up"));
        return false;
    };
    let allowed = Allowed { timed_out: limit.is_some(), ..Allowed::default() };
    let mut hit = false;
    let mut rest = |figures: &mut Figures, tracee: crate::tracer::Tracee, handles: &mut Handles| {
        hit = lead(figures, trace, &tracee, point, tried);
        let pid = tracee.pid();
        let process = Process::any(pid);
        tracee.leave_stopped();
        quickly(|| processes::is_stopped(pid) || process.is_none());
        figures.stops += 1;
        books::open_gate();
        // The other worker does whatever this one does not hold, which is at most one task.
        let mut more = Handles::default();
        scene.more(&mut more, 4, TaskOptions::new());
        // Given up, it holds nothing in the end: where it had a task, it is killed for that, and
        // only then the record comes back.
        let most = usize::from(limit.is_none());
        let back = || limit.is_none() || scene.pool.stats().free_records == CAPACITY as u64;
        if !quickly(|| more.pending() == 0 && handles.pending() <= most && back()) {
            figures.wedged += 1;
            figures.complain(format!("{at}: the others do not go on: {:?}", scene.pool.stats()));
        }
        let stopped = scene.pool.stats();
        if let Some(process) = process {
            process.signal(libc::SIGCONT);
        }
        more.settle(figures, at, Allowed::default());
        stopped
    };
    let mut handles = handles;
    if scene.path == Path::Parked {
        let left = beside_a_waiter(figures, scene, handles, at, allowed, |figures| {
            rest(figures, tracee, &mut Handles::default());
        });
        handles = left;
    } else {
        rest(figures, tracee, &mut handles);
    }
    handles.settle(figures, at, allowed);
    match held.map(|mut held| held.wait_timeout(super::scene::WATCHDOG)) {
        Some(Some(Ok(_))) => {}
        other => {
            figures.wrong += 1;
            figures.complain(format!("{at}: the task at the gate ended with {other:?}"));
        }
    }
    scene.check(figures, at);
    if !quickly(|| scene.pool.stats().workers == 2) {
        figures.wedged += 1;
        figures.complain(format!("{at}: {:?}", scene.pool.stats()));
    }
    hit
}
