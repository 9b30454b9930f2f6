//! Every reachable state, breadth first, each known by a 128-bit fingerprint.

use std::hash::{Hash, Hasher};

use crate::moves::{Move, at_rest, books, moves};
use crate::rules::Config;
use crate::state::State;

/// What a search came to.
pub struct Found {
    pub states: usize,
    /// All of them were looked at.
    pub complete: bool,
    /// What was wrong, and how it came to it.
    pub violation: Option<(&'static str, Vec<(u8, &'static str)>)>,
}

/// Looks at the states of `config` until one is wrong or `limit` were seen.
pub fn search(config: &Config, limit: usize) -> Found {
    let mut seen = Seen::new();
    // Where each state came from, to tell the way to a wrong one.
    let mut ways: Vec<(u32, u16)> = vec![(0, 0)];
    let start = State::new(config);
    seen.insert(fingerprint(&start));
    let (mut level, mut next_level) = (vec![(0_u32, start)], Vec::new());
    let mut found = Vec::new();
    while !level.is_empty() {
        for (number, state) in level.drain(..) {
            found = moves(config, &state, found);
            if found.iter().all(|step| step.fault)
                && let Some(wrong) = at_rest(config, &state)
            {
                return failed(config, wrong, &ways, number, None);
            }
            for (choice, step) in found.drain(..).enumerate() {
                let Move { to, wrong, .. } = step;
                if let Some(wrong) = wrong.or_else(|| books(config, &to)) {
                    return failed(config, wrong, &ways, number, Some(choice as u16));
                }
                if seen.insert(fingerprint(&to)) {
                    if ways.len() == limit {
                        return Found { states: limit, complete: false, violation: None };
                    }
                    next_level.push((ways.len() as u32, to));
                    ways.push((number, choice as u16));
                }
            }
        }
        std::mem::swap(&mut level, &mut next_level);
    }
    Found { states: ways.len(), complete: true, violation: None }
}

fn failed(
    config: &Config,
    wrong: &'static str,
    ways: &[(u32, u16)],
    number: u32,
    last: Option<u16>,
) -> Found {
    let mut choices: Vec<u16> = last.into_iter().collect();
    let mut at = number;
    while at != 0 {
        let (from, choice) = ways[at as usize];
        choices.push(choice);
        at = from;
    }
    let mut state = State::new(config);
    let steps = choices.iter().rev().map(|&choice| {
        let step = moves(config, &state, Vec::new()).swap_remove(choice as usize);
        state = step.to;
        (step.who, step.what)
    });
    let way = steps.collect();
    Found { states: ways.len(), complete: false, violation: Some((wrong, way)) }
}

/// Two independent 64-bit hashes over the bytes of a state.
struct Mix {
    sums: [u64; 2],
    /// Bytes that wait for a whole word.
    rest: u64,
    bits: u32,
}

impl Mix {
    fn byte(&mut self, byte: u8) {
        self.rest |= u64::from(byte) << self.bits;
        self.bits += 8;
        if self.bits == u64::BITS {
            self.word();
        }
    }

    fn word(&mut self) {
        let word = std::mem::take(&mut self.rest);
        self.bits = 0;
        let [a, b] = self.sums;
        self.sums = [
            (a ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29),
            (b.rotate_left(31) ^ word).wrapping_mul(0xC2B2_AE3D_27D4_EB4F),
        ];
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.byte(byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.byte(byte);
    }

    /// Which variant of an enum: there are fewer than 256.
    fn write_isize(&mut self, variant: isize) {
        self.byte(variant as u8);
    }

    /// The length of an array, which is always the same.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.sums[0]
    }
}

fn fingerprint(state: &State) -> u128 {
    let mut mix = Mix { sums: [1, 2], rest: 0, bits: 0 };
    state.hash(&mut mix);
    mix.word();
    mix.word();
    let fingerprint = u128::from(mix.sums[0]) << 64 | u128::from(mix.sums[1]);
    fingerprint.max(1)
}

/// A set of fingerprints, in an array that doubles.
struct Seen {
    cells: Vec<u128>,
    len: usize,
}

impl Seen {
    fn new() -> Self {
        Self { cells: vec![0; 1 << 20], len: 0 }
    }

    /// Whether it was not there.
    fn insert(&mut self, fingerprint: u128) -> bool {
        if self.len * 10 > self.cells.len() * 7 {
            let old = std::mem::take(&mut self.cells);
            self.cells = vec![0; old.len() * 2];
            for fingerprint in old.into_iter().filter(|&cell| cell != 0) {
                let free = self.find(fingerprint).expect_err("each was there once");
                self.cells[free] = fingerprint;
            }
        }
        match self.find(fingerprint) {
            Ok(_) => false,
            Err(free) => {
                self.cells[free] = fingerprint;
                self.len += 1;
                true
            }
        }
    }

    fn find(&self, fingerprint: u128) -> Result<usize, usize> {
        let mask = self.cells.len() - 1;
        let mut at = fingerprint as usize & mask;
        loop {
            match self.cells[at] {
                0 => return Err(at),
                cell if cell == fingerprint => return Ok(at),
                _ => at = (at + 1) & mask,
            }
        }
    }
}
