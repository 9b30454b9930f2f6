//! Outputs that their receivers borrow: the block stays in the worker's result arena until the
//! outcome is released. `arena/README.md` has the rules.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

use crate::arena::Block;
use crate::control::Control;
use crate::shm::{PrivateMap, Region};
use crate::sync::atomic::Ordering::Release;
use crate::sync::lock;
use crate::sys::process;
use crate::table::{OutputDesc, Place};
use crate::task::outcome::Lent;
use crate::task::{Payload, Status};

use super::{HostQueue, Lane};

/// What part of an arena may be lent for as long as a caller likes, as outputs are that are mapped:
/// so little that others find room beside it.
const KEPT_PART: u64 = 16;

/// An output in the block where its worker has put it.
struct OutputLoan {
    queue: Weak<HostQueue>,
    /// The arena of one incarnation; it stays mapped for its loans when that worker is gone.
    arena: Arc<Region>,
    slot: usize,
    block: Block,
    len: usize,
    /// The host's process id: the copy in a forked child must not hand the block back.
    process: u32,
}

impl Lent for OutputLoan {
    fn address(&self) -> (*const u8, usize) {
        (self.arena.address(self.block.offset(), self.len), self.len)
    }

    fn copy_to(&self, into: &mut [MaybeUninit<u8>]) {
        self.arena.read_new(self.block.offset(), into);
    }

    fn map_copy(&self) -> io::Result<PrivateMap> {
        if self.queue.upgrade().is_some_and(|queue| queue.lends_much(self)) {
            return Err(io::Error::other("much of the arena is lent"));
        }
        self.arena.map_copy(self.block.offset(), self.len)
    }

    fn copy(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.arena.read_to(self.block.offset(), self.len, &mut bytes);
        bytes
    }
}

impl Drop for OutputLoan {
    fn drop(&mut self) {
        if process::own_pid() == self.process
            && let Some(queue) = self.queue.upgrade()
        {
            queue.end_loan(self);
        }
    }
}

impl HostQueue {
    /// Lends what `output` of the worker in `slot` names, if that can be lent.
    pub(super) fn lend(
        &self,
        control: &Control,
        lane: &mut Lane,
        slot: usize,
        output: OutputDesc,
    ) -> Option<Payload> {
        let (Place::Block(block), Some(arena)) = (output.place, &lane.arena) else {
            return None;
        };
        let len = output.len as usize;
        if output.status != Status::Ok as u8 || !block.holds(len, arena.len()) {
            return None;
        }
        let lent = lane.lent + block.size() as u64;
        // At most half of the arena is lent: outputs that wait in the host, or that a caller keeps,
        // must not stop the worker.
        if lent > arena.len() as u64 / 2 {
            return None;
        }
        let (queue, arena) = (Weak::clone(&self.me), Arc::clone(arena));
        lane.lent = lent;
        // Release: nothing is carried; it pairs with the Acquire in `Outputs::only_loans` as the
        // store in `end_loan` does.
        control.lent(slot).store(lane.lent, Release);
        // This may have been the last block that was not lent, and the worker may wait for room.
        self.ring_if_waiting(control, slot);
        let process = process::own_pid();
        Some(Payload::Lent(Arc::new(OutputLoan { queue, arena, slot, block, len, process })))
    }

    /// Returns whether so much of a living worker's arena is lent that this loan must be short.
    fn lends_much(&self, loan: &OutputLoan) -> bool {
        let lanes = lock(&self.lanes);
        let lane = &lanes.lanes[loan.slot];
        let is_its = lane.arena.as_ref().is_some_and(|now| Arc::ptr_eq(now, &loan.arena));
        let much = is_its && lane.lent > loan.arena.len() as u64 / KEPT_PART;
        self.release(lanes);
        much
    }

    /// Hands the block of a loan back, if its worker is still there.
    fn end_loan(&self, loan: &OutputLoan) {
        let mut lanes = lock(&self.lanes);
        let control = Arc::clone(&lanes.control);
        let lane = &mut lanes.lanes[loan.slot];
        if lane.arena.as_ref().is_some_and(|now| Arc::ptr_eq(now, &loan.arena)) {
            // Release: pairs with the Acquire in `Outputs::only_loans`. First this, then the
            // block, then the ring: a worker never counts a block as lent that it has back.
            lane.lent = lane.lent.saturating_sub(loan.block.size() as u64);
            control.lent(loan.slot).store(lane.lent, Release);
            fence(Ordering::SeqCst);
            lane.hand_back(&control, loan.slot, loan.block);
            self.ring_if_waiting(&control, loan.slot);
        }
        self.release(lanes);
    }
}
