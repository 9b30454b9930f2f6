//! Where a payload is: in the record's own words, inline behind them, or in a block of an arena.

use crate::arena::Block;

/// Input bytes that fit behind the record's first line.
pub const INLINE_INPUT: usize = 64;
/// Output bytes that fit into the record's second half.
pub const INLINE_OUTPUT: usize = 128;
/// Bytes that fit into the descriptor itself, and so into the record's first line.
pub(crate) const IN_WORD: usize = 8;

/// Where the bytes of a payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the descriptor: at most [`IN_WORD`] bytes, little-endian.
    Word(u64),
    /// In the record.
    Inline,
    /// In a block of the request arena (inputs) or of the owner's result arena (outputs).
    Block(Block),
    /// A place that no correct process writes.
    Unknown,
}

const WORD: u64 = 0;
const INLINE: u64 = 1;
const BLOCK: u64 = 2;

impl Place {
    fn words(self) -> (u64, u64) {
        match self {
            Self::Word(word) => (WORD, word),
            Self::Inline => (INLINE, 0),
            Self::Block(block) => (BLOCK, u64::from(block.bits())),
            Self::Unknown => (0xF, 0),
        }
    }

    fn from_words(kind: u64, rest: u64) -> Self {
        match kind & 0xF {
            WORD => Self::Word(rest),
            INLINE => Self::Inline,
            BLOCK => Self::Block(Block::from_bits(rest as u32)),
            _ => Self::Unknown,
        }
    }

    /// Returns the place for `bytes` if they fit into the descriptor.
    #[inline]
    pub(crate) fn in_word(bytes: &[u8]) -> Option<Self> {
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        // In registers: a copy of unknown length would be a call. Halves may overlap, and give the
        // same bits there.
        let word = match bytes.len() {
            0..4 => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
            len @ 4..=IN_WORD => u64::from(half(0)) | u64::from(half(len - 4)) << (8 * (len - 4)),
            _ => return None,
        };
        Some(Self::Word(word))
    }
}

/// An input's descriptor: `{ len:32, -:28, place:4 }` and the place's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputDesc {
    /// Length in bytes.
    pub len: u32,
    /// Where they are.
    pub place: Place,
}

impl InputDesc {
    /// Returns the words as they stand in the record.
    #[inline]
    pub fn words(self) -> [u64; 2] {
        let (kind, rest) = self.place.words();
        [u64::from(self.len) << 32 | kind, rest]
    }

    /// Decodes such words.
    #[inline]
    pub(crate) fn from_words([first, rest]: [u64; 2]) -> Self {
        Self { len: (first >> 32) as u32, place: Place::from_words(first, rest) }
    }
}

/// An output's descriptor: `{ elapsed:24, len:32, status:4, place:4 }` and the place's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputDesc {
    /// How the task ended, as the worker saw it: a number of floor 3, 0..16.
    pub status: u8,
    /// How long it ran, to about one part in 500,000.
    pub elapsed_ns: u64,
    /// Length in bytes.
    pub len: u32,
    /// Where they are.
    pub place: Place,
}

impl OutputDesc {
    pub(super) fn words(self) -> [u64; 2] {
        let (kind, rest) = self.place.words();
        let first = compress(self.elapsed_ns) << 40
            | u64::from(self.len) << 8
            | u64::from(self.status & 0xF) << 4
            | kind;
        [first, rest]
    }

    /// Returns the length, the word and the time of an output of status 0 that is in its
    /// descriptor, as most are; none for all others.
    #[inline]
    pub(super) fn in_words([first, rest]: [u64; 2]) -> Option<(u8, u64, u64)> {
        const { assert!(WORD == 0) };
        // One comparison for place, status and the upper bytes of the length.
        let is_plain = first & 0xFF_FFFF_00FF == 0 && (first >> 8) as u8 <= IN_WORD as u8;
        is_plain.then(|| ((first >> 8) as u8, rest, expand(first >> 40)))
    }

    pub(super) fn from_words([first, rest]: [u64; 2]) -> Self {
        Self {
            status: (first >> 4) as u8 & 0xF,
            elapsed_ns: expand(first >> 40),
            len: (first >> 8) as u32,
            place: Place::from_words(first, rest),
        }
    }
}

const MANTISSA_BITS: u32 = 19;

/// Encodes nanoseconds as `{ exponent:5, mantissa:19 }`; beyond 2^50 ns (13 days) it stays at the
/// largest.
fn compress(ns: u64) -> u64 {
    let bits = u64::BITS - ns.leading_zeros();
    let exponent = bits.saturating_sub(MANTISSA_BITS);
    if exponent > 31 {
        return (1 << 24) - 1;
    }
    u64::from(exponent) << MANTISSA_BITS | ns >> exponent
}

fn expand(word: u64) -> u64 {
    (word & ((1 << MANTISSA_BITS) - 1)) << (word >> MANTISSA_BITS & 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_give_back_what_was_put_in() {
        for place in [
            Place::Word(u64::MAX),
            Place::Inline,
            Place::Block(Block::from_bits(u32::MAX)),
            Place::Unknown,
        ] {
            let input = InputDesc { len: u32::MAX, place };
            assert_eq!(InputDesc::from_words(input.words()), input);
            let output = OutputDesc { status: 15, elapsed_ns: 12_345, len: u32::MAX, place };
            assert_eq!(OutputDesc::from_words(output.words()), output);
        }
    }

    #[test]
    fn a_short_look_at_an_output_sees_what_the_long_one_does() {
        let places = [Place::Word(77), Place::Inline, Place::Block(Block::from_bits(5))];
        for place in places.into_iter().chain([Place::Unknown]) {
            for len in (0..12).chain([255, 256, 264, 1 << 16, 1 << 24, 1 << 31, u32::MAX]) {
                for status in 0..16 {
                    for elapsed_ns in [0, 12_345, 1 << 60] {
                        let output = OutputDesc { status, elapsed_ns, len, place };
                        let long = OutputDesc::from_words(output.words());
                        let short = (status == 0 && matches!(place, Place::Word(_)) && len <= 8)
                            .then_some((len as u8, 77, long.elapsed_ns));
                        assert_eq!(OutputDesc::in_words(output.words()), short, "{output:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn up_to_eight_bytes_fit_into_the_descriptor() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        for len in 0..=8 {
            let mut eight = [0; 8];
            eight[..len].copy_from_slice(&bytes[..len]);
            let word = Place::Word(u64::from_le_bytes(eight));
            assert_eq!(Place::in_word(&bytes[..len]), Some(word), "{len} bytes");
        }
        assert_eq!(Place::in_word(&bytes), None);
    }

    #[test]
    fn elapsed_time_keeps_five_digits_from_nanoseconds_to_days() {
        for shift in 0..50 {
            let ns = (1 << shift) + (1 << shift) / 3;
            let back = expand(compress(ns));
            assert!(back <= ns && ns - back <= ns / 200_000, "{ns} came back as {back}");
        }
        assert_eq!(expand(compress(u64::MAX)), ((1 << 19) - 1) << 31);
    }

    #[test]
    fn any_words_can_be_read() {
        for bits in [0, u64::MAX, 0x0F, 0x1234_5678_9ABC_DEF3] {
            let _ = InputDesc::from_words([bits, bits]);
            let _ = OutputDesc::from_words([bits, bits]);
        }
    }
}
