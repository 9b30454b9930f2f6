//! Futures that wait for a change in the life of a pool, until they are over or given up.
#![forbid(unsafe_code)]

use std::task::Waker;

use super::Shared;
use super::shared::Lifecycle;

/// The wakers of the futures that wait, each under the number of its [`Entry`].
#[derive(Debug, Default)]
pub(super) struct Wakers {
    wakers: Vec<(u64, Waker)>,
    next: u64,
}

impl Wakers {
    /// Returns all wakers, which are to be woken without a lock. The futures enter again.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.wakers.drain(..).map(|(_, waker)| waker).collect()
    }

    fn remove(&mut self, number: u64) -> Option<Waker> {
        let at = self.wakers.iter().position(|(known, _)| *known == number)?;
        Some(self.wakers.swap_remove(at).1)
    }
}

/// The place of one future among them: a program that waits for a moment again and again
/// leaves nothing behind.
pub(super) struct Entry<'s> {
    shared: &'s Shared,
    number: Option<u64>,
}

impl<'s> Entry<'s> {
    pub(super) fn of(shared: &'s Shared) -> Self {
        Self { shared, number: None }
    }

    /// Has `waker` woken at the next change.
    pub(super) fn wait(&mut self, life: &mut Lifecycle, waker: &Waker) {
        let waiting = &mut life.waiting;
        let number = *self.number.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        match waiting.wakers.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.wakers.push((number, waker.clone())),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // In a forked child a thread that is not there may hold the lock for ever.
        let Some(number) = self.number.filter(|_| self.shared.is_owner()) else { return };
        let waker = self.shared.life().waiting.remove(number);
        // The last handle of a task drops what the task has, and that may be this pool.
        drop(waker);
    }
}
