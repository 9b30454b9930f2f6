//! The agent's life: its lease, its pool, what it pulls.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use aiopool::{Pool, remote};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::hands::Held;
use super::{Node, NodeReport};
use crate::error::{Error, Result};
use crate::link::{self, Link, NODES, Stored, Swap};
use crate::protocol::{Key, Lease, LeaseAction, LeaseEvent};
use crate::random;
use crate::wire::{self, JobKey, NodeKey, Tail};

/// What the agent's own futures bring back.
#[derive(Debug)]
pub(super) enum Event {
    Claim(u64, Swap),
    Word(u64, std::result::Result<Option<Stored>, ()>),
    Job(u128, std::result::Result<Option<JobKey>, ()>),
    Ended(u64, std::result::Result<bytes::Bytes, aiopool::TaskError>),
    Outcome(u64, Swap),
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
            Self::Ended(..) => false,
        }
    }
}

/// Deliveries that wait for one reading of a job's key.
#[derive(Debug, Default)]
pub(super) struct JobRead {
    /// Those whose answer is on its way.
    pub(super) asked: Vec<u64>,
    /// Those that came after it was asked for.
    pub(super) next: Vec<u64>,
}

/// A node at work.
pub(super) struct Agent {
    pub(super) node: Node,
    pub(super) name: String,
    build: String,
    pub(super) link: Link,
    pub(super) life: Option<Life>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    pub(super) held: HashMap<u64, Held>,
    pub(super) jobs: HashMap<u128, JobRead>,
    pub(super) next: u64,
    /// Deliveries that were asked for and have not come.
    asked: usize,
    /// When something last came of what was asked for.
    heard: Instant,
    draining: bool,
    /// Lives of this very process, all over but the last.
    own: Vec<u128>,
    pub(super) report: NodeReport,
    /// When the server last answered anything.
    pub(super) answered: Instant,
    /// Why the local pool ended, if it did.
    pub(super) failed: Option<String>,
}

/// One life: its lease and the pool that runs under it.
pub(super) struct Life {
    pub(super) lease: Lease,
    /// None before the lease holds.
    pub(super) pool: Option<Pool>,
}

/// Silence after which what was asked for is taken to be forgotten: a request lives 5 s.
const FORGOTTEN: Duration = Duration::from_secs(7);

impl Agent {
    pub(super) fn new(node: Node, name: String, build: String, link: Link) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        Self {
            node,
            name,
            build,
            link,
            life: None,
            events,
            inbox,
            held: HashMap::new(),
            jobs: HashMap::new(),
            next: 0,
            asked: 0,
            heard: Instant::now(),
            draining: false,
            own: Vec::new(),
            report: NodeReport::default(),
            answered: Instant::now(),
            failed: None,
        }
    }

    /// How many tasks fit in at once; none before the pool is there.
    fn places(&self) -> usize {
        let pool = self.life.as_ref().and_then(|life| life.pool.as_ref());
        pool.map_or(0, Pool::processes) * self.node.child_concurrency
    }

    /// Whether a delivery may be taken on now.
    fn may_take(&self) -> bool {
        !self.draining
            && self
                .life
                .as_ref()
                .is_some_and(|life| life.pool.is_some() && life.lease.holds(remote::boottime_ns()))
    }

    pub(super) async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<NodeReport> {
        let consumer = self.link.consumer(&self.build).await?;
        let inbox = self.link.client.new_inbox();
        let subscribed = self.link.client.subscribe(inbox.clone()).await;
        let mut deliveries =
            subscribed.map_err(|error| Error::Server(format!("subscribe: {error}")))?;
        let mut connections = self.link.connections.clone();
        let mut stop = pin!(stop);
        self.begin_life().await?;
        while !(self.draining && self.held.is_empty()) && self.failed.is_none() {
            self.pull(&consumer, &inbox).await;
            let now = remote::boottime_ns();
            let due = self.life.as_ref().map_or(now, |life| {
                let next = life.lease.next().unwrap_or(now);
                if life.pool.is_some() { next.min(life.lease.deadline()) } else { next }
            });
            let pause = Duration::from_nanos(due.saturating_sub(now)).min(Duration::from_secs(1));
            tokio::select! {
                () = &mut stop, if !self.draining => self.draining = true,
                Some(event) = self.inbox.recv() => {
                    self.take(event);
                    // Whatever else has come, before the loop's own affairs.
                    while let Ok(event) = self.inbox.try_recv() {
                        self.take(event);
                    }
                }
                message = deliveries.next() => match message {
                    Some(message) => self.deliver(message),
                    None => return Err(Error::Server("the connection was closed".to_owned())),
                },
                // What was asked for went with the connection.
                _ = connections.changed() => self.asked = 0,
                () = tokio::time::sleep(pause) => {}
            }
            self.keep_alive().await?;
        }
        self.leave().await;
        match self.failed {
            Some(reason) => Err(Error::Pool(reason)),
            None => Ok(self.report),
        }
    }

    /// Asks for as many deliveries as there are free places.
    async fn pull(&mut self, consumer: &str, inbox: &str) {
        if self.asked > 0 && self.heard.elapsed() > FORGOTTEN {
            self.asked = 0;
        }
        if !self.may_take() || !self.link.stands() {
            return;
        }
        let places = self.places();
        let room = places.saturating_sub(self.held.len() + self.asked);
        // A few places at a time would be a request each.
        if room > 0 && room * 4 >= places && self.link.pull(consumer, room, inbox).await {
            self.asked += room;
            self.heard = Instant::now();
        }
    }

    /// Takes what came of a request: a task, or what is said of the request itself.
    fn deliver(&mut self, message: async_nats::Message) {
        self.heard = Instant::now();
        self.answered = self.heard;
        match message.status.map(|status| status.as_u16()) {
            Some(100) => return,
            Some(_) => {
                let missing = message.headers.as_ref().and_then(|headers| {
                    headers.get("Nats-Pending-Messages").and_then(|n| n.as_str().parse().ok())
                });
                self.asked = self.asked.saturating_sub(missing.unwrap_or(self.asked));
                return;
            }
            None => self.asked = self.asked.saturating_sub(1),
        }
        let Some(reply) = message.reply else { return };
        let tail = Tail::parse(message.subject.as_str());
        let (queued, numbers) = (wire::decode(&message.payload), link::numbers(&reply));
        let (Some(tail), Some(queued), Some((seq, _))) = (tail, queued, numbers) else {
            // Nothing that this version wrote: it stays with its writer, and is not shown again.
            tracing::warn!(subject = %message.subject, "a message that is no task");
            self.say(reply.to_string(), "+TERM");
            return;
        };
        if self.may_take() && self.held.len() < self.places() {
            self.take_on(seq, tail, queued, reply.to_string());
        } else {
            self.say(reply.to_string(), "-NAK");
        }
    }

    /// Answers a delivery, without an answer of its own.
    pub(super) fn say(&self, reply: String, what: &'static str) {
        let client = self.link.client.clone();
        tokio::spawn(async move {
            let _ = client.publish(reply, what.into()).await;
        });
    }

    /// Begins a life: a key that nobody else holds; the pool follows when the lease holds.
    async fn begin_life(&mut self) -> Result<()> {
        let key = self.link.names.node_key(&self.name);
        let mut seen: Option<(u64, Instant)> = None;
        let revision = loop {
            let Ok(stored) = self.link.key(NODES, &key).await else {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            };
            let Some(stored) = stored else { break 0 };
            let revision = stored.seq;
            let Some(held) = wire::decode::<NodeKey>(&stored.payload) else { break revision };
            if !held.key.alive || self.own.contains(&held.key.incarnation.id) {
                break revision;
            }
            // Another's, as long as its revision moves.
            match seen {
                Some((before, _)) if before != revision => {
                    let (name, host, pid) = (self.name.clone(), held.host, held.pid);
                    return Err(Error::NameTaken { name, revision, host, pid });
                }
                Some((_, since)) => {
                    let wait = held.lease.saturating_add(held.lease / 100 + 1_000_000_000);
                    if since.elapsed() >= Duration::from_nanos(wait) {
                        break revision;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                None => seen = Some((revision, Instant::now())),
            }
        };
        let id = random::bits();
        self.own.push(id);
        let now = remote::boottime_ns();
        let (lease, actions) = Lease::begin(self.node.times(), id, revision, now);
        self.life = Some(Life { lease, pool: None });
        self.obey(actions);
        Ok(())
    }

    /// Drives the lease; a life that is over makes way for the next.
    async fn keep_alive(&mut self) -> Result<()> {
        let now = remote::boottime_ns();
        self.lease_event(LeaseEvent::Tick, now);
        let Some(life) = &mut self.life else { return Ok(()) };
        let expired = life.pool.is_some() && now >= life.lease.deadline();
        if expired || life.lease.next().is_none() {
            tracing::warn!(node = self.name, "the lease is over: what runs here is killed");
            // Waits until nothing is left of the pool's processes.
            self.life = None;
            self.held.clear();
            self.jobs.clear();
            return if self.draining { Ok(()) } else { self.begin_life().await };
        }
        if life.pool.is_none() && life.lease.holds(now) {
            let built = self.node.local().deadline(life.lease.deadline()).build();
            life.pool = Some(built.map_err(|error| Error::Pool(error.to_string()))?);
        }
        Ok(())
    }

    pub(super) fn lease_event(&mut self, event: LeaseEvent, now: u64) {
        if let Some(life) = &mut self.life {
            let actions = life.lease.step(now, event);
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
                    let life = self.life.as_ref();
                    if let Some(pool) = life.and_then(|life| life.pool.as_ref()) {
                        // A zygote that has gone ends the pool by itself.
                        let _ = pool.extend_deadline(at);
                    }
                }
                // The server answers others: it is slow, and the connection is not the reason.
                LeaseAction::Reconnect if self.answered.elapsed() < link::PATIENCE => {}
                LeaseAction::Reconnect => {
                    tokio::spawn(async move {
                        let _ = link.client.force_reconnect().await;
                    });
                }
                LeaseAction::Dead => {}
            }
        }
    }

    fn value(&self, key: Key) -> NodeKey {
        let places = self.places();
        NodeKey {
            key,
            lease: self.node.times().lease,
            host: random::host(),
            pid: std::process::id(),
            build: self.build.clone(),
            processes: (places / self.node.child_concurrency.max(1)) as u32,
            places: places as u32,
            taken: self.held.len() as u32,
            done: self.report.done,
            failed: self.report.failed,
            draining: self.draining,
        }
    }

    /// Writes "left" over the node's own key, when nothing of it runs any more.
    async fn leave(&mut self) {
        let Some(life) = self.life.take() else { return };
        let (mut expected, incarnation) = (life.lease.revision(), life.lease.incarnation());
        drop(life.pool);
        let left = Key { incarnation, serial: u64::MAX, alive: false };
        let (key, value) = (self.link.names.node_key(&self.name), wire::encode(&self.value(left)));
        for _ in 0..3 {
            let patience = Duration::from_secs(2);
            let swap = self.link.swap_key(NODES, &key, expected, value.clone(), patience).await;
            if matches!(swap, Swap::Won(_)) {
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
        let _ = self.link.client.flush().await;
    }
}
