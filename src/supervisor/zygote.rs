//! The watch over the zygote: whether it answers orders.
#![forbid(unsafe_code)]

use crate::launch::{Launcher, SECOND, Silence};

use super::crew::Crew;
use super::shared::Shared;
use crate::view::Kind;

/// Zygotes in a row that are lost before a worker can take tasks, after which the pool fails.
const MAX_LOST: u32 = 3;

/// What the supervisor knows of the pool's zygote.
#[derive(Debug, Default)]
pub(super) struct Zygote {
    silence: Silence,
    /// When the next second without an answer is over; `None` while no answer is overdue.
    next: Option<u64>,
    /// Zygotes lost since a worker could take tasks.
    lost: u32,
}

impl Zygote {
    /// A worker can take tasks.
    pub(super) fn proved(&mut self) {
        self.lost = 0;
    }

    /// Another zygote takes over.
    pub(super) fn succeeded(&mut self) {
        *self = Self { lost: self.lost + 1, ..Self::default() };
    }

    /// Returns whether another zygote may be tried.
    pub(super) fn may_be_followed(&self) -> bool {
        self.lost < MAX_LOST
    }

    /// Z14: counts the seconds in which it does not answer an order of the pool.
    pub(super) fn watch(&mut self, now: u64, crew: &Crew, launcher: &Launcher, pool: &Shared) {
        match self.next(crew) {
            None => (self.silence, self.next) = (Silence::default(), None),
            Some(due) if due > now => {}
            Some(_) => {
                self.next = Some(now.saturating_add(SECOND.as_nanos() as u64));
                launcher.another_silent_second(&mut self.silence, pool.id);
                if let Some(text) = self.silence.take_word() {
                    pool.common.events.note(Kind::ForkServer, None, text);
                }
            }
        }
    }

    /// When [`watch`](Self::watch) has something to do next.
    pub(super) fn next(&self, crew: &Crew) -> Option<u64> {
        let orders = crew.workers().filter(|worker| worker.process.is_none());
        let oldest = orders.map(|worker| worker.ordered_ns).min()?;
        Some(self.next.unwrap_or(oldest.saturating_add(SECOND.as_nanos() as u64)))
    }
}
