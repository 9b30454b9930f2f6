//! A pool without a pool: files for regions, bells that are never rung, and a launcher.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::VERB;
use crate::error::{Error, Result};
use crate::launch::{
    Confinement, ForkOrder, Launcher, PoolFds, PoolSpec, StartMethod, ZygoteReport,
};
use crate::sys::eventfd::EventFd;
use crate::sys::memfd;
use crate::sys::poll::{PollFd, poll};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// When a test gives up: far beyond what a loaded machine needs.
pub(in crate::launch) const WATCHDOG: Duration = Duration::from_secs(60);

/// A launcher and all it was opened with.
pub(in crate::launch) struct Rig {
    pub launcher: Launcher,
    /// Per queue, the file that stands for its control region.
    pub control: Vec<OwnedFd>,
    pub outputs: OwnedFd,
}

/// A pool of two queues, with two slots and one, whose workers do what `verb` says.
pub(in crate::launch) fn spec(verb: &str) -> PoolSpec {
    PoolSpec {
        slots: vec![2, 1],
        start: StartMethod::Fork,
        confinement: Confinement::default(),
        snapshot: false,
        deadline: false,
        logs: false,
        held: false,
        page: None,
        worker: format!("{VERB}{verb}").into_bytes(),
    }
}

/// The first incarnation of the first slot.
pub(in crate::launch) const FIRST: WorkerId = WorkerId { queue: 0, slot: 0, incarnation: 1 };

impl Rig {
    pub(in crate::launch) fn new(verb: &str) -> Self {
        Self::open(&spec(verb)).unwrap()
    }

    pub(in crate::launch) fn open(spec: &PoolSpec) -> Result<Self> {
        let file = || memfd::create(c"aiopool-test").unwrap();
        let bell = |_| EventFd::new().unwrap();
        let control: Vec<_> = spec.slots.iter().map(|_| file()).collect();
        let bells: Vec<Vec<_>> =
            spec.slots.iter().map(|&slots| (0..slots).map(bell).collect()).collect();
        let (requests, host_bell, supervisor_bell) = (file(), bell(0), bell(0));
        let fds = PoolFds {
            deadline: None,
            logs: None,
            held: None,
            requests: requests.as_fd(),
            host_bell: host_bell.as_fd(),
            supervisor_bell: supervisor_bell.as_fd(),
            control: control.iter().map(AsFd::as_fd).collect(),
            bells: bells.iter().map(|bells| bells.iter().map(AsFd::as_fd).collect()).collect(),
        };
        let launcher = Launcher::open(spec, fds)?;
        // Requests and bells are closed here: the zygote has its own.
        Ok(Self { launcher, control, outputs: file() })
    }

    /// Orders a worker.
    pub(in crate::launch) fn order(&self, id: WorkerId) {
        let order = ForkOrder { id, seat: 5, lane_start: 17, handback_start: 1 << 40 };
        self.launcher.fork(&order, self.outputs.as_fd()).unwrap();
    }

    /// Starts a worker, and gives its pid and pidfd.
    pub(in crate::launch) fn start(&self, id: WorkerId) -> (u32, OwnedFd) {
        self.order(id);
        match self.report() {
            ZygoteReport::Forked { id: forked, pid, pidfd } => {
                assert_eq!(forked, id);
                (pid, pidfd)
            }
            other => panic!("expected {id} to run, got {other:?}"),
        }
    }

    /// The next report, waited for.
    pub(in crate::launch) fn report(&self) -> ZygoteReport {
        self.next().unwrap()
    }

    /// The next report or error, waited for.
    pub(in crate::launch) fn next(&self) -> Result<ZygoteReport> {
        let end = Instant::now() + WATCHDOG;
        loop {
            if let Some(report) = self.launcher.recv()? {
                return Ok(report);
            }
            let fds = [self.launcher.as_fd(), self.launcher.zygote_pidfd()];
            let left = end.saturating_duration_since(Instant::now());
            let ready = poll(&mut fds.map(PollFd::readable), Some(left)).unwrap();
            assert!(ready > 0, "no report within {WATCHDOG:?}");
        }
    }

    /// The death of `id`, which has to be the next report.
    pub(in crate::launch) fn death(&self, id: WorkerId) -> WorkerExit {
        match self.report() {
            ZygoteReport::Died { id: dead, exit, .. } if dead == id => exit,
            other => panic!("expected the death of {id}, got {other:?}"),
        }
    }

    /// What a worker of `queue` wrote into its control region, up to the line `end`.
    pub(in crate::launch) fn written(&self, queue: usize, end: &str) -> String {
        let path = format!("/proc/self/fd/{}", self.control[queue].as_raw_fd());
        let text = || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with(end));
        wait_for("a worker to write", text)
    }

    /// Starts a worker that describes itself, and gives the description.
    pub(in crate::launch) fn describe(&self, id: WorkerId) -> Description {
        self.start(id);
        Description(self.written(usize::from(id.queue), "end\n"))
    }

    /// Nothing more is reported, as far as the zygote has got with everything ordered so far.
    pub(in crate::launch) fn assert_silent(&self) {
        // An order that only has an answer: when that is here, all before it was done.
        let nobody = WorkerId { queue: u16::MAX, ..FIRST };
        self.order(nobody);
        match self.report() {
            ZygoteReport::ForkFailed { id, reason } if id == nobody => {
                assert!(reason.contains("no slot"), "{reason}");
            }
            other => panic!("expected silence, got {other:?}"),
        }
    }
}

/// What a worker wrote about itself.
pub(in crate::launch) struct Description(String);

impl Description {
    /// The value of a name that is there once.
    pub(in crate::launch) fn get<'a>(&'a self, name: &'a str) -> &'a str {
        let mut values = self.all(name);
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {}", self.0));
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    /// A number in hexadecimal digits.
    pub(in crate::launch) fn mask(&self, name: &str) -> u64 {
        u64::from_str_radix(self.get(name), 16).unwrap()
    }

    /// All values of a name.
    pub(in crate::launch) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.lines().filter_map(|line| line.split_once('='));
        lines.filter_map(move |(found, value)| (found == name).then_some(value))
    }
}

/// Waits until `look` finds something.
pub(in crate::launch) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WATCHDOG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {WATCHDOG:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the process behind a pidfd is dead.
pub(in crate::launch) fn wait_for_death(pidfd: &OwnedFd) {
    let ready = poll(&mut [PollFd::readable(pidfd.as_fd())], Some(WATCHDOG)).unwrap();
    assert_eq!(ready, 1, "it lives on");
}

/// Whether the process behind a pidfd is dead now.
pub(in crate::launch) fn is_dead(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::readable(pidfd.as_fd())], Some(Duration::ZERO)).unwrap() == 1
}

/// Whether an error says that the zygote is gone, and how it ended.
pub(in crate::launch) fn lost(error: &Error) -> Option<&str> {
    match error {
        Error::ZygoteLost(how) => Some(how),
        _ => None,
    }
}
