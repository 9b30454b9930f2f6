//! What a hostile worker writes: anything anywhere, and words that could be true.

use super::scenario::{ARENA, SHAPE, Scenario};
use crate::control::Part;
use crate::queue::lock;
use crate::ring::LaneWriter;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::racing::{self, Flip};

/// Words of a record.
const RECORD: u64 = 32;

impl Scenario<'_> {
    /// One act of damage, by the worker in `slot` or on what is its own.
    pub(super) fn damage(&mut self, slot: usize) {
        match self.choices.below(8) {
            0 => self.scribble(),
            1 => self.scribble_arena(slot),
            2..4 => self.tell_a_state(),
            4 => self.tell_an_output(),
            5 => self.nudge(),
            6 => self.fill_the_lane(slot),
            _ => {
                let loads = self.choices.below(64) as u32;
                let mask = self.value();
                racing::start(Flip { loads, mask });
            }
        }
    }

    /// Some value: a small one, an extreme one, any.
    fn value(&mut self) -> u64 {
        match self.choices.below(5) {
            0 => 0,
            1 => u64::MAX,
            2 => self.choices.below(256),
            3 => 1 << self.choices.below(64),
            _ => self.choices.word(),
        }
    }

    /// Any value, into any word of the control region.
    fn scribble(&mut self) {
        let control = self.queue.control();
        let words = control.all_words();
        for _ in 0..=self.choices.below(4) {
            let at = self.choices.below(words.len() as u64) as usize;
            words[at].store(self.value(), Relaxed);
        }
    }

    fn scribble_arena(&mut self, slot: usize) {
        let at = self.choices.below(ARENA as u64 / 16) as usize;
        let value = self.value();
        if let Some(worker) = &self.workers[slot] {
            worker.arena.words(0, ARENA / 16)[at].store(value, Relaxed);
        }
    }

    /// Another state for a record: one that there is, mostly, for its use of now, of a worker.
    fn tell_a_state(&mut self) {
        let state = self.choices.below(9);
        let owner = self.choices.below(3);
        let generation = self.choices.below(8);
        let control = self.queue.control();
        let index = self.choices.below(u64::from(SHAPE.capacity));
        let word = &control.part(Part::Records)[(index * RECORD) as usize];
        let seen = word.load(Relaxed);
        let owner = match owner {
            0 => seen >> 8 & 0xFF_FFFF,
            slot => match &self.workers[slot as usize - 1] {
                Some(worker) => worker.owner_bits(),
                None => 0,
            },
        };
        let generation =
            (seen >> 32).wrapping_add([0, 0, 0, 0, 0, 0, 1, u64::MAX][generation as usize]);
        word.store(generation << 32 | owner << 8 | state, Relaxed);
    }

    /// Another descriptor of a record's output or input, or another place or call.
    fn tell_an_output(&mut self) {
        let control = self.queue.control();
        let index = self.choices.below(u64::from(SHAPE.capacity));
        let field = 1 + self.choices.below(7);
        let word = &control.part(Part::Records)[(index * RECORD + field) as usize];
        let seen = word.load(Relaxed);
        let value = match self.choices.below(3) {
            0 => self.value(),
            1 => seen ^ 1 << self.choices.below(64),
            // `{ len, status, place }` of an output, with a length around what fits.
            _ => {
                let len = 1 << self.choices.below(22);
                (len + self.choices.below(3) - 1) << 8 | self.choices.below(256)
            }
        };
        word.store(value, Relaxed);
    }

    /// A small change of a word that is no record's.
    fn nudge(&mut self) {
        let control = self.queue.control();
        let parts = Part::BEFORE_RECORDS;
        let part = parts[self.choices.below(parts.len() as u64) as usize];
        let words: &[AtomicU64] = control.part(part);
        let at = self.choices.below(words.len() as u64) as usize;
        let seen = words[at].load(Relaxed);
        let value = match self.choices.below(4) {
            0 => seen.wrapping_add(self.choices.below(40)),
            1 => seen.wrapping_sub(self.choices.below(40)),
            2 => seen ^ 1 << self.choices.below(64),
            _ => self.value(),
        };
        words[at].store(value, Relaxed);
    }

    /// Lane words that look right, naming any records, up to more than a lane holds.
    fn fill_the_lane(&mut self, slot: usize) {
        let control = self.queue.control();
        let start = lock(&self.queue.lanes).lanes[slot].reader.position();
        let mut lane = LaneWriter::at(start);
        for _ in 0..self.choices.below(40) {
            let record = self.choices.below(u64::from(SHAPE.capacity) + 1);
            lane.push(control.lane(slot), record as u32);
        }
    }
}
