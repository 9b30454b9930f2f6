//! Hostile memory once more: what the supervisor reads of its workers, in one process and without
//! a zygote. Workers are words in the control region here, and their deaths are said, not died.

use std::sync::{Arc, Mutex};

use super::blocked::Blocked;
use super::crew::{Crew, DeathReport};
use super::slack::Slack;
use super::watch::Watch;
use super::zygote::Zygote;
use super::{Plan, Respawn, Shared, Stage, Supervisor};
use crate::control::{Control, LAYOUT_VERSION, Part};
use crate::launch::StartMethod;
use crate::queue::fuzz::Choices;
use crate::queue::{Common, For, HostQueue, Inputs, Receiver, Submission};
use crate::scheduler::RoundRobin;
use crate::shm::Region;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::racing::{self, Flip};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::gate::Running;
use crate::table::{Owner, State, StateWord, WorkerId};
use crate::task::{Outcome, TaskOptions, WorkerExit};
use crate::worker::WorkerConfig;

const ARENA: usize = 1 << 20;
/// Words of a record, and of a worker's report.
const RECORD: usize = 32;
const REPORT: usize = 16;

/// Counts what each token was given.
#[derive(Default)]
struct Book(Mutex<Vec<u32>>);

impl Receiver for Book {
    fn deliver(&self, token: u64, _: Outcome) -> bool {
        self.0.lock().unwrap()[token as usize] += 1;
        false
    }
}

fn plan(respawn: Respawn) -> Plan {
    Plan {
        blocked_after_ns: None,
        id: None,
        processes: 2,
        queues: 1,
        capacity: 16,
        classes: 1,
        max_payload: 1 << 16,
        output_arena: ARENA,
        respawn,
        metrics: false,
        grace: std::time::Duration::ZERO,
        start_timeout: std::time::Duration::MAX,
        initializer: None,
        start: StartMethod::Fork,
        output: None,
        context_of_caller: None,
        worker: WorkerConfig {
            layout: LAYOUT_VERSION,
            capacity: 16,
            classes: 1,
            child_concurrency: 4,
            max_tasks: 0,
            initializer: None,
            exit_hook: None,
            runtime_initializer: None,
            exception_handler: None,
            spin_ns: 0,
            searchers: 1,
            crowded: false,
            replaced: true,
            logs: None,
            printed: None,
            adopt_context: None,
        },
    }
}

struct Scenario<'b> {
    choices: Choices<'b>,
    supervisor: Supervisor,
    queue: Arc<HostQueue>,
    book: Arc<Book>,
    arenas: Vec<Option<Arc<Region>>>,
}

impl<'b> Scenario<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let plan = plan(if choices.below(4) > 0 { Respawn::Always } else { Respawn::Never });
        let bell = || EventFd::new().unwrap();
        let common = Common::new(Inputs::create(2 << 20).unwrap(), bell(), bell(), 0);
        let control = Control::create(plan.shape(0)).unwrap();
        let bells = (0..plan.shape(0).slots).map(|_| bell()).collect();
        let queue = HostQueue::new(0, control, bells, Arc::clone(&common));
        let arenas = vec![None; plan.shape(0).slots as usize];
        let queues = vec![Arc::clone(&queue)];
        let scheduler = Box::new(RoundRobin::default());
        let name = "fuzz".to_owned();
        let shared = Shared::new(name, plan, common, queues, scheduler, None, None);
        let supervisor = Supervisor {
            blocked: Blocked::default(),
            running: Running::begin(),
            crew: Crew::new(&shared.plan),
            watch: Watch::default(),
            slack: Slack::default(),
            viewers: None,
            condemned: vec![None],
            programs_due: vec![0],
            init_failures: 0,
            zygote: Zygote::default(),
            kill_at: None,
            #[cfg(feature = "stats-page")]
            publisher: None,
            #[cfg(feature = "metrics")]
            exporter: None,
            first_orders: None,
            launcher: None,
            logs: None,
            shared,
        };
        let mut scenario = Self { choices, supervisor, queue, book: Arc::default(), arenas };
        scenario.fill_seats();
        scenario
    }

    /// What an order does, less the order.
    fn fill_seats(&mut self) {
        for seat in 0..self.supervisor.crew.seats.len() {
            if self.supervisor.crew.seats[seat].vacant_since.is_none() {
                continue;
            }
            let Some(id) = self.supervisor.crew.enlist(0, seat as u32, 0) else { continue };
            self.supervisor.crew.seats[seat].vacant_since = None;
            let arena = Arc::new(Region::create(c"test", ARENA).unwrap());
            self.queue.prepare(usize::from(id.slot), Arc::clone(&arena));
            self.arenas[usize::from(id.slot)] = Some(arena);
        }
    }

    /// A condemned queue whose workers are gone has a new region.
    fn rebuild(&mut self) {
        if let Some(what) = self.supervisor.condemned[0].take() {
            let ids: Vec<WorkerId> = self.supervisor.crew.workers().map(|w| w.id).collect();
            ids.into_iter().for_each(|id| self.die(id, WorkerExit::Unknown));
            self.supervisor.condemned[0] = None;
            let shape = self.supervisor.shared.plan.shape(0);
            self.queue.rebuild(Control::create(shape).unwrap(), &what);
        }
    }

    fn die(&mut self, id: WorkerId, exit: WorkerExit) {
        let now = monotonic_ns();
        let Some(worker) = self.supervisor.crew.get_mut(id) else { return };
        let was_ready = worker.ready;
        worker.notice_death(now).set_report(DeathReport { exit, is_final: false, cpu_ns: 0 });
        let failures = self.supervisor.init_failures;
        self.supervisor.handle_deaths(now);
        let fails = self.supervisor.init_failures > failures;
        assert!(!(was_ready && fails), "who was ready fails no initializer");
    }

    fn submit(&mut self) {
        let token = {
            let mut counts = self.book.0.lock().unwrap();
            counts.push(0);
            counts.len() as u64 - 1
        };
        let retries = self.choices.below(3) as u32;
        let submission = Submission {
            task: token + 1,
            function: 0,
            input: &[7; 40],
            options: TaskOptions::new().retries(retries),
            receiver: For::One(self.book.clone()),
            token,
        };
        if self.queue.try_submit(submission).is_err() {
            self.book.0.lock().unwrap().pop();
        }
    }

    fn value(&mut self) -> u64 {
        match self.choices.below(4) {
            0 | 1 => self.choices.below(8),
            2 => 1 << self.choices.below(64),
            _ => self.choices.word(),
        }
    }

    fn scribble(&mut self, part: Part) {
        let control = self.queue.control();
        let words = control.part(part);
        let at = self.choices.below(words.len() as u64) as usize;
        words[at].store(self.value(), Relaxed);
    }

    /// Some worker that there is.
    fn some_worker(&mut self) -> Option<WorkerId> {
        let ids: Vec<WorkerId> = self.supervisor.crew.workers().map(|worker| worker.id).collect();
        let pick = self.choices.below(ids.len().max(1) as u64) as usize;
        ids.get(pick).copied()
    }

    /// A state for some record, of its use of now and of a worker that there is.
    fn tell_a_state(&mut self) {
        let states = [State::Claimed, State::Running, State::Done, State::Cancelling];
        let state = states[self.choices.below(4) as usize];
        let index = self.choices.below(16) as usize;
        let Some(id) = self.some_worker() else { return };
        let control = self.queue.control();
        let generation = control.records()[index].state().generation();
        let word = StateWord::new(generation, Owner::of(id), state);
        control.part(Part::Records)[index * RECORD].store(word.bits(), Relaxed);
    }

    fn step(&mut self) {
        let now = monotonic_ns();
        match self.choices.below(20) {
            0..4 => self.submit(),
            // A phase, as the supervisor may read it or not.
            4..7 => {
                let (phase, is_read) = (self.choices.below(6), self.choices.below(3) > 0);
                if let Some(id) = self.some_worker() {
                    let control = self.queue.control();
                    let line = usize::from(id.slot) * REPORT;
                    control.part(Part::Report)[line].store(phase, Relaxed);
                    if is_read {
                        self.supervisor.read_phases(now);
                    }
                }
            }
            7 => self.scribble(Part::Report),
            8 => self.scribble(Part::Header),
            9 => self.scribble(Part::Heads),
            10 => self.tell_a_state(),
            11 => {
                let loads = self.choices.below(32) as u32;
                let mask = self.value();
                racing::start(Flip { loads, mask });
            }
            12..14 => self.supervisor.read_phases(now),
            14..17 => {
                let exits = [
                    WorkerExit::Exited(crate::worker::EXIT_OK),
                    WorkerExit::Exited(crate::worker::EXIT_INIT_FAILED),
                    WorkerExit::Signalled { signal: 9, core_dumped: false },
                    WorkerExit::NotStarted { reason: "no".to_owned() },
                ];
                let exit = exits[self.choices.below(4) as usize].clone();
                if let Some(id) = self.some_worker() {
                    self.die(id, exit);
                }
            }
            17 => self.supervisor.repair_damage(),
            18 => {
                self.supervisor.watch(now);
                self.supervisor.audit(0);
            }
            _ => self.supervisor.expire_timers(now),
        }
        // Those that are being killed are dead by the next step.
        let killed = self.supervisor.crew.workers().filter(|worker| worker.killed.is_some());
        let killed: Vec<WorkerId> = killed.map(|worker| worker.id).collect();
        let exit = || WorkerExit::Signalled { signal: 9, core_dumped: false };
        killed.into_iter().for_each(|id| self.die(id, exit()));
        self.rebuild();
        self.fill_seats();
    }
}

/// Runs the scenario that `bytes` decide. Returns how many damages and deaths there were.
///
/// # Panics
///
/// If the supervisor does something it must not.
pub fn run(bytes: &[u8]) -> u64 {
    let mut scenario = Scenario::new(bytes);
    while !scenario.choices.is_spent() && scenario.supervisor.shared.stage() == Stage::Open {
        scenario.step();
    }
    racing::stop();
    let shared = Arc::clone(&scenario.supervisor.shared);
    let failed = shared.stage() > Stage::Open;
    assert_eq!(failed, shared.reason().is_some(), "a pool that fails says why");
    assert!(!failed || shared.pending() == 0, "a pool that fails ends every task");
    shared.queues.iter().for_each(|queue| queue.end_all(None));
    let given = scenario.book.0.lock().unwrap().clone();
    assert!(given.iter().all(|&times| times == 1), "not once each: {given:?}");
    let counters = &shared.common.counters;
    counters.corrupt.get() + counters.deaths.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fuzz::random_bytes;

    /// A worker that takes tasks was ready, and such deaths do not make a queue hopeless.
    #[test]
    fn a_worker_that_had_a_task_was_ready_whatever_its_phase_says() {
        let mut scenario = Scenario::new(&[u8::MAX; 64]);
        assert_eq!(scenario.supervisor.shared.plan.respawn, Respawn::Always);
        for _ in 0..20 {
            let ids: Vec<WorkerId> = scenario.supervisor.crew.workers().map(|w| w.id).collect();
            assert!(!ids.is_empty());
            for id in ids {
                scenario.submit();
                let control = scenario.queue.control();
                let records = control.records();
                let queued = |index: &usize| records[*index].state().state() == Some(State::Queued);
                let index = (0..records.len()).find(queued).unwrap();
                let generation = records[index].state().generation();
                let word = StateWord::new(generation, Owner::of(id), State::Running);
                control.part(Part::Records)[index * RECORD].store(word.bits(), Relaxed);
                scenario.die(id, WorkerExit::Signalled { signal: 6, core_dumped: false });
                assert_eq!(scenario.supervisor.shared.stage(), Stage::Open);
            }
            scenario.fill_seats();
        }
    }

    /// As `queue::fuzz` has it: `AIOPOOL_FUZZ_ROUNDS` sets how many.
    #[test]
    fn whatever_workers_say_of_themselves_every_task_ends_once() {
        let rounds = std::env::var("AIOPOOL_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok());
        let mut found = 0;
        for seed in 1..=rounds.unwrap_or(300) {
            let bytes = random_bytes(seed, 100 + seed % 700);
            match std::panic::catch_unwind(|| run(&bytes)) {
                Ok(ends) => found += ends,
                Err(_) => panic!("scenario {seed} went wrong"),
            }
        }
        assert!(found > 100, "next to nothing happened: {found}");
    }
}
