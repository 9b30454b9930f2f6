//! Several items under one word: which of them are open at their submitter.

use super::kept::Allowed;
use super::word::Ending;

/// The items of one word that have no outcome yet, by their places among all of its items.
///
/// The word itself goes through the same changes as that of a single task. What it is sent with is
/// the items that are open then, and an item that is over is never sent again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    open: Vec<u32>,
}

impl Group {
    /// Makes a group of this number of items.
    #[must_use]
    pub fn of(items: u32) -> Self {
        Self { open: (0..items).collect() }
    }

    /// Returns the items that are open, in order.
    #[must_use]
    pub fn open(&self) -> &[u32] {
        &self.open
    }

    /// Takes an item out: its caller wants no outcome any more. Returns whether it was open.
    pub fn give_up(&mut self, item: u32) -> bool {
        let before = self.open.len();
        self.open.retain(|open| *open != item);
        self.open.len() < before
    }

    /// Takes what an attempt of the group ended with, item by item. `again` says whether the caller
    /// wants another attempt of an item, where one is left.
    ///
    /// Returns the items that are over now, and the ending that stands for the group: a final one
    /// where none is left open, that of an item which is to be tried again, or
    /// [`Ending::NotStarted`] where no code of any open item ran.
    pub fn ended(
        &mut self,
        allowed: Allowed,
        attempt: u32,
        endings: &[(u32, Ending)],
        mut again: impl FnMut(u32) -> bool,
    ) -> (Vec<u32>, Ending) {
        let (mut over, mut open, mut whole) = (Vec::new(), Vec::new(), Ending::Final);
        for &item in &self.open {
            let ending = endings.iter().find(|(of, _)| *of == item).map(|(_, ending)| *ending);
            match ending {
                Some(Ending::NotStarted) => {
                    open.push(item);
                    if whole == Ending::Final {
                        whole = Ending::NotStarted;
                    }
                }
                Some(ending) if allowed.may_follow(attempt, ending) && again(item) => {
                    open.push(item);
                    whole = ending;
                }
                // Also one of which the outcome says nothing: it was in the message that ran.
                _ => over.push(item),
            }
        }
        self.open = open;
        (over, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed { attempts: 2, on_error: true, on_timeout: false };

    #[test]
    fn what_may_be_tried_again_stays_open_and_the_rest_is_over_once() {
        let mut group = Group::of(4);
        assert!(group.give_up(3) && !group.give_up(3));
        let endings = [(0, Ending::Final), (1, Ending::Failed), (2, Ending::TimedOut)];
        let ended = group.ended(ALLOWED, 1, &endings, |_| true);
        assert_eq!(ended, (vec![0, 2], Ending::Failed));
        assert_eq!(group.open(), [1]);
        assert_eq!(group.ended(ALLOWED, 2, &endings, |_| true), (vec![1], Ending::Final));
        assert!(group.open().is_empty());
    }

    #[test]
    fn a_caller_that_wants_no_other_attempt_has_the_error() {
        let mut group = Group::of(2);
        let endings = [(0, Ending::Failed), (1, Ending::WorkerLost)];
        let ended = group.ended(ALLOWED, 1, &endings, |item| item == 1);
        assert_eq!(ended, (vec![0], Ending::WorkerLost));
    }

    #[test]
    fn items_that_no_code_ran_of_use_no_attempt_up() {
        let mut group = Group::of(3);
        let endings = [(0, Ending::Final), (1, Ending::NotStarted), (2, Ending::NotStarted)];
        let ended = group.ended(ALLOWED, 2, &endings, |_| true);
        assert_eq!(ended, (vec![0], Ending::NotStarted));
        assert_eq!(group.open(), [1, 2]);
    }
}
