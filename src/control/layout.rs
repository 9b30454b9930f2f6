//! Where everything is in a control region, computed from three numbers.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::ring::{MAX_CLASSES, MAX_RECORDS};
use crate::table::{Owner, Record};
use crate::trace::{ENTRY_WORDS, entries_for};

/// Contended words lie this far apart: two cache lines, since neighbours are prefetched in pairs.
pub(super) const LINE: usize = 128;

/// Bytes of the header, which comes first.
pub(super) const HEADER: usize = 128;

/// Blocks that a hand-back lane holds.
pub(super) const HANDBACK: usize = 256;

/// What a queue's control region has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Records in the task table: a power of two.
    pub capacity: u32,
    /// Worker slots.
    pub slots: u32,
    /// Task rings, one per priority class: 1 to [`MAX_CLASSES`].
    pub classes: u32,
}

/// Byte offsets of the parts of a control region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) heads: usize,
    pub(super) host_flag: usize,
    pub(super) sleepers: usize,
    pub(super) searchers: usize,
    pub(super) processors: usize,
    pub(super) attention: usize,
    pub(super) report: usize,
    pub(super) rings: usize,
    pub(super) lanes: usize,
    pub(super) handbacks: usize,
    pub(super) records: usize,
    /// Where the pages begin that exist while the pool is traced; `trace/README.md`.
    pub(super) traces: usize,
    /// Bytes of a worker slot's ring there: its head, on a line of its own, and entries.
    pub(super) trace: usize,
    pub(super) len: usize,
}

impl Shape {
    /// Returns whether the numbers are ones that a control region can have.
    pub(super) fn is_sound(&self) -> bool {
        self.capacity.is_power_of_two()
            && (1..=MAX_RECORDS).contains(&self.capacity)
            && (1..=Owner::MAX_SLOTS).contains(&self.slots)
            && (1..=MAX_CLASSES as u32).contains(&self.classes)
    }

    /// Whether a region of `len` bytes can have this shape; else why not.
    pub(super) fn check(&self, len: usize) -> Result<(), String> {
        if self.is_sound() && self.layout().len <= len {
            return Ok(());
        }
        Err(format!("{self:?} does not fit a region of {len} bytes"))
    }

    /// Words of a set of worker slots.
    pub(super) fn set_words(&self) -> usize {
        (self.slots as usize).div_ceil(64)
    }

    /// Words of a result lane: `ring/README.md` says why twice the table.
    pub(super) fn lane_words(&self) -> usize {
        2 * self.capacity as usize
    }

    pub(super) fn layout(&self) -> Layout {
        let mut end = HEADER;
        let mut part = |len: usize| {
            let start = end;
            end = (start + len).next_multiple_of(LINE);
            start
        };
        let (slots, classes) = (self.slots as usize, self.classes as usize);
        let heads = part(classes * LINE);
        let host_flag = part(LINE);
        let sleepers = part(self.set_words() * 8);
        let searchers = part(self.set_words() * 8);
        let processors = part((1 + slots) * 8);
        let attention = part(slots * LINE);
        let report = part(slots * LINE);
        let rings = part(classes * self.capacity as usize * 8);
        let lanes = part(slots * self.lane_words() * 8);
        let handbacks = part(slots * HANDBACK * 8);
        let records = part(self.capacity as usize * size_of::<Record>()).next_multiple_of(256);
        let traces =
            (records + self.capacity as usize * size_of::<Record>()).next_multiple_of(4096);
        let trace = LINE + entries_for(slots) * ENTRY_WORDS * 8;
        let len = (traces + slots * trace).next_multiple_of(4096);
        Layout {
            heads,
            host_flag,
            sleepers,
            searchers,
            processors,
            attention,
            report,
            rings,
            lanes,
            handbacks,
            records,
            traces,
            trace,
            len,
        }
    }
}
