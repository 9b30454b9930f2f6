//! The agent's life: its lease, its pool, what it pulls.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiopool::{Arrived, remote};
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use super::hands::Held;
use super::lock::Lock;
use super::pulls::{ACKS_WAIT, Pulls};
use super::work::{Deaths, Run, Work, becomes_ready, has_outcomes};
use super::{Node, NodeReport, janitor};
use crate::asks::Asks;
use crate::error::{Error, Result};
use crate::link::{self, Link, NODES, Stored, Swap};
use crate::protocol::{Ending, Key, LONGEST, Lease, LeaseAction, LeaseEvent, LeaseTimes};
use crate::random;
use crate::wire::{self, Body, JobKey, NodeKey};

/// What the agent's own futures bring back.
#[derive(Debug)]
pub(super) enum Event {
    Claim(u64, Swap),
    Word(u64, std::result::Result<Option<Stored>, ()>),
    Job(String, std::result::Result<Option<KnownJob>, ()>),
    /// A large input, or what is wrong with it.
    Input(u64, std::result::Result<bytes::Bytes, String>),
    /// A task or an item, by its place in a group, that the pool did not take.
    Ended(u64, u32, aiopool::TaskError),
    /// A large value or error as it is to be reported, and the ending.
    Value(u64, Ending, std::result::Result<Body, String>),
    Outcome(u64, Swap),
    /// The word of a task that the node was asked for and does not hold.
    Strange(Stored),
    Renewal(u64, Swap),
    Key(std::result::Result<Option<Stored>, ()>),
}

impl Event {
    /// Whether the server said something.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Claim(_, swap) | Self::Outcome(_, swap) | Self::Renewal(_, swap) => {
                *swap != Swap::Unknown
            }
            Self::Word(_, read) | Self::Key(read) => read.is_ok(),
            Self::Job(_, read) => read.is_ok(),
            Self::Strange(_) => true,
            Self::Input(..) | Self::Ended(..) | Self::Value(..) => false,
        }
    }
}

/// What a swap is for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Claim(u64),
    Outcome(u64),
    /// Whether what was last read of a job's key is still the newest.
    Job(String),
}

/// Deliveries that wait for one reading of a job's key.
#[derive(Debug, Default)]
pub(super) struct JobRead {
    /// Those whose answer is on its way.
    pub(super) asked: Vec<u64>,
    /// Those that came after it was asked for.
    pub(super) next: Vec<u64>,
}

/// A job's key, with the revision as which it was read.
pub(super) type KnownJob = (u64, Arc<JobKey>);

/// A node at work.
pub(super) struct Agent {
    pub(super) node: Node,
    pub(super) name: String,
    pub(super) build: String,
    pub(super) link: Link,
    pub(super) life: Option<Life>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    pub(super) asks: Asks<Asked>,
    /// Acknowledgements that go out together, and since when there are some.
    pub(super) acks: Vec<String>,
    pub(super) acks_since: Instant,
    /// What the pool has, by the number that it was given.
    pub(super) runs: HashMap<u64, Run>,
    /// What the pool had no room for.
    pub(super) backlog: VecDeque<(u64, u32, Bytes)>,
    /// An empty list for what the pool has ended.
    pub(super) came: Vec<Arrived>,
    pub(super) held: HashMap<u64, Held>,
    /// By the name of the job's key.
    pub(super) jobs: HashMap<String, JobRead>,
    /// What was last read of jobs' keys; whether it still holds is asked for each delivery.
    pub(super) known: HashMap<String, KnownJob>,
    pub(super) next: u64,
    pub(super) pulls: Pulls,
    draining: bool,
    /// Lives of this very process, all over but the last.
    own: Vec<u128>,
    pub(super) report: NodeReport,
    /// When the server last answered anything.
    pub(super) answered: Instant,
    /// The lock of the node's name, where it has one and the lock can be had.
    lock: Option<Lock>,
    /// Workers that died one after the other.
    pub(super) deaths: Deaths,
    /// Why the local pool ended, if it did.
    pub(super) failed: Option<String>,
}

/// One life: its lease and the pool that runs under it.
pub(super) struct Life {
    pub(super) lease: Lease,
    /// None before the lease holds.
    pub(super) work: Option<Work>,
}

/// How often the agent looks whether the pool has room for what waits for it.
const ROOM_LOOK: Duration = Duration::from_millis(10);

/// How often the agent looks for code that has run for long.
const LOOK: Duration = Duration::from_secs(2);

impl Agent {
    pub(super) fn new(
        node: Node,
        name: String,
        build: String,
        link: Link,
        asks: Asks<Asked>,
    ) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        Self {
            node,
            name,
            build,
            link,
            life: None,
            events,
            inbox,
            asks,
            acks: Vec::new(),
            acks_since: Instant::now(),
            runs: HashMap::new(),
            backlog: VecDeque::new(),
            came: Vec::new(),
            held: HashMap::new(),
            jobs: HashMap::new(),
            known: HashMap::new(),
            next: 0,
            pulls: Pulls::default(),
            draining: false,
            own: Vec::new(),
            report: NodeReport::default(),
            answered: Instant::now(),
            lock: None,
            deaths: Deaths::default(),
            failed: None,
        }
    }

    /// How many workers there are; none before all of them have started.
    fn processes(&self) -> usize {
        self.work().filter(|work| work.ready).map_or(0, |work| work.pool.pool().processes())
    }

    /// How many tasks fit in at once; one, for a try, where the workers all die.
    pub(super) fn places(&self) -> usize {
        let of = |work: &Work| self.processes() * work.pool.pool().child_concurrency();
        let all = self.work().map_or(0, of);
        if self.deaths.are_many() { all.min(1) } else { all }
    }

    /// Whether a delivery may be taken on now.
    pub(super) fn may_take(&self) -> bool {
        let holds = |life: &Life| life.lease.holds(remote::boottime_ns());
        !self.draining
            && !self.rests()
            && self.processes() > 0
            && self.life.as_ref().is_some_and(holds)
    }

    pub(super) async fn serve(
        mut self,
        mut answers: Subscriber,
        mut hints: Subscriber,
        stop: impl Future<Output = ()>,
    ) -> Result<NodeReport> {
        let mut deliveries = self.make_queues().await?;
        if let Some(text) = self.link.complaint() {
            // The refusal of a subscription is said beside the answers, perhaps after them.
            return Err(Error::Server(text));
        }
        // Ends with this future, however that ends.
        let mut janitor = tokio::task::JoinSet::new();
        janitor.spawn(janitor::keep(self.link.clone(), self.node.lease));
        let mut looked = Instant::now();
        let mut connections = self.link.connections.clone();
        let mut stop = pin!(stop);
        tokio::select! {
            begun = self.begin_life() => begun?,
            () = &mut stop => return Ok(self.report),
        }
        while !(self.draining && self.held.is_empty()) && self.failed.is_none() {
            self.pull().await;
            let now = remote::boottime_ns();
            let due = self.life.as_ref().map_or(now, |life| {
                let next = life.lease.next().unwrap_or(now);
                if life.work.is_some() { next.min(life.lease.deadline()) } else { next }
            });
            let longest = match (self.acks.is_empty(), self.backlog.is_empty()) {
                (true, true) => self.pulls.rest(),
                (false, true) => ACKS_WAIT,
                // The pool may make room without an outcome.
                (_, false) => ROOM_LOOK,
            };
            let pause = Duration::from_nanos(due.saturating_sub(now)).min(longest);
            tokio::select! {
                () = &mut stop, if !self.draining => self.draining = true,
                Some(event) = self.inbox.recv() => {
                    self.take(event);
                    // Whatever else has come, before the loop's own affairs.
                    while let Ok(event) = self.inbox.try_recv() {
                        self.take(event);
                    }
                }
                () = has_outcomes(self.life.as_ref()) => self.receive(),
                ready = becomes_ready(self.life.as_ref()) => self.has_started(ready),
                Some(answer) = answers.next() => {
                    self.answered = Instant::now();
                    let mut came = Some(answer);
                    while let Some(answer) = came {
                        let answer = self.asks.answer(&answer);
                        self.swapped(answer);
                        came = unconstrained(answers.next()).now_or_never().flatten();
                    }
                }
                message = deliveries.next() => match message {
                    Some(message) => {
                        self.deliver(message);
                        let mut next = || unconstrained(deliveries.next()).now_or_never();
                        while let Some(Some(message)) = next() {
                            self.deliver(message);
                        }
                    }
                    None => return Err(Error::Server("the connection was closed".to_owned())),
                },
                Some(hint) = hints.next() => self.hinted(&hint.payload),
                // What was asked for went with the connection.
                _ = connections.changed() => {
                    self.pulls.forget();
                    self.asks.forget();
                }
                () = tokio::time::sleep(pause) => {}
            }
            for asked in self.asks.silent() {
                self.swapped(Some((asked, Swap::Unknown)));
            }
            self.send_due_acks();
            if !self.backlog.is_empty() {
                self.retry();
            }
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                self.link.check_version()?;
                self.look_at_long_ones();
            }
            if !self.keep_alive()? {
                // Nobody may answer for long.
                tokio::select! {
                    begun = self.begin_life() => begun?,
                    () = &mut stop => self.draining = true,
                }
            }
        }
        drop(janitor);
        self.leave().await;
        match self.failed {
            Some(reason) => Err(Error::Pool(reason)),
            None => Ok(self.report),
        }
    }

    /// Begins a life: a key that nobody else holds; the pool follows when the lease holds.
    async fn begin_life(&mut self) -> Result<()> {
        let key = self.link.names.node_key(&self.name);
        if self.lock.is_none() && self.node.name.is_some() {
            self.lock = Lock::take(&self.node.pool, &self.name).await;
        }
        let mut seen: Option<(u64, Instant)> = None;
        let revision = loop {
            let Ok(stored) = self.link.key(NODES, &key).await else {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            };
            let Some(stored) = stored else { break 0 };
            let revision = stored.seq;
            let held = wire::decode::<NodeKey>(&stored.payload);
            if self.is_free(held.as_ref()) {
                break revision;
            }
            // Another's, as long as its revision moves.
            match (seen, held) {
                (Some((before, since)), held) if before == revision => {
                    // What cannot be read says of no lease.
                    let lease = held.map_or(LONGEST, |held| held.lease);
                    let times = LeaseTimes { lease, margin: 0 };
                    if since.elapsed() >= Duration::from_nanos(times.wait()) {
                        break revision;
                    }
                }
                (Some(_), Some(held)) => {
                    let (name, host) = (self.name.clone(), wire::shown(&held.host));
                    return Err(Error::NameTaken { name, revision, host, pid: held.pid });
                }
                (_, held) => {
                    if held.is_none() {
                        let node = &self.name;
                        tracing::warn!(node, "waits: its key in {NODES} cannot be read");
                    }
                    seen = Some((revision, Instant::now()));
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        if let Some(lock) = &mut self.lock {
            lock.renew();
        }
        let id = random::bits();
        self.own.push(id);
        let now = remote::boottime_ns();
        let (lease, actions) = Lease::begin(self.node.times(), id, revision, now);
        self.life = Some(Life { lease, work: None });
        self.obey(actions);
        Ok(())
    }

    /// Whether no other node's code can run under a key; `None` is one that cannot be read.
    fn is_free(&self, held: Option<&NodeKey>) -> bool {
        let Some(held) = held else { return !self.own.is_empty() };
        // With the lock, whatever held the key has ended, and its tasks are free.
        self.lock.as_ref().is_some_and(|lock| lock.proves(held.lock))
            || !held.key.alive
            || self.own.contains(&held.key.incarnation.id)
    }

    /// Drives the lease; false where this life is over and another is to begin.
    fn keep_alive(&mut self) -> Result<bool> {
        let now = remote::boottime_ns();
        self.lease_event(LeaseEvent::Tick, now);
        let Some(life) = &mut self.life else { return Ok(true) };
        let expired = life.work.is_some() && now >= life.lease.deadline();
        if expired || life.lease.next().is_none() {
            tracing::warn!(node = self.name, "the lease is over: what runs here is killed");
            // Waits until nothing is left of the pool's processes.
            self.life = None;
            self.held.clear();
            self.runs.clear();
            self.backlog.clear();
            self.jobs.clear();
            // The bucket may be another by now, with the same numbers.
            self.known.clear();
            return Ok(self.draining);
        }
        if life.work.is_none() && life.lease.holds(now) {
            let mut builder = self.node.local().deadline(life.lease.deadline());
            if let Some(held) = self.lock.as_ref().and_then(Lock::held) {
                builder = builder.hold(held);
            }
            let built = builder.build();
            let pool = built.map_err(|error| Error::Pool(error.to_string()))?;
            life.work = Some(Work::new(pool)?);
        }
        Ok(true)
    }

    pub(super) fn lease_event(&mut self, event: LeaseEvent, now: u64) {
        if let Some(life) = &mut self.life {
            let actions = life.lease.step(now, event);
            self.obey(actions);
        }
    }

    /// Has the node's key say at once what it is now: submitters wait for a node that is ready.
    pub(super) fn renew_now(&mut self) {
        if let Some(life) = &mut self.life {
            let actions = life.lease.hurry(remote::boottime_ns());
            self.obey(actions);
        }
    }

    fn obey(&mut self, actions: Vec<LeaseAction>) {
        for action in actions {
            let (link, events) = (self.link.clone(), self.events.clone());
            let key = self.link.names.node_key(&self.name);
            let patience = Duration::from_nanos(self.node.times().patience());
            match action {
                LeaseAction::Send { expected, key: value } => {
                    let payload = wire::encode(&self.value(value));
                    tokio::spawn(async move {
                        let swap = link.swap_key(NODES, &key, expected, payload, patience).await;
                        let _ = events.send(Event::Renewal(value.serial, swap));
                    });
                }
                LeaseAction::Read => {
                    tokio::spawn(async move {
                        let _ = events.send(Event::Key(link.key(NODES, &key).await));
                    });
                }
                LeaseAction::Deadline(at) => {
                    if let Some(work) = self.work() {
                        // A zygote that has gone ends the pool by itself.
                        let _ = work.pool.pool().extend_deadline(at);
                    }
                }
                // The server answers others: it is slow, and the connection is not the reason.
                LeaseAction::Reconnect if self.answered.elapsed() < link::PATIENCE => {}
                LeaseAction::Reconnect => link.reconnect(),
                LeaseAction::Dead => {}
            }
        }
    }

    fn value(&self, key: Key) -> NodeKey {
        // One that tries whether a worker dies of its task counts as having no place.
        let places = if self.deaths.are_many() { 0 } else { self.places() };
        NodeKey {
            key,
            lease: self.node.times().lease,
            host: random::host(),
            pid: std::process::id(),
            build: self.build.clone(),
            processes: self.processes() as u32,
            places: places as u32,
            taken: self.held.len() as u32,
            done: self.report.done,
            failed: self.report.failed,
            lost: self.report.lost,
            pull_seconds: self.pulls.silence().as_secs(),
            draining: self.draining,
            lock: self.lock.as_ref().and_then(Lock::current),
        }
    }

    /// Writes "left" over the node's own key, when nothing of it runs any more.
    async fn leave(&mut self) {
        self.send_acks();
        let Some(life) = self.life.take() else { return };
        let (mut expected, incarnation) = (life.lease.revision(), life.lease.incarnation());
        drop(life.work);
        let left = Key { incarnation, serial: u64::MAX, alive: false };
        let (key, value) = (self.link.names.node_key(&self.name), wire::encode(&self.value(left)));
        let start = Instant::now();
        for _ in 0..3 {
            let patience = Duration::from_secs(2);
            let swap = self.link.swap_key(NODES, &key, expected, value.clone(), patience).await;
            if matches!(swap, Swap::Won(_)) || start.elapsed() > link::PATIENCE {
                break;
            }
            let Ok(stored) = self.link.key(NODES, &key).await else { continue };
            let held = stored.and_then(|stored| {
                Some((stored.seq, wire::decode::<NodeKey>(&stored.payload)?.key))
            });
            match held {
                // A renewal that was on its way; the life that it speaks of is over.
                Some((seq, held)) if held.incarnation.id == incarnation.id && held.alive => {
                    expected = seq;
                }
                _ => break,
            }
        }
        self.link.flush().await;
    }
}
