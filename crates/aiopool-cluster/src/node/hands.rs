//! What the agent does for each delivery: the actions of its [`Attempt`].

use std::time::{Duration, Instant};

use aiopool::remote::{self, Place};
use aiopool::{TaskError, TaskOptions};
use bytes::Bytes;

use super::agent::{Agent, Event};
use crate::link::{JOBS, Swap, word_of};
use crate::protocol::{Attempt, AttemptAction, AttemptEvent, Ending, LeaseEvent};
use crate::random;
use crate::wire::{self, Function, JobKey, NodeKey, Queued, Tail, Written};

/// A delivery that takes a place.
#[derive(Debug)]
pub(super) struct Held {
    attempt: Attempt,
    tail: Tail,
    queued: Queued,
    reply: String,
    nonce: u64,
    /// What the code ended with, until it is known to be stored.
    outcome: Option<(Ending, Result<Bytes, Bytes>)>,
}

/// How long a question that nobody answered waits before it is asked again.
const AGAIN: Duration = Duration::from_millis(200);

impl Agent {
    /// Takes a delivery on: it has a place from now on.
    pub(super) fn take_on(&mut self, seq: u64, tail: Tail, queued: Queued, reply: String) {
        let Some(life) = &self.life else { return };
        let (id, nonce) = (self.next, random::bits() as u64);
        self.next += 1;
        let incarnation = life.lease.incarnation().id;
        let (attempt, actions) = Attempt::delivered(seq, queued.attempt, incarnation, nonce);
        self.held.insert(id, Held { attempt, tail, queued, reply, nonce, outcome: None });
        self.act(id, actions);
    }

    /// Takes what one of the agent's own futures brought.
    pub(super) fn take(&mut self, event: Event) {
        if event.is_answer() {
            self.answered = Instant::now();
        }
        match event {
            Event::Claim(id, Swap::Won(seq)) => self.tell(id, AttemptEvent::ClaimWon(seq)),
            Event::Claim(id, Swap::Broken(reason)) => {
                // No such claim will be stored, so nothing may start; the word stays queued.
                tracing::warn!(%reason, "a claim was refused");
                if let Some(held) = self.held.remove(&id) {
                    self.say(held.reply, "-NAK");
                }
            }
            Event::Claim(id, _) => self.tell(id, AttemptEvent::ClaimUnsure),
            Event::Word(id, Ok(stored)) => self.tell(id, AttemptEvent::Read(word_of(stored))),
            Event::Word(id, Err(())) => self.read_word(id, AGAIN),
            Event::Job(job, answer) => self.answer(job, answer),
            Event::Ended(id, result) => self.ended(id, result),
            Event::Outcome(id, Swap::Won(_)) => self.tell(id, AttemptEvent::OutcomeWon),
            Event::Outcome(id, Swap::Broken(reason)) => self.refused_outcome(id, &reason),
            Event::Outcome(id, _) => self.tell(id, AttemptEvent::OutcomeUnsure),
            Event::Renewal(serial, swap) => {
                let event = match swap {
                    Swap::Won(revision) => LeaseEvent::Won { serial, revision },
                    _ => LeaseEvent::Unsure { serial },
                };
                self.lease_event(event, remote::boottime_ns());
            }
            Event::Key(Ok(stored)) => {
                let read = stored.and_then(|stored| {
                    let key: NodeKey = wire::decode(&stored.payload)?;
                    Some((stored.seq, key.key))
                });
                self.lease_event(LeaseEvent::Read(read), remote::boottime_ns());
            }
            // The lease's own patience asks again.
            Event::Key(Err(())) => {}
        }
    }

    fn tell(&mut self, id: u64, event: AttemptEvent) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let actions = held.attempt.step(event);
        self.act(id, actions);
    }

    fn act(&mut self, id: u64, actions: Vec<AttemptAction>) {
        for action in actions {
            let Some(held) = self.held.get_mut(&id) else { return };
            match action {
                AttemptAction::SendClaim { expected } => self.claim(id, expected),
                AttemptAction::AskJob => {
                    let job = held.tail.job;
                    let read = self.jobs.entry(job).or_default();
                    if read.asked.is_empty() {
                        read.asked.push(id);
                        self.ask_job(job, Duration::ZERO);
                    } else {
                        // The answer that is on its way may be older than this delivery.
                        read.next.push(id);
                    }
                }
                AttemptAction::ReadWord => self.read_word(id, Duration::ZERO),
                AttemptAction::Acknowledge => {
                    let reply = held.reply.clone();
                    self.say(reply, "+ACK");
                }
                AttemptAction::Purge => {
                    let filter = self.link.names.swap(&held.tail);
                    let link = self.link.clone();
                    tokio::spawn(async move { link.purge(&filter).await });
                }
                AttemptAction::Start { .. } => self.start(id),
                AttemptAction::SendOutcome { expected } => self.send_outcome(id, expected),
                AttemptAction::SendNotStarted { expected } => {
                    held.outcome = Some((Ending::NotStarted, Err(Bytes::new())));
                    self.send_outcome(id, expected);
                }
                AttemptAction::Forget => {
                    self.held.remove(&id);
                }
            }
        }
    }

    fn claim(&self, id: u64, expected: u64) {
        let (Some(held), Some(life)) = (self.held.get(&id), &self.life) else { return };
        let written = Written::Claim {
            node: self.name.clone(),
            life: life.lease.incarnation(),
            lease: self.node.times().lease,
            nonce: held.nonce,
            attempt: held.queued.attempt,
        };
        let (link, tail, events) = (self.link.clone(), held.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            let (subject, payload) = (link.names.written(&tail), wire::encode(&written));
            let swap = link.swap_word(subject, &tail, expected, payload).await;
            if swap == Swap::Unknown {
                tokio::time::sleep(AGAIN).await;
            }
            let _ = events.send(Event::Claim(id, swap));
        });
    }

    fn read_word(&self, id: u64, pause: Duration) {
        let Some(held) = self.held.get(&id) else { return };
        let (link, tail, events) = (self.link.clone(), held.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(Event::Word(id, link.word(&tail).await));
        });
    }

    fn ask_job(&self, job: u128, pause: Duration) {
        let (link, events) = (self.link.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let stored = link.key(JOBS, &link.names.job_key(job)).await;
            let key = stored.map(|s| s.and_then(|s| wire::decode::<JobKey>(&s.payload)));
            let _ = events.send(Event::Job(job, key));
        });
    }

    fn answer(&mut self, job: u128, answer: Result<Option<JobKey>, ()>) {
        let Some(read) = self.jobs.get_mut(&job) else { return };
        let Ok(key) = answer else { return self.ask_job(job, AGAIN) };
        let asked = std::mem::replace(&mut read.asked, std::mem::take(&mut read.next));
        if read.asked.is_empty() {
            self.jobs.remove(&job);
        } else {
            self.ask_job(job, Duration::ZERO);
        }
        for id in asked {
            let Some(held) = self.held.get(&id) else { continue };
            let alive = key.as_ref().is_some_and(|key| key.wants(held.tail.chunk()));
            self.tell(id, AttemptEvent::Job { alive });
        }
    }

    /// Hands the task to the local pool. It gets no retries there: the submitter decides.
    fn start(&mut self, id: u64) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let life = self.life.as_ref().filter(|life| life.lease.holds(remote::boottime_ns()));
        let Some(pool) = life.and_then(|life| life.pool.as_ref()) else {
            let actions = held.attempt.not_started();
            return self.act(id, actions);
        };
        let mut options = TaskOptions::new();
        if let Some(limit) = held.queued.timeout {
            options = options.timeout(limit);
        }
        let input = held.queued.input.clone();
        let task = match &held.queued.function {
            Function::Place(bits) => match Place::from_bits(*bits) {
                Some(place) => remote::call(pool.with(options), place, input),
                None => {
                    let text = format!("there is no task function at {bits:#x} in this build");
                    return self.ended(id, Err(TaskError::Refused(text)));
                }
            },
            Function::Named(name) => pool.with(options).apply_named(name, input),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let _ = events.send(Event::Ended(id, task.await));
        });
    }

    fn ended(&mut self, id: u64, result: Result<Bytes, TaskError>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let ending = match &result {
            Ok(_) => Ending::Final,
            Err(TaskError::Failed(_) | TaskError::Panicked(_)) => Ending::Failed,
            Err(TaskError::WorkerLost(_)) => Ending::WorkerLost,
            Err(TaskError::NotSubmitted(error)) => {
                tracing::warn!(%error, "the local pool refused a task");
                let actions = held.attempt.not_started();
                return self.act(id, actions);
            }
            Err(TaskError::PoolClosed { reason }) => {
                // Its workers may still be ending. This life ends first; then the submitter
                // learns of it by the node's key.
                let reason = reason.as_ref().map(ToString::to_string);
                self.failed = Some(reason.unwrap_or_else(|| "it ended".to_owned()));
                return;
            }
            Err(_) => Ending::Final,
        };
        match &result {
            Ok(_) => self.report.done += 1,
            Err(_) => self.report.failed += 1,
        }
        let result = result.map_err(|error| remote::error_to_bytes(&error).into());
        held.outcome = Some((ending, result));
        self.tell(id, AttemptEvent::Ended);
    }

    fn send_outcome(&self, id: u64, expected: u64) {
        let Some(held) = self.held.get(&id) else { return };
        let Some((ending, result)) = held.outcome.clone() else { return };
        let (node, nonce, attempt) = (self.name.clone(), held.nonce, held.queued.attempt);
        let written = Written::Outcome { node, nonce, attempt, ending, result };
        let (link, tail, events) = (self.link.clone(), held.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            let (subject, payload) = (link.names.written(&tail), wire::encode(&written));
            let swap = link.swap_word(subject, &tail, expected, payload).await;
            if swap == Swap::Unknown {
                tokio::time::sleep(AGAIN).await;
            }
            let _ = events.send(Event::Outcome(id, swap));
        });
    }

    /// The server will never take the outcome as it is: an error takes its place, which is small.
    fn refused_outcome(&mut self, id: u64, reason: &str) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let text = format!("the server refused the task's outcome: {reason}");
        let error = remote::error_to_bytes(&TaskError::OutputSpace(text));
        held.outcome = Some((Ending::Final, Err(error.into())));
        self.tell(id, AttemptEvent::OutcomeUnsure);
    }
}
