//! What a worker does between two of its waits, instruction by instruction, and how to bring
//! another worker to the same instruction without stepping there from the start.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::tracer::{Step, Tracee};

/// A path longer than this is a worker that has lost its way.
const LONGEST: usize = 3_000_000;
/// Bytes of a control region that are watched: all that a pool of a scene has but the room for
/// timelines at its end, a hundred times as much, which nothing writes here.
const WATCHED_CONTROL: usize = 64 << 10;
/// Bytes of an output arena that are watched: outputs are stored from its start.
const WATCHED_OUTPUT: usize = 16 << 10;

/// Steps that cost about as much as one breakpoint that is hit.
const HIT: usize = 6;

/// The instructions of a path.
#[derive(Debug, Default)]
pub struct Trace {
    /// The address before the first instruction, then the one after each.
    pcs: Vec<u64>,
    /// How many times each of these addresses has come by then.
    times: Vec<usize>,
    /// For each of them the last one, not later, whose address came for the first time.
    firsts: Vec<usize>,
    /// For each of them the one, not later, from which it is reached soonest.
    nearest: Vec<usize>,
    /// Instruction counts after which something outside of the process has changed: shared memory
    /// was written, or a system call done. Between two of these, all kill points leave one state.
    pub states: Vec<usize>,
    counts: HashMap<u64, usize>,
}

impl Trace {
    /// Of a path that begins where `tracee` stands.
    pub fn begin(tracee: &Tracee) -> Self {
        let mut trace = Self::default();
        trace.visit(tracee.pc());
        trace.states.push(0);
        trace
    }

    /// Steps `tracee`, which stands at the end of what is recorded, until it is about to wait or
    /// dies, or `last` says so. True if it is at its end.
    pub fn record(&mut self, tracee: &Tracee, mut last: impl FnMut(&Tracee) -> bool) -> bool {
        let mut watched = Watched::of(tracee.pid());
        let longest = self.len() + LONGEST;
        while self.len() < longest {
            if tracee.is_about_to_wait() {
                return true;
            }
            if last(tracee) {
                return false;
            }
            let calls = tracee.at_syscall();
            if tracee.step() != Step::Stopped {
                return true;
            }
            self.visit(tracee.pc());
            if watched.changed() || calls {
                self.states.push(self.len());
            }
            if calls {
                watched = Watched::of(tracee.pid());
            }
        }
        false
    }

    /// Forgets what comes after the first `len` instructions.
    pub fn truncate(&mut self, len: usize) {
        for pc in self.pcs.drain(len + 1..) {
            *self.counts.entry(pc).or_default() -= 1;
        }
        self.times.truncate(len + 1);
        self.firsts.truncate(len + 1);
        self.nearest.truncate(len + 1);
        self.states.retain(|&state| state <= len);
    }

    fn visit(&mut self, pc: u64) {
        let here = self.pcs.len();
        let times = self.counts.entry(pc).or_default();
        *times += 1;
        self.pcs.push(pc);
        self.times.push(*times);
        let before = |list: &[usize]| list.last().copied().unwrap_or(0);
        let (first, nearest) = (before(&self.firsts), before(&self.nearest));
        self.firsts.push(if *times == 1 { here } else { first });
        // What it costs to get here from there, in steps.
        let cost = |from: usize| HIT * self.times[from] + (here - from);
        self.nearest.push(if cost(here) < cost(nearest) { here } else { nearest });
    }

    /// Writes it to `file`, for other processes of the same layout.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        let states: HashSet<usize> = self.states.iter().copied().collect();
        let line = |(n, pc): (usize, &u64)| format!("{pc:x} {}\n", states.contains(&n));
        std::fs::write(file, self.pcs.iter().enumerate().map(line).collect::<String>())
    }

    /// Reads what [`save`](Self::save) wrote.
    pub fn load(file: &Path) -> Option<Self> {
        let mut trace = Self::default();
        for line in std::fs::read_to_string(file).ok()?.lines() {
            let (pc, state) = line.split_once(' ')?;
            trace.visit(u64::from_str_radix(pc, 16).ok()?);
            if state == "true" {
                trace.states.push(trace.len());
            }
        }
        (!trace.pcs.is_empty()).then_some(trace)
    }

    /// Instructions.
    pub fn len(&self) -> usize {
        self.pcs.len() - 1
    }

    /// Brings `tracee`, which stands at the start of the path, behind its first `wanted`
    /// instructions. The number of instructions stepped, and whether it got there: clocks and
    /// other processes may have led it another way.
    ///
    /// At full speed a loop that looks at the clock has more turns than the recorded one, and what
    /// it calls comes more often. `patient` trusts in no address but one that comes for the first
    /// time.
    pub fn lead(&self, tracee: &Tracee, wanted: usize, patient: bool) -> (u64, bool) {
        if tracee.pc() != self.pcs[0] {
            return (0, false);
        }
        let from = if patient { self.firsts[wanted] } else { self.nearest[wanted] };
        // The start has been passed once.
        let times = self.times[from] - usize::from(self.pcs[from] == self.pcs[0]);
        if from > 0 && tracee.run_to(self.pcs[from], times) != Step::Stopped {
            return (0, false);
        }
        for done in 0..(wanted - from) as u64 {
            if tracee.step() != Step::Stopped {
                return (done, false);
            }
        }
        ((wanted - from) as u64, tracee.pc() == self.pcs[wanted])
    }
}

/// The shared memory that a worker has mapped.
#[derive(Debug)]
pub struct Watched {
    memory: Option<File>,
    parts: Vec<(u64, Vec<u8>)>,
    now: Vec<u8>,
}

impl Watched {
    /// What `pid` has mapped now, control region and outputs.
    pub fn of(pid: u32) -> Self {
        let memory = File::open(format!("/proc/{pid}/mem")).ok();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let parts = maps.lines().filter_map(|line| {
            let most = if line.contains("memfd:aiopool-control") {
                WATCHED_CONTROL
            } else if line.contains("memfd:aiopool-results") {
                WATCHED_OUTPUT
            } else {
                return None;
            };
            let (start, end) = line.split_whitespace().next()?.split_once('-')?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let len = u64::from_str_radix(end, 16).ok()? - start;
            Some((start, vec![0; (len as usize).min(most)]))
        });
        let mut watched = Self { memory, parts: parts.collect(), now: Vec::new() };
        watched.changed();
        watched
    }

    /// Whether anything was written since the last look.
    pub fn changed(&mut self) -> bool {
        let Some(memory) = &self.memory else { return false };
        let mut changed = false;
        for (start, seen) in &mut self.parts {
            self.now.resize(seen.len(), 0);
            if memory.read_exact_at(&mut self.now, *start).is_ok() && self.now != *seen {
                seen.copy_from_slice(&self.now);
                changed = true;
            }
        }
        changed
    }
}
