//! The rings alone: the very words and transitions of a pool, without a queue around them.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aiopool::internals::Control;
use aiopool::internals::atomic::{Ordering::Relaxed, Ordering::Release};
use aiopool::internals::spin_hint;
use aiopool::internals::{Call, InputDesc, OutputDesc, Owner, Place, State, WorkerId};
use aiopool::internals::{Claim, LaneReader, LaneWriter, Next, claim, place};

use super::partner::{self, Partner};

const CAPACITY: u32 = 4096;
/// The producer never runs further ahead than this, so that no record is used twice at once.
const AHEAD: u64 = CAPACITY as u64 / 2;
/// How far the consumer of a lane has read: a pool's table keeps count of that, not its lanes.
const TAKEN: usize = 0;

fn worker() -> Owner {
    Owner::of(WorkerId { queue: 0, slot: 0, incarnation: 1 })
}

/// Describes, publishes and pushes a task with 8 bytes of input, as a queue does under its lock.
fn submit(control: &Control, position: u64) {
    submit_as(control, position, (position % u64::from(CAPACITY)) as u32);
}

/// The same with record `index`.
fn submit_as(control: &Control, position: u64, index: u32) {
    let record = &control.records()[index as usize];
    let input = InputDesc { len: 8, place: Place::Word(position) };
    record.describe(Call { function: 0, attempts: 0, flags: 0 }, input.words(), &[]);
    record.publish(position as u32 + 1, place(0, position));
    control.ring(0).push(position, index);
}

/// Claims the next task and reads its input.
fn take(control: &Control, me: Owner) -> (u32, aiopool::internals::StateWord, u64) {
    loop {
        if let Claim::Task { record, claimed } =
            claim(control.ring(0), 0, control.records(), me, |_| true)
        {
            let Place::Word(input) = control.records()[record as usize].input().place else {
                continue;
            };
            return (record, claimed, input);
        }
        spin_hint();
    }
}

/// A result lane: the partner produces 8-byte words, this process consumes them.
pub struct ResultLane {
    partner: Partner,
    control: Arc<Control>,
    reader: LaneReader,
    read: u64,
}

impl ResultLane {
    pub fn new() -> io::Result<Self> {
        let control = partner::control(CAPACITY)?;
        let theirs = Arc::clone(&control);
        let (mut writer, mut written, mut taken) = (LaneWriter::at(0), 0_u64, 0_u64);
        let partner = Partner::fork(move |shared, operations| {
            let lane = theirs.lane(0);
            for _ in 0..operations {
                while written - taken >= lane.len() as u64 {
                    taken = shared.own(TAKEN).load(Relaxed);
                }
                writer.push(lane, written as u32 % CAPACITY);
                written += 1;
            }
        })?;
        Ok(Self { partner, control, reader: LaneReader::at(0), read: 0 })
    }

    /// Sends `operations` words through the lane.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, control, reader, read } = self;
        partner.block(operations, |shared, operations| {
            let lane = control.lane(0);
            for _ in 0..operations {
                while !matches!(reader.peek(lane), Next::Record(_)) {
                    spin_hint();
                }
                reader.advance();
                *read += 1;
                if read.is_multiple_of(256) {
                    shared.own(TAKEN).store(*read, Release);
                }
            }
            shared.own(TAKEN).store(*read, Release);
        })
    }
}

/// The task ring with its table: this process submits, the partner claims and reads the input.
pub struct SubmitClaim {
    partner: Partner,
    control: Arc<Control>,
    position: u64,
    head: u64,
}

impl SubmitClaim {
    pub fn new() -> io::Result<Self> {
        let control = partner::control(CAPACITY)?;
        let theirs = Arc::clone(&control);
        let mut sum = 0_u64;
        let partner = Partner::fork(move |_, operations| {
            for _ in 0..operations {
                sum = sum.wrapping_add(take(&theirs, worker()).2);
            }
            std::hint::black_box(sum);
        })?;
        Ok(Self { partner, control, position: 0, head: 0 })
    }

    /// Submits and claims `operations` tasks.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, control, position, head } = self;
        partner.block(operations, |_, operations| {
            for _ in 0..operations {
                while *position - *head >= AHEAD {
                    *head = control.ring(0).head();
                }
                submit(control, *position);
                *position += 1;
            }
        })
    }
}

/// Every step of a task but its future, over the rings and the table alone: this process submits
/// and receives, the partner claims, starts and completes.
pub struct RingCycle {
    partner: Partner,
    control: Arc<Control>,
    reader: LaneReader,
    position: u64,
    received: u64,
}

/// Tasks submitted between two looks at the lane, and turns of a spin between two looks at an
/// empty one: each look takes the line away that the partner is about to write.
const BATCH: u64 = 64;
const PAUSE: u32 = 32;

impl RingCycle {
    pub fn new() -> io::Result<Self> {
        let control = partner::control(CAPACITY)?;
        let theirs = Arc::clone(&control);
        let mut writer = LaneWriter::at(0);
        let partner = Partner::fork(move |_, operations| {
            for _ in 0..operations {
                let (record, claimed, input) = take(&theirs, worker());
                answer(&theirs, &mut writer, record, claimed, input);
            }
        })?;
        Ok(Self { partner, control, reader: LaneReader::at(0), position: 0, received: 0 })
    }

    /// Runs `operations` tasks, at most [`AHEAD`] in flight.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, control, reader, position, received } = self;
        partner.block(operations, |_, operations| {
            for _ in 0..operations {
                submit(control, *position);
                *position += 1;
                if position.is_multiple_of(BATCH) {
                    *received += receive_all(control, reader);
                    if *position - *received >= AHEAD {
                        receive_to(control, reader, *position - AHEAD / 2, received);
                    }
                }
            }
            receive_to(control, reader, *position, received);
        })
    }
}

/// Receives until `end` outcomes are in, since the beginning.
fn receive_to(control: &Control, reader: &mut LaneReader, end: u64, received: &mut u64) {
    while *received < end {
        let some = receive_all(control, reader);
        *received += some;
        if some == 0 {
            (0..PAUSE).for_each(|_| spin_hint());
        }
    }
}

/// Receives what the lane holds, and says how many that were.
fn receive_all(control: &Control, reader: &mut LaneReader) -> u64 {
    let mut count = 0;
    while let Next::Record(index) = reader.peek(control.lane(0)) {
        reader.advance();
        if let Next::Record(next) = reader.peek(control.lane(0)) {
            control.records()[next as usize].prefetch();
        }
        receive(control, index);
        count += 1;
    }
    count
}

/// Takes an outcome out of its record, which is free then.
fn receive(control: &Control, index: u32) {
    let record = &control.records()[index as usize];
    let word = record.state();
    assert!(word.state() == Some(State::Done), "{word:?}");
    std::hint::black_box(record.output());
    record.release(word.generation());
}

/// One task at a time through ring, table and lane, both sides spinning.
pub struct RoundTrip {
    partner: Partner,
    control: Arc<Control>,
    reader: LaneReader,
    position: u64,
}

impl RoundTrip {
    pub fn new() -> io::Result<Self> {
        let control = partner::control(CAPACITY)?;
        let theirs = Arc::clone(&control);
        let mut writer = LaneWriter::at(0);
        let partner = Partner::fork(move |_, operations| {
            for _ in 0..operations {
                let (record, claimed, input) = take(&theirs, worker());
                answer(&theirs, &mut writer, record, claimed, input);
            }
        })?;
        Ok(Self { partner, control, reader: LaneReader::at(0), position: 0 })
    }

    /// Makes `operations` round trips.
    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { partner, control, reader, position } = self;
        partner.block(operations, |_, operations| {
            for _ in 0..operations {
                // As in a pool, where the record that was freed last is used first.
                submit_as(control, *position, 0);
                *position += 1;
                let index = loop {
                    if let Next::Record(index) = reader.peek(control.lane(0)) {
                        break index;
                    }
                    spin_hint();
                };
                reader.advance();
                receive(control, index);
            }
        })
    }
}

/// Starts and completes a claimed task that gives its input back.
fn answer(
    control: &Control,
    writer: &mut LaneWriter,
    index: u32,
    claimed: aiopool::internals::StateWord,
    input: u64,
) {
    let record = &control.records()[index as usize];
    let running = record.try_start(claimed).expect("nobody calls it off");
    let place = Place::Word(input);
    record.describe_output(OutputDesc { status: 0, elapsed_ns: 0, len: 8, place }, &[]);
    let _ = record.try_commit(running).expect("nobody calls it off");
    writer.push(control.lane(0), index);
}
