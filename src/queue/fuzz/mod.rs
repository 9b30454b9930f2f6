//! Hostile memory, in one process: words over everything that workers can write, and every reader
//! of it. A scenario is decided by bytes, which the test here draws at random and libFuzzer
//! (`fuzz/run`) grows by coverage.
//!
//! After the last damage every task has to end once, and everything has to come back.

#[cfg(test)]
mod attempts;
mod choices;
mod damage;
#[cfg(test)]
mod rules;
mod scenario;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Once;

pub(crate) use choices::Choices;
use scenario::Scenario;
#[cfg(test)]
pub(crate) use tests::random_bytes;

thread_local! {
    /// A worker runs here: it may die of what it reads.
    static MAY_DIE: Cell<bool> = const { Cell::new(false) };
}

/// Runs the scenario that `bytes` decide. Returns how many damages were found.
///
/// # Panics
///
/// If the host does something it must not.
pub fn run(bytes: &[u8]) -> u64 {
    silence_the_dying();
    let mut scenario = Scenario::new(bytes);
    scenario.run();
    scenario.end();
    scenario.damages
}

/// Runs a worker; true if it came to its end by what it read.
fn dies(worker: impl FnOnce()) -> bool {
    MAY_DIE.set(true);
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(worker)).is_err();
    MAY_DIE.set(false);
    died
}

/// Panics of workers are part of the game; other panics are not.
fn silence_the_dying() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !MAY_DIE.get() {
                others(info);
            }
        }));
    });
}
