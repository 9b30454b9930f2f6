//! The copies of a payload where a round trip makes them: two here, two at the partner, and what
//! one side has written the other reads out of its cache.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aiopool::internals::Region;
use aiopool::internals::atomic::{Ordering::Acquire, Ordering::Release};
use aiopool::internals::spin_hint;

use super::partner::Partner;

/// Whose turn it is: odd is the partner's.
const TURN: usize = 0;

/// Into shared memory, out of it and back into it there, out of it here.
pub struct CopiesAcross {
    partner: Partner,
    region: Arc<Region>,
    payload: Vec<u8>,
    back: Vec<u8>,
}

impl CopiesAcross {
    pub fn new(size: usize) -> io::Result<Self> {
        let region = Arc::new(Region::create(c"aiopool-bench", 2 * size)?);
        region.reserve(0, 2 * size)?;
        let theirs = Arc::clone(&region);
        let mut bytes = vec![1; size];
        let partner = Partner::fork(move |shared, operations| {
            let turn = shared.own(TURN);
            for i in 0..operations {
                // Acquire and Release, here and below: the bytes come with the turn.
                while turn.load(Acquire) != 2 * i + 1 {
                    spin_hint();
                }
                theirs.read(0, &mut bytes);
                theirs.write(size, &bytes);
                turn.store(2 * i + 2, Release);
            }
        })?;
        Ok(Self { partner, region, payload: vec![2; size], back: vec![3; size] })
    }

    /// Makes `operations` round trips.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, region, payload, back } = self;
        partner.block(operations, |shared, operations| {
            let turn = shared.own(TURN);
            turn.store(0, Release);
            for i in 0..operations {
                region.write(0, payload);
                turn.store(2 * i + 1, Release);
                while turn.load(Acquire) != 2 * i + 2 {
                    spin_hint();
                }
                region.read(payload.len(), back);
            }
        })
    }
}
