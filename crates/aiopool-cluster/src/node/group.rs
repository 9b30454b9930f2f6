//! The items of a group at a node: handed to the pool a few at a time, reported together.

use aiopool::TaskError;
use bytes::Bytes;

use super::agent::Agent;
use super::hands::Held;
use crate::protocol::Ending;
use crate::wire::{self, Ended, Input};

/// Items of one group that the pool has at once where its places are taken: the next one waits at a
/// worker when one ends, and the others of the group leave the pool's places to other groups.
const AHEAD: usize = 2;

/// A group whose items run.
#[derive(Debug)]
pub(super) struct Running {
    items: Vec<Input>,
    /// The first that was not handed to the pool.
    next: usize,
    /// Items that the pool has.
    out: usize,
    ended: Vec<Ended>,
    /// Whether nothing more is begun.
    stopped: bool,
}

impl Running {
    /// Reads the items of a group's message.
    pub(super) fn read(input: &[u8]) -> Option<Self> {
        let items: Vec<Input> = wire::decode(input)?;
        let ended = Vec::with_capacity(items.len());
        Some(Self { items, next: 0, out: 0, ended, stopped: false })
    }

    /// Begins nothing more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// The next item that the pool is to have, if it has less than `most` of them.
    fn take_next(&mut self, most: usize) -> Option<Input> {
        if self.stopped || self.out >= most {
            return None;
        }
        let item = self.items.get(self.next)?.clone();
        self.next += 1;
        self.out += 1;
        Some(item)
    }

    /// What became of every item, once nothing of the group runs or is to run.
    fn outcome(&mut self) -> Option<Bytes> {
        if self.out > 0 || (self.next < self.items.len() && !self.stopped) {
            return None;
        }
        // No code of these was handed to a worker.
        let left = self.items[self.next..].iter();
        self.ended.extend(left.map(|item| (item.0, Ending::NotStarted, Err(Bytes::new()))));
        Some(wire::encode(&self.ended))
    }
}

impl Agent {
    /// Hands items of a group to the pool, or has the outcome sent when all have ended.
    pub(super) fn go_on(&mut self, id: u64) {
        loop {
            let most = if self.has_free_places() { usize::MAX } else { AHEAD };
            let Some(held) = self.held.get_mut(&id) else { return };
            let Some(group) = &mut held.group else { return };
            let Some((at, input)) = group.take_next(most) else { break };
            if !self.run(id, at, input) {
                // There is no pool any more: this life ends, and the submitter learns of it.
                return;
            }
        }
        let outcome = self.held.get_mut(&id).and_then(|held| held.group.as_mut()?.outcome());
        if let Some(list) = outcome {
            self.report_value(id, list);
        }
    }

    /// Whether the pool runs less than it has places for.
    fn has_free_places(&self) -> bool {
        self.runs.len() + self.backlog.len() < self.places()
    }

    /// Gives places that are free to groups that have items left.
    pub(super) fn fill(&mut self) {
        if !self.has_free_places() {
            return;
        }
        let has_more = |held: &&Held| {
            held.group
                .as_ref()
                .is_some_and(|group| !group.stopped && group.next < group.items.len())
        };
        let waiting = self.held.iter().filter(|(_, held)| has_more(held)).map(|(&id, _)| id);
        for id in waiting.collect::<Vec<u64>>() {
            self.go_on(id);
        }
    }

    /// Takes the end of one item.
    pub(super) fn item_ended(
        &mut self,
        id: u64,
        at: u32,
        ending: Ending,
        result: Result<Bytes, TaskError>,
    ) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(group) = &mut held.group else { return };
        group.out -= 1;
        let result = result.map_err(|error| aiopool::remote::error_to_bytes(&error).into());
        group.ended.push((at, ending, result));
        if ending == Ending::NotStarted {
            group.stop();
        }
        self.go_on(id);
    }
}
