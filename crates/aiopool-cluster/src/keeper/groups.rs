//! Several items under one word: what the submitter does for each of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use aiopool::{TaskError, remote};
use bytes::Bytes;

use super::{Event, Keeper, Out, Outcome, Recipient, Submission};
use crate::counts::Counts;
use crate::error::ClusterError;
use crate::link::{Stored, word_of};
use crate::protocol::{Ending, KeptEvent, Word};
use crate::wire::{self, Body, Ended, Input, Written};

/// An item and its handle. A task of its own is one item.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) n: u64,
    /// What is sent again in another attempt of a group.
    pub(super) input: Bytes,
    /// None once the handle has its outcome.
    to: Option<Recipient>,
}

impl Item {
    pub(super) fn new(n: u64, input: Bytes, to: Recipient) -> Self {
        Self { n, input, to: Some(to) }
    }

    /// Gives the handle its outcome, once, and the number of attempts that were made.
    pub(super) fn tell(&mut self, outcome: Outcome, attempts: u32, counts: &Counts) {
        if let Some(Recipient { handle, _room: room }) = self.to.take() {
            counts.came(&outcome);
            // First: a caller that the outcome wakes may submit the next task at once.
            drop(room);
            let _ = handle.send((outcome, attempts));
        }
    }
}

impl Out {
    /// How many of the items have no outcome.
    pub(super) fn open(&self) -> u64 {
        self.items.iter().filter(|item| item.to.is_some()).count() as u64
    }

    /// The input of the next message: the items that are open.
    fn open_items(&self) -> Option<Body> {
        let open = self.group.as_ref()?.open().iter();
        let input = |&at: &u32| Some((at, self.items.get(at as usize)?.input.clone()));
        let list: Vec<Input> = open.filter_map(input).collect();
        Some(Body::Inline(wire::encode(&list)))
    }

    /// Has the next message carry what is open.
    pub(super) fn renew_input(&mut self) {
        if let Some(input) = self.open_items() {
            self.queued.input = input;
        }
    }

    /// What the outcome of number `seq` says of each item, if that is the newest message, and which
    /// node says it.
    fn list(&self, seq: u64) -> Option<(String, Vec<Ended>)> {
        let newest = self.newest.as_ref().filter(|newest| newest.seq == seq)?;
        let Written::Outcome { node, result: Ok(Body::Inline(list)), .. } =
            wire::decode(&newest.payload)?
        else {
            return None;
        };
        Some((node, wire::decode(&list)?))
    }

    /// Whether the caller wants another attempt after this error.
    fn wants_another(&self, result: &Result<Bytes, Bytes>) -> bool {
        let (Some(predicate), Err(bytes)) = (remote::predicate(&self.options), result) else {
            return true;
        };
        let error = remote::error_from_bytes(bytes);
        catch_unwind(AssertUnwindSafe(|| predicate(&error))).unwrap_or_else(|_| {
            tracing::error!(task = self.tail.n, "a predicate of `retry_if` panicked");
            false
        })
    }
}

impl Keeper {
    /// Submits items of one function with the same options under one word.
    pub(super) fn submit_group(&mut self, submissions: Vec<Submission>) {
        let mut items = Vec::with_capacity(submissions.len());
        let mut first = None;
        for Submission { n, function, build, input, options, to } in submissions {
            items.push(Item::new(n, input, to));
            first.get_or_insert((n, function, build, options));
        }
        let Some((leader, function, build, options)) = first else { return };
        for item in &items[1..] {
            self.leaders.insert(item.n, leader);
        }
        self.begin_task(leader, function, build, options, items, true);
    }

    /// The word that an item is under.
    pub(super) fn leader(&self, n: u64) -> u64 {
        self.leaders.get(&n).copied().unwrap_or(n)
    }

    /// Calls an item off: of a group, the item alone, and the group with its last one.
    pub(super) fn cancel(&mut self, n: u64) {
        let leader = self.leader(n);
        let Some(out) = self.out.get_mut(&leader) else { return };
        if let Some(group) = &mut out.group {
            let Ok(at) = out.items.binary_search_by_key(&n, |item| item.n) else { return };
            group.give_up(at as u32);
            let attempts = out.kept.word().attempt();
            out.items[at].tell(Err(TaskError::Cancelled.into()), attempts, &self.counts);
            let others = !group.open().is_empty();
            out.count_running(&self.counts);
            if others {
                return;
            }
        }
        self.tell(leader, KeptEvent::Cancel);
    }

    /// Takes a message of a task that was read from the stream's leader, or that came by.
    pub(super) fn look(&mut self, n: u64, stored: Option<Stored>, read: bool) {
        if !self.is_same_item(n, stored.as_ref()) {
            return self.deliver(n, Err(ClusterError::ItemsChanged { n }));
        }
        let Some(out) = self.out.get_mut(&n) else { return };
        if let Some(stored) = &stored {
            if out.group.is_some() && stored.seq < out.newest.as_ref().map_or(0, |n| n.seq) {
                // Older than what is known: of a group only the newest message says what is open.
                if read {
                    self.read(n, super::AGAIN);
                }
                return;
            }
            if self.fetch_list(n, stored, read) {
                return;
            }
            if let Some(out) = self.out.get_mut(&n) {
                out.see(stored);
            }
        }
        let word = self.judged(n, word_of(stored));
        let event = if read { KeptEvent::Read(word) } else { KeptEvent::Saw(word) };
        self.tell(n, event);
    }

    /// Fetches what decides about another attempt where it is large, the list of a group's outcome or
    /// an error; the message is looked at again when it is there.
    fn fetch_list(&mut self, n: u64, stored: &Stored, read: bool) -> bool {
        let Some(Written::Outcome { node, nonce, attempt, item, ending, longest, result }) =
            wire::decode(&stored.payload)
        else {
            return false;
        };
        let Ok(Body::Blob(blob)) = result else { return false };
        let is_list = self.out.get(&n).is_some_and(|out| out.group.is_some());
        if !is_list && !ending.allows_retry() {
            return false;
        }
        self.has_blobs = true;
        let (link, job, events) = (self.link.clone(), self.claim.job, self.events.clone());
        let mut stored = stored.clone();
        tokio::spawn(async move {
            let lost = |reason| TaskError::Corrupt(format!("a large value: {reason}"));
            let result = match link.fetch_blob(job, n, &blob).await {
                Ok(list) if is_list => Ok(Body::Inline(list)),
                Ok(error) => Err(error),
                Err(reason) => Err(remote::error_to_bytes(&lost(reason)).into()),
            };
            let written = Written::Outcome { node, nonce, attempt, item, ending, longest, result };
            stored.payload = wire::encode(&written);
            let _ = events.send(Event::Looked(n, stored, read));
        });
        true
    }

    /// What a word means for the task: where a caller's predicate or the items of a group decide
    /// what follows an outcome, its ending is what they say. Items that are over have their outcome
    /// after this.
    fn judged(&mut self, n: u64, word: Word) -> Word {
        let Some(out) = self.out.get_mut(&n) else { return word };
        let Word::Done { seq, attempt, .. } = word else { return word };
        if out.group.is_none() {
            return out.judged(word);
        }
        let ending = match out.whole {
            Some((of, whole)) if of == seq => whole,
            _ => {
                // An outcome of the submitter's own, or an error in place of the list.
                let Some((node, list)) = out.list(seq) else { return word };
                let ending = self.take_list(n, attempt, &node, &list);
                if let Some(out) = self.out.get_mut(&n) {
                    out.whole = Some((seq, ending));
                }
                ending
            }
        };
        Word::Done { seq, attempt, ending }
    }

    /// Gives the items that are over by an attempt's outcome to their handles.
    fn take_list(&mut self, n: u64, attempt: u32, node: &str, list: &[Ended]) -> Ending {
        let Some(out) = self.out.get_mut(&n) else { return Ending::Final };
        let Some(mut group) = out.group.take() else { return Ending::Final };
        let allowed = out.allowed;
        let endings: Vec<(u32, Ending)> = list.iter().map(|ended| (ended.0, ended.1)).collect();
        let result_of = |at: u32| list.iter().find(|ended| ended.0 == at).map(|ended| &ended.2);
        let again = |at: u32| result_of(at).is_none_or(|result| out.wants_another(result));
        let (over, whole) = group.ended(allowed, attempt, &endings, again);
        let mut results: Vec<(u32, Outcome)> = Vec::with_capacity(over.len());
        for at in over {
            results.push((
                at,
                match result_of(at) {
                    Some(Ok(bytes)) => Ok(bytes.clone()),
                    Some(Err(bytes)) => Err(self.error_of(n, bytes)),
                    None => {
                        Err(TaskError::Corrupt("an outcome without this item".to_owned()).into())
                    }
                },
            ));
        }
        let Some(out) = self.out.get_mut(&n) else { return whole };
        out.group = Some(group);
        let count = results.len() as u64;
        for (at, result) in results {
            if let Some(item) = out.items.get_mut(at as usize) {
                item.tell(result, attempt, &self.counts);
            }
        }
        self.count(node, count);
        whole
    }

    /// Takes note of how long a function's runs take, for the maps that follow.
    pub(super) fn learn(&self, n: u64, longest: u32) {
        let Some(out) = self.out.get(&n) else { return };
        if !self.claim.durable && longest > 0 {
            self.runs.saw(&out.queued.function, Duration::from_micros(longest.into()));
        }
    }
}
