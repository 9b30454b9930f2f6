//! The submitter's thread: it submits, collects, watches nodes and decides about attempts.
//!
//! It has a runtime of its own, so that a busy runtime of the user neither lets the job's lease run
//! out nor holds up a retry.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aiopool::{TaskOptions, remote};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

use crate::error::{ClusterError, Error};
use crate::link::{self, JOBS, Link, NODES, Stored, Swap, word_of};
use crate::protocol::{
    Chunks, Ending, Incarnation, Kept, KeptAction, KeptEvent, Key, Lease, LeaseAction, LeaseEvent,
    LeaseTimes, Observer, Sight, Verdict, Word,
};
use crate::random;
use crate::wire::{self, Function, JobKey, NodeKey, Queued, Tail, Written};

/// What a task ends with, still encoded.
pub(crate) type Outcome = Result<Bytes, ClusterError>;

/// What a handle asks of the thread.
#[derive(Debug)]
pub(crate) enum Command {
    Submit {
        n: u64,
        function: Function,
        build: String,
        input: Bytes,
        options: TaskOptions,
        to: oneshot::Sender<Outcome>,
    },
    Cancel(u64),
    /// Takes no more; ends when everything is over.
    Close,
    /// Cancels what is out, then ends.
    Terminate,
}

#[derive(Debug)]
enum Event {
    Sent(u64, Swap),
    Word(u64, Result<Option<Stored>, ()>),
    Pause(u64),
    Expire(u64),
    Renewal(u64, Swap),
    Key(Result<Option<Stored>, ()>),
    Node(String, Result<Option<Stored>, ()>),
    Tombstone(String, Swap),
    Purged(u64, bool),
}

impl Event {
    /// Whether the server said something.
    fn is_answer(&self) -> bool {
        match self {
            Self::Sent(_, swap) | Self::Renewal(_, swap) | Self::Tombstone(_, swap) => {
                *swap != Swap::Unknown
            }
            Self::Word(_, read) | Self::Key(read) | Self::Node(_, read) => read.is_ok(),
            Self::Purged(_, purged) => *purged,
            Self::Pause(_) | Self::Expire(_) => false,
        }
    }
}

/// A task that is not over.
struct Out {
    kept: Kept,
    tail: Tail,
    queued: Queued,
    options: TaskOptions,
    to: Option<oneshot::Sender<Outcome>>,
    /// The newest message that the submitter has seen, with its bytes.
    newest: Option<Stored>,
    /// The node and the life that claimed it last.
    holder: Option<(String, u128)>,
    /// Since when the word is what it is.
    since: Instant,
}

impl Out {
    /// Keeps a message if none newer was seen.
    fn see(&mut self, stored: &Stored) {
        if stored.seq > self.newest.as_ref().map_or(0, |newest| newest.seq) {
            self.newest = Some(stored.clone());
        }
    }
}

/// A node that has tasks of this job.
struct Watched {
    observer: Observer,
    times: LeaseTimes,
    of: Incarnation,
    seen: Instant,
    asked: bool,
}

pub(crate) struct Keeper {
    link: Link,
    job: u128,
    lease: Lease,
    times: LeaseTimes,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    out: HashMap<u64, Out>,
    /// By node's name and life.
    watched: HashMap<(String, u128), Watched>,
    chunks: Chunks,
    /// Chunks that are over, and of those the ones whose mark is stored or on its way.
    purged: Vec<(u64, u64)>,
    /// The serial of the renewal that carries the mark of a chunk.
    marks: Vec<(u64, u64)>,
    /// The highest message of the collector.
    collected: u64,
    closing: bool,
    lost: Option<String>,
    /// When the server last answered anything.
    answered: Instant,
}

const AGAIN: Duration = Duration::from_millis(200);
/// A task that no node has claimed for so long is looked at.
const AUDIT: Duration = Duration::from_secs(30);

impl Keeper {
    /// Makes the job's key; the first task comes after that.
    pub(crate) async fn begin(
        link: Link,
        times: LeaseTimes,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Self, Error> {
        let job = random::bits();
        let (lease, actions) = Lease::begin(times, random::bits(), 0, remote::boottime_ns());
        let (events, inbox) = mpsc::unbounded_channel();
        let mut keeper = Self {
            link,
            job,
            lease,
            times,
            commands,
            events,
            inbox,
            out: HashMap::new(),
            watched: HashMap::new(),
            chunks: Chunks::default(),
            purged: Vec::new(),
            marks: Vec::new(),
            collected: 0,
            closing: false,
            lost: None,
            answered: Instant::now(),
        };
        keeper.obey(actions);
        let started = Instant::now();
        while !keeper.lease.holds(remote::boottime_ns()) {
            if started.elapsed() > Duration::from_secs(10) {
                let text = format!("it does not store keys in the bucket {JOBS}");
                return Err(Error::Server(text));
            }
            let wait = Duration::from_millis(50);
            if let Ok(Some(event)) = tokio::time::timeout(wait, keeper.inbox.recv()).await {
                keeper.take(event);
            }
            keeper.tick();
        }
        Ok(keeper)
    }

    pub(crate) async fn run(mut self) {
        let inbox = self.link.client.new_inbox();
        let Ok(mut words) = self.link.client.subscribe(inbox.clone()).await else {
            self.lose("the connection was closed".to_owned());
            return;
        };
        let mut connections = self.link.connections.clone();
        let (mut expected, mut heard) = (1_u64, Instant::now());
        let mut collecting = false;
        let mut looked = Instant::now();
        loop {
            if !collecting && self.link.stands() {
                collecting = self.link.collect(self.job, self.collected + 1, &inbox).await;
                (expected, heard) = (1, Instant::now());
            }
            let now = remote::boottime_ns();
            let next = self.lease.next().unwrap_or(now);
            let pause = Duration::from_nanos(next.saturating_sub(now));
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => self.command(Command::Terminate),
                },
                Some(event) = self.inbox.recv() => {
                    self.take(event);
                    // Whatever else has come, before the loop's own affairs.
                    while let Ok(event) = self.inbox.try_recv() {
                        self.take(event);
                    }
                }
                message = words.next() => {
                    let Some(message) = message else {
                        self.lose("the connection was closed".to_owned());
                        break;
                    };
                    heard = Instant::now();
                    match message.reply.as_ref().and_then(|reply| link::numbers(reply)) {
                        Some((seq, number)) if number == expected => {
                            expected += 1;
                            self.collected = self.collected.max(seq);
                            self.saw(Stored {
                                seq,
                                subject: message.subject.to_string(),
                                payload: message.payload,
                            });
                        }
                        // A gap, or what an earlier consumer sent: begin again behind it.
                        Some((_, number)) if number > expected => collecting = false,
                        _ => {}
                    }
                }
                _ = connections.changed() => collecting = false,
                () = tokio::time::sleep(pause.min(Duration::from_millis(500))) => {}
            }
            if heard.elapsed() > Duration::from_secs(7) {
                collecting = false;
                heard = Instant::now();
            }
            self.tick();
            if looked.elapsed() > Duration::from_millis(500) {
                looked = Instant::now();
                self.look_at_nodes();
                self.audit();
            }
            if self.lost.is_some() || (self.closing && self.out.is_empty()) {
                break;
            }
        }
        self.end().await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit { n, function, build, input, options, to } => {
                let limits = remote::limits(&options);
                let tail = Tail { class: 0, build, job: self.job, n };
                let queued = Queued { attempt: 1, function, timeout: limits.timeout, input };
                let (kept, actions) = Kept::submit(limits.attempts, limits.retry_on_error);
                self.chunks.submitted(n);
                let (to, newest, holder) = (Some(to), None, None);
                let since = Instant::now();
                let out = Out { kept, tail, queued, options, to, newest, holder, since };
                self.out.insert(n, out);
                if let Some(limit) = limits.queue_ttl {
                    self.later(limit, Event::Expire(n));
                }
                self.act(n, actions);
            }
            Command::Cancel(n) => self.tell(n, KeptEvent::Cancel),
            Command::Close => self.closing = true,
            Command::Terminate => {
                // The end of the job says it to the nodes, for all tasks at once.
                self.closing = true;
                for (_, mut out) in self.out.drain() {
                    if let Some(to) = out.to.take() {
                        let _ = to.send(Err(aiopool::TaskError::Cancelled.into()));
                    }
                }
            }
        }
    }

    fn later(&self, pause: Duration, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(event);
        });
    }

    fn take(&mut self, event: Event) {
        if event.is_answer() {
            self.answered = Instant::now();
        }
        match event {
            Event::Sent(n, Swap::Won(seq)) => self.tell(n, KeptEvent::Won(seq)),
            Event::Sent(n, Swap::Broken(reason)) => {
                let text = format!("the server refused the task: {reason}");
                self.deliver(n, Err(ClusterError::Ended(Error::Server(text))));
            }
            Event::Sent(n, _) => self.tell(n, KeptEvent::Unsure),
            Event::Word(n, Ok(stored)) => {
                if let (Some(out), Some(stored)) = (self.out.get_mut(&n), &stored) {
                    out.see(stored);
                }
                self.tell(n, KeptEvent::Read(word_of(stored)));
            }
            Event::Word(n, Err(())) => self.read(n, AGAIN),
            Event::Pause(n) => self.tell(n, KeptEvent::PauseOver),
            Event::Expire(n) => self.tell(n, KeptEvent::Expire),
            Event::Renewal(serial, swap) => {
                let event = match swap {
                    Swap::Won(revision) => LeaseEvent::Won { serial, revision },
                    _ => LeaseEvent::Unsure { serial },
                };
                self.lease_event(event);
                if matches!(swap, Swap::Won(_)) {
                    self.purge_marked(serial);
                }
            }
            Event::Key(Ok(stored)) => {
                let key =
                    stored.and_then(|s| Some((s.seq, wire::decode::<JobKey>(&s.payload)?.key)));
                self.lease_event(LeaseEvent::Read(key));
                let own = self.lease.incarnation().id;
                if let Some((_, key)) = key.filter(|k| k.1.incarnation.id == own && k.1.alive) {
                    self.purge_marked(key.serial);
                }
            }
            Event::Key(Err(())) => {}
            Event::Node(name, stored) => self.saw_node(&name, stored),
            Event::Tombstone(name, swap) => {
                let now = remote::monotonic_ns();
                for watched in of_name(&mut self.watched, &name) {
                    watched.asked = false;
                    match swap {
                        Swap::Won(_) => watched.observer.won(),
                        _ => watched.observer.unsure(now),
                    }
                }
                self.bury(&name);
            }
            Event::Purged(chunk, true) => self.marks.retain(|mark| mark.0 != chunk),
            Event::Purged(chunk, false) => self.purge(chunk, AGAIN),
        }
    }

    fn tell(&mut self, n: u64, event: KeptEvent) {
        let Some(out) = self.out.get_mut(&n) else { return };
        let before = out.kept.word().seq();
        let actions = out.kept.step(event);
        if out.kept.word().seq() != before {
            out.since = Instant::now();
        }
        self.act(n, actions);
    }

    fn act(&mut self, n: u64, actions: Vec<KeptAction>) {
        for action in actions {
            let Some(out) = self.out.get_mut(&n) else { return };
            match action {
                KeptAction::Submit => self.queue(n, 0),
                KeptAction::Requeue { expected, attempt } => {
                    out.queued.attempt = attempt;
                    self.queue(n, expected);
                }
                KeptAction::Decide { expected, attempt, ending } => {
                    let (node, nonce, result) = (String::new(), 0, Err(Bytes::new()));
                    let written = Written::Outcome { node, nonce, attempt, ending, result };
                    let subject = self.link.names.written(&out.tail);
                    self.send(n, subject, expected, wire::encode(&written));
                }
                KeptAction::Read => self.read(n, Duration::ZERO),
                KeptAction::Pause { attempt } => {
                    let pause = remote::pause_before(&out.options, attempt);
                    self.later(pause, Event::Pause(n));
                }
                KeptAction::Watch(_) => self.watch(n),
                KeptAction::Deliver { .. } => {
                    let outcome = self.outcome(n);
                    self.deliver(n, outcome);
                }
                KeptAction::DeliverVanished => self.deliver(n, Err(ClusterError::Vanished)),
            }
        }
    }

    fn queue(&self, n: u64, expected: u64) {
        let Some(out) = self.out.get(&n) else { return };
        self.send(n, self.link.names.queue(&out.tail), expected, wire::encode(&out.queued));
    }

    fn send(&self, n: u64, subject: String, expected: u64, payload: Bytes) {
        let Some(out) = self.out.get(&n) else { return };
        let (link, tail, events) = (self.link.clone(), out.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            let swap = link.swap_word(subject, &tail, expected, payload).await;
            if swap == Swap::Unknown {
                tokio::time::sleep(AGAIN).await;
            }
            let _ = events.send(Event::Sent(n, swap));
        });
    }

    fn read(&self, n: u64, pause: Duration) {
        let Some(out) = self.out.get(&n) else { return };
        let (link, tail, events) = (self.link.clone(), out.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(Event::Word(n, link.word(&tail).await));
        });
    }

    /// Takes what the collector brought.
    fn saw(&mut self, stored: Stored) {
        let Some(tail) = Tail::parse(&stored.subject) else { return };
        let Some(out) = self.out.get_mut(&tail.n) else { return };
        out.see(&stored);
        self.tell(tail.n, KeptEvent::Saw(word_of(Some(stored))));
    }

    /// What the newest message of a task says to its caller.
    fn outcome(&self, n: u64) -> Outcome {
        let newest = self.out.get(&n).and_then(|out| out.newest.as_ref());
        let written = newest.and_then(|stored| wire::decode::<Written>(&stored.payload));
        let Some(Written::Outcome { node, attempt, ending, result, .. }) = written else {
            let text = "an outcome that cannot be read".to_owned();
            return Err(aiopool::TaskError::Corrupt(text).into());
        };
        match (result, ending) {
            (Ok(bytes), _) => Ok(bytes),
            (Err(_), Ending::Cancelled) => Err(aiopool::TaskError::Cancelled.into()),
            (Err(_), Ending::Expired) => {
                let out = self.out.get(&n);
                let limit = out.and_then(|out| remote::limits(&out.options).queue_ttl);
                let limit = limit.unwrap_or_default();
                Err(aiopool::TaskError::TimedOut { limit, started: false }.into())
            }
            (Err(_), Ending::NotStarted) => Err(ClusterError::NotStarted(node)),
            (Err(_), Ending::NodeLost) => {
                let held = self.out.get(&n).and_then(|out| out.holder.clone());
                let (node, silent_for) = match held {
                    Some((node, life)) => {
                        let watched = self.watched.get(&(node.clone(), life));
                        (node, watched.map_or(Duration::ZERO, |w| w.seen.elapsed()))
                    }
                    None => (node, Duration::ZERO),
                };
                Err(ClusterError::NodeLost { node, attempt, silent_for })
            }
            (Err(bytes), _) => Err(remote::error_from_bytes(&bytes).into()),
        }
    }

    fn deliver(&mut self, n: u64, outcome: Outcome) {
        let Some(mut out) = self.out.remove(&n) else { return };
        if let Some(to) = out.to.take() {
            let _ = to.send(outcome);
        }
        if let Some(chunk) = self.chunks.over(n) {
            self.mark(chunk);
        }
    }

    /// Has the next renewal say that a chunk is over; the purge follows when that is stored.
    fn mark(&mut self, chunk: u64) {
        add(&mut self.purged, chunk);
        self.marks.push((chunk, self.lease.next_serial()));
        let actions = self.lease.hurry(remote::boottime_ns());
        self.obey(actions);
    }

    fn purge_marked(&mut self, stored: u64) {
        let due: Vec<u64> =
            self.marks.iter().filter(|mark| mark.1 <= stored).map(|mark| mark.0).collect();
        for chunk in due {
            // Not twice: the next renewal comes before the purge is over.
            self.marks.iter_mut().filter(|m| m.0 == chunk).for_each(|m| m.1 = u64::MAX);
            self.purge(chunk, Duration::ZERO);
        }
    }

    fn purge(&self, chunk: u64, pause: Duration) {
        let (link, job, events) = (self.link.clone(), self.job, self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let purged = link.purge(&link.names.of_chunk(job, chunk)).await;
            let _ = events.send(Event::Purged(chunk, purged));
        });
    }

    /// A task is claimed: its node is watched.
    fn watch(&mut self, n: u64) {
        let Some(out) = self.out.get_mut(&n) else { return };
        let newest = out.newest.as_ref().map(|stored| &stored.payload);
        let Some(Written::Claim { node, life, lease, .. }) =
            newest.and_then(|payload| wire::decode(payload))
        else {
            return;
        };
        out.holder = Some((node.clone(), life.id));
        let times = LeaseTimes { lease, ..self.times };
        let entry = self.watched.entry((node.clone(), life.id));
        let watched = entry.or_insert_with(|| Watched {
            observer: Observer::of(times, life),
            times,
            of: life,
            seen: Instant::now(),
            asked: false,
        });
        if watched.observer.verdict() == Verdict::Dead {
            self.tell(n, KeptEvent::NodeDead(life.id));
        }
    }

    /// Reads the keys of nodes that have tasks, and forgets nodes that have none.
    fn look_at_nodes(&mut self) {
        let holders: Vec<(String, u128)> = self
            .out
            .values()
            .filter(|out| matches!(out.kept.word(), Word::Claimed { .. }))
            .filter_map(|out| out.holder.clone())
            .collect();
        self.watched.retain(|holder, _| holders.contains(holder));
        let names: std::collections::BTreeSet<String> =
            self.watched.iter().filter(|(_, w)| !w.asked).map(|(key, _)| key.0.clone()).collect();
        for name in names {
            of_name(&mut self.watched, &name).for_each(|watched| watched.asked = true);
            let (link, events) = (self.link.clone(), self.events.clone());
            tokio::spawn(async move {
                let stored = link.key(NODES, &link.names.node_key(&name)).await;
                let _ = events.send(Event::Node(name, stored));
            });
        }
    }

    fn saw_node(&mut self, name: &str, stored: Result<Option<Stored>, ()>) {
        let now = remote::monotonic_ns();
        let sight = stored.map(|stored| match stored {
            None => Sight::Absent,
            Some(stored) => match wire::decode::<NodeKey>(&stored.payload) {
                Some(key) => Sight::Key(stored.seq, key.key),
                None => Sight::Absent,
            },
        });
        let mut tombstone = None;
        for watched in of_name(&mut self.watched, name) {
            watched.asked = false;
            let Ok(sight) = sight else { continue };
            let before = watched.observer.clone();
            watched.observer.saw(now, sight);
            if watched.observer != before {
                watched.seen = Instant::now();
            }
            if let Some(expected) = watched.observer.tombstone(now) {
                tombstone = Some((expected, watched.of, watched.times.lease));
            }
        }
        if let Some((expected, incarnation, lease)) = tombstone {
            of_name(&mut self.watched, name).for_each(|watched| watched.asked = true);
            let key = Key { incarnation, serial: u64::MAX, alive: false };
            let value = NodeKey::tombstone(key, lease);
            let (link, events, name) = (self.link.clone(), self.events.clone(), name.to_owned());
            tokio::spawn(async move {
                let subject = link.names.node_key(&name);
                let payload = wire::encode(&value);
                let swap = link.swap_key(NODES, &subject, expected, payload, link::PATIENCE).await;
                let _ = events.send(Event::Tombstone(name, swap));
            });
        }
        self.bury(name);
    }

    /// Tells the tasks of dead lives of their end.
    fn bury(&mut self, name: &str) {
        let dead: Vec<u128> = of_name(&mut self.watched, name)
            .filter(|watched| watched.observer.verdict() == Verdict::Dead)
            .map(|watched| watched.of.id)
            .collect();
        for life in dead {
            let theirs: Vec<u64> = self
                .out
                .iter()
                .filter(|(_, out)| out.holder.as_ref().is_some_and(|holder| holder.1 == life))
                .map(|(&n, _)| n)
                .collect();
            theirs.into_iter().for_each(|n| self.tell(n, KeptEvent::NodeDead(life)));
        }
    }

    /// Reads the words of tasks of which nothing was seen for long.
    fn audit(&mut self) {
        let quiet: Vec<u64> = self
            .out
            .iter_mut()
            .filter(|(_, out)| out.since.elapsed() > AUDIT && out.kept.is_settled())
            .map(|(&n, out)| {
                out.since = Instant::now();
                n
            })
            .take(256)
            .collect();
        quiet.into_iter().for_each(|n| self.read(n, Duration::ZERO));
    }

    fn tick(&mut self) {
        self.lease_event(LeaseEvent::Tick);
        let over = self.lease.deadline() != 0 && remote::boottime_ns() >= self.lease.deadline();
        if over || self.lease.next().is_none() {
            self.lose("its lease ran out: the server did not answer for that long".to_owned());
        }
    }

    /// The job may be another's by now: nothing is delivered or sent any more.
    fn lose(&mut self, reason: String) {
        if self.lost.is_some() {
            return;
        }
        for (_, mut out) in self.out.drain() {
            if let Some(to) = out.to.take() {
                let _ = to.send(Err(ClusterError::Ended(Error::JobLost(reason.clone()))));
            }
        }
        self.lost = Some(reason);
    }

    fn lease_event(&mut self, event: LeaseEvent) {
        let actions = self.lease.step(remote::boottime_ns(), event);
        self.obey(actions);
    }

    fn obey(&mut self, actions: Vec<LeaseAction>) {
        for action in actions {
            let (link, events, job) = (self.link.clone(), self.events.clone(), self.job);
            match action {
                LeaseAction::Send { expected, key } => {
                    let value = self.value(key);
                    let patience = Duration::from_nanos(self.times.patience());
                    tokio::spawn(async move {
                        let (name, payload) = (link.names.job_key(job), wire::encode(&value));
                        let swap = link.swap_key(JOBS, &name, expected, payload, patience).await;
                        let _ = events.send(Event::Renewal(key.serial, swap));
                    });
                }
                LeaseAction::Read => {
                    tokio::spawn(async move {
                        let key = link.key(JOBS, &link.names.job_key(job)).await;
                        let _ = events.send(Event::Key(key));
                    });
                }
                // The server answers others: it is slow, and the connection is not the reason.
                LeaseAction::Reconnect if self.answered.elapsed() < link::PATIENCE => {}
                LeaseAction::Reconnect => {
                    tokio::spawn(async move {
                        let _ = link.client.force_reconnect().await;
                    });
                }
                LeaseAction::Deadline(_) | LeaseAction::Dead => {}
            }
        }
    }

    fn value(&self, key: Key) -> JobKey {
        let holder = format!("{}:{}", random::host(), std::process::id());
        JobKey { key, purged: self.purged.clone(), lease: self.times.lease, holder }
    }

    /// Ends the job: its key says so first, then its words go, then its key.
    async fn end(self) {
        if self.lost.is_some() {
            return;
        }
        let key = Key { incarnation: self.lease.incarnation(), serial: u64::MAX, alive: false };
        let (name, value) = (self.link.names.job_key(self.job), wire::encode(&self.value(key)));
        let mut expected = self.lease.revision();
        for _ in 0..5 {
            let swap =
                self.link.swap_key(JOBS, &name, expected, value.clone(), link::PATIENCE).await;
            if matches!(swap, Swap::Won(_)) {
                if self.link.purge(&self.link.names.of_job(self.job)).await {
                    self.link.forget_key(JOBS, &name).await;
                }
                break;
            }
            // A renewal was on its way.
            match self.link.key(JOBS, &name).await {
                Ok(Some(stored)) => expected = stored.seq,
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
        let _ = self.link.client.flush().await;
    }
}

fn of_name<'w>(
    watched: &'w mut HashMap<(String, u128), Watched>,
    name: &str,
) -> impl Iterator<Item = &'w mut Watched> {
    watched.iter_mut().filter(move |(key, _)| key.0 == name).map(|(_, watched)| watched)
}

/// Adds a chunk to ranges that are in order.
fn add(ranges: &mut Vec<(u64, u64)>, chunk: u64) {
    ranges.push((chunk, chunk + 1));
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(from, to) in ranges.iter() {
        match merged.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    *ranges = merged;
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_of_chunks_grow_together() {
        let mut ranges = Vec::new();
        for chunk in [3, 1, 0, 2, 7] {
            super::add(&mut ranges, chunk);
        }
        assert_eq!(ranges, [(0, 4), (7, 8)]);
    }
}
