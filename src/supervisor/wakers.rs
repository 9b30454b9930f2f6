//! The wakers of futures that wait for a change in the life of a pool.
#![forbid(unsafe_code)]

use std::task::Waker;

/// The wakers of the futures that wait, each under a number of its own.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    wakers: Vec<(u64, Waker)>,
    last: u64,
}

impl Wakers {
    /// Keeps `waker` until the next change under `number`, or under a new one, which is returned.
    pub(super) fn keep(&mut self, number: Option<u64>, waker: &Waker) -> u64 {
        let number = number.unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        match self.wakers.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.clone_from(waker),
            None => self.wakers.push((number, waker.clone())),
        }
        number
    }

    /// Returns all wakers, which are to be woken without a lock. Their futures keep them again.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.wakers.drain(..).map(|(_, waker)| waker).collect()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Waker> {
        let at = self.wakers.iter().position(|(known, _)| *known == number)?;
        Some(self.wakers.swap_remove(at).1)
    }
}
