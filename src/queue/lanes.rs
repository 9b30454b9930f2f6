//! The host's ends of a queue's result lanes and hand-back lanes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::arena::Block;
use crate::control::Control;
use crate::ring::{HandbackWriter, LaneReader};
use crate::shm::Region;
use crate::table::{INLINE_OUTPUT, OutputDesc, Place, Record};
use crate::task::Payload;
use crate::task::outcome::INLINE;

/// The host's ends of the lanes of one worker slot.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) reader: LaneReader,
    pub(super) handback: HandbackWriter,
    /// Blocks that found no room in the hand-back lane.
    pub(super) backlog: VecDeque<Block>,
    /// The result arena of the incarnation that has the slot.
    pub(super) arena: Option<Arc<Region>>,
    /// Bytes of it that are lent to receivers.
    pub(super) lent: u64,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            reader: LaneReader::at(0),
            handback: HandbackWriter::at(0),
            backlog: VecDeque::new(),
            arena: None,
            lent: 0,
        }
    }

    /// Copies the output that the descriptor `output` names, unless the descriptor holds it itself.
    /// An error says what is wrong with the descriptor.
    ///
    /// Everything is read once and checked before it is used; see invariant I4. The block is
    /// handed back by the caller.
    #[inline(always)] // as `HostQueue::copy_out`
    pub(super) fn copy_out(&self, record: &Record, output: OutputDesc) -> Result<Payload, String> {
        let len = output.len as usize;
        match output.place {
            Place::Inline if len <= INLINE => {
                let mut bytes = [0; INLINE];
                record.read_inline_output(&mut bytes[..len]);
                Ok(Payload::Inline { len: len as u8, bytes })
            }
            Place::Inline if len <= INLINE_OUTPUT => {
                let mut bytes = vec![0; len];
                record.read_inline_output(&mut bytes);
                Ok(Payload::Heap(bytes))
            }
            Place::Block(block) => match &self.arena {
                Some(arena) if block.holds(len, arena.len()) => {
                    let mut bytes = Vec::new();
                    arena.read_to(block.offset(), len, &mut bytes);
                    Ok(Payload::Heap(bytes))
                }
                _ => Err(format!("an output of {len} bytes in {block:?}")),
            },
            place => Err(format!("an output of {len} bytes in {place:?}")),
        }
    }

    /// Hands `block` back to the worker, now or when its lane has room.
    pub(super) fn hand_back(&mut self, control: &Control, slot: usize, block: Block) {
        self.backlog.push_back(block);
        self.flush(control, slot);
    }

    /// Moves waiting blocks into the hand-back lane. Returns true if one was moved.
    pub(super) fn flush(&mut self, control: &Control, slot: usize) -> bool {
        let (lane, taken) = (control.handback(slot), control.report(slot).handback_taken());
        let before = self.backlog.len();
        while let Some(&block) = self.backlog.front()
            && self.handback.try_push(lane, taken, block)
        {
            self.backlog.pop_front();
        }
        self.backlog.len() < before
    }
}
