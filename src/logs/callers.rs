//! The spans in which tasks were submitted, so that what a task logs is within its caller's span.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::Span;
use tracing::span::Id;

use crate::sync::lock;

/// Most tasks whose spans are known. A pool has fewer pending tasks; records of a task that is over
/// may still be on their way for as long as a thousand others take.
const MOST: usize = 1 << 16;

/// The callers' spans, by the low 31 bits of the tasks' numbers, as records have them.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    known: Mutex<Known>,
    /// Pending tasks whose caller was in a span: most pools have none.
    pending: AtomicUsize,
    /// Each task gets a span of its own, within its caller's.
    of_tasks: bool,
}

#[derive(Debug, Default)]
struct Known {
    callers: HashMap<u32, Caller>,
    /// The same tasks, as they were submitted.
    order: VecDeque<u32>,
}

#[derive(Debug)]
enum Caller {
    /// The task is pending: a span that is open as long, and the caller's.
    Pending(Span, Option<Id>),
    /// The task is over. Its caller may have closed the span.
    Over(Id),
}

fn key(task: u64) -> u32 {
    task as u32 & (u32::MAX >> 1)
}

impl Callers {
    /// Keeps callers' spans, and opens one of each task in them if `of_tasks` says so.
    pub(super) fn new(of_tasks: bool) -> Self {
        Self { of_tasks, ..Self::default() }
    }

    /// Remembers the span that the calling thread is in, if it is in one, for a new task.
    pub(crate) fn submitted(&self, task: u64) {
        let mut span = Span::current();
        if span.is_none() {
            return;
        }
        let caller = span.id();
        if self.of_tasks {
            let own = tracing::info_span!(target: "aiopool::task", parent: &span, "task", task);
            // The subscriber may want none.
            span = if own.is_none() { span } else { own };
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        let mut known = lock(&self.known);
        if known.order.len() >= MOST
            && let Some(oldest) = known.order.pop_front()
            && let Some(Caller::Pending(..)) = known.callers.remove(&oldest)
        {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        known.callers.insert(key(task), Caller::Pending(span, caller));
        known.order.push_back(key(task));
    }

    /// Lets go of the span of a task that is over.
    pub(crate) fn over(&self, task: u64) {
        if self.pending.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut known = lock(&self.known);
        let Some(caller) = known.callers.get_mut(&key(task)) else { return };
        let Caller::Pending(_, of_caller) = caller else { return };
        let Some(id) = of_caller.take() else { return };
        let closes_after_the_lock = std::mem::replace(caller, Caller::Over(id));
        drop(known);
        self.pending.fetch_sub(1, Ordering::Relaxed);
        drop(closes_after_the_lock);
    }

    /// Returns the span of a task's caller.
    pub(super) fn of(&self, task: u32) -> Option<Id> {
        match lock(&self.known).callers.get(&task)? {
            Caller::Pending(span, _) => span.id(),
            Caller::Over(id) => Some(id.clone()),
        }
    }
}
