//! What the agent does for each delivery: the actions of its [`Attempt`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use aiopool::{TaskError, remote};
use bytes::Bytes;

use super::agent::{Agent, Asked, Event, KnownJob};
use super::group::Running;
use crate::blob::{self, Side};
use crate::crash::{self, Point};
use crate::link::{self, AGAIN, JOBS, Link, Stored, Swap, word_of};
use crate::protocol::{Attempt, AttemptAction, AttemptEvent, Ending, LeaseEvent};
use crate::wire::{self, Body, NodeKey, Queued, Tail, Written};

/// A delivery that takes a place.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) attempt: Attempt,
    pub(super) tail: Tail,
    pub(super) queued: Queued,
    reply: String,
    nonce: u64,
    /// A large input, once it is there.
    input: Option<Bytes>,
    /// The items of a group, once they run.
    pub(super) group: Option<Running>,
    /// How long the longest run took.
    pub(super) longest: Duration,
    /// When the code was started, or its word was last asked for.
    pub(super) checked: Instant,
    /// What the code ended with, until it is known to be stored.
    pub(super) outcome: Option<(Ending, Result<Body, Bytes>)>,
}

/// Jobs of which a node keeps what it read last: of more than these it begins anew.
const JOBS_KNOWN: usize = 256;

/// Reads a job's key as the bucket's leader has it now.
async fn read_job(link: &Link, job: &str) -> Result<Option<KnownJob>, ()> {
    let stored = link.key(JOBS, &link.names.job_key(job)).await?;
    Ok(stored.and_then(|stored| Some((stored.seq, Arc::new(wire::decode(&stored.payload)?)))))
}

impl Agent {
    /// Takes a delivery on: it has a place from now on.
    pub(super) fn take_on(&mut self, seq: u64, tail: Tail, queued: Queued, reply: String) {
        let Some(life) = &self.life else { return };
        let id = self.next;
        self.next += 1;
        // No other claim of this process has it, and the life's own number is beside it.
        let nonce = id;
        crash::here(Point::N1);
        let incarnation = life.lease.incarnation().id;
        let (attempt, actions) = Attempt::delivered(seq, queued.attempt, incarnation, nonce);
        self.held.insert(
            id,
            Held {
                attempt,
                tail,
                queued,
                reply,
                nonce,
                input: None,
                group: None,
                longest: Duration::ZERO,
                checked: Instant::now(),
                outcome: None,
            },
        );
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
                self.fail(id, TaskError::Corrupt(text));
            }
            Event::Ended(id, at, error) => self.ended(id, at, Duration::ZERO, Err(error)),
            Event::Value(id, ending, Ok(body)) => self.report(id, ending, Ok(body)),
            Event::Value(id, _, Err(reason)) => {
                let text = format!("the server does not take the value: {}", short(&reason));
                let error = remote::error_to_bytes(&TaskError::OutputSpace(text));
                self.report(id, Ending::Final, Err(error.into()));
            }
            Event::Outcome(id, Swap::Won(_)) => {
                crash::here(Point::N6);
                self.tell(id, AttemptEvent::OutcomeWon);
            }
            Event::Outcome(id, Swap::Full(reason)) => self.full_outcome(id, &reason),
            Event::Outcome(id, Swap::Broken(reason)) => self.refused_outcome(id, &reason),
            Event::Outcome(id, _) => self.tell(id, AttemptEvent::OutcomeUnsure),
            Event::Strange(stored) => self.disown(&stored),
            Event::Renewal(serial, swap) => {
                if let Swap::Full(reason) | Swap::Broken(reason) = &swap {
                    tracing::warn!(%reason, node = self.name, "the node's key is not stored");
                }
                let event = match swap {
                    Swap::Won(revision) => LeaseEvent::Won { serial, revision },
                    _ => LeaseEvent::Unsure { serial },
                };
                self.lease_event(event, remote::boottime_ns());
            }
            Event::Key(Ok(stored)) => {
                let event = stored.map_or(LeaseEvent::Read(None), |stored| {
                    let key: Option<NodeKey> = wire::decode(&stored.payload);
                    match key {
                        Some(key) => LeaseEvent::Read(Some((stored.seq, key.key))),
                        None => LeaseEvent::Garbage(stored.seq),
                    }
                });
                self.lease_event(event, remote::boottime_ns());
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

    pub(super) fn act(&mut self, id: u64, actions: Vec<AttemptAction>) {
        for action in actions {
            let Some(held) = self.held.get_mut(&id) else { return };
            match action {
                AttemptAction::SendClaim { expected } => self.claim(id, expected),
                AttemptAction::AskJob => {
                    let job = held.queued.job.clone();
                    let read = self.jobs.entry(job.clone()).or_default();
                    if read.asked.is_empty() {
                        read.asked.push(id);
                        self.ask_job(job);
                    } else {
                        // The answer that is on its way may be older than this delivery.
                        read.next.push(id);
                    }
                }
                AttemptAction::ReadWord => self.read_word(id, Duration::ZERO),
                AttemptAction::Acknowledge => {
                    let reply = std::mem::take(&mut held.reply);
                    self.acknowledge(reply);
                }
                AttemptAction::Purge => {
                    let (job, n) = (held.tail.job, held.tail.n);
                    let link = self.link.clone();
                    tokio::spawn(async move { link.purge_tasks(job, n, n + 1, true).await });
                }
                AttemptAction::Start { .. } => self.start(id),
                AttemptAction::SendOutcome { expected } => self.send_outcome(id, expected),
                AttemptAction::SendNotStarted { expected } => {
                    held.outcome.get_or_insert((Ending::NotStarted, Err(Bytes::new())));
                    self.send_outcome(id, expected);
                }
                AttemptAction::Stop => {
                    if let Some(group) = &mut held.group {
                        group.stop();
                    }
                    self.call_off(id);
                }
                AttemptAction::Forget => {
                    self.held.remove(&id);
                }
            }
        }
    }

    fn claim(&mut self, id: u64, expected: u64) {
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
        let (subject, tail) = (self.link.names.written(&held.tail), &held.tail);
        let known =
            self.asks.swap(Asked::Claim(id), subject, tail, expected, wire::encode(&written));
        crash::published(Point::N2, &self.link.client);
        self.swapped(known);
    }

    /// Takes what became of a swap, at once or after a pause.
    pub(super) fn swapped(&mut self, answer: Option<(Asked, Swap)>) {
        let Some((asked, swap)) = answer else { return };
        let (event, pause) = match (asked, &swap) {
            (Asked::Job(job), _) => return self.compare_job(job, &swap),
            (Asked::Claim(id), Swap::Full(reason) | Swap::Broken(reason)) => {
                tracing::warn!(%reason, "a claim was refused; it is sent again");
                (Event::Claim(id, swap), Duration::from_secs(1))
            }
            (Asked::Claim(id), _) => {
                let pause = swap.pause();
                (Event::Claim(id, swap), pause)
            }
            (Asked::Outcome(id), Swap::Unknown) => (Event::Outcome(id, swap), AGAIN),
            (Asked::Outcome(id), _) => (Event::Outcome(id, swap), Duration::ZERO),
        };
        if pause.is_zero() {
            self.take(event);
        } else {
            link::later(&self.events, pause, event);
        }
    }

    fn read_word(&self, id: u64, pause: Duration) {
        let Some(held) = self.held.get(&id) else { return };
        let (link, tail, events) = (self.link.clone(), held.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            link::pause(pause).await;
            let _ = events.send(Event::Word(id, link.word(&tail).await));
        });
    }

    /// Asks the bucket's leader for a job's key. Where it was read before, the leader is only asked
    /// whether that is still the newest revision: beside the claim, so that both go out together.
    fn ask_job(&mut self, job: String) {
        if self.known.contains_key(&job) {
            let key = self.link.names.job_key(&job);
            let known = self.asks.newest(Asked::Job(job), JOBS, &key);
            return self.swapped(known);
        }
        self.read_job(job, Duration::ZERO);
    }

    fn read_job(&self, job: String, pause: Duration) {
        let (link, events) = (self.link.clone(), self.events.clone());
        tokio::spawn(async move {
            link::pause(pause).await;
            let answer = read_job(&link, &job).await;
            let _ = events.send(Event::Job(job, answer));
        });
    }

    /// Takes the number of a job's newest key: another one than that of the known key, or none, and
    /// the key is read.
    fn compare_job(&mut self, job: String, swap: &Swap) {
        let known = self.known.get(&job).filter(|known| *swap == Swap::Refused(Some(known.0)));
        match known.cloned() {
            Some(known) => self.answer(job, Ok(Some(known))),
            None => self.read_job(job, Duration::ZERO),
        }
    }

    fn answer(&mut self, job: String, answer: Result<Option<KnownJob>, ()>) {
        let Ok(key) = answer else { return self.read_job(job, AGAIN) };
        self.keep_in_mind(&job, key.as_ref());
        let Some(read) = self.jobs.get_mut(&job) else { return };
        let asked = std::mem::replace(&mut read.asked, std::mem::take(&mut read.next));
        if read.asked.is_empty() {
            self.jobs.remove(&job);
        } else {
            self.ask_job(job);
        }
        for id in asked {
            let Some(held) = self.held.get(&id) else { continue };
            let alive = key.as_ref().is_some_and(|(_, key)| key.wants(held.tail.job, held.tail.n));
            self.tell(id, AttemptEvent::Job { alive });
        }
    }

    /// Keeps what was read of a job's key for the deliveries that follow.
    fn keep_in_mind(&mut self, job: &str, key: Option<&KnownJob>) {
        let Some(key) = key else { return drop(self.known.remove(job)) };
        if self.known.len() >= JOBS_KNOWN && !self.known.contains_key(job) {
            self.known.clear();
        }
        self.known.insert(job.to_owned(), key.clone());
    }

    /// Asks whether a task is still wanted, if its code runs.
    pub(super) fn check(&mut self, id: u64) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.checked = Instant::now();
        self.tell(id, AttemptEvent::Check);
    }

    /// Reads the word of a task that a hint speaks of and that the node does not hold.
    pub(super) fn look_at(&self, job: u128, n: u64) {
        let (link, events) = (self.link.clone(), self.events.clone());
        tokio::spawn(async move {
            let word = link.newest(&link.names.stream(), &link.names.of_task(job, n)).await;
            if let Ok(Some(stored)) = word {
                let _ = events.send(Event::Strange(stored));
            }
        });
    }

    /// Gives a claim back that names this very life, and that the node does not hold: it never made
    /// it. All claims of a life are held until their words are others.
    fn disown(&self, stored: &Stored) {
        let Some(life) = &self.life else { return };
        let written = wire::decode::<Written>(&stored.payload);
        let (Some(tail), Some(Written::Claim { node, life: of, nonce, attempt, item, .. })) =
            (Tail::parse(&stored.subject), written)
        else {
            return;
        };
        let is_held = |held: &Held| (held.tail == tail) && held.nonce == nonce;
        if of.id != life.lease.incarnation().id
            || node != self.name
            || self.held.values().any(is_held)
        {
            return;
        }
        tracing::warn!(subject = %stored.subject, "a claim that this node never made is given back");
        let (ending, longest, result) = (Ending::NotStarted, 0, Err(Bytes::new()));
        let outcome = Written::Outcome { node, nonce, attempt, item, ending, longest, result };
        let (link, expected) = (self.link.clone(), stored.seq);
        tokio::spawn(async move {
            let (subject, decided_by) = (link.names.written(&tail), link.names.swap(&tail));
            // Where it is lost, the next hint has it sent again.
            let value = wire::encode(&outcome);
            link.swap(subject, &decided_by, expected, value, link::PATIENCE).await
        });
    }

    /// Hands the task to the local pool. It gets no retries there: the submitter decides.
    fn start(&mut self, id: u64) {
        let rests = self.rests();
        let Some(held) = self.held.get_mut(&id) else { return };
        let life = self.life.as_ref().filter(|life| life.lease.holds(remote::boottime_ns()));
        if life.is_none_or(|life| life.work.is_none()) || rests {
            let actions = held.attempt.not_started();
            return self.act(id, actions);
        }
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
        if held.queued.group {
            held.group = Running::read(&input);
            match held.group {
                Some(_) => self.go_on(id),
                None => {
                    let text = "a group whose items cannot be read".to_owned();
                    self.fail(id, TaskError::Corrupt(text));
                }
            }
        } else {
            self.run(id, 0, input);
        }
    }

    /// Reports an error in place of an outcome: no code ran.
    fn fail(&mut self, id: u64, error: TaskError) {
        self.report.failed += 1;
        self.report(id, Ending::Final, Err(remote::error_to_bytes(&error).into()));
    }

    /// Reports a value, by way of the stream of large ones where it is large.
    pub(super) fn report_value(&mut self, id: u64, value: Bytes) {
        if value.len() > self.link.inline() {
            self.store(id, Ending::Final, value);
        } else {
            self.report(id, Ending::Final, Ok(Body::Inline(value)));
        }
    }

    /// Reports an error, in the same way: the ending says that the bytes are one.
    pub(super) fn report_error(&mut self, id: u64, ending: Ending, error: Bytes) {
        if error.len() > self.link.inline() && ending.allows_retry() {
            self.store(id, ending, error);
        } else {
            self.report(id, ending, Err(error));
        }
    }

    /// Stores a large value or error; its outcome follows.
    fn store(&self, id: u64, ending: Ending, value: Bytes) {
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
            let _ = events.send(Event::Value(id, ending, stored.map(Body::Blob)));
        });
    }

    /// Has the outcome sent.
    pub(super) fn report(&mut self, id: u64, ending: Ending, result: Result<Body, Bytes>) {
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
            Some((ending, Ok(Body::Inline(value)))) => self.store(id, *ending, value.clone()),
            // What is smaller has room in place of the claim.
            Some((ending, Err(error))) if ending.allows_retry() && error.len() > wire::ROOM => {
                self.store(id, *ending, error.clone());
            }
            _ => self.refused_outcome(id, reason),
        }
    }

    fn send_outcome(&mut self, id: u64, expected: u64) {
        let Some(held) = self.held.get(&id) else { return };
        let Some((ending, result)) = held.outcome.clone() else { return };
        let (node, nonce, attempt) = (self.name.clone(), held.nonce, held.queued.attempt);
        let item = held.queued.item;
        let longest = u32::try_from(held.longest.as_micros()).unwrap_or(u32::MAX);
        let written = Written::Outcome { node, nonce, attempt, item, ending, longest, result };
        let (subject, tail) = (self.link.names.written(&held.tail), &held.tail);
        let known =
            self.asks.swap(Asked::Outcome(id), subject, tail, expected, wire::encode(&written));
        crash::published(Point::N5, &self.link.client);
        self.swapped(known);
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
