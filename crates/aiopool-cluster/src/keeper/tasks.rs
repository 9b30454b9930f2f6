//! What the submitter does for one task: the actions of its [`Kept`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use aiopool::{TaskError, remote};
use bytes::Bytes;

use super::{AGAIN, Event, Keeper, Out, Outcome, Submission};
use crate::blob::{Blob, Side};
use crate::crash::{self, Point};
use crate::error::ClusterError;
use crate::link::{Stored, Swap, word_of};
use crate::protocol::{Allowed, Ending, Kept, KeptAction, KeptEvent, Word};
use crate::wire::{self, Body, Hint, Queued, Tail, Written};

impl Keeper {
    pub(super) fn submit(&mut self, submission: Submission) {
        let Submission { n, function, build, input, options, to } = submission;
        let limits = remote::limits(&options);
        let class = limits.priority.min(wire::CLASSES - 1);
        let tail = Tail { class, build, job: self.claim.job, n };
        let item = if self.claim.durable { wire::item_of(&function, &input) } else { 0 };
        let large = input.len() > self.link.inline();
        self.has_blobs |= large;
        let body = Body::Inline(if large { Bytes::new() } else { input.clone() });
        let job = self.claim.key.clone();
        let judges = remote::predicate(&options).is_some();
        let on_timeout = limits.retry_on_timeout || judges;
        let queued = Queued {
            attempt: 1,
            job,
            function,
            timeout: limits.timeout,
            again_after_timeout: on_timeout && limits.attempts > 1,
            alone: limits.alone,
            item,
            input: body,
        };
        let begin = if self.claim.is_resumed() { Kept::resume } else { Kept::submit };
        // Where a predicate decides, it is asked before the outcome is told: see `judged`.
        let on_error = limits.retry_on_error || judges;
        let (kept, actions) = begin(Allowed { attempts: limits.attempts, on_error, on_timeout });
        self.chunks.submitted(n);
        let (to, since) = (Some(to), Instant::now());
        let (newest, holder, verdict, quiet) = (None, None, None, false);
        let out = Out { kept, tail, queued, options, to, newest, verdict, holder, since, quiet };
        self.out.insert(n, out);
        if let Some(limit) = limits.queue_ttl {
            self.later(limit, Event::Expire(n));
        }
        if large {
            self.upload(n, input, actions);
        } else {
            self.act(n, actions);
        }
    }

    /// Stores a large input; the task itself follows.
    fn upload(&self, n: u64, input: Bytes, actions: Vec<KeptAction>) {
        let (link, job, events) = (self.link.clone(), self.claim.job, self.events.clone());
        tokio::spawn(async move {
            let stored = link.store_blob(job, n, Side::Input, &input).await;
            let _ = events.send(Event::Uploaded(n, actions, stored));
        });
    }

    pub(super) fn uploaded(
        &mut self,
        n: u64,
        actions: Vec<KeptAction>,
        stored: Result<Blob, String>,
    ) {
        let Some(out) = self.out.get_mut(&n) else { return };
        match stored {
            Ok(blob) => {
                out.queued.input = Body::Blob(blob);
                self.act(n, actions);
            }
            Err(reason) => self.deliver(n, Err(ClusterError::BlobLost(reason))),
        }
    }

    pub(super) fn tell(&mut self, n: u64, event: KeptEvent) {
        let Some(out) = self.out.get_mut(&n) else { return };
        let before = out.kept.word().seq();
        let actions = out.kept.step(event);
        if out.kept.word().seq() != before {
            (out.since, out.quiet) = (Instant::now(), false);
        }
        self.act(n, actions);
    }

    pub(super) fn act(&mut self, n: u64, actions: Vec<KeptAction>) {
        for action in actions {
            let Some(out) = self.out.get_mut(&n) else { return };
            match action {
                KeptAction::Submit => {
                    if self.has_room(n) {
                        self.queue(n, 0);
                    }
                }
                KeptAction::Requeue { expected, attempt } => {
                    out.queued.attempt = attempt;
                    self.queue(n, expected);
                }
                KeptAction::Decide { expected, attempt, ending } => {
                    let (node, nonce, result) = (String::new(), 0, Err(Bytes::new()));
                    let item = out.queued.item;
                    let written = Written::Outcome { node, nonce, attempt, item, ending, result };
                    let subject = self.link.names.written(&out.tail);
                    self.send(n, None, subject, expected, wire::encode(&written));
                }
                KeptAction::Read => self.read(n, Duration::ZERO),
                KeptAction::Pause { attempt } => {
                    let chance = crate::random::bits() as u64;
                    let pause = remote::pause_before(&out.options, attempt, chance);
                    self.later(pause, Event::Pause(n));
                }
                KeptAction::Watch(_) => self.watch(n),
                KeptAction::Deliver { .. } => self.settle(n),
                KeptAction::DeliverVanished => self.deliver(n, Err(ClusterError::Vanished)),
            }
        }
    }

    pub(super) fn queue(&self, n: u64, expected: u64) {
        let Some(out) = self.out.get(&n) else { return };
        let point = if expected == 0 { Point::S1 } else { Point::S2 };
        let subject = self.link.names.queue(&out.tail);
        self.send(n, Some(point), subject, expected, wire::encode(&out.queued));
    }

    fn send(&self, n: u64, point: Option<Point>, subject: String, expected: u64, payload: Bytes) {
        let Some(out) = self.out.get(&n) else { return };
        let (link, tail, events) = (self.link.clone(), out.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            let swap = link.swap_word(subject, &tail, expected, payload);
            let swap = match point {
                Some(point) => crash::sent(point, &link.client, swap).await,
                None => swap.await,
            };
            tokio::time::sleep(swap.pause()).await;
            let _ = events.send(Event::Sent(n, swap));
        });
    }

    pub(super) fn read(&self, n: u64, pause: Duration) {
        let Some(out) = self.out.get(&n) else { return };
        let (link, tail, events) = (self.link.clone(), out.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(Event::Word(n, link.word(&tail).await));
        });
    }

    /// Takes what the collector brought.
    pub(super) fn saw(&mut self, stored: Stored) {
        let Some(tail) = Tail::parse(&stored.subject) else { return };
        if !self.is_same_item(tail.n, Some(&stored)) {
            return self.deliver(tail.n, Err(ClusterError::ItemsChanged { n: tail.n }));
        }
        let Some(out) = self.out.get_mut(&tail.n) else { return };
        out.see(&stored);
        let word = out.judged(word_of(Some(stored)));
        self.tell(tail.n, KeptEvent::Saw(word));
    }

    /// Whether a word of a resumed job is of the item that the caller gave now.
    pub(super) fn is_same_item(&self, n: u64, stored: Option<&Stored>) -> bool {
        let (Some(out), Some(stored)) = (self.out.get(&n), stored) else { return true };
        let there = wire::item(&stored.subject, &stored.payload);
        !self.claim.durable || there.is_none_or(|item| item == out.queued.item)
    }

    /// Delivers what the word says; a large value is fetched first.
    fn settle(&mut self, n: u64) {
        let Some(out) = self.out.get(&n) else { return };
        let newest = out.newest.as_ref();
        let written = newest.and_then(|stored| wire::decode::<Written>(&stored.payload));
        let Some(Written::Outcome { node, attempt, ending, result, .. }) = written else {
            let text = "an outcome that cannot be read".to_owned();
            return self.deliver(n, Err(TaskError::Corrupt(text).into()));
        };
        if !node.is_empty()
            && let Ok(mut by_node) = self.by_node.lock()
        {
            *by_node.entry(node.clone()).or_default() += 1;
        }
        let bytes = match result {
            Ok(Body::Inline(bytes)) => return self.deliver(n, Ok(bytes)),
            Ok(Body::Blob(blob)) => {
                self.fetch(n, blob);
                self.has_blobs = true;
                return;
            }
            Err(bytes) => bytes,
        };
        let error = match ending {
            Ending::Cancelled => {
                self.hint(n);
                TaskError::Cancelled.into()
            }
            Ending::Expired => {
                let limit = remote::limits(&out.options).queue_ttl.unwrap_or_default();
                TaskError::TimedOut { limit, started: false }.into()
            }
            Ending::NotStarted => ClusterError::NotStarted(node),
            Ending::NodeLost => {
                let silent = |held: &(String, u128)| {
                    self.watched.get(held).map_or(Duration::ZERO, |w| w.seen.elapsed())
                };
                let silent_for = out.holder.as_ref().map_or(Duration::ZERO, silent);
                let node = out.holder.as_ref().map_or(node, |held| held.0.clone());
                ClusterError::NodeLost { node, attempt, silent_for }
            }
            _ => match remote::error_from_bytes(&bytes) {
                TaskError::WorkerLost(mut lost) => {
                    // The node knows of its own attempt only.
                    lost.attempts_allowed = remote::limits(&out.options).attempts;
                    TaskError::WorkerLost(lost).into()
                }
                error => error.into(),
            },
        };
        self.deliver(n, Err(error));
    }

    /// Has the node that runs a cancelled task look at its word now; by itself it does so later.
    fn hint(&self, n: u64) {
        let Some(out) = self.out.get(&n) else { return };
        if let Some((node, _)) = &out.holder {
            self.link.hint(node, Hint::Task { job: self.claim.job, n });
        }
    }

    fn fetch(&self, n: u64, blob: Blob) {
        let (link, job, events) = (self.link.clone(), self.claim.job, self.events.clone());
        tokio::spawn(async move {
            let fetched = link.fetch_blob(job, n, &blob).await.map_err(ClusterError::BlobLost);
            let _ = events.send(Event::Fetched(n, fetched));
        });
    }

    pub(super) fn deliver(&mut self, n: u64, outcome: Outcome) {
        let Some(mut out) = self.out.remove(&n) else { return };
        self.held_back.remove(&n);
        if let Some(to) = out.to.take() {
            let _ = to.send(outcome);
        }
        self.ended.insert(n);
        if let Some(chunk) = self.chunks.over(n) {
            self.parked.push(chunk);
            self.unpark();
        }
    }

    /// Ends every handle's wait.
    pub(super) fn deliver_all(&mut self, error: impl Fn() -> ClusterError) {
        for out in self.out.values_mut() {
            if let Some(to) = out.to.take() {
                let _ = to.send(Err(error()));
            }
        }
        // Whose nodes are to be told of the job's end is still known from `watched`.
        self.out.clear();
    }

    /// The tasks whose newest word is a claim, with who holds them.
    pub(super) fn holders(&self) -> impl Iterator<Item = &(String, u128)> {
        let claimed = |out: &&Out| matches!(out.kept.word(), Word::Claimed { .. });
        self.out.values().filter(claimed).filter_map(|out| out.holder.as_ref())
    }
}

impl Out {
    /// Has the caller's predicate say whether an attempt may follow this outcome, if it has one: an
    /// ending after which it wants none becomes a final one.
    pub(super) fn judged(&mut self, word: Word) -> Word {
        let Word::Done { seq, attempt, ending } = word else { return word };
        let asks = matches!(ending, Ending::Failed | Ending::TimedOut | Ending::WorkerLost)
            && attempt < remote::limits(&self.options).attempts;
        let Some(predicate) = remote::predicate(&self.options).filter(|_| asks) else {
            return word;
        };
        let again = match self.verdict {
            Some((of, again)) if of == seq => again,
            _ => {
                let newest = self.newest.as_ref().filter(|newest| newest.seq == seq);
                let written = newest.and_then(|newest| wire::decode::<Written>(&newest.payload));
                let Some(Written::Outcome { result: Err(bytes), .. }) = written else {
                    return word;
                };
                let error = remote::error_from_bytes(&bytes);
                catch_unwind(AssertUnwindSafe(|| predicate(&error))).unwrap_or_else(|_| {
                    tracing::error!(task = self.tail.n, "a predicate of `retry_if` panicked");
                    false
                })
            }
        };
        self.verdict = Some((seq, again));
        if again { word } else { Word::Done { seq, attempt, ending: Ending::Final } }
    }
}

impl Swap {
    /// The pause before the question what became of it.
    pub(crate) fn pause(&self) -> Duration {
        match self {
            Self::Unknown => AGAIN,
            Self::Full(_) => Duration::from_secs(1),
            Self::Won(_) | Self::Refused | Self::Broken(_) => Duration::ZERO,
        }
    }
}
