//! Output blocks handed back: a worker writes a block, the host reads it and hands it back, the
//! worker writes it again. A worker without a block waits and is rung.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::arena::Block;
use crate::doorbell::WantsRoom;
use crate::ring::{HandbackReader, HandbackWriter, LaneReader, LaneWriter, Next};
use crate::sync::atomic::AtomicU64;
use crate::sync::model::{Bell, Bytes, check};

struct Shared {
    lane: Vec<AtomicU64>,
    handback: Vec<AtomicU64>,
    taken: AtomicU64,
    wants_room: AtomicU64,
    blocks: Vec<Bytes>,
    worker_bell: Bell,
    host_bell: Bell,
}

/// A worker gives `outputs` outputs with fewer `blocks`, through a hand-back lane of `words`.
fn outputs(blocks: usize, words: usize, outputs: u64) {
    let shared = Arc::new(Shared {
        lane: (0..4).map(|_| AtomicU64::new(0)).collect(),
        handback: (0..words).map(|_| AtomicU64::new(0)).collect(),
        taken: AtomicU64::new(0),
        wants_room: AtomicU64::new(0),
        blocks: (0..blocks).map(|_| Bytes::new()).collect(),
        worker_bell: Bell::new(),
        host_bell: Bell::new(),
    });
    let theirs = shared.clone();
    let worker = loom::thread::spawn(move || give(&theirs, outputs));

    let mut lane = LaneReader::at(0);
    let mut handback = HandbackWriter::at(0);
    let mut over: VecDeque<u32> = VecDeque::new();
    let mut received = 0;
    while received < outputs {
        match lane.peek(&shared.lane) {
            Next::Record(block) => {
                lane.advance();
                assert_eq!(shared.blocks[block as usize].read(), received, "output was torn");
                received += 1;
                over.push_back(block);
            }
            Next::Empty => shared.host_bell.wait(),
            Next::Corrupt(word) => panic!("{word:#x}"),
        }
        // What does not fit waits in the host, until the next one comes back.
        while let Some(&block) = over.front()
            && handback.try_push(&shared.handback, &shared.taken, Block::from_bits(block))
        {
            over.pop_front();
            if WantsRoom::new(&shared.wants_room).is_said() {
                shared.worker_bell.ring();
            }
        }
    }
    let (mut free, mut reader) = worker.join().unwrap();
    while let Some(block) = reader.take(&shared.handback, &shared.taken) {
        free.push(block.bits());
    }
    free.extend(over);
    free.sort_unstable();
    assert!(free.into_iter().eq(0..blocks as u32), "a block leaked or was given twice");
}

/// Runs the worker; returns the blocks it has in the end, and where it stopped reading.
fn give(shared: &Shared, outputs: u64) -> (Vec<u32>, HandbackReader) {
    let mut lane = LaneWriter::at(0);
    let mut handback = HandbackReader::at(0);
    let mut free: Vec<u32> = (0..shared.blocks.len() as u32).collect();
    let mut wants = false;
    for output in 0..outputs {
        let block = loop {
            while let Some(block) = handback.take(&shared.handback, &shared.taken) {
                free.push(block.bits());
            }
            match free.pop() {
                Some(block) => break block,
                None if wants => shared.worker_bell.wait(),
                // It looks once more before it waits.
                None => {
                    WantsRoom::new(&shared.wants_room).say(true);
                    wants = true;
                }
            }
        };
        if std::mem::take(&mut wants) {
            WantsRoom::new(&shared.wants_room).say(false);
        }
        shared.blocks[block as usize].write(output);
        lane.push(&shared.lane, block);
        shared.host_bell.ring();
    }
    (free, handback)
}

#[test]
fn one_block_is_written_again_only_after_the_host_has_read_it() {
    check("one block handed back", 2, || outputs(1, 1, 3));
}

#[test]
fn what_does_not_fit_into_the_lane_comes_later() {
    check("two blocks, a lane of one", 2, || outputs(2, 1, 4));
}
