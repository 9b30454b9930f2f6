//! The last notable events of a pool.

use std::collections::VecDeque;
use std::sync::{Mutex, TryLockError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cut::shortened;
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;

/// Events that are kept: enough to scroll through, and some tens of kilobytes.
const KEPT: usize = 256;
/// Bytes of an event's text that are kept.
const MAX_TEXT: usize = 512;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A worker has died.
    Death,
    /// The pool has killed a worker because a task did not obey its deadline.
    KilledForDeadline,
    /// The pool has killed a worker because it had damaged shared memory.
    KilledForDamage,
    /// A worker was replaced after `max_tasks_per_child`, or when it was asked to retire.
    Recycle,
    /// A poll has lasted longer than [`blocked_after`](crate::PoolBuilder::blocked_after).
    Blocked,
    /// A task has missed its deadline.
    Timeout,
    /// A task was given up because workers died that ran it.
    PoisonTask,
    /// Shared memory held what no correct worker writes.
    Damage,
    /// An initializer has failed, or has not returned in time.
    InitializerFailed,
    /// A worker could not be forked.
    ForkFailed,
    /// The fork server has not answered for a second, was killed for that, or was replaced.
    ForkServer,
    /// The pool has failed.
    PoolFailed,
}

impl Kind {
    /// Returns what it is called in snapshots and timelines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Death => "death",
            Self::KilledForDeadline => "killed_for_deadline",
            Self::KilledForDamage => "killed_for_damage",
            Self::Recycle => "recycle",
            Self::Blocked => "blocked",
            Self::Timeout => "timeout",
            Self::PoisonTask => "poison_task",
            Self::Damage => "damage",
            Self::InitializerFailed => "initializer_failed",
            Self::ForkFailed => "fork_failed",
            Self::ForkServer => "fork_server",
            Self::PoolFailed => "pool_failed",
        }
    }
}

/// An event, and when it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventView {
    /// Its number, from 1; gaps are events that were not kept.
    pub number: u64,
    /// What has happened.
    pub kind: Kind,
    /// Nanoseconds since.
    pub age_ns: u64,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The worker's seat, if it is about one.
    pub worker: Option<u32>,
    /// The worker's process id, likewise.
    pub pid: Option<u32>,
    /// The task's number, if it is about one.
    pub task: Option<u64>,
    /// What there is to say about it.
    pub text: String,
}

/// The events of a pool, and what became of the workers on each seat.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    count: u64,
    /// Oldest first; their age is when they were, in nanoseconds.
    last: VecDeque<EventView>,
    /// Restarts by seat, and how the last worker there ended.
    seats: Vec<(u64, String)>,
}

impl Events {
    /// Takes note of what happened to a worker, on its seat and with its pid, or to none.
    pub(crate) fn note(&self, kind: Kind, worker: Option<(u32, u32)>, text: String) {
        lock(&self.0).push(kind, worker, None, text);
    }

    /// Takes note of what happened to a task. Never waits: while another thread takes note of
    /// something, only the count goes up, or not even that.
    pub(crate) fn note_task(&self, kind: Kind, task: u64, text: impl FnOnce() -> String) {
        let kept = match self.0.try_lock() {
            Ok(kept) => Some(kept),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut kept) = kept {
            kept.push(kind, None, Some(task), text());
        }
    }

    /// Takes note of the end of the worker on `seat`.
    pub(crate) fn ended(&self, seat: u32, how: &str) {
        let mut kept = lock(&self.0);
        let seat = seat as usize;
        if kept.seats.len() <= seat {
            kept.seats.resize(seat + 1, (0, String::new()));
        }
        let (restarts, last) = &mut kept.seats[seat];
        *restarts += 1;
        *last = shortened(how.to_owned(), MAX_TEXT);
    }

    /// Returns how many workers have ended on `seat`, and how the last one did.
    pub(crate) fn of_seat(&self, seat: u32) -> (u64, Option<String>) {
        match lock(&self.0).seats.get(seat as usize) {
            Some((restarts, last)) if *restarts > 0 => (*restarts, Some(last.clone())),
            _ => (0, None),
        }
    }

    /// Returns how many there were.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.0).count
    }

    /// Returns those after number `last` that are kept. Their age is when they were.
    pub(crate) fn since(&self, last: u64) -> Vec<EventView> {
        let kept = lock(&self.0);
        if kept.count == last {
            return Vec::new();
        }
        kept.last.iter().filter(|event| event.number > last).cloned().collect()
    }

    /// Returns how many there were, and the last of them as seen at `now`.
    pub(crate) fn list(&self, now: u64) -> (u64, Vec<EventView>) {
        let kept = lock(&self.0);
        let seen = |event: &EventView| EventView {
            age_ns: now.saturating_sub(event.age_ns),
            ..event.clone()
        };
        (kept.count, kept.last.iter().map(seen).collect())
    }
}

impl Kept {
    fn push(&mut self, kind: Kind, worker: Option<(u32, u32)>, task: Option<u64>, text: String) {
        self.count += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.push_back(EventView {
            number: self.count,
            kind,
            age_ns: monotonic_ns(),
            unix_ms: unix.as_millis() as u64,
            worker: worker.map(|(seat, _)| seat),
            pid: worker.map(|(_, pid)| pid).filter(|&pid| pid != 0),
            task,
            text: shortened(text, MAX_TEXT),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let events = Events::default();
        for task in 1..=300 {
            events.note_task(Kind::Timeout, task, || "ä".repeat(1000));
        }
        events.note(Kind::Death, Some((3, 77)), "gone".to_owned());
        events.ended(3, "gone");
        let (count, list) = events.list(monotonic_ns());
        assert_eq!((count, list.len()), (301, KEPT));
        assert_eq!((list[0].task, list[KEPT - 1].worker), (Some(46), Some(3)));
        assert!(list[0].text.len() < 600);
        assert_eq!(events.of_seat(3), (1, Some("gone".to_owned())));
        assert_eq!(events.of_seat(2), (0, None));
    }
}
