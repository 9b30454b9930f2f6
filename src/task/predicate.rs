//! Predicates over the ends of attempts, by number: options are copied for each task, and two bytes
//! are what they have room for.
#![forbid(unsafe_code)]

use std::sync::{PoisonError, RwLock};

use super::error::TaskError;

/// The end of an attempt, for a predicate.
#[derive(Debug)]
pub(crate) struct Ended<'e> {
    pub(crate) error: &'e TaskError,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// What the caller gave with the task.
    pub(crate) token: u64,
}

/// What decides whether an attempt that ended so is made again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Predicate {
    Rust(fn(&TaskError) -> bool),
    /// A function of another language, by its address, and what calls such functions.
    Foreign(usize, fn(usize, &Ended<'_>) -> bool),
}

impl Predicate {
    /// Returns whether another attempt is to follow.
    pub(crate) fn says(self, ended: &Ended<'_>) -> bool {
        match self {
            Self::Rust(function) => function(ended.error),
            Self::Foreign(address, call) => call(address, ended),
        }
    }

    fn address(self) -> usize {
        match self {
            Self::Rust(function) => function as usize,
            Self::Foreign(address, _) => address,
        }
    }
}

/// The number of no predicate.
pub(super) const NONE: u16 = 0;

/// Those that options were given, each once: as many as a program has, however many options it
/// makes.
static KNOWN: RwLock<Vec<Predicate>> = RwLock::new(Vec::new());

/// Returns the number of `predicate`; none for one of more than there are numbers.
pub(super) fn number(predicate: Predicate) -> Option<u16> {
    let place =
        |known: &[Predicate]| known.iter().position(|known| known.address() == predicate.address());
    let known = place(&KNOWN.read().unwrap_or_else(PoisonError::into_inner));
    let place = known.or_else(|| {
        let mut all = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        place(&all).or_else(|| {
            (all.len() < usize::from(u16::MAX)).then(|| {
                all.push(predicate);
                all.len() - 1
            })
        })
    });
    u16::try_from(place? + 1).ok()
}

/// Returns the predicate with that number.
pub(super) fn of(number: u16) -> Option<Predicate> {
    if number == NONE {
        return None;
    }
    let all = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    all.get(usize::from(number) - 1).copied()
}
