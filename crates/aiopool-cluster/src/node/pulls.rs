//! What the node asks its queues for: tasks into free places, the most urgent class first.

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subscriber};

use super::agent::Agent;
use crate::error::{Error, Result};
use crate::link::{self, Refusal};
use crate::streams::consumer_name;
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
    /// How often in a row the server had no such queue, or nobody who leads it, and when it last said
    /// so.
    refused: (u32, Instant),
}

/// Silence after which what was asked for is taken to be forgotten: the server sends a sign of life
/// every 10 s.
const FORGOTTEN: Duration = Duration::from_secs(25);

/// How long an acknowledgement waits for others to go out with: far less than the server waits for it.
pub(super) const ACKS_WAIT: Duration = Duration::from_millis(100);

/// Acknowledgements that go out together at most.
const ACKS_TOGETHER: usize = 256;

/// How long what was left in a queue is believed: other nodes take from it, too.
const FRESH: Duration = Duration::from_secs(1);

/// How long nothing is asked of a queue that is not there: the refusal comes at once.
const REST: Duration = Duration::from_millis(250);

/// The node makes a queue again at its second refusal in a row, and then at every eighth.
const MAKE_EACH: u32 = 8;

/// A request that waits on.
const ALIVE: u16 = 100;

/// A request that has waited for as long as it was to: the next one may follow at once.
const EXPIRED: u16 = 408;

/// Code that has run for so long has its word read, and again after as long: a hint may be lost.
const LONG: Duration = Duration::from_secs(10);

impl Pulls {
    /// Takes note that the server has forgotten every request.
    pub(super) fn forget(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.asked = 0);
    }

    /// How long the loop may wait before it asks.
    pub(super) fn rest(&self) -> Duration {
        let refused = self.queues.iter().any(|queue| queue.refused.0 > 0);
        if refused { REST } else { Duration::from_secs(1) }
    }

    /// How long the server has said nothing of any request.
    pub(super) fn silence(&self) -> Duration {
        let silent = self.queues.iter().map(|queue| queue.heard.elapsed());
        silent.min().unwrap_or_default()
    }

    /// The class of whose inbox this is the subject, and its queue.
    fn of_inbox(&mut self, subject: &str) -> Option<(u8, &mut Queue)> {
        let class: u8 = subject.strip_prefix(&self.inbox)?.strip_prefix('.')?.parse().ok()?;
        Some((class, self.queues.get_mut(usize::from(class))?))
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
            let make = || self.link.consumer(class, &self.build);
            let may_pass = |made: &std::result::Result<_, Refusal>| {
                made.as_ref().is_err_and(Refusal::may_pass)
            };
            let made = self.link.once_led(make, may_pass).await;
            let of = || consumer_name(class, &self.build);
            let consumer = made.map_err(|refusal| self.link.server(&of(), refusal))?;
            let now = Instant::now();
            let (left, refused) = ((0, now), (0, now));
            self.pulls.queues.push(Queue { consumer, asked: 0, heard: now, left, refused });
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
            if queue.refused.0 > 0 && queue.refused.1.elapsed() < REST {
                continue;
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
            let headers = message.headers.as_ref();
            return self.request_ended(&message.subject, status, headers);
        }
        let Some(reply) = message.reply else { return };
        let tail = Tail::parse(message.subject.as_str());
        if let Some(queue) = self.pulls.of_delivery(&reply) {
            queue.heard = now;
            queue.refused.0 = 0;
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

    /// Takes what is said of a request: a sign of life, or its end.
    fn request_ended(&mut self, inbox: &str, status: u16, headers: Option<&HeaderMap>) {
        let Some((class, queue)) = self.pulls.of_inbox(inbox) else { return };
        let now = Instant::now();
        queue.heard = now;
        if matches!(status, ALIVE | EXPIRED) {
            queue.refused.0 = 0;
        }
        if status == ALIVE {
            return;
        }
        let missing = headers.and_then(|headers| {
            headers.get("Nats-Pending-Messages").and_then(|n| n.as_str().parse().ok())
        });
        queue.asked = queue.asked.saturating_sub(missing.unwrap_or(queue.asked));
        if status == EXPIRED {
            return;
        }
        queue.refused = (queue.refused.0 + 1, now);
        if queue.refused.0 % MAKE_EACH != 2 {
            return;
        }
        // A new leader would be there soon; else an operator removed the consumer.
        let (link, build) = (self.link.clone(), self.build.clone());
        tokio::spawn(async move {
            if let Err(refusal) = link.consumer(class, &build).await {
                let error = link.server(&consumer_name(class, &build), refusal);
                tracing::warn!(%error, class, "a queue is not there");
            }
        });
    }

    /// Answers a delivery, without an answer of its own.
    pub(super) fn say(&self, reply: String, what: &'static str) {
        self.link.say(reply, what.into());
    }

    /// Acknowledges a delivery, soon: by itself an acknowledgement would be a message of which the
    /// server's processor has as much to do as of the task's own, just when the outcome is to be stored.
    pub(super) fn acknowledge(&mut self, reply: String) {
        if self.acks.is_empty() {
            self.acks_since = Instant::now();
        }
        self.acks.push(reply);
    }

    /// Sends the acknowledgements that wait, if they are many or have waited.
    pub(super) fn send_due_acks(&mut self) {
        if self.acks.len() >= ACKS_TOGETHER || self.acks_since.elapsed() >= ACKS_WAIT {
            self.send_acks();
        }
    }

    /// Sends the acknowledgements that wait.
    pub(super) fn send_acks(&mut self) {
        for reply in std::mem::take(&mut self.acks) {
            self.say(reply, "+ACK");
        }
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
        if let (Hint::Task { job, n }, true) = (hint, meant.is_empty()) {
            self.look_at(job, n);
        }
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
