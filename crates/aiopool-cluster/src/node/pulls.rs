//! What the node asks its queues for: tasks into free places, the most urgent class first.

use std::time::{Duration, Instant};

use async_nats::Subscriber;

use super::agent::Agent;
use crate::error::{Error, Result};
use crate::link;
use crate::wire::{self, CLASSES, Hint, Queued, Tail};

/// What was asked of the queues. There is one for each class; a request waits there, and its answers
/// come to an inbox of the class.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    inbox: String,
    queues: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    consumer: String,
    /// Deliveries that were asked for and have not come.
    asked: usize,
    /// When something last came of what was asked for.
    heard: Instant,
    /// Tasks that were left in the queue when the last one came, and when that was.
    left: (usize, Instant),
}

/// Silence after which what was asked for is taken to be forgotten: the server sends a sign of life
/// every 10 s.
const FORGOTTEN: Duration = Duration::from_secs(25);

/// How long what was left in a queue is believed: other nodes take from it, too.
const FRESH: Duration = Duration::from_secs(1);

/// Code that has run for so long has its word read, and again after as long: a hint may be lost.
const LONG: Duration = Duration::from_secs(10);

impl Pulls {
    /// Takes note that the server has forgotten every request.
    pub(super) fn forget(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.asked = 0);
    }

    /// How long the server has said nothing of any request.
    pub(super) fn silence(&self) -> Duration {
        let silent = self.queues.iter().map(|queue| queue.heard.elapsed());
        silent.min().unwrap_or_default()
    }

    /// The queue of whose inbox this is the subject.
    fn of_inbox(&mut self, subject: &str) -> Option<&mut Queue> {
        let class: usize = subject.strip_prefix(&self.inbox)?.strip_prefix('.')?.parse().ok()?;
        self.queues.get_mut(class)
    }

    /// The queue that a delivery came from, whatever the message is.
    fn of_delivery(&mut self, reply: &str) -> Option<&mut Queue> {
        let consumer = link::consumer(reply)?;
        self.queues.iter_mut().find(|queue| queue.consumer == consumer)
    }
}

impl Agent {
    /// Makes the queues of the build, and listens for what comes of them.
    pub(super) async fn make_queues(&mut self) -> Result<Subscriber> {
        let inbox = self.link.client.new_inbox();
        let subscribed = self.link.client.subscribe(format!("{inbox}.*")).await;
        let deliveries =
            subscribed.map_err(|error| Error::Server(format!("subscribe: {error}")))?;
        self.pulls.inbox = inbox;
        for class in 0..CLASSES {
            let consumer = self.link.consumer(class, &self.build).await?;
            let now = Instant::now();
            self.pulls.queues.push(Queue { consumer, asked: 0, heard: now, left: (0, now) });
        }
        Ok(deliveries)
    }

    /// Asks for as many deliveries as there are free places.
    pub(super) async fn pull(&mut self) {
        if !self.may_take() || !self.link.stands() {
            return;
        }
        let places = self.places();
        let mut free = places.saturating_sub(self.held.len());
        for (class, queue) in self.pulls.queues.iter_mut().enumerate() {
            if queue.asked > 0 && queue.heard.elapsed() > FORGOTTEN {
                queue.asked = 0;
            }
            let left = if queue.left.1.elapsed() < FRESH { queue.left.0 } else { 0 };
            let want = left.min(free);
            // A few places at a time would be a request each.
            let more = want.saturating_sub(queue.asked);
            let more = if more * 4 >= places.min(left) { more } else { 0 };
            free -= want;
            // And one request that waits, in every class.
            let waiting = if queue.asked + more == 0 { (free / 4).max(1).min(free) } else { 0 };
            let batch = more + waiting;
            if batch == 0 {
                continue;
            }
            let inbox = format!("{}.{class}", self.pulls.inbox);
            if self.link.pull(&queue.consumer, batch, &inbox).await {
                queue.asked += batch;
                queue.heard = Instant::now();
            }
        }
    }

    /// Takes what came of a request: a task, or what is said of the request itself.
    pub(super) fn deliver(&mut self, message: async_nats::Message) {
        let now = Instant::now();
        self.answered = now;
        let status = message.status.map(|status| status.as_u16());
        if let Some(status) = status {
            let Some(queue) = self.pulls.of_inbox(&message.subject) else { return };
            queue.heard = now;
            if status != 100 {
                let missing = message.headers.as_ref().and_then(|headers| {
                    headers.get("Nats-Pending-Messages").and_then(|n| n.as_str().parse().ok())
                });
                queue.asked = queue.asked.saturating_sub(missing.unwrap_or(queue.asked));
            }
            return;
        }
        let Some(reply) = message.reply else { return };
        let tail = Tail::parse(message.subject.as_str());
        if let Some(queue) = self.pulls.of_delivery(&reply) {
            queue.heard = now;
            queue.asked = queue.asked.saturating_sub(1);
            queue.left = (link::left(&reply), now);
        }
        let queued = wire::decode(&message.payload).filter(|q: &Queued| wire::is_token(&q.job));
        let numbers = link::numbers(&reply);
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

    /// Has the words of tasks read that a message speaks of: the message itself proves nothing.
    pub(super) fn hinted(&mut self, payload: &[u8]) {
        let Some(hint) = wire::decode::<Hint>(payload) else { return };
        let meant: Vec<u64> = self
            .held
            .iter()
            .filter(|(_, held)| match hint {
                Hint::Task { job, n } => (held.tail.job, held.tail.n) == (job, n),
                Hint::Job { job } => held.tail.job == job,
            })
            .map(|(&id, _)| id)
            .collect();
        meant.into_iter().for_each(|id| self.check(id));
    }

    /// Has the words of tasks read whose code has run for long.
    pub(super) fn look_at_long_ones(&mut self) {
        let due = |held: &super::hands::Held| held.checked.elapsed() > LONG;
        let long: Vec<u64> =
            self.held.iter().filter(|(_, held)| due(held)).map(|(&id, _)| id).collect();
        long.into_iter().for_each(|id| self.check(id));
    }
}
