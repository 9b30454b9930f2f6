//! The bookkeeping of an arena: power-of-two size classes, kept in the heap of the arena's only
//! writer, so nothing shared can be torn and a dead writer's arena simply goes.
//!
//! A freed block goes to its class's list and comes back from there without being split or
//! merged; only when no block is large enough are free buddies merged (the buddy system of
//! Knowlton, 1965, with the merging put off).

use super::block::{Block, MIN_BLOCK};

/// Memory is reserved from the system in pieces of this many bytes.
pub(crate) const CHUNK: usize = 1 << 20;

/// Reserved bytes that an arena keeps, used or not: what an ordinary load uses again and again.
const KEPT: usize = 16 << 20;

/// Allocates blocks of an arena of a given length.
#[derive(Debug)]
pub(crate) struct Allocator {
    /// Free units by order.
    free: Vec<Vec<u32>>,
    /// Which chunks the system has reserved, one bit each.
    reserved: Vec<u64>,
    /// By unit: 0, or 1 and the order of the block that begins there and is handed out.
    handed_out: Vec<u8>,
    /// How many chunks that are.
    chunks: usize,
    /// Blocks that are in use, in bytes.
    used: usize,
    len: usize,
    /// Whether something was freed since the last merge, so that a merge may help.
    mergeable: bool,
}

/// Why there is no block.
#[derive(Debug)]
pub(crate) enum AllocError {
    /// The arena has no free block of that size now.
    Full,
    /// The arena is smaller than that.
    TooLarge,
    /// The system would not reserve the memory.
    Reserve(std::io::Error),
}

impl Allocator {
    /// For an arena of `len` bytes, a power of two of at least [`CHUNK`] and at most 32 GiB.
    pub(crate) fn new(len: usize) -> Self {
        assert!(len.is_power_of_two() && (CHUNK..=1 << 35).contains(&len));
        let orders = (len / MIN_BLOCK).ilog2() as usize;
        let mut free = vec![Vec::new(); orders + 1];
        free[orders].push(0);
        let reserved = vec![0; (len / CHUNK).div_ceil(64)];
        // Zeros that take no memory before a block begins there.
        let handed_out = vec![0; len / MIN_BLOCK];
        Self { free, reserved, handed_out, chunks: 0, used: 0, len, mergeable: false }
    }

    /// Returns the arena's length in bytes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of bytes in blocks that are handed out.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Returns a block of at least `size` bytes; `reserve(offset, len)` asks the system for the
    /// memory the first time a chunk is used, so that running out is an error here and no fault
    /// later.
    ///
    /// # Errors
    ///
    /// See [`AllocError`]; nothing is taken then.
    pub(crate) fn allocate(
        &mut self,
        size: usize,
        reserve: impl FnMut(usize, usize) -> std::io::Result<()>,
    ) -> Result<Block, AllocError> {
        if size > self.len {
            return Err(AllocError::TooLarge);
        }
        let order = size.div_ceil(MIN_BLOCK).max(1).next_power_of_two().ilog2();
        let unit = match self.take(order) {
            Some(unit) => unit,
            None if self.mergeable => {
                self.merge();
                self.take(order).ok_or(AllocError::Full)?
            }
            None => return Err(AllocError::Full),
        };
        let block = Block::new(unit, order);
        if let Err(error) = self.reserve(block, size, reserve) {
            self.free[order as usize].push(unit);
            self.mergeable = true;
            return Err(AllocError::Reserve(error));
        }
        self.handed_out[unit as usize] = order as u8 + 1;
        self.used += block.size();
        Ok(block)
    }

    /// Frees `block`, which is no longer used. False if it is not handed out, so that nothing has
    /// changed: another process may name any block.
    pub(crate) fn free(&mut self, block: Block) -> bool {
        if !self.take_back(block) {
            return false;
        }
        self.free[block.order() as usize].push(block.unit());
        self.used -= block.size();
        self.mergeable = true;
        true
    }

    /// Keeps `block`, which was handed out, in use for good.
    pub(crate) fn keep(&mut self, block: Block) {
        self.take_back(block);
    }

    /// Forgets that `block` is handed out. False if it is not.
    fn take_back(&mut self, block: Block) -> bool {
        let of_unit = self.handed_out.get_mut(block.unit() as usize);
        let is_out = of_unit.filter(|order| u32::from(**order) == block.order() + 1);
        is_out.map(|order| *order = 0).is_some()
    }

    /// Returns whether more is reserved than an arena keeps.
    pub(crate) fn keeps_much(&self) -> bool {
        self.chunks * CHUNK > KEPT
    }

    /// Returns whether [`give_back`](Self::give_back) has much to give.
    pub(crate) fn has_slack(&self) -> bool {
        self.keeps_much() && self.used <= self.chunks * CHUNK / 4
    }

    /// Gives memory that no block uses back to the system, but for what an arena keeps;
    /// `release(offset, len)` does it. What it refuses stays reserved.
    pub(crate) fn give_back(
        &mut self,
        mut release: impl FnMut(usize, usize) -> std::io::Result<()>,
    ) {
        self.merge();
        let least = (CHUNK / MIN_BLOCK).ilog2() as usize;
        let mut free: Vec<Block> = Vec::new();
        for (order, units) in self.free.iter().enumerate().skip(least) {
            free.extend(units.iter().map(|&unit| Block::new(unit, order as u32)));
        }
        // The highest first: low ones are taken first again.
        free.sort_unstable_by_key(|block| std::cmp::Reverse(block.offset()));
        for block in free {
            let first = block.offset() / CHUNK;
            for chunk in (first..first + block.size() / CHUNK).rev() {
                if self.chunks * CHUNK <= KEPT {
                    return;
                }
                let bit = 1 << (chunk % 64);
                let reserved = self.reserved[chunk / 64] & bit != 0;
                if reserved && release(chunk * CHUNK, CHUNK).is_ok() {
                    self.reserved[chunk / 64] &= !bit;
                    self.chunks -= 1;
                }
            }
        }
    }

    /// Takes a unit of `order`, splitting the smallest larger one if need be.
    fn take(&mut self, order: u32) -> Option<u32> {
        let from = (order as usize..self.free.len()).find(|&o| !self.free[o].is_empty())?;
        let unit = self.free[from].pop()?;
        for split in (order as usize..from).rev() {
            self.free[split].push(unit + (1 << split));
        }
        Some(unit)
    }

    /// Merges free buddies, smallest first.
    fn merge(&mut self) {
        self.mergeable = false;
        for order in 0..self.free.len() - 1 {
            let mut units = std::mem::take(&mut self.free[order]);
            // High units first in the list, so that low ones, already reserved, are taken first.
            units.sort_unstable_by(|a, b| b.cmp(a));
            let mut kept = Vec::with_capacity(units.len());
            let mut rest = units.into_iter().peekable();
            while let Some(unit) = rest.next() {
                let buddy = unit ^ (1 << order);
                // The upper of two buddies comes first in descending order.
                if buddy < unit && rest.peek() == Some(&buddy) {
                    rest.next();
                    self.free[order + 1].push(buddy);
                } else {
                    kept.push(unit);
                }
            }
            self.free[order] = kept;
        }
    }

    /// Reserves the chunks of `block` that its first `size` bytes are in.
    fn reserve(
        &mut self,
        block: Block,
        size: usize,
        mut reserve: impl FnMut(usize, usize) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let first = block.offset() / CHUNK;
        let last = (block.offset() + size.max(1) - 1) / CHUNK;
        for chunk in first..=last {
            let bit = 1 << (chunk % 64);
            if self.reserved[chunk / 64] & bit == 0 {
                reserve(chunk * CHUNK, CHUNK)?;
                self.reserved[chunk / 64] |= bit;
                self.chunks += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_reserve(_: usize, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    #[test]
    fn blocks_never_overlap_and_all_comes_back() {
        let mut arena = Allocator::new(4 * CHUNK);
        let mut live: Vec<Block> = Vec::new();
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (seed >> 33) as usize;
            if pick.is_multiple_of(3) && !live.is_empty() {
                assert!(arena.free(live.swap_remove(pick % live.len())));
            } else if let Ok(block) = arena.allocate(1 << (pick % 21), no_reserve) {
                let (start, end) = (block.offset(), block.offset() + block.size());
                assert!(end <= arena.len());
                assert!(
                    live.iter().all(|b| end <= b.offset() || b.offset() + b.size() <= start),
                    "{block:?} overlaps"
                );
                live.push(block);
            }
        }
        live.drain(..).for_each(|block| assert!(arena.free(block)));
        assert_eq!(arena.used(), 0);
        assert!(
            arena.allocate(arena.len(), no_reserve).is_ok(),
            "the whole arena is one block again"
        );
    }

    #[test]
    fn a_refused_reservation_is_an_error_and_takes_nothing() {
        let mut arena = Allocator::new(CHUNK);
        let refuse = |_, _| Err(std::io::Error::from_raw_os_error(28));
        assert!(matches!(arena.allocate(1, refuse), Err(AllocError::Reserve(_))));
        assert_eq!(arena.used(), 0);
        assert!(arena.allocate(CHUNK, no_reserve).is_ok());
    }

    #[test]
    fn what_is_reserved_is_what_is_touched_and_goes_back() {
        let mut arena = Allocator::new(256 * CHUNK);
        let mut there = vec![false; 256];
        let mut reserve = |at: usize, len| {
            assert_eq!(len, CHUNK);
            there[at / CHUNK] = true;
            Ok(())
        };
        // Nine chunks of a block of sixteen.
        let blocks: Vec<Block> =
            (0..4).map(|_| arena.allocate(8 * CHUNK + 1, &mut reserve).unwrap()).collect();
        assert_eq!(there.iter().filter(|&&chunk| chunk).count(), 36);
        assert!(!arena.has_slack());
        let last = blocks[3];
        assert!(blocks[..3].iter().all(|&block| arena.free(block)));
        assert!(!arena.has_slack(), "a quarter is in use");
        assert!(arena.free(last));
        assert!(arena.has_slack());
        arena.give_back(|at, len| {
            assert_eq!(len, CHUNK);
            assert!(std::mem::take(&mut there[at / CHUNK]), "given back twice");
            Ok(())
        });
        assert_eq!(there.iter().filter(|&&chunk| chunk).count() * CHUNK, KEPT);
        assert!(!arena.has_slack());
        // What went is asked for again.
        let all = arena.allocate(arena.len(), |at, _| {
            there[at / CHUNK] = true;
            Ok(())
        });
        assert!(all.is_ok() && there.iter().all(|&chunk| chunk));
    }

    #[test]
    fn full_and_too_large_are_told_apart() {
        let mut arena = Allocator::new(CHUNK);
        assert!(matches!(arena.allocate(CHUNK + 1, no_reserve), Err(AllocError::TooLarge)));
        let all = arena.allocate(CHUNK, no_reserve).unwrap();
        assert!(matches!(arena.allocate(1, no_reserve), Err(AllocError::Full)));
        arena.free(all);
        assert!(arena.allocate(1, no_reserve).is_ok());
    }

    #[test]
    fn a_block_that_is_not_handed_out_is_not_freed() {
        let mut arena = Allocator::new(CHUNK);
        let kept = arena.allocate(1, no_reserve).unwrap();
        arena.keep(kept);
        let blocks: Vec<Block> =
            (0..50).map(|n| arena.allocate(1 << (n % 13), no_reserve).unwrap()).collect();
        let used = arena.used();
        let is_out = |block: Block| blocks.contains(&block);
        // Each word with one bit changed, and some others.
        let near = blocks.iter().flat_map(|block| (0..32).map(|bit| block.bits() ^ 1 << bit));
        for word in near.chain(0..100_000).chain([kept.bits(), u32::MAX]) {
            let block = Block::from_bits(word);
            if !is_out(block) {
                assert!(!arena.free(block), "{block:?}");
            }
        }
        assert_eq!(arena.used(), used);
        for &block in &blocks {
            assert!(arena.free(block) && !arena.free(block), "{block:?} is freed once");
        }
        assert_eq!(arena.used(), kept.size());
    }

    #[test]
    fn a_block_from_elsewhere_is_checked() {
        let len = CHUNK;
        assert!(Block::new(0, 0).holds(MIN_BLOCK, len));
        assert!(!Block::new(0, 0).holds(MIN_BLOCK + 1, len));
        assert!(!Block::new((len / MIN_BLOCK) as u32, 0).holds(1, len));
        assert!(!Block::from_bits(u32::MAX).holds(1, len));
    }
}
