//! Predicates over the ends of attempts, by number: options are copied for each task, and two bytes
//! are what they have room for.
#![forbid(unsafe_code)]

use std::sync::{PoisonError, RwLock};

use super::error::TaskError;

/// Returns whether an attempt that ended so is made again.
pub(crate) type Predicate = fn(&TaskError) -> bool;

/// The number of no predicate.
pub(super) const NONE: u16 = 0;

/// Those that options were given, each once: as many as a program has, however many options it
/// makes.
static KNOWN: RwLock<Vec<Predicate>> = RwLock::new(Vec::new());

/// Returns the number of `predicate`.
pub(super) fn number(predicate: Predicate) -> u16 {
    let place = |known: &[Predicate]| {
        known.iter().position(|&known| std::ptr::fn_addr_eq(known, predicate))
    };
    let known = place(&KNOWN.read().unwrap_or_else(PoisonError::into_inner));
    let place = known.unwrap_or_else(|| {
        let mut all = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        place(&all).unwrap_or_else(|| {
            all.push(predicate);
            all.len() - 1
        })
    });
    // A program of more predicates than that is none.
    u16::try_from(place + 1).expect("a program has fewer than 65,535 predicates")
}

/// Returns the predicate with that number.
pub(super) fn of(number: u16) -> Option<Predicate> {
    if number == NONE {
        return None;
    }
    let all = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    all.get(usize::from(number) - 1).copied()
}
