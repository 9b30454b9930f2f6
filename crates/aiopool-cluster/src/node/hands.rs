//! What the agent does for each delivery: the actions of its [`Attempt`].

use std::time::{Duration, Instant};

use aiopool::remote::{self, Place};
use aiopool::{TaskError, TaskOptions};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::agent::{Agent, Event};
use crate::blob::{self, Side};
use crate::crash::{self, Point};
use crate::link::{JOBS, Swap, word_of};
use crate::protocol::{Attempt, AttemptAction, AttemptEvent, Ending, LeaseEvent};
use crate::random;
use crate::wire::{self, Body, Function, JobKey, NodeKey, Queued, Tail, Written};

/// A delivery that takes a place.
#[derive(Debug)]
pub(super) struct Held {
    attempt: Attempt,
    pub(super) tail: Tail,
    queued: Queued,
    reply: String,
    nonce: u64,
    /// A large input, once it is there.
    input: Option<Bytes>,
    /// Calls the code off.
    stop: Option<oneshot::Sender<()>>,
    /// When the code was started, or its word was last asked for.
    pub(super) checked: Instant,
    /// What the code ended with, until it is known to be stored.
    outcome: Option<(Ending, Result<Body, Bytes>)>,
}

/// How long a question that nobody answered waits before it is asked again.
const AGAIN: Duration = Duration::from_millis(200);

impl Agent {
    /// Takes a delivery on: it has a place from now on.
    pub(super) fn take_on(&mut self, seq: u64, tail: Tail, queued: Queued, reply: String) {
        let Some(life) = &self.life else { return };
        let (id, nonce) = (self.next, random::bits() as u64);
        self.next += 1;
        crash::here(Point::N1);
        let incarnation = life.lease.incarnation().id;
        let (attempt, actions) = Attempt::delivered(seq, queued.attempt, incarnation, nonce);
        let (input, stop, outcome, checked) = (None, None, None, Instant::now());
        let held = Held { attempt, tail, queued, reply, nonce, input, stop, checked, outcome };
        self.held.insert(id, held);
        self.act(id, actions);
    }

    /// Takes what one of the agent's own futures brought.
    pub(super) fn take(&mut self, event: Event) {
        if event.is_answer() {
            self.answered = Instant::now();
        }
        match event {
            Event::Claim(id, Swap::Won(seq)) => {
                crash::here(Point::N3);
                self.tell(id, AttemptEvent::ClaimWon(seq));
            }
            // An earlier copy may still land, so the claim is not given up while the word is queued.
            Event::Claim(id, _) => self.tell(id, AttemptEvent::ClaimUnsure),
            Event::Word(id, Ok(stored)) => self.tell(id, AttemptEvent::Read(word_of(stored))),
            Event::Word(id, Err(())) => self.read_word(id, AGAIN),
            Event::Job(job, answer) => self.answer(job, answer),
            Event::Input(id, Ok(input)) => {
                if let Some(held) = self.held.get_mut(&id) {
                    held.input = Some(input);
                    self.start(id);
                }
            }
            Event::Input(id, Err(reason)) => {
                let text = format!("the task's input: {reason}");
                self.ended(id, Err(TaskError::Corrupt(text)));
            }
            Event::Ended(id, result) => self.ended(id, result),
            Event::Value(id, stored) => {
                let result = stored.map_err(|reason| {
                    let text = format!("the server does not take the value: {}", short(&reason));
                    remote::error_to_bytes(&TaskError::OutputSpace(text)).into()
                });
                self.report(id, Ending::Final, result);
            }
            Event::Outcome(id, Swap::Won(_)) => {
                crash::here(Point::N6);
                self.tell(id, AttemptEvent::OutcomeWon);
            }
            Event::Outcome(id, Swap::Full(reason)) => self.full_outcome(id, &reason),
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
                    let job = held.queued.job.clone();
                    let read = self.jobs.entry(job.clone()).or_default();
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
                    let (job, n) = (held.tail.job, held.tail.n);
                    let link = self.link.clone();
                    tokio::spawn(async move { link.purge_tasks(job, n, n + 1, true).await });
                }
                AttemptAction::Start { .. } => self.start(id),
                AttemptAction::SendOutcome { expected } => self.send_outcome(id, expected),
                AttemptAction::SendNotStarted { expected } => {
                    held.outcome = Some((Ending::NotStarted, Err(Bytes::new())));
                    self.send_outcome(id, expected);
                }
                AttemptAction::Stop => {
                    if let Some(stop) = held.stop.take() {
                        let _ = stop.send(());
                    }
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
            item: held.queued.item,
            room: Bytes::from_static(&[0; wire::ROOM]),
        };
        let (link, tail, events) = (self.link.clone(), held.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            let (subject, payload) = (link.names.written(&tail), wire::encode(&written));
            let swap = link.swap_word(subject, &tail, expected, payload);
            let swap = crash::sent(Point::N2, &link.client, swap).await;
            match &swap {
                Swap::Full(reason) | Swap::Broken(reason) => {
                    tracing::warn!(%reason, "a claim was refused; it is sent again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                swap => tokio::time::sleep(swap.pause()).await,
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

    fn ask_job(&self, job: String, pause: Duration) {
        let (link, events) = (self.link.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let stored = link.key(JOBS, &link.names.job_key(&job)).await;
            let key = stored.map(|s| s.and_then(|s| wire::decode::<JobKey>(&s.payload)));
            let _ = events.send(Event::Job(job, key));
        });
    }

    fn answer(&mut self, job: String, answer: Result<Option<JobKey>, ()>) {
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
            let alive = key.as_ref().is_some_and(|key| key.wants(held.tail.job, held.tail.n));
            self.tell(id, AttemptEvent::Job { alive });
        }
    }

    /// Asks whether a task is still wanted, if its code runs.
    pub(super) fn check(&mut self, id: u64) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.checked = Instant::now();
        self.tell(id, AttemptEvent::Check);
    }

    /// Hands the task to the local pool. It gets no retries there: the submitter decides.
    fn start(&mut self, id: u64) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let life = self.life.as_ref().filter(|life| life.lease.holds(remote::boottime_ns()));
        let Some(pool) = life.and_then(|life| life.pool.as_ref()) else {
            let actions = held.attempt.not_started();
            return self.act(id, actions);
        };
        let input = match (held.input.take(), &held.queued.input) {
            (Some(input), _) => input,
            (None, Body::Inline(input)) => input.clone(),
            (None, Body::Blob(blob)) => {
                let (link, blob, events) = (self.link.clone(), blob.clone(), self.events.clone());
                let (job, n) = (held.tail.job, held.tail.n);
                tokio::spawn(async move {
                    let _ = events.send(Event::Input(id, link.fetch_blob(job, n, &blob).await));
                });
                return;
            }
        };
        let Queued { attempt, alone, again_after_timeout, .. } = held.queued;
        let options = TaskOptions::new().alone(alone).retry_on_timeout(again_after_timeout);
        let mut options = remote::one_attempt(options, attempt);
        if let Some(limit) = held.queued.timeout {
            options = options.timeout(limit);
        }
        let mut task = match &held.queued.function {
            Function::Place(bits) => match Place::from_bits(*bits) {
                Some(place) => remote::call(pool.with(options), place, input),
                None => {
                    let text = format!("there is no task function at {bits:#x} in this build");
                    return self.ended(id, Err(TaskError::Refused(text)));
                }
            },
            Function::Named(name) => pool.with(options).apply_named(name, input),
        };
        let (stop, stopped) = oneshot::channel();
        (held.stop, held.checked) = (Some(stop), Instant::now());
        crash::soon(Point::N4);
        let events = self.events.clone();
        tokio::spawn(async move {
            let called_off = tokio::select! {
                biased;
                result = &mut task => Err(result),
                stopped = stopped => Ok(stopped.is_ok()),
            };
            let result = match called_off {
                Err(result) => result,
                Ok(called_off) => {
                    if called_off {
                        task.cancel();
                    }
                    task.await
                }
            };
            let _ = events.send(Event::Ended(id, result));
        });
    }

    fn ended(&mut self, id: u64, result: Result<Bytes, TaskError>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let ending = match &result {
            Ok(_) => Ending::Final,
            Err(TaskError::Failed(_) | TaskError::Panicked(_)) => Ending::Failed,
            Err(TaskError::WorkerLost(_)) => Ending::WorkerLost,
            Err(TaskError::TimedOut { .. }) if held.queued.again_after_timeout => Ending::TimedOut,
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
            Err(error) => {
                self.report.failed += 1;
                self.report.lost += u64::from(error.worker_lost().is_some());
            }
        }
        match result {
            Ok(value) if value.len() > self.link.inline() => {
                self.store(id, value);
            }
            Ok(value) => self.report(id, ending, Ok(Body::Inline(value))),
            Err(error) => self.report(id, ending, Err(remote::error_to_bytes(&error).into())),
        }
    }

    /// Stores a large value; its outcome follows.
    fn store(&self, id: u64, value: Bytes) {
        let Some(held) = self.held.get(&id) else { return };
        let Some(claim) = held.attempt.claim() else { return };
        let (link, events) = (self.link.clone(), self.events.clone());
        let (job, n) = (held.tail.job, held.tail.n);
        tokio::spawn(async move {
            let stored = if value.len() > blob::LARGEST {
                Err(format!("it has {} bytes, and {} are allowed", value.len(), blob::LARGEST))
            } else {
                link.store_blob(job, n, Side::Output(claim), &value).await
            };
            let _ = events.send(Event::Value(id, stored.map(Body::Blob)));
        });
    }

    /// Has the outcome sent.
    fn report(&mut self, id: u64, ending: Ending, result: Result<Body, Bytes>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.outcome = Some((ending, result));
        // Where one was refused already, this one takes its place.
        let event = match held.attempt.running() {
            Some(_) => AttemptEvent::Ended,
            None => AttemptEvent::OutcomeUnsure,
        };
        self.tell(id, event);
    }

    /// There is no room for the outcome: a value goes to the stream of large ones, which has limits
    /// of its own, and what speaks of it is smaller than the claim.
    fn full_outcome(&mut self, id: u64, reason: &str) {
        match self.held.get(&id).and_then(|held| held.outcome.as_ref()) {
            Some((_, Ok(Body::Inline(value)))) => self.store(id, value.clone()),
            _ => self.refused_outcome(id, reason),
        }
    }

    fn send_outcome(&self, id: u64, expected: u64) {
        let Some(held) = self.held.get(&id) else { return };
        let Some((ending, result)) = held.outcome.clone() else { return };
        let (node, nonce, attempt) = (self.name.clone(), held.nonce, held.queued.attempt);
        let item = held.queued.item;
        let written = Written::Outcome { node, nonce, attempt, item, ending, result };
        let (link, tail, events) = (self.link.clone(), held.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            let (subject, payload) = (link.names.written(&tail), wire::encode(&written));
            let swap = link.swap_word(subject, &tail, expected, payload);
            let swap = crash::sent(Point::N5, &link.client, swap).await;
            if swap == Swap::Unknown {
                tokio::time::sleep(swap.pause()).await;
            }
            let _ = events.send(Event::Outcome(id, swap));
        });
    }

    /// The server will never take the outcome as it is: an error takes its place, which is small.
    fn refused_outcome(&mut self, id: u64, reason: &str) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let text = format!("the server refused the task's outcome: {}", short(reason));
        let error = remote::error_to_bytes(&TaskError::OutputSpace(text));
        held.outcome = Some((Ending::Final, Err(error.into())));
        self.tell(id, AttemptEvent::OutcomeUnsure);
    }
}

/// Cuts a text short: an outcome in place of another has to be smaller than the claim.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}
