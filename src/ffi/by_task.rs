//! A table by the running numbers of tasks.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Tasks by their numbers.
pub(super) type ByTask<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// Spreads the running numbers of tasks over a table.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 << 8 | u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio's bits: neighbours land far apart, in the upper bits, too.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
