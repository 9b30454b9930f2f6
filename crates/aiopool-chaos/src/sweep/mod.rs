//! `sweep` and `stop`: a worker of this release build killed, or stopped, at every step.
//!
//! A path from a worker's wake-up to its next sleep (claim, run, output, completion, ring) is
//! recorded once, instruction by instruction. Then a worker is brought to each instruction in turn
//! and killed there: at full speed to a breakpoint close before it, by single steps from there.
//! Start-up, recycling, shutdown and the zygote's work are far longer; they are cut at every entry
//! and exit of a system call and at every write to shared memory.
//!
//! Each path has processes of its own, on a core each, which share its points out.

mod calls;
mod kill;
mod scene;
mod stop;
mod trace;

use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::{Ask, books, processes};

/// A path that is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Eight bytes in, eight out.
    Small,
    /// The same with a host that sleeps on its doorbell.
    Parked,
    /// Input and output go through the arenas.
    Large,
    /// A task in flight is cancelled, others wait.
    Cancel,
    /// Every record is taken.
    Full,
    /// From the fork to the first sleep.
    Start,
    /// The same with a worker that is executed.
    Spawn,
    /// The last task of a worker, and its end.
    Recycle,
    /// The end of the pool.
    Shutdown,
    /// The zygote buries a worker and forks the next.
    Zygote,
}

const PATHS: [(&str, Path); 10] = [
    ("small", Path::Small),
    ("parked", Path::Parked),
    ("large", Path::Large),
    ("cancel", Path::Cancel),
    ("full", Path::Full),
    ("start", Path::Start),
    ("spawn", Path::Spawn),
    ("recycle", Path::Recycle),
    ("shutdown", Path::Shutdown),
    ("zygote", Path::Zygote),
];

impl Path {
    /// Whether it is swept instruction by instruction.
    fn is_stepped(self) -> bool {
        matches!(self, Self::Small | Self::Parked | Self::Large | Self::Cancel | Self::Full)
    }
}

/// The paths that a list of names asks for, or all that `mode` has.
fn paths(mode: &str, names: Option<&str>) -> Result<Vec<&'static (&'static str, Path)>, String> {
    let all = PATHS.iter().filter(|(_, path)| mode == "sweep" || path.is_stepped());
    let Some(names) = names else { return Ok(all.collect()) };
    names
        .split(',')
        .map(|name| {
            all.clone().find(|(known, _)| *known == name).ok_or_else(|| {
                let known: Vec<_> = all.clone().map(|(name, _)| *name).collect();
                format!("{mode} has no path {name:?}, only {}", known.join(", "))
            })
        })
        .collect()
}

/// Runs the kill sweep.
pub fn run(ask: Ask) -> Figures {
    share_out("sweep", ask)
}

/// Runs the stop sweep.
pub fn run_stops(ask: Ask) -> Figures {
    share_out("stop", ask)
}

/// Has each path swept by one process a core.
fn share_out(mode: &'static str, ask: Ask) -> Figures {
    let mut figures = Figures::default();
    let paths = match paths(mode, ask.paths) {
        Ok(paths) => paths,
        Err(what) => {
            figures.wrong += 1;
            figures.complain(what);
            return figures;
        }
    };
    let limit = ask.seconds.map(Duration::from_secs);
    let began = Instant::now();
    let cores = processes::cores();
    let program = std::env::current_exe().expect("this program has a file");
    // One trace serves all who sweep a path.
    processes::no_random_addresses();
    for (done, (name, path)) in paths.iter().enumerate() {
        let left = (paths.len() - done) as u32;
        let share = limit.map(|limit| limit.saturating_sub(began.elapsed()) / left);
        let trace = std::env::temp_dir().join(format!("chaos-{}-{name}", std::process::id()));
        let start = |shard: usize, shards: usize| {
            let mut command = Command::new(&program);
            command.args([mode, "--paths", name, "--core", &cores[shard].to_string()]);
            command.args(["--shard", &format!("{shard}/{shards}")]);
            if path.is_stepped() {
                command.arg("--trace").arg(&trace);
            }
            if let Some(share) = share {
                command.args(["--millis", &share.as_millis().to_string()]);
            }
            command.args(ask.quick.then_some("--quick"));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a sweep starts")
        };
        let mut take = |child: Child| {
            let output = child.wait_with_output().expect("a sweep's output");
            if !figures.take_over(&String::from_utf8_lossy(&output.stdout)) {
                figures.wrong += 1;
                figures.complain(format!("{name}: a sweep ended with {}", output.status));
            }
        };
        let started = Instant::now();
        if path.is_stepped() {
            // The first one records, the others find what it has recorded.
            take(start(0, 1));
            let all: Vec<_> = (0..cores.len()).map(|shard| start(shard, cores.len())).collect();
            all.into_iter().for_each(&mut take);
            let _ = std::fs::remove_file(&trace);
        } else {
            take(start(0, 1));
        }
        let hits = figures.kills + figures.stops;
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{mode} {name}: {seconds:.1} s, {hits} kills and stops so far");
    }
    figures
}

/// One core's share of one path, in a process of its own.
pub fn work(mode: &str, ask: Ask) -> Figures {
    if let Some(core) = ask.core {
        processes::pin(core);
    }
    processes::no_random_addresses();
    processes::adopt_orphans();
    books::open();
    let mut figures = Figures::default();
    for (_, path) in paths(mode, ask.paths).unwrap_or_default() {
        // The zygote's path loses its zygote at each visit.
        if *path != Path::Zygote {
            aiopool::init().expect("each path has a process of its own");
        }
        let points = Points { ask, end: ask.millis.map(|ms| Instant::now() + ms) };
        match (mode, path.is_stepped()) {
            ("stop", _) => stop::sweep(&mut figures, *path, &points),
            (_, true) => kill::sweep(&mut figures, *path, &points),
            (_, false) => calls::sweep(&mut figures, *path, &points),
        }
    }
    figures
}

/// Which points of a path are visited here, in which order, and for how long.
pub struct Points {
    ask: Ask,
    end: Option<Instant>,
}

impl Points {
    /// Of `states` and all of `0..all`: the states, then the rest, each part from far apart to
    /// close together, so that a run that is cut short has been everywhere.
    fn of(&self, states: &[usize], all: usize) -> Vec<usize> {
        let (shard, shards) = self.ask.shard.unwrap_or((0, 1));
        let spread = |mut points: Vec<usize>| {
            points.sort_by_key(|&point| (point as u32).reverse_bits());
            points
        };
        let is_state: std::collections::HashSet<usize> = states.iter().copied().collect();
        let mut rest = spread((0..all).filter(|point| !is_state.contains(point)).collect());
        if self.ask.quick {
            rest.truncate(40);
        }
        let points = spread(states.to_vec()).into_iter().chain(rest);
        points.enumerate().filter(|(n, _)| n % shards == shard).map(|(_, point)| point).collect()
    }

    /// Where the path's trace is, or is to be.
    fn trace(&self) -> Option<&'static FilePath> {
        self.ask.trace.map(FilePath::new)
    }

    fn time_is_up(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() > end)
    }
}
