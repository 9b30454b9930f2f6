//! A block of an arena: where it is and how large, in one 32-bit word.

/// The smallest block, in bytes, and the unit of offsets.
pub(crate) const MIN_BLOCK: usize = 256;

const ORDER_BITS: u32 = 5;

/// `{ offset:27, order:5 }`: the offset in units of [`MIN_BLOCK`], the size class `MIN_BLOCK <<
/// order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block(u32);

impl Block {
    /// Returns the block of size class `order` at `unit` × [`MIN_BLOCK`] bytes.
    pub(super) fn new(unit: u32, order: u32) -> Self {
        debug_assert!(unit < 1 << (32 - ORDER_BITS) && order < 1 << ORDER_BITS);
        Self(unit << ORDER_BITS | order)
    }

    /// Returns a word as read from shared memory, whatever it holds.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the word to store.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn unit(self) -> u32 {
        self.0 >> ORDER_BITS
    }

    pub(super) fn order(self) -> u32 {
        self.0 & ((1 << ORDER_BITS) - 1)
    }

    /// Returns where it begins, in bytes from the arena's start.
    pub(crate) fn offset(self) -> usize {
        self.unit() as usize * MIN_BLOCK
    }

    /// Returns how many bytes it has.
    pub(crate) fn size(self) -> usize {
        MIN_BLOCK << self.order()
    }

    /// Returns whether the block lies whole within an arena of `len` bytes and holds `used` bytes:
    /// the check before a block named by another process is touched.
    pub(crate) fn holds(self, used: usize, len: usize) -> bool {
        used <= self.size() && self.offset().checked_add(self.size()).is_some_and(|end| end <= len)
    }
}
