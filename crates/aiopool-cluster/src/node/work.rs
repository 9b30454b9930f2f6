//! What the node's pool runs: tasks and items go in with a number, and come out several at a time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiopool::remote::{self, Bell, Place};
use aiopool::{Output, PolledPool, PolledTask, Pool, TaskError, TaskOptions};
use bytes::Bytes;

use super::agent::{Agent, Event, Life};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::protocol::Ending;
use crate::wire::{self, Function, Queued};

/// The pool of a life.
pub(super) struct Work {
    pub(super) pool: PolledPool,
    /// Rung when the pool has outcomes.
    bell: Bell,
    /// Whether every worker has started: before that nothing is pulled, since a pool whose workers
    /// cannot start would lose it.
    pub(super) ready: bool,
}

/// Workers that died one after the other, while no code came to an end.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    pids: BTreeSet<u32>,
    last: Option<Instant>,
}

/// Deaths one after the other that are the node's fault, and not that of its tasks.
const MANY: usize = 8;

impl Deaths {
    /// Whether the node is taken for broken.
    pub(super) fn are_many(&self) -> bool {
        self.pids.len() >= MANY
    }

    /// Takes note of a death; true where that makes the node a broken one.
    fn add(&mut self, pid: u32) -> bool {
        self.last = Some(Instant::now());
        self.pids.insert(pid) && self.pids.len() == MANY
    }
}

/// What the pool has been given.
#[derive(Debug)]
pub(super) struct Run {
    id: u64,
    /// The item's place in its group.
    at: u32,
    task: PolledTask,
}

/// Outcomes that are taken from the pool at a time.
const AT_ONCE: usize = 256;

impl Work {
    pub(super) fn new(pool: Pool) -> Result<Self> {
        let pool = PolledPool::new(pool).map_err(|error| Error::Pool(error.to_string()))?;
        let bell = Bell::of(&pool).map_err(|error| Error::Pool(error.to_string()))?;
        Ok(Self { pool, bell, ready: false })
    }
}

/// Waits until the pool of this life has outcomes; for ever where there is none.
pub(super) async fn has_outcomes(life: Option<&Life>) {
    let Some(work) = life.and_then(|life| life.work.as_ref()) else {
        return std::future::pending().await;
    };
    work.bell.rung().await;
}

/// Waits until every worker of this life's pool has started, or cannot be; for ever where there is
/// none, or it is known.
pub(super) async fn becomes_ready(life: Option<&Life>) -> aiopool::Result<()> {
    match life.and_then(|life| life.work.as_ref()) {
        Some(work) if !work.ready => work.pool.pool().ready().await,
        _ => std::future::pending().await,
    }
}

impl Agent {
    /// Takes what the start of the workers came to.
    pub(super) fn has_started(&mut self, ready: aiopool::Result<()>) {
        match ready {
            Ok(()) => {
                if let Some(work) = self.life.as_mut().and_then(|life| life.work.as_mut()) {
                    work.ready = true;
                    self.renew_now();
                }
            }
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    /// Whether the node takes nothing for now, because its workers die: not before as much time as
    /// a lease has gone by since the last death. Then it tries one task.
    pub(super) fn rests(&self) -> bool {
        let last = self.deaths.last.filter(|_| self.deaths.are_many());
        last.is_some_and(|last| last.elapsed() < self.node.lease)
    }

    /// Returns the pool of this life, once there is one.
    pub(super) fn work(&self) -> Option<&Work> {
        self.life.as_ref()?.work.as_ref()
    }

    /// Hands a task, or one item of a group, to the pool; false where there is none any more.
    pub(super) fn run(&mut self, id: u64, at: u32, input: Bytes) -> bool {
        let Some(held) = self.held.get_mut(&id) else { return false };
        let Some(work) = self.life.as_ref().and_then(|life| life.work.as_ref()) else {
            return false;
        };
        let Queued { attempt, alone, again_after_timeout, .. } = held.queued;
        let options = TaskOptions::new().alone(alone).retry_on_timeout(again_after_timeout);
        let mut options = remote::one_attempt(options, attempt);
        if let Some(limit) = held.queued.timeout {
            options = options.timeout(limit);
        }
        if held.group.is_none() {
            held.checked = Instant::now();
        }
        let function = match &held.queued.function {
            Function::Place(bits) => match Place::from_bits(*bits) {
                Some(place) => remote::function(&work.pool, place),
                None => {
                    let text = format!("there is no task function at {bits:#x} in this build");
                    self.ended_later(id, at, TaskError::Refused(text));
                    return true;
                }
            },
            Function::Named(name) => work.pool.function(name),
        };
        let number = self.next;
        self.next += 1;
        let submitted = function
            .map_err(|error| TaskError::NotSubmitted(Arc::new(error)))
            .and_then(|function| work.pool.submit(function, &[&input], options, None, number));
        match submitted {
            Ok(task) => {
                self.runs.insert(number, Run { id, at, task });
                crash::soon(Point::N4);
            }
            Err(error) if error.is_full() => self.backlog.push_back((id, at, input)),
            Err(error) => self.ended_later(id, at, error),
        }
        true
    }

    /// Takes the end of what the pool did not take, when the loop comes to it.
    fn ended_later(&self, id: u64, at: u32, error: TaskError) {
        let _ = self.events.send(Event::Ended(id, at, error));
    }

    /// Calls the code of a task, or of all items of a group, off: what the pool has not taken yet
    /// does not begin any more.
    pub(super) fn call_off(&mut self, id: u64) {
        let (off, backlog): (VecDeque<_>, _) =
            std::mem::take(&mut self.backlog).into_iter().partition(|&(of, ..)| of == id);
        self.backlog = backlog;
        for (_, at, _) in off {
            self.ended_later(id, at, TaskError::Cancelled);
        }
        let Some(work) = self.work() else { return };
        for run in self.runs.values().filter(|run| run.id == id) {
            work.pool.cancel(run.task);
        }
    }

    /// Takes what the pool has ended, and gives it what waits.
    pub(super) fn receive(&mut self) {
        loop {
            let Some(work) = self.life.as_ref().and_then(|life| life.work.as_ref()) else { return };
            let mut came = std::mem::take(&mut self.came);
            work.pool.receive(AT_ONCE, &mut came);
            let nothing = came.is_empty();
            for arrived in came.drain(..) {
                let Some(Run { id, at, .. }) = self.runs.remove(&arrived.token) else { continue };
                // A run of no length was one all the same.
                let ran = arrived.ran.max(Duration::from_micros(1));
                self.ended(id, at, ran, arrived.result.map(Output::into_bytes));
            }
            self.came = came;
            if nothing {
                break;
            }
        }
        self.retry();
        self.fill();
    }

    /// Gives the pool what it had no room for.
    pub(super) fn retry(&mut self) {
        for (id, at, input) in std::mem::take(&mut self.backlog) {
            if self.held.contains_key(&id) {
                self.run(id, at, input);
            }
        }
    }

    /// What an end of code is to the submitter; `None` where this life ends first.
    pub(super) fn ending_of(
        &mut self,
        id: u64,
        result: &std::result::Result<Bytes, TaskError>,
    ) -> Option<Ending> {
        let held = self.held.get(&id)?;
        let ending = match result {
            Ok(_) => Ending::Final,
            Err(TaskError::Failed(_) | TaskError::Panicked(_)) => Ending::Failed,
            Err(TaskError::WorkerLost(_)) => Ending::WorkerLost,
            Err(TaskError::TimedOut { .. }) if held.queued.again_after_timeout => Ending::TimedOut,
            Err(TaskError::NotSubmitted(error)) => {
                tracing::warn!(%error, "the local pool refused a task");
                return Some(Ending::NotStarted);
            }
            Err(TaskError::PoolClosed { reason }) => {
                // Its workers may still be ending. This life ends first; then the submitter
                // learns of it by the node's key.
                let reason = reason.as_ref().map(ToString::to_string);
                self.failed = Some(reason.unwrap_or_else(|| "it ended".to_owned()));
                return None;
            }
            Err(_) => Ending::Final,
        };
        match result {
            Ok(_) => self.report.done += 1,
            Err(error) => {
                self.report.failed += 1;
                self.report.lost += u64::from(error.worker_lost().is_some());
            }
        }
        match result {
            Err(TaskError::WorkerLost(lost)) => {
                if self.deaths.add(lost.pid) {
                    let node = &self.name;
                    tracing::warn!(node, "its workers all die: it takes no more than a try");
                    self.renew_now();
                }
            }
            Ok(_) | Err(TaskError::Failed(_) | TaskError::Panicked(_)) => {
                self.deaths = Deaths::default();
            }
            Err(_) => {}
        }
        Some(ending)
    }

    /// Takes the end of a task or of an item.
    pub(super) fn ended(
        &mut self,
        id: u64,
        at: u32,
        ran: Duration,
        result: std::result::Result<Bytes, TaskError>,
    ) {
        let Some(ending) = self.ending_of(id, &result) else { return };
        let Some(held) = self.held.get_mut(&id) else { return };
        held.longest = held.longest.max(ran);
        if held.group.is_some() {
            return self.item_ended(id, at, ending, result);
        }
        if ending == Ending::NotStarted {
            // Told to the caller where every node gives it back.
            let reason = result.err().map(|error| remote::error_to_bytes(&error));
            let reason = reason.filter(|reason| reason.len() < wire::ROOM).unwrap_or_default();
            held.outcome = Some((ending, Err(reason.into())));
            let actions = held.attempt.not_started();
            return self.act(id, actions);
        }
        match result {
            Ok(value) => self.report_value(id, value),
            Err(error) => {
                self.report_error(id, ending, remote::error_to_bytes(&error).into());
            }
        }
    }
}
