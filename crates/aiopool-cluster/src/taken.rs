//! Which outcomes of a durable job its caller has taken.

use std::collections::BTreeSet;

/// Task numbers: all below a mark, and some beyond it.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    below: u64,
    beyond: BTreeSet<u64>,
}

impl From<u64> for Taken {
    fn from(below: u64) -> Self {
        Self { below, beyond: BTreeSet::new() }
    }
}

impl Taken {
    /// Returns the mark: the outcomes of all tasks below it were taken.
    pub(crate) fn below(&self) -> u64 {
        self.below
    }

    /// Takes note of one task.
    pub(crate) fn add(&mut self, n: u64) {
        if n >= self.below {
            self.beyond.insert(n);
        }
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Taken;

    #[test]
    fn the_mark_moves_over_what_is_taken_without_a_gap() {
        let mut taken = Taken::from(5);
        [6, 8, 2, 5].into_iter().for_each(|n| taken.add(n));
        assert_eq!(taken.below(), 7);
        taken.add(7);
        assert_eq!(taken.below(), 9);
    }
}
