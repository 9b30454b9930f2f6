//! A worker whose loop is not ours: the program of a start command, in whatever language.
//!
//! The protocol is the engine's, the executor is the caller's. What `root` does between two polls
//! of user code, [`AttachedWorker::next_event`] does at each call.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};

use crate::arena::Block;
use crate::control::Phase;
use crate::error::{Error, Result};
use crate::logs::LogSender;
use crate::sys::poll::{self, PollFd};
use crate::sys::requests;
use crate::table::{INLINE_INPUT, INLINE_OUTPUT};
use crate::task::{Status, TaskFailure, codec};
use crate::trace::Open;

use super::claimed::{Claimed, now};
use super::config::WorkerConfig;
use super::engine::{Engine, NoRoom};
use super::functions::Names;
use super::in_hand::{Held, InHand};
use super::in_place::{EventInPlace, Found};
use super::outputs::{LoanError, OutputLoan};
use super::spin::Spin;
use super::start::WorkerStart;
use super::timeline::Of;

/// What a worker is to do next; see [`AttachedWorker::next_event`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Nothing: wait until the descriptor is readable, then ask again.
    Nothing,
    /// Run a task, and answer it with [`AttachedWorker::complete`].
    Run {
        /// Names the task in the answer.
        task: u64,
        /// The function's name.
        function: String,
        /// The input's bytes.
        input: Vec<u8>,
    },
    /// The task was cancelled, and its caller has the outcome: stop it, then complete it as
    /// [`Completion::Cancelled`].
    Cancel {
        /// The task's number, as it came with [`Event::Run`].
        task: u64,
    },
    /// Drop what still runs and [leave](AttachedWorker::leave): the pool ends, or the worker has
    /// run as many tasks as it may.
    Leave,
}

/// What a task ended with in a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion<'b> {
    /// The output's bytes.
    Ok(&'b [u8]),
    /// The function ended with an error, of which this is the text.
    Failed(&'b str),
    /// The worker has no function of that name, or cannot decode the input; the text says which.
    Refused(&'b str),
    /// The output cannot be made into bytes; the text says why.
    Unencodable(&'b str),
    /// The task was cancelled, and nothing of it is left.
    Cancelled,
}

#[derive(Debug)]
struct AttachedTask {
    held: Held,
    /// The program has been given [`Event::Cancel`] for it.
    cancel_reported: bool,
    /// A block that the program fills in place.
    loan: Option<OutputLoan>,
    /// Its entry in the timeline, until it ends.
    traced: Option<Open>,
}

/// This process as a worker that serves tasks with a loop of its own.
///
/// For programs that a pool names in [`StartMethod::Command`](crate::StartMethod::Command).
/// A worker waits until [its descriptor](AsFd) is readable, and then asks for the
/// [next](Self::next_event) event until there is none. The first time it asks says that it is
/// ready.
///
/// ```no_run
/// use aiopool::{AttachedWorker, Completion, Event};
///
/// fn main() -> aiopool::Result<()> {
///     let mut worker = AttachedWorker::attach()?;
///     loop {
///         match worker.next_event() {
///             Event::Run { task, input, .. } => {
///                 let upper = input.to_ascii_uppercase();
///                 worker.complete(task, Completion::Ok(&upper))?;
///             }
///             Event::Cancel { task } => worker.complete(task, Completion::Cancelled)?,
///             Event::Nothing => worker.wait(),
///             _ => break,
///         }
///     }
///     worker.leave();
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct AttachedWorker {
    pub(super) engine: Engine,
    /// Where it sends what it logs, if the host takes it.
    to_host: Option<LogSender>,
    seat: u32,
    concurrency: usize,
    argument: Option<Vec<u8>>,
    names: Names,
    tasks: BTreeMap<u64, AttachedTask>,
    next_task: u64,
    called_off: VecDeque<u64>,
    ready: bool,
    in_hand: InHand,
    spin: Spin,
    /// The last look found nothing, and this worker could not have taken a task.
    idle_and_full: bool,
    /// A small input, while its task is begun.
    scratch: [u8; INLINE_INPUT],
    /// What a `SIGTERM` rings.
    _bell: requests::Bell,
}

impl AttachedWorker {
    /// Over what the process was started with.
    pub(crate) fn over(start: WorkerStart) -> Result<Self> {
        let WorkerStart { id, seat, lane_start, handback_start, config, fds, logs } = start;
        let system = |error| Error::system("attach to the pool", error);
        let config = WorkerConfig::decode(&config).map_err(Error::Corrupt)?;
        let shape = config.shape(fds.bells.len());
        let mut engine =
            Engine::open(id, lane_start, handback_start, shape, fds).map_err(system)?;
        engine.print_apart(config.printed.clone()).map_err(system)?;
        let bell = requests::Bell::new(engine.own_bell().as_fd()).map_err(system)?;
        requests::catch(config.replaced).map_err(system)?;
        let wanted = logs.zip(config.logs.as_ref());
        let to_host = wanted.and_then(|(socket, wanted)| LogSender::new(wanted, socket, seat));
        // A hook with a vtable is a function of a Rust host, which this program may not have.
        let foreign = config.initializer.filter(|hook| hook.vtable.is_none());
        Ok(Self {
            engine,
            to_host,
            seat,
            concurrency: config.child_concurrency as usize,
            argument: foreign.map(|hook| hook.argument),
            names: Names::default(),
            tasks: BTreeMap::new(),
            next_task: 1,
            called_off: VecDeque::new(),
            ready: false,
            in_hand: InHand::new(config.max_tasks),
            spin: Spin::new(config.spin_ns, config.searchers, config.crowded),
            idle_and_full: false,
            scratch: [0; INLINE_INPUT],
            _bell: bell,
        })
    }

    /// Returns the worker's seat in its pool, from 0 to `processes - 1`.
    #[must_use]
    pub fn worker_id(&self) -> u32 {
        self.seat
    }

    /// Tasks that the pool lets this worker have in flight.
    #[must_use]
    pub fn child_concurrency(&self) -> usize {
        self.concurrency
    }

    /// Returns the bytes that the pool was given for its workers' initialisation, if it was given
    /// any.
    #[must_use]
    pub fn initializer_argument(&self) -> Option<&[u8]> {
        self.argument.as_deref()
    }

    /// Tells the pool why this worker cannot start; the program ends after this.
    pub fn fail(mut self, reason: &str) {
        self.engine.set_failure(reason);
    }

    /// Returns what to do next. Never waits.
    ///
    /// After [`Event::Nothing`] the descriptor is readable as soon as there is something else.
    pub fn next_event(&mut self) -> Event {
        match self.next_in_place() {
            EventInPlace::Nothing => Event::Nothing,
            EventInPlace::Run { task, function, input } => {
                Event::Run { task, function: function.to_owned(), input: input.to_vec() }
            }
            EventInPlace::Cancel { task } => Event::Cancel { task },
            EventInPlace::Leave => Event::Leave,
        }
    }

    /// As [`next_event`](Self::next_event), with the input where it is: large ones are in the
    /// pool's memory, and the caller copies what it keeps.
    pub fn next_in_place(&mut self) -> EventInPlace<'_> {
        match self.next() {
            Found::Nothing => EventInPlace::Nothing,
            Found::Cancel { task } => EventInPlace::Cancel { task },
            Found::Leave => EventInPlace::Leave,
            Found::Run { task, claimed, function, input } => EventInPlace::Run {
                task,
                function: self.names.known(function),
                input: self.engine.input_at(&claimed, input, &mut self.scratch).bytes,
            },
        }
    }

    fn next(&mut self) -> Found {
        if !std::mem::replace(&mut self.ready, true) {
            self.engine.set_phase(Phase::Ready);
        }
        self.engine.begins(None);
        self.engine.wake();
        self.spin.wake();
        self.idle_and_full = false;
        loop {
            self.attend();
            self.place_outputs();
            self.in_hand.retire_if_asked(&mut self.engine);
            if let Some(found) = self.look() {
                return found;
            }
            // Emptied before the flag is set and before the last look: what rings after that
            // makes the descriptor readable. An eventfd of our own is never refused.
            let _ = self.engine.own_bell().drain();
            if self.tasks.is_empty() {
                // After that: the host may have rung for a block that it hands back.
                self.in_hand.give_memory_back(&self.engine);
            }
            let can_take = self.can_take();
            if can_take {
                self.engine.sleep();
            } else {
                // A search that found nothing would keep the host from ringing others.
                self.engine.stop_search();
            }
            // The look after the fence in `sleep`.
            let asked = self.in_hand.must_retire();
            if asked || self.engine.has_attention() || can_take && self.engine.has_task() {
                self.engine.wake();
                continue;
            }
            self.idle_and_full = !can_take;
            self.spin.rest();
            return Found::Nothing;
        }
    }

    /// Looks for work for as long as a sleep would cost, if the last waits were short: to be called
    /// before [`next_event`](Self::next_event) by a program that is about to wait, and has nothing
    /// else to do. Returns whether there may be some.
    ///
    /// It does not look while tasks are in flight, and ends as soon as `others` is readable: the
    /// descriptor of the event loop, by which it gives way to its other work.
    pub fn search(&mut self, others: BorrowedFd<'_>) -> bool {
        self.engine.wake();
        self.spin.wake();
        let has_work = |engine: &Engine| engine.has_task() || engine.has_attention();
        if has_work(&self.engine) {
            return true;
        }
        if !self.ready || !self.tasks.is_empty() || !self.can_take() {
            return false;
        }
        let Self { engine, spin, .. } = self;
        let worth_it = engine.processor.may_host_run() && spin.worth_it();
        if !worth_it || !engine.start_search(spin.searchers()) {
            return false;
        }
        let is_readable = || poll::is_readable(others);
        let found = spin.until_or(|| has_work(engine), is_readable);
        if found && !engine.has_task() {
            engine.stop_search();
        }
        found
    }

    /// Waits until [`next_event`](Self::next_event) has something, for a program with no loop of
    /// its own.
    pub fn wait(&self) {
        // An error is a signal: the look that follows is early, and no harm.
        let _ = poll::poll(&mut [PollFd::readable(self.as_fd())], None);
    }

    /// Says what a task ended with. A task that was cancelled meanwhile is confirmed instead.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] when there is no such task, or it was completed before.
    pub fn complete(&mut self, task: u64, completion: Completion<'_>) -> Result<()> {
        let text = |text: &str| text.as_bytes().to_vec();
        let owned;
        let (status, bytes) = match completion {
            Completion::Ok(bytes) => (Status::Ok, bytes),
            Completion::Failed(message) => {
                owned = failure(message);
                (Status::Failed, owned.as_slice())
            }
            Completion::Refused(reason) => {
                owned = text(reason);
                (Status::UnknownFunction, owned.as_slice())
            }
            Completion::Unencodable(reason) => {
                owned = text(reason);
                (Status::Unencodable, owned.as_slice())
            }
            Completion::Cancelled => (Status::Cancelled, &[][..]),
        };
        let (claimed, elapsed) = self.unfinished(task)?;
        self.trace_end(task, status);
        if let Some(placed) = self.placed(task, status, bytes) {
            self.engine.complete_placed(claimed, status, placed, elapsed);
            self.vacate(task);
            return Ok(());
        }
        match self.engine.complete(claimed, status, bytes, elapsed) {
            Ok(()) => self.vacate(task),
            Err(NoRoom) => {
                if let Some(AttachedTask { held, loan, .. }) = self.tasks.get_mut(&task) {
                    // What the task has borrowed and not used may be what is in the way.
                    drop(loan.take());
                    let outcome = (status, bytes.to_vec(), elapsed);
                    self.in_hand.keep_outcome(&self.engine, held, outcome);
                }
                self.place_outputs();
            }
        }
        Ok(())
    }

    /// Says how far `task` is, as [`progress`](crate::progress) does for a task of a pool's own
    /// workers.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] when there is no such task, or it is over.
    pub fn progress(&mut self, task: u64, number: u64) -> Result<()> {
        let (claimed, _) = self.unfinished(task)?;
        self.engine.set_progress(&claimed, number);
        Ok(())
    }

    /// Returns what sends log records to the host, if the host takes them: `PoolBuilder::logs` says
    /// what becomes of them there.
    #[must_use]
    pub fn log_sender(&self) -> Option<LogSender> {
        self.to_host.clone()
    }

    /// Returns the low 31 bits of the number that the host has for `task`, as log records carry
    /// it; `None` when there is no such task.
    #[must_use]
    pub fn host_number(&self, task: u64) -> Option<u32> {
        let task = self.tasks.get(&task)?;
        Some(self.engine.call(&task.held.task).task())
    }

    /// Says that a task ended with an output whose bytes are those of all `parts`: they go straight
    /// into the pool's memory. A task that was cancelled meanwhile is confirmed instead.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn complete_parts(&mut self, task: u64, parts: &[&[u8]]) -> Result<()> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if let &[bytes] = parts {
            return self.complete(task, Completion::Ok(bytes));
        }
        if len <= INLINE_OUTPUT {
            return self.complete(task, Completion::Ok(&parts.concat()));
        }
        let (claimed, elapsed) = self.unfinished(task)?;
        match self.engine.outputs().store_parts(parts, len) {
            Ok(block) => {
                let placed = (block, len as u32);
                self.trace_end(task, Status::Ok);
                self.engine.complete_placed(claimed, Status::Ok, placed, elapsed);
                self.vacate(task);
                Ok(())
            }
            // It waits for room, or is refused, as one piece.
            Err(_) => self.complete(task, Completion::Ok(&parts.concat())),
        }
    }

    /// Ends a task's entry in the timeline.
    fn trace_end(&mut self, task: u64, status: Status) {
        let traced = self.tasks.get_mut(&task).and_then(|task| task.traced.take());
        self.engine.traced(traced, status as u8, now);
    }

    /// Returns the claim of a task that was not completed, and how long it has run.
    pub(super) fn unfinished(&self, task: u64) -> Result<(Claimed, u64)> {
        let unfinished = self.tasks.get(&task).filter(|in_flight| !in_flight.held.is_over());
        let Some(&Held { task: claimed, started, .. }) = unfinished.map(|task| &task.held) else {
            return Err(Error::Misuse("there is no such task in this worker, or it is over"));
        };
        Ok((claimed, now().saturating_sub(started)))
    }

    /// Returns a block of `len` bytes for the output of `task`, to be filled in place. The task is
    /// then completed with the bytes that are there, which are not copied.
    ///
    /// # Errors
    ///
    /// When there is no such task, or it has a block; what the allocator says.
    pub(crate) fn loan_output(
        &mut self,
        task: u64,
        len: usize,
    ) -> std::result::Result<*mut u8, LoanError> {
        let Some(in_flight) = self.tasks.get_mut(&task).filter(|task| !task.held.is_over()) else {
            return Err(LoanError::Misuse("there is no such task in this worker, or it is over"));
        };
        if in_flight.loan.is_some() {
            return Err(LoanError::Misuse("this task has borrowed memory for its output already"));
        }
        let loan = self.engine.outputs().loan(len).map_err(LoanError::Arena)?;
        Ok(in_flight.loan.insert(loan).data())
    }

    /// Returns the block that the bytes of an output stand in, if they do.
    fn placed(&mut self, task: u64, status: Status, bytes: &[u8]) -> Option<(Block, u32)> {
        let loan = &mut self.tasks.get_mut(&task)?.loan;
        loan.take_if(|loan| {
            status == Status::Ok
                && std::ptr::eq(loan.data(), bytes.as_ptr())
                && bytes.len() <= loan.len()
        })
        .map(|mut loan| {
            loan.trim(bytes.len());
            loan.into_block()
        })
    }

    /// Leaves the pool in order; the program ends with status 0 after this, and soon.
    pub fn leave(mut self) {
        self.tasks.clear();
        self.engine.set_phase(Phase::Leaving);
    }

    fn can_take(&self) -> bool {
        self.tasks.len() < self.concurrency && self.in_hand.admits()
    }

    fn look(&mut self) -> Option<Found> {
        if self.engine.must_stop() {
            return Some(Found::Leave);
        }
        while let Some(task) = self.called_off.pop_front() {
            if self.tasks.contains_key(&task) {
                return Some(Found::Cancel { task });
            }
        }
        while self.can_take() {
            let idle = self.tasks.is_empty();
            let Some(task) = self.in_hand.claim(&mut self.engine, idle) else { break };
            if let Some(found) = self.take(task) {
                return Some(found);
            }
        }
        (self.in_hand.has_claimed_all() && self.tasks.is_empty()).then_some(Found::Leave)
    }

    /// Starts a claimed task; `None` if it is over already.
    fn take(&mut self, mut task: Claimed) -> Option<Found> {
        let started = now();
        if !self.in_hand.start(&mut self.engine, &mut task, started) {
            return None;
        }
        let call = self.engine.call(&task);
        self.in_hand.keep(call);
        let number = self.next_task;
        self.next_task += 1;
        let held = Held::new(task, started);
        let traced = self.engine.trace(&task, Of::Run, || started);
        let in_flight = AttachedTask { held, cancel_reported: false, loan: None, traced };
        self.tasks.insert(number, in_flight);
        let refused = match self.engine.checked_input(&task) {
            Err(reason) => reason,
            Ok(input) => match self.names.get(self.engine.requests(), call.function) {
                Ok(_) => {
                    let function = call.function;
                    self.engine.begins(Some(task.record));
                    return Some(Found::Run { task: number, claimed: task, function, input });
                }
                Err(reason) => reason,
            },
        };
        // It was inserted just now, so it is there.
        let _ = self.complete(number, Completion::Refused(&refused));
        None
    }

    fn vacate(&mut self, task: u64) {
        self.tasks.remove(&task);
        self.in_hand.vacated();
        if std::mem::take(&mut self.idle_and_full) {
            // The thread that waits for the descriptor learns that there may be work now; no other
            // process rings for that. Cannot be refused: the descriptor is our own.
            let _ = self.engine.own_bell().ring();
        }
    }

    /// Tries once more to place outputs that found no room.
    fn place_outputs(&mut self) {
        let Self { in_hand, engine, tasks, .. } = self;
        let held = tasks.iter_mut().map(|(&task, in_flight)| (task, &mut in_flight.held));
        for task in in_hand.place_outputs(engine, held) {
            self.vacate(task);
        }
    }

    /// Reads what the host has asked for.
    fn attend(&mut self) {
        let Self { in_hand, engine, tasks, .. } = self;
        let held = || tasks.iter().map(|(&task, in_flight)| (task, &in_flight.held));
        for (task, word) in in_hand.attend(engine, held) {
            let Some(in_flight) = self.tasks.get_mut(&task) else { continue };
            if self.in_hand.drop_outcome(&mut in_flight.held) {
                // The program is done with it.
                self.engine.confirm(in_flight.held.task, word);
                self.vacate(task);
            } else if !std::mem::replace(&mut in_flight.cancel_reported, true) {
                self.called_off.push_back(task);
            }
        }
    }
}

impl AsFd for AttachedWorker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.own_bell().as_fd()
    }
}

fn failure(message: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Strings can always be encoded.
    let _ = codec::encode(&TaskFailure::foreign(message), &mut bytes);
    bytes
}
