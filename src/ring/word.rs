//! The words of rings and lanes: `{ tag:44, index:20 }`, the tag being the position plus one.
//!
//! A word names its own position, so a reader tells a fresh one from what a lap before left in
//! the slot without any shared count, and a zeroed slot is never fresh.

use crate::sync::atomic::AtomicU64;

const INDEX_BITS: u32 = 20;
const TAG_MASK: u64 = u64::MAX >> INDEX_BITS;

/// The most records a queue can have: what the index bits can name.
pub(crate) const MAX_RECORDS: u32 = 1 << INDEX_BITS;

/// Returns the word for `index` at `position`.
pub(super) fn word(position: u64, index: u32) -> u64 {
    debug_assert!(index < MAX_RECORDS);
    tag(position) << INDEX_BITS | u64::from(index)
}

/// Returns the tag that a word at `position` carries.
pub(super) fn tag(position: u64) -> u64 {
    position.wrapping_add(1) & TAG_MASK
}

/// Returns the index in `found`, if that is the word of `position`.
pub(super) fn index_at(position: u64, found: u64) -> Option<u32> {
    let (found_tag, index) = split(found);
    (found_tag == tag(position)).then_some(index)
}

/// Takes a word apart: its tag and its index.
pub(super) fn split(word: u64) -> (u64, u32) {
    (word >> INDEX_BITS, word as u32 & (MAX_RECORDS - 1))
}

/// Returns the slot of `position` in a ring or lane, whose length is a power of two.
#[inline]
pub(super) fn slot_of(words: &[AtomicU64], position: u64) -> &AtomicU64 {
    debug_assert!(words.len().is_power_of_two());
    &words[(position & (words.len() as u64 - 1)) as usize]
}
