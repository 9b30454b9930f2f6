//! The submitter's thread: it submits, collects, watches nodes and decides about attempts.
//!
//! It has a runtime of its own, so that a busy runtime of the user neither lets the job's lease run
//! out nor holds up a retry.

mod audit;
mod groups;
mod job;
mod nodes;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aiopool::{TaskOptions, remote};
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::unconstrained;

use crate::asks::Asks;
use crate::blob::Blob;
use crate::counts::Counts;
use crate::error::{ClusterError, Error};
use crate::link::{self, AGAIN, Link, Refusal, Space, Stored, Swap};
use crate::protocol::{
    Allowed, Chunks, Ending, Group, Kept, KeptAction, KeptEvent, Lease, LeaseEvent, LeaseTimes,
};
use crate::runs::Runs;
use crate::taken::Taken;
use crate::wire::{Function, JobKey, Queued, Tail};

use groups::Item;
pub(crate) use job::Claim;
use nodes::Watched;

/// How many outcomes came of each node.
pub(crate) type ByNode = Arc<Mutex<BTreeMap<String, u64>>>;

/// Why a job is lost, once it is.
pub(crate) type Lost = Arc<OnceLock<String>>;

/// What a task ends with, still encoded.
pub(crate) type Outcome = Result<Bytes, ClusterError>;

/// A task as a handle gives it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) n: u64,
    pub(crate) function: Function,
    pub(crate) build: String,
    pub(crate) input: Bytes,
    pub(crate) options: TaskOptions,
    pub(crate) to: Recipient,
}

/// The handle that gets the outcome of a task.
#[derive(Debug)]
pub(crate) struct Recipient {
    /// Gets the outcome, and how many attempts were made for it.
    pub(crate) handle: oneshot::Sender<(Outcome, u32)>,
    /// The task's place among those that may be out. It is free when the task has its outcome,
    /// whether or not anybody waits for that.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// What a handle asks of the thread.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<Submission>),
    /// Several tasks of one function and the same options, in the order of their numbers.
    Group(Vec<Submission>),
    Cancel(u64),
    /// Says when a node of this build can take tasks.
    Ready(String, oneshot::Sender<()>),
    /// Says when so much time is over.
    Wait(Duration, oneshot::Sender<()>),
    /// Takes no more; ends when everything is over.
    Close,
    /// Ends a durable job when everything is over.
    Finish,
    /// Ends what is out as a closed pool does, then ends.
    Terminate,
    /// Leaves a durable job to the next holder: its tasks run on.
    Leave,
}

#[derive(Debug)]
enum Event {
    Sent(u64, Swap),
    Word(u64, Result<Option<Stored>, ()>),
    /// A message whose large part is there now, and whether it was read from the leader.
    Looked(u64, Stored, bool),
    Pause(u64),
    Expire(u64),
    Uploaded(u64, Vec<KeptAction>, Result<Blob, String>),
    Fetched(u64, Result<Bytes, ClusterError>),
    Renewal(u64, Swap),
    Key(Result<Option<Stored>, ()>),
    Node(String, Result<Option<Stored>, ()>),
    Tombstone(String, Swap),
    /// These tasks, from the first to before the second, are purged, if the server said so.
    Purged(u64, u64, bool),
    /// A new collector, which sends what is stored from this message on, or why there is none.
    Collector(Result<(Subscriber, u64), Refusal>),
    Space(Option<Space>),
    /// Whether nothing waits in or was given out of the queue of a class and build.
    Idle(u8, String, bool),
    /// Whether no node of this build was seen in a long look.
    Sought(String, bool),
}

impl Event {
    /// Whether the server said something.
    fn is_answer(&self) -> bool {
        match self {
            Self::Sent(_, swap) | Self::Renewal(_, swap) | Self::Tombstone(_, swap) => {
                *swap != Swap::Unknown
            }
            Self::Word(_, read) | Self::Key(read) | Self::Node(_, read) => read.is_ok(),
            Self::Purged(_, _, purged) => *purged,
            Self::Space(space) => space.is_some(),
            Self::Collector(made) => made.is_ok(),
            Self::Uploaded(..) | Self::Fetched(..) | Self::Looked(..) => true,
            Self::Pause(_) | Self::Expire(_) | Self::Idle(..) | Self::Sought(..) => false,
        }
    }
}

/// A task that is not over.
struct Out {
    kept: Kept,
    tail: Tail,
    queued: Queued,
    options: TaskOptions,
    allowed: Allowed,
    /// The one task, or the items of a group.
    items: Vec<Item>,
    /// Which of the items are open, where several are under the word.
    group: Option<Group>,
    /// The outcome whose list was taken, and the ending that stands for the group.
    whole: Option<(u64, Ending)>,
    /// The newest message that the submitter has seen, with its bytes.
    newest: Option<Stored>,
    /// The outcome about which the caller's predicate was asked, and whether it wants another
    /// attempt.
    verdict: Option<(u64, bool)>,
    /// The node and the life that claimed it last.
    holder: Option<(String, u128)>,
    /// How many of its messages were sent that may be stored: all but those that the server
    /// refused for want of room. Where there is none, the task can still be held back.
    sent: u32,
    /// Why the server will never take what was last sent, where it said so.
    refusal: String,
    /// Since when the word is what it is.
    since: Instant,
    /// Whether it has been that for long, and was looked at.
    quiet: bool,
    /// How many of its items count as running.
    running: u64,
}

impl Out {
    /// Keeps a message if none newer was seen.
    fn see(&mut self, stored: &Stored) {
        if stored.seq > self.newest.as_ref().map_or(0, |newest| newest.seq) {
            self.newest = Some(stored.clone());
        }
    }
}

/// How the thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// When everything is over; a durable job stays.
    Close,
    /// When everything is over; a durable job ends, too.
    Finish,
    /// Now, and the job with it.
    Terminate,
    /// Now, and the job stays.
    Leave,
}

pub(crate) struct Keeper {
    link: Link,
    /// Swaps of words that are on their way, by task.
    asks: Asks<u64>,
    answers: Subscriber,
    /// The job, as its key was taken.
    claim: Claim,
    lease: Lease,
    times: LeaseTimes,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    out: HashMap<u64, Out>,
    /// The first item of the group, by each of the others.
    leaders: HashMap<u64, u64>,
    /// Builds whose tasks wait and of which it was said that there is no node.
    lonely: BTreeSet<String>,
    /// Builds whose nodes are looked for.
    sought: BTreeSet<String>,
    /// By node's name and life.
    watched: HashMap<(String, u128), Watched>,
    chunks: Chunks,
    /// Tasks whose outcome is delivered, and which are not purged.
    ended: BTreeSet<u64>,
    /// Chunks that are over and wait until the outcomes of all their tasks are acknowledged.
    parked: Vec<u64>,
    /// Tasks that are over, as ranges, whose mark is stored or on its way.
    purged: Vec<(u64, u64)>,
    /// Ranges to be purged, and the serial of the renewal that carries the mark.
    marks: Vec<(u64, u64, u64)>,
    /// Outcomes that the caller has taken.
    taken: Arc<Mutex<Taken>>,
    /// How many outcomes came of each node.
    by_node: ByNode,
    counts: Arc<Counts>,
    /// How long runs take.
    runs: Arc<Runs>,
    /// The stream's limit, and about how much is in it.
    space: Option<Space>,
    /// Bytes that may be sent between two looks at the stream, and those that were since the last.
    share: u64,
    spent: u64,
    /// What tasks take whose first message may not be stored yet.
    sending: BTreeMap<u64, u64>,
    /// Whether the stream is being looked at.
    looking: bool,
    /// Whether an input or a value was too large for the task's own messages.
    has_blobs: bool,
    /// Tasks that wait for room in the stream.
    held_back: BTreeSet<u64>,
    /// The highest message of the collector.
    collected: u64,
    /// A collector is being made.
    collecting: bool,
    /// A new one, which the loop has not taken over.
    collector: Option<Subscriber>,
    closing: Closing,
    /// Why the job is lost, if it is.
    lost: Lost,
    /// Why the server did not store the last renewal, where it said so.
    refused: Option<String>,
    /// When the server last answered anything.
    answered: Instant,
}

/// Waits for the next message of the collector, for ever where there is none.
async fn next(words: &mut Option<Subscriber>) -> Option<async_nats::Message> {
    match words {
        Some(words) => words.next().await,
        None => std::future::pending().await,
    }
}

/// Commands, events or words that are taken before the loop's own affairs: not all that there are,
/// since they may come without end and the lease is to be renewed.
const AT_ONCE: usize = 256;

impl Keeper {
    /// Makes or takes the job's key; the first task comes after that.
    pub(crate) async fn begin(
        link: Link,
        times: LeaseTimes,
        claim: Claim,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Self, Error> {
        let now = remote::boottime_ns();
        let (lease, actions) = Lease::begin(times, crate::random::bits(), claim.revision, now);
        let (events, inbox) = mpsc::unbounded_channel();
        let (asks, answers) = Asks::listen(&link).await?;
        let mut keeper = Self {
            link,
            asks,
            answers,
            purged: claim.purged.clone(),
            taken: Arc::new(Mutex::new(Taken::from(claim.taken))),
            claim,
            lease,
            times,
            commands,
            events,
            inbox,
            out: HashMap::new(),
            leaders: HashMap::new(),
            lonely: BTreeSet::new(),
            sought: BTreeSet::new(),
            watched: HashMap::new(),
            chunks: Chunks::default(),
            ended: BTreeSet::new(),
            parked: Vec::new(),
            marks: Vec::new(),
            by_node: Arc::default(),
            counts: Arc::default(),
            runs: Arc::default(),
            space: None,
            share: 0,
            spent: 0,
            sending: BTreeMap::new(),
            looking: false,
            has_blobs: false,
            held_back: BTreeSet::new(),
            collected: 0,
            collecting: false,
            collector: None,
            closing: Closing::No,
            lost: Arc::default(),
            refused: None,
            answered: Instant::now(),
        };
        keeper.obey(actions);
        let started = Instant::now();
        while !keeper.lease.holds(remote::boottime_ns()) {
            if keeper.lease.next().is_none() {
                return Err(Error::JobHeld {
                    job: keeper.claim.name().to_owned(),
                    holder: "another process, which was quicker".to_owned(),
                });
            }
            if started.elapsed() > Duration::from_secs(10) {
                let missing = "it does not store this pool's keys in the bucket AIOPOOL_JOBS";
                let refused = keeper.refused.take();
                let refused = refused.map(|why| format!("it does not store the job's key: {why}"));
                let text = keeper.link.complaint().or(refused);
                let text = text.unwrap_or_else(|| missing.to_owned());
                return Err(Error::Server(text));
            }
            let wait = Duration::from_millis(50);
            if let Ok(Some(event)) = tokio::time::timeout(wait, keeper.inbox.recv()).await {
                keeper.take(event);
            }
            keeper.tick();
        }
        // The next ones are made whenever one is lost; what refuses this one would refuse them all.
        keeper.collect();
        while keeper.collecting {
            let wait = Duration::from_millis(50);
            if let Ok(Some(event)) = tokio::time::timeout(wait, keeper.inbox.recv()).await {
                if let Event::Collector(Err(refusal)) = &event
                    && !(refusal.may_pass() && keeper.link.complaint().is_none())
                {
                    let error = keeper.link.server("the collector of outcomes", refusal.clone());
                    keeper.end().await;
                    return Err(error);
                }
                keeper.take(event);
            }
            keeper.tick();
        }
        // Not before the collector: of submitters that begin together one sees the other's.
        let space = keeper.link.space().await;
        keeper.saw_space(space);
        Ok(keeper)
    }

    /// Returns what the handle shares with this thread.
    pub(crate) fn shared(&self) -> (Arc<Mutex<Taken>>, ByNode, Arc<Counts>, Arc<Runs>, Lost) {
        let Self { taken, by_node, counts, runs, lost, .. } = self;
        let (counts, runs, lost) = (Arc::clone(counts), Arc::clone(runs), Arc::clone(lost));
        (Arc::clone(taken), Arc::clone(by_node), counts, runs, lost)
    }

    pub(crate) async fn run(mut self) {
        let mut connections = self.link.connections.clone();
        connections.mark_unchanged();
        // Each collector has an inbox of its own: what an earlier one still sends is not mixed in.
        let mut words: Option<Subscriber> = self.collector.take();
        let (mut expected, mut heard) = (1_u64, Instant::now());
        let mut looked = Instant::now();
        loop {
            if words.is_none() && !self.collecting && self.link.stands() {
                self.collect();
            }
            let now = remote::boottime_ns();
            let due = self.lease.next().unwrap_or(now);
            let pause = Duration::from_nanos(due.saturating_sub(now));
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.command(command);
                        for _ in 0..AT_ONCE {
                            let Ok(command) = self.commands.try_recv() else { break };
                            self.command(command);
                        }
                    }
                    None => self.command(Command::Terminate),
                },
                Some(event) = self.inbox.recv() => {
                    self.take(event);
                    for _ in 0..AT_ONCE {
                        let Ok(event) = self.inbox.try_recv() else { break };
                        self.take(event);
                    }
                }
                Some(answer) = self.answers.next() => {
                    self.answered = Instant::now();
                    let mut came = Some(answer);
                    for _ in 0..AT_ONCE {
                        let Some(answer) = came else { break };
                        let answer = self.asks.answer(&answer);
                        self.swapped(answer);
                        came = unconstrained(self.answers.next()).now_or_never().flatten();
                    }
                }
                message = next(&mut words) => {
                    heard = Instant::now();
                    let mut came = Some(message);
                    let mut more = AT_ONCE;
                    while let Some(message) = came {
                        if !message.is_some_and(|message| self.collected(message, &mut expected)) {
                            words = None;
                        }
                        more -= 1;
                        let next = unconstrained(next(&mut words));
                        came = if more > 0 { next.now_or_never() } else { None };
                    }
                }
                _ = connections.changed() => {
                    words = None;
                    self.asks.forget();
                }
                () = tokio::time::sleep(pause.min(Duration::from_millis(500))) => {}
            }
            if let Some(new) = self.collector.take() {
                words = Some(new);
                (expected, heard) = (1, Instant::now());
            }
            if words.is_some() && heard.elapsed() > Duration::from_secs(7) {
                words = None;
            }
            for n in self.asks.silent() {
                self.swapped(Some((n, Swap::Unknown)));
            }
            self.tick();
            // Outcomes of the last tasks may have been taken since these were heard.
            if !self.parked.is_empty() {
                self.unpark();
            }
            if looked.elapsed() > Duration::from_millis(500) {
                looked = Instant::now();
                // Here and not when the client says that it is connected: it learns of it later.
                if let Err(error) = self.link.check_version() {
                    self.lose(error.to_string());
                }
                self.look_at_nodes();
                self.audit();
                self.look_at_space(Duration::ZERO);
            }
            let over = match self.closing {
                Closing::No => false,
                Closing::Close | Closing::Finish => self.out.is_empty(),
                Closing::Terminate | Closing::Leave => true,
            };
            if self.lost.get().is_some() || over {
                break;
            }
        }
        self.end().await;
    }

    /// Takes what the collector sent; false where something before it is missing, so that it is to begin
    /// again behind what was there.
    fn collected(&mut self, message: async_nats::Message, expected: &mut u64) -> bool {
        let numbers = message.reply.as_ref().and_then(|reply| link::numbers(reply));
        // A sign of life has none.
        let Some((seq, number)) = numbers else { return true };
        if number != *expected {
            return false;
        }
        *expected += 1;
        self.collected = self.collected.max(seq);
        let (subject, payload) = (message.subject, message.payload);
        self.saw(Stored { seq, subject, payload, time: 0 });
        true
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.submit(*submission),
            Command::Group(submissions) => self.submit_group(submissions),
            Command::Cancel(n) => self.cancel(n),
            Command::Ready(build, to) => self.await_node(build, to),
            Command::Wait(limit, to) => {
                tokio::spawn(async move {
                    tokio::time::sleep(limit).await;
                    let _ = to.send(());
                });
            }
            Command::Close if self.closing == Closing::No => self.closing = Closing::Close,
            Command::Close => {}
            Command::Finish => self.closing = Closing::Finish,
            Command::Terminate => {
                // The end of the job says it to the nodes, for all tasks at once.
                self.closing = Closing::Terminate;
                self.deliver_all(|| aiopool::TaskError::PoolClosed { reason: None }.into());
            }
            // The handle is dropped after that, and what it has ended does not stay.
            Command::Leave if self.closing == Closing::Terminate => {}
            Command::Leave => {
                self.closing = Closing::Leave;
                self.deliver_all(|| {
                    ClusterError::Ended(Error::JobLost("its handle left it".to_owned()))
                });
            }
        }
    }

    fn take(&mut self, event: Event) {
        if event.is_answer() {
            self.answered = Instant::now();
        }
        match event {
            Event::Sent(n, Swap::Won(seq)) => self.tell(n, KeptEvent::Won(seq)),
            Event::Sent(n, Swap::Broken(reason)) => {
                if let Some(out) = self.out.get_mut(&n) {
                    out.refusal = reason;
                }
                self.tell(n, KeptEvent::Refused);
            }
            Event::Sent(n, swap) => {
                if matches!(swap, Swap::Full(_)) {
                    self.squeeze();
                    // It waits for room again, and takes none.
                    self.sending.remove(&n);
                    // An operator may have given the stream a limit.
                    self.space = self.space.take().filter(|space| space.limit.is_some());
                    if let Some(out) = self.out.get_mut(&n) {
                        out.sent = out.sent.saturating_sub(1);
                    }
                }
                self.tell(n, KeptEvent::Unsure);
            }
            Event::Word(n, Ok(stored)) => self.look(n, stored, true),
            Event::Looked(n, stored, read) => self.look(n, Some(stored), read),
            Event::Word(n, Err(())) => self.read(n, AGAIN),
            Event::Pause(n) => self.tell(n, KeptEvent::PauseOver),
            Event::Expire(n) => self.tell(n, KeptEvent::Expire),
            Event::Uploaded(n, actions, blob) => self.uploaded(n, actions, blob),
            Event::Fetched(n, outcome) => self.deliver(n, outcome),
            Event::Renewal(serial, swap) => {
                let event = match &swap {
                    &Swap::Won(revision) => LeaseEvent::Won { serial, revision },
                    _ => LeaseEvent::Unsure { serial },
                };
                self.lease_event(event);
                match swap {
                    Swap::Won(_) => {
                        self.refused = None;
                        self.purge_marked(serial);
                    }
                    Swap::Full(reason) | Swap::Broken(reason) => self.refused = Some(reason),
                    Swap::Refused(_) | Swap::Unknown => {}
                }
            }
            Event::Key(Ok(stored)) => {
                let decode = |s: &Stored| crate::wire::decode::<JobKey>(&s.payload);
                let key = stored.as_ref().and_then(|s| Some((s.seq, decode(s)?.key)));
                self.lease_event(match (&stored, key) {
                    (Some(stored), None) => LeaseEvent::Garbage(stored.seq),
                    (_, key) => LeaseEvent::Read(key),
                });
                let own = self.lease.incarnation().id;
                if let Some((_, key)) = key.filter(|k| k.1.incarnation.id == own && k.1.alive) {
                    self.purge_marked(key.serial);
                }
            }
            Event::Key(Err(())) => {}
            Event::Node(name, stored) => self.saw_node(&name, stored),
            Event::Tombstone(name, swap) => self.buried(&name, &swap),
            Event::Purged(from, to, true) => {
                self.marks.retain(|mark| (mark.0, mark.1) != (from, to));
            }
            Event::Purged(from, to, false) => self.purge(from, to, AGAIN),
            Event::Collector(made) => {
                self.collecting = false;
                // Another stream may have taken the place of the one before.
                self.collected = made.as_ref().map_or(self.collected, |(_, from)| from - 1);
                self.collector = made.ok().map(|(words, _)| words);
            }
            Event::Space(space) => self.saw_space(space),
            Event::Idle(class, build, idle) => self.saw_idle(class, &build, idle),
            Event::Sought(build, are_none) => self.saw_nodes(build, are_none),
        }
    }

    /// Has a collector made, which sends what is written of the job from here on.
    fn collect(&mut self) {
        self.collecting = true;
        let (link, events) = (self.link.clone(), self.events.clone());
        let (job, from) = (self.claim.job, self.collected + 1);
        tokio::spawn(async move {
            let made = link.collector(job, from).await;
            if made.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
            let _ = events.send(Event::Collector(made));
        });
    }

    fn later(&self, pause: Duration, event: Event) {
        link::later(&self.events, pause, event);
    }
}
