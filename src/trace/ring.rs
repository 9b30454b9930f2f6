//! One worker slot's ring: one writer, any number of readers, none of which waits for another.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, fence};
use crate::table::Call;

/// Words of an entry.
pub(crate) const ENTRY_WORDS: usize = 4;

/// How an entry ended: the poll returned, and the task goes on.
pub(crate) const PENDING: u8 = 0xFF;
/// How an entry ended: it is not a poll, but the drop of a cancelled task's future.
pub(crate) const DROPPED: u8 = 0xFE;

/// Bytes of the rings of a queue, about, while there are not too many worker slots for that.
const QUEUE_BYTES: usize = 16 << 20;
/// A ring of fewer entries would come round while its reader sleeps.
const FEWEST: usize = 512;
/// Some milliseconds of the shortest tasks.
const MOST: usize = 16_384;

const INCARNATION: u64 = (1 << 12) - 1;
const RUN: u64 = 1 << 12;
const WAITED_SHIFT: u32 = 13;
const LONGEST_WAIT: u64 = (1 << 51) - 2;
const LONGEST: u64 = (1 << 56) - 2;

/// Returns how many entries each ring of a queue with `slots` worker slots has.
pub(crate) fn entries_for(slots: usize) -> usize {
    let fair = QUEUE_BYTES / (ENTRY_WORDS * 8) / slots.max(1);
    let power = fair.checked_ilog2().map_or(1, |bits| 1 << bits);
    power.clamp(FEWEST, MOST)
}

/// Returns the switch of traces that want each `every`-th task; 0 if there is none.
pub(crate) fn every_word(every: impl Iterator<Item = u32>) -> u64 {
    every.min().map_or(0, |every| u64::from(every.max(1)))
}

/// A poll of a task, or a whole run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it began, in nanoseconds.
    pub(crate) start: u64,
    /// What was called.
    pub(crate) call: Call,
    /// How long the task had been queued; `None` if this is not the first poll of an attempt.
    pub(crate) waited: Option<u64>,
    /// It is a whole run, in which the worker may have done other things.
    pub(crate) is_run: bool,
    /// The incarnation of the worker.
    pub(crate) incarnation: u16,
    /// How long it lasted and how it ended, if it has.
    pub(crate) end: Option<(u64, u8)>,
}

impl Entry {
    fn words(&self) -> [u64; ENTRY_WORDS] {
        let waited = self.waited.map_or(0, |waited| waited.min(LONGEST_WAIT) + 1);
        let run = if self.is_run { RUN } else { 0 };
        [
            self.start,
            self.call.to_word(),
            waited << WAITED_SHIFT | run | u64::from(self.incarnation) & INCARNATION,
            self.end.map_or(0, |(elapsed, how)| end_word(elapsed, how)),
        ]
    }

    fn of_words([start, call, third, end]: [u64; ENTRY_WORDS]) -> Self {
        Self {
            start,
            call: Call::of_word(call),
            waited: (third >> WAITED_SHIFT).checked_sub(1),
            is_run: third & RUN != 0,
            incarnation: (third & INCARNATION) as u16,
            end: split_end(end),
        }
    }
}

fn end_word(elapsed: u64, how: u8) -> u64 {
    (elapsed.min(LONGEST) + 1) << 8 | u64::from(how)
}

fn split_end(word: u64) -> Option<(u64, u8)> {
    Some(((word >> 8).checked_sub(1)?, word as u8))
}

/// A ring in shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring<'m> {
    head: &'m AtomicU64,
    words: &'m [AtomicU64],
}

impl<'m> Ring<'m> {
    /// Views `words`, four for each of a power of two of entries, as a ring.
    pub(crate) fn new(head: &'m AtomicU64, words: &'m [AtomicU64]) -> Self {
        debug_assert!((words.len() / ENTRY_WORDS).is_power_of_two());
        Self { head, words }
    }

    fn entries(self) -> u64 {
        (self.words.len() / ENTRY_WORDS) as u64
    }

    #[inline]
    fn entry(self, position: u64) -> &'m [AtomicU64] {
        let at = (position as usize & (self.words.len() / ENTRY_WORDS - 1)) * ENTRY_WORDS;
        &self.words[at..at + ENTRY_WORDS]
    }

    /// Whether `position` was not overwritten, nor began to be, when head was `head`.
    fn is_whole(self, position: u64, head: u64) -> bool {
        head.wrapping_sub(position).wrapping_sub(1) < self.entries() - 1
    }
}

/// An entry that was begun: its position, and its words but the end. Few bytes, since they are
/// carried through each task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    position: u64,
    words: [u64; ENTRY_WORDS - 1],
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Writer {
    position: u64,
}

impl Writer {
    /// Goes on where the last worker in the slot has stopped.
    pub(crate) fn new(ring: Ring<'_>) -> Self {
        // Relaxed: that one is dead, and this one believes its number or any other.
        Self { position: ring.head.load(Relaxed) }
    }

    /// Writes an entry, which ends later unless it has an end.
    #[inline]
    pub(crate) fn begin(&mut self, ring: Ring<'_>, entry: Entry) -> Open {
        let words @ [start, call, third, _] = entry.words();
        Open { position: self.write(ring, words), words: [start, call, third] }
    }

    /// Writes these words, and returns where they are.
    #[inline]
    fn write(&mut self, ring: Ring<'_>, words: [u64; ENTRY_WORDS]) -> u64 {
        let position = self.position;
        // Release: pairs with the fence in `Reader::visit`. Who sees a word that is stored after
        // this sees the heads that were stored before it.
        fence(Release);
        for (to, word) in ring.entry(position).iter().zip(words) {
            to.store(word, Relaxed);
        }
        self.position = position.wrapping_add(1);
        // Release: pairs with the Acquire in `Reader::visit` (the words).
        ring.head.store(self.position, Release);
        position
    }

    /// Ends an entry.
    #[inline]
    pub(crate) fn end(&mut self, ring: Ring<'_>, open: Open, now: u64, how: u8) {
        let [start, call, third] = open.words;
        let end = end_word(now.saturating_sub(start), how);
        if self.position.wrapping_sub(open.position) <= ring.entries() {
            ring.entry(open.position)[3].store(end, Relaxed);
        } else {
            self.write(ring, [start, call, third, end]);
        }
    }
}

/// A host's end.
#[derive(Debug)]
pub(crate) struct Reader {
    position: u64,
    /// Entries that were overwritten before they were read.
    lost: u64,
    scratch: Vec<[u64; ENTRY_WORDS]>,
}

impl Reader {
    /// Starts with what is begun from now on.
    pub(crate) fn new(ring: Ring<'_>) -> Self {
        Self { position: ring.head.load(Relaxed), lost: 0, scratch: Vec::new() }
    }

    /// Returns how many entries it has missed.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Gives `take` the entries that were begun since the last visit, with their positions.
    pub(crate) fn visit(&mut self, ring: Ring<'_>, mut take: impl FnMut(u64, Entry)) {
        // Acquire: pairs with the Release in `Writer::begin`.
        let head = ring.head.load(Acquire);
        let ahead = head.wrapping_sub(self.position);
        if ahead == 0 {
            return;
        }
        let missed = ahead.saturating_sub(ring.entries());
        let first = self.position.wrapping_add(missed);
        self.scratch.clear();
        for behind in 0..ahead - missed {
            let words = ring.entry(first.wrapping_add(behind));
            self.scratch.push(std::array::from_fn(|at| words[at].load(Relaxed)));
        }
        // Acquire: pairs with the fence in `Writer::begin`.
        fence(Acquire);
        let now = ring.head.load(Relaxed);
        self.lost = self.lost.saturating_add(missed);
        for (behind, &words) in self.scratch.iter().enumerate() {
            let position = first.wrapping_add(behind as u64);
            if ring.is_whole(position, now) {
                take(position, Entry::of_words(words));
            } else {
                self.lost = self.lost.saturating_add(1);
            }
        }
        self.position = head;
    }

    /// Looks again at an entry that had no end. `Ok(None)`: it still has none.
    ///
    /// # Errors
    ///
    /// The entry is overwritten: its end, if it comes, comes with a new entry.
    pub(crate) fn look_again(ring: Ring<'_>, position: u64) -> Result<Option<(u64, u8)>, ()> {
        let word = ring.entry(position)[3].load(Relaxed);
        // Acquire: as in `visit`.
        fence(Acquire);
        let head = ring.head.load(Relaxed);
        if ring.is_whole(position, head) { Ok(split_end(word)) } else { Err(()) }
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;

    struct Memory(AtomicU64, Vec<AtomicU64>);

    impl Memory {
        fn new(entries: usize) -> Self {
            Self(AtomicU64::new(0), (0..entries * ENTRY_WORDS).map(|_| AtomicU64::new(0)).collect())
        }

        fn ring(&self) -> Ring<'_> {
            Ring::new(&self.0, &self.1)
        }
    }

    fn entry(task: u64) -> Entry {
        let call = Call { function: 3, attempts: 1, flags: Call::tag(task) };
        let (start, waited) = (1000 + task, Some(task));
        Entry { start, call, waited, is_run: false, incarnation: 7, end: None }
    }

    fn visit(reader: &mut Reader, ring: Ring<'_>) -> Vec<(u64, Entry)> {
        let mut found = Vec::new();
        reader.visit(ring, |position, entry| found.push((position, entry)));
        found
    }

    #[test]
    fn every_field_comes_back() {
        for waited in [None, Some(0), Some(LONGEST_WAIT)] {
            for end in [None, Some((0, 0)), Some((LONGEST, PENDING)), Some((5, DROPPED))] {
                for is_run in [false, true] {
                    let entry = Entry { waited, end, is_run, incarnation: 0xFFF, ..entry(9) };
                    assert_eq!(Entry::of_words(entry.words()), entry);
                }
            }
        }
        let long = Entry { waited: Some(u64::MAX), end: Some((u64::MAX, 1)), ..entry(1) };
        let back = Entry::of_words(long.words());
        assert_eq!((back.waited, back.end), (Some(LONGEST_WAIT), Some((LONGEST, 1))));
    }

    #[test]
    fn an_open_entry_is_there_before_its_end_is() {
        let memory = Memory::new(4);
        let ring = memory.ring();
        let (mut writer, mut reader) = (Writer::new(ring), Reader::new(ring));
        let open = writer.begin(ring, entry(5));
        assert_eq!(visit(&mut reader, ring), [(0, entry(5))]);
        assert_eq!(Reader::look_again(ring, 0), Ok(None));
        writer.end(ring, open, 1105, 2);
        assert_eq!(Reader::look_again(ring, 0), Ok(Some((100, 2))));
        assert_eq!(visit(&mut reader, ring), []);
    }

    #[test]
    fn what_is_overwritten_is_counted_and_an_end_comes_with_a_new_entry() {
        let memory = Memory::new(4);
        let ring = memory.ring();
        let (mut writer, mut reader) = (Writer::new(ring), Reader::new(ring));
        let first = writer.begin(ring, entry(0));
        for task in 1..10 {
            let open = writer.begin(ring, entry(task));
            writer.end(ring, open, 1000 + task, 0);
        }
        let found = visit(&mut reader, ring);
        let tasks: Vec<u32> = found.iter().map(|(_, entry)| entry.call.task()).collect();
        // The oldest of the ring may be being overwritten.
        assert_eq!((tasks, reader.lost()), (vec![7, 8, 9], 7));
        assert_eq!(Reader::look_again(ring, 0), Err(()));
        writer.end(ring, first, 2000, 3);
        let [(10, again)] = visit(&mut reader, ring)[..] else { panic!("one entry") };
        assert_eq!((again.call.task(), again.start, again.end), (0, 1000, Some((1000, 3))));
    }

    #[test]
    fn a_head_that_jumps_costs_one_ring_and_no_more() {
        let memory = Memory::new(4);
        let ring = memory.ring();
        let mut reader = Reader::new(ring);
        for jump in [u64::MAX, 1 << 63, 3, 0, u64::MAX - 1] {
            memory.0.store(jump, Relaxed);
            assert!(visit(&mut reader, ring).len() <= 4);
        }
        // A new worker goes on from whatever stands there.
        let mut writer = Writer::new(ring);
        writer.begin(ring, entry(1));
        writer.begin(ring, entry(2));
        let tasks: Vec<u32> =
            visit(&mut reader, ring).iter().map(|(_, entry)| entry.call.task()).collect();
        assert_eq!(tasks, [1, 2]);
    }

    #[test]
    fn rings_have_a_power_of_two_of_entries_for_any_number_of_slots() {
        for slots in [1, 2, 3, 64, 65, 4094] {
            let entries = entries_for(slots);
            assert!(entries.is_power_of_two() && (FEWEST..=MOST).contains(&entries));
        }
        assert_eq!((entries_for(2), entries_for(4094)), (MOST, FEWEST));
    }
}
