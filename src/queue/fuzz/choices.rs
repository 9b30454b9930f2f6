//! What decides the course of a scenario: bytes, and when they are used up a generator.

/// A source of decisions.
#[derive(Debug)]
pub(crate) struct Choices<'b> {
    bytes: &'b [u8],
    random: u64,
}

impl<'b> Choices<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, random: 0x9E37_79B9_7F4A_7C15 }
    }

    /// Returns whether the bytes decide no more.
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns a number below `limit`, of as many bytes as it needs.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let mut value = 0;
        let mut span = 1_u64;
        while span < limit {
            value = value << 8 | u64::from(self.byte());
            span = span.saturating_mul(256);
        }
        value % limit
    }

    /// Any word.
    pub(crate) fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    fn byte(&mut self) -> u8 {
        if let Some((&first, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return first;
        }
        (next(&mut self.random) >> 32) as u8
    }
}

/// Returns the next number of a xorshift generator.
pub(super) fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}
