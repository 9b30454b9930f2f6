//! What the submitter does for one task: the actions of its [`Kept`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aiopool::{TaskError, TaskOptions, remote};
use bytes::Bytes;

use super::groups::Item;
use super::{AGAIN, Event, Keeper, Out, Outcome, Submission};
use crate::blob::{Blob, Side};
use crate::counts::Counts;
use crate::crash::{self, Point};
use crate::error::{ClusterError, Error};
use crate::link::{self, Stored, Swap};
use crate::protocol::{Allowed, Ending, Group, Kept, KeptAction, KeptEvent, Word};
use crate::wire::{self, Body, Function, Hint, Queued, Tail, Written};

impl Keeper {
    pub(super) fn submit(&mut self, submission: Submission) {
        let Submission { n, function, build, input, options, to } = submission;
        let items = vec![Item::new(n, input, to)];
        self.begin_task(n, function, build, options, items, false);
    }

    /// Begins a word: of one task, or of the items of a group.
    pub(super) fn begin_task(
        &mut self,
        n: u64,
        function: Function,
        build: String,
        options: TaskOptions,
        mut items: Vec<Item>,
        group: bool,
    ) {
        let limits = remote::limits(&options);
        let class = limits.priority.min(wire::CLASSES - 1);
        let tail = Tail { class, build, job: self.claim.job, n };
        let input = match items.first_mut() {
            // It goes with the message, which is kept.
            Some(item) if !group => std::mem::take(&mut item.input),
            _ => Bytes::new(),
        };
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
            group,
            input: body,
        };
        let begin = if self.claim.is_resumed() { Kept::resume } else { Kept::submit };
        // Where a predicate decides, it is asked before the outcome is told: see `judged`.
        let on_error = limits.retry_on_error || judges;
        let allowed = Allowed { attempts: limits.attempts, on_error, on_timeout };
        let (kept, actions) = begin(allowed);
        items.iter().for_each(|item| self.chunks.submitted(item.n));
        let group = group.then(|| Group::of(items.len() as u32));
        self.out.insert(
            n,
            Out {
                kept,
                tail,
                queued,
                options,
                allowed,
                items,
                group,
                whole: None,
                newest: None,
                verdict: None,
                holder: None,
                sent: 0,
                refusal: String::new(),
                since: Instant::now(),
                quiet: false,
                running: 0,
            },
        );
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
        out.count_running(&self.counts);
        if out.kept.word().seq() != before {
            (out.since, out.quiet) = (Instant::now(), false);
        }
        if self.held_back.contains(&n) && self.ends_here(n) {
            return;
        }
        self.act(n, actions);
    }

    /// Ends a task that is to end, if the server has nothing of it: nobody else knows of it then.
    fn ends_here(&mut self, n: u64) -> bool {
        let unsent = self.out.get(&n).filter(|out| out.sent == 0);
        let error = match unsent.and_then(|out| out.kept.wish()) {
            None => return false,
            Some(Ending::Expired) => self.expired(n),
            Some(_) => TaskError::Cancelled.into(),
        };
        self.deliver(n, Err(error));
        true
    }

    pub(super) fn act(&mut self, n: u64, actions: Vec<KeptAction>) {
        for action in actions {
            let Some(out) = self.out.get_mut(&n) else { return };
            match action {
                KeptAction::Submit => self.send_first(n),
                KeptAction::Requeue { expected, attempt } => {
                    // The same attempt may be sent more than once.
                    if attempt > out.queued.attempt {
                        self.counts.retries.fetch_add(out.open(), Ordering::Relaxed);
                    }
                    out.queued.attempt = attempt;
                    out.renew_input();
                    self.queue(n, expected);
                }
                KeptAction::Decide { expected, attempt, ending } => {
                    let (node, nonce, result) = (String::new(), 0, Err(Bytes::new()));
                    let item = out.queued.item;
                    let longest = 0;
                    let written =
                        Written::Outcome { node, nonce, attempt, item, ending, longest, result };
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
                KeptAction::DeliverRefused => {
                    let text = format!("the server refused the task: {}", out.refusal);
                    self.deliver(n, Err(ClusterError::Ended(Error::Server(text))));
                }
            }
        }
    }

    /// Sends the first message of a word, unless there is no room or it is to end.
    fn send_first(&mut self, n: u64) {
        // It may be, since the upload, the reading, or the pause after a refusal.
        if self.ends_here(n) {
            return;
        }
        let Some(out) = self.out.get_mut(&n) else { return };
        out.renew_input();
        if out.sent > 0 || self.has_room(n) {
            self.queue(n, 0);
        } else if self.spent > 0 {
            // There may be room for more than the share was.
            self.look_at_space(Duration::ZERO);
        }
    }

    pub(super) fn queue(&mut self, n: u64, expected: u64) {
        let Some(out) = self.out.get_mut(&n) else { return };
        out.sent = out.sent.saturating_add(1);
        let point = if expected == 0 { Point::S1 } else { Point::S2 };
        let subject = self.link.names.queue(&out.tail);
        let payload = wire::encode(&out.queued);
        self.send(n, Some(point), subject, expected, payload);
    }

    fn send(
        &mut self,
        n: u64,
        point: Option<Point>,
        subject: String,
        expected: u64,
        payload: Bytes,
    ) {
        let Some(out) = self.out.get(&n) else { return };
        let known = self.asks.swap(n, subject, &out.tail, expected, payload);
        if let Some(point) = point {
            crash::published(point, &self.link.client);
        }
        if let Some((n, swap)) = known {
            self.later(swap.pause(), Event::Sent(n, swap));
        }
    }

    /// Takes what became of a swap, at once or after a pause.
    pub(super) fn swapped(&mut self, answer: Option<(u64, Swap)>) {
        let Some((n, swap)) = answer else { return };
        let pause = swap.pause();
        if pause.is_zero() {
            self.take(Event::Sent(n, swap));
        } else {
            self.later(pause, Event::Sent(n, swap));
        }
    }

    pub(super) fn read(&self, n: u64, pause: Duration) {
        let Some(out) = self.out.get(&n) else { return };
        let (link, tail, events) = (self.link.clone(), out.tail.clone(), self.events.clone());
        tokio::spawn(async move {
            link::pause(pause).await;
            let _ = events.send(Event::Word(n, link.word(&tail).await));
        });
    }

    /// Takes what the collector brought.
    pub(super) fn saw(&mut self, stored: Stored) {
        // The collector brings nothing but this job's.
        let Some(n) = wire::number(&stored.subject) else { return };
        if self.out.get(&n).is_some_and(|out| out.tail.is_of(&stored.subject)) {
            self.look(n, Some(stored), false);
        }
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
        let Some(Written::Outcome { node, attempt, ending, longest, result, .. }) = written else {
            let text = "an outcome that cannot be read".to_owned();
            return self.deliver(n, Err(TaskError::Corrupt(text).into()));
        };
        self.learn(n, longest);
        let node = if wire::is_token(&node) { node } else { String::new() };
        let group = out.group.is_some();
        if !group {
            self.count(&node, 1);
        }
        let Some(out) = self.out.get(&n) else { return };
        let bytes = match result {
            // What is open after all was given back too often.
            Ok(Body::Inline(_)) if group => {
                return self.deliver(n, Err(ClusterError::NotStarted(node)));
            }
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
            Ending::Expired => self.expired(n),
            Ending::NotStarted if bytes.is_empty() => ClusterError::NotStarted(node),
            Ending::NotStarted => {
                let reason = remote::error_from_bytes(&bytes);
                ClusterError::NotStarted(format!("{node}: {reason}"))
            }
            Ending::NodeLost => {
                let silent = |held: &(String, u128)| {
                    self.watched.get(held).map_or(Duration::ZERO, |w| w.seen.elapsed())
                };
                let silent_for = out.holder.as_ref().map_or(Duration::ZERO, silent);
                let node = out.holder.as_ref().map_or(node, |held| held.0.clone());
                ClusterError::NodeLost { node, attempt, silent_for }
            }
            _ => self.error_of(n, &bytes),
        };
        self.deliver(n, Err(error));
    }

    /// The error of a task that has waited for a node too long.
    fn expired(&self, n: u64) -> ClusterError {
        let limits = self.out.get(&n).map(|out| remote::limits(&out.options));
        let limit = limits.and_then(|limits| limits.queue_ttl).unwrap_or_default();
        TaskError::TimedOut { limit, started: false }.into()
    }

    /// The error that a node wrote.
    pub(super) fn error_of(&self, n: u64, bytes: &[u8]) -> ClusterError {
        match (remote::error_from_bytes(bytes), self.out.get(&n)) {
            (TaskError::WorkerLost(mut lost), Some(out)) => {
                // The node knows of its own attempt only.
                lost.attempts_allowed = remote::limits(&out.options).attempts;
                TaskError::WorkerLost(lost).into()
            }
            (error, _) => error.into(),
        }
    }

    /// Counts outcomes of a node.
    pub(super) fn count(&self, node: &str, outcomes: u64) {
        // Any text may stand in an outcome, and these are shown.
        if !wire::is_token(node) {
            return;
        }
        if let Ok(mut by_node) = self.by_node.lock() {
            match by_node.get_mut(node) {
                Some(count) => *count += outcomes,
                None => drop(by_node.insert(node.to_owned(), outcomes)),
            }
        }
    }

    /// Has the node that holds a task look at its word now; by itself it does so later.
    pub(super) fn hint(&self, n: u64) {
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
        let attempts = out.kept.word().attempt();
        let counts = &self.counts;
        out.items.iter_mut().for_each(|item| item.tell(outcome.clone(), attempts, counts));
        out.count_running(counts);
        let mut full = false;
        for item in &out.items {
            self.leaders.remove(&item.n);
            self.ended.insert(item.n);
            if let Some(chunk) = self.chunks.over(item.n) {
                self.parked.push(chunk);
                full = true;
            }
        }
        if full {
            self.unpark();
        }
    }

    /// Ends every handle's wait.
    pub(super) fn deliver_all(&mut self, error: impl Fn() -> ClusterError) {
        let counts = &self.counts;
        for out in self.out.values_mut() {
            let attempts = out.kept.word().attempt();
            out.items.iter_mut().for_each(|item| item.tell(Err(error()), attempts, counts));
            out.count_running(counts);
        }
        // Whose nodes are to be told of the job's end is still known from `watched`.
        self.out.clear();
        self.leaders.clear();
    }

    /// The tasks whose newest word is a claim, with who holds them.
    pub(super) fn holders(&self) -> impl Iterator<Item = &(String, u128)> {
        let claimed = |out: &&Out| matches!(out.kept.word(), Word::Claimed { .. });
        self.out.values().filter(claimed).filter_map(|out| out.holder.as_ref())
    }
}

impl Out {
    /// Counts the items without an outcome as running where a node has claimed them.
    pub(super) fn count_running(&mut self, counts: &Counts) {
        let claimed = matches!(self.kept.word(), Word::Claimed { .. });
        let running = if claimed { self.open() } else { 0 };
        counts.running.fetch_add(running, Ordering::Relaxed);
        counts.running.fetch_sub(self.running, Ordering::Relaxed);
        self.running = running;
    }

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
            Self::Won(_) | Self::Refused(_) | Self::Broken(_) => Duration::ZERO,
        }
    }
}
