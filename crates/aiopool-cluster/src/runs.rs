//! How long the runs of functions take, as nodes have measured them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::wire::Function;

/// About how long the late runs of each function took.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<HashMap<Function, Duration>>);

/// What the items of a group may take together: so much later than by itself an item may begin, and
/// so much work may end with its node.
const TOGETHER: Duration = Duration::from_millis(20);

/// Functions that are remembered: more than that are names that a program makes up as it goes.
const FUNCTIONS: usize = 1_024;

impl Runs {
    /// Takes note of the longest run of a message. A longer one than was expected moves the
    /// expectation by a quarter of the difference, a shorter one by an eighth: one that the machine
    /// has held up for a moment does not have every item go by itself, and one that is much longer
    /// does, for some twenty.
    pub(crate) fn saw(&self, function: &Function, took: Duration) {
        let Ok(mut runs) = self.0.lock() else { return };
        if let Some(expected) = runs.get_mut(function) {
            if took > *expected {
                *expected += (took - *expected) / 4;
            } else {
                *expected -= (*expected - took) / 8;
            }
        } else {
            if runs.len() >= FUNCTIONS {
                runs.clear();
            }
            runs.insert(function.clone(), took);
        }
    }

    /// How many items of a function go into one message, of at most `most`; 1 where nothing is
    /// known of it.
    pub(crate) fn fit(&self, function: &Function, most: usize) -> usize {
        let Ok(runs) = self.0.lock() else { return 1 };
        let Some(expected) = runs.get(function) else { return 1 };
        let fit = TOGETHER.as_nanos() / expected.as_nanos().max(1);
        usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_runs_go_together_and_a_long_one_is_forgotten_in_time() {
        let (runs, function) = (Runs::default(), Function::Place(1));
        assert_eq!(runs.fit(&function, 64), 1, "nothing is known");
        runs.saw(&function, Duration::from_micros(100));
        assert_eq!(runs.fit(&function, 64), 64);
        assert_eq!(runs.fit(&function, 1), 1, "the caller wants none");
        runs.saw(&function, Duration::from_millis(30));
        assert_eq!(runs.fit(&function, 64), 2, "the machine may have held it up");
        runs.saw(&function, Duration::from_millis(200));
        assert_eq!(runs.fit(&function, 64), 1);
        (0..20).for_each(|_| runs.saw(&function, Duration::from_micros(100)));
        assert!((3..64).contains(&runs.fit(&function, 64)));
        assert_eq!(runs.fit(&Function::Place(2), 64), 1);
    }
}
