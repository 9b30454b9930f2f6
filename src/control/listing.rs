//! The layout as a text: one of each thing is written, and every word that changed is listed.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::header::LAYOUT_VERSION;
use super::{Control, Part, Phase, Polled, Shape};
use crate::arena::Block;
use crate::ring::{HandbackWriter, LaneWriter, place};
use crate::sync::atomic::Ordering::Relaxed;
use crate::table::{Call, InputDesc, OutputDesc, Owner, Place, State, WorkerId};

/// Returns all parts, in the order of the region.
fn parts() -> impl Iterator<Item = Part> {
    Part::BEFORE_RECORDS.into_iter().chain([Part::Records])
}

struct Listing {
    control: Control,
    before: Vec<u64>,
    text: String,
}

impl Listing {
    /// Does `act`, and lists what it changed.
    fn list(&mut self, what: &str, act: impl FnOnce(&Control)) {
        act(&self.control);
        let mut at = 0;
        for part in parts() {
            for (number, word) in self.control.part(part).iter().enumerate() {
                let value = word.load(Relaxed);
                if std::mem::replace(&mut self.before[at], value) != value {
                    writeln!(self.text, "{what}: {part:?} {number} = {value:#x}").unwrap();
                }
                at += 1;
            }
        }
    }
}

/// Rewritten by `AIOPOOL_BLESS=1 cargo test --lib control::listing`, together with the version.
#[test]
fn the_layout_is_the_one_of_its_version() {
    let shape = Shape { capacity: 4, slots: 3, classes: 2 };
    let control = Control::create(shape).unwrap();
    let before = vec![0; control.all_words().len()];
    let mut listing = Listing { control, before, text: format!("version {LAYOUT_VERSION}\n") };
    let text = &mut listing.text;
    for part in parts() {
        let words = listing.control.part(part);
        let start = words.as_ptr().addr() - listing.control.all_words().as_ptr().addr();
        writeln!(text, "{part:?} at {start}, {} words", words.len()).unwrap();
    }
    listing.list("header", |_| {});
    let records = |control: &Control, act: &dyn Fn(&crate::table::Record)| {
        act(&control.records()[2]);
    };
    let call = Call { function: 0x11, attempts: 0x12, flags: Call::ALONE | Call::tag(0x22) };
    let block = Block::from_bits(0x33);
    let id = WorkerId { queue: 0, slot: 2, incarnation: 0x44 };
    let input = |place| InputDesc { len: 0x55, place }.words();
    let output = |place| OutputDesc { status: 6, elapsed_ns: 0x77_0000, len: 0x88, place };
    listing.list("call, input in the word", |control| {
        records(control, &|record| record.describe(call, input(Place::Word(0x99)), &[]));
    });
    listing.list("input inline", |control| {
        records(control, &|record| record.describe(call, input(Place::Inline), &[0xAA; 64]));
    });
    listing.list("input in a block", |control| {
        records(control, &|record| record.describe(call, input(Place::Block(block)), &[]));
    });
    listing.list("queued", |control| records(control, &|record| record.set_queued(0xAB)));
    listing.list("publish", |control| {
        records(control, &|record| record.publish(0xBB, place(1, 0xCC)));
    });
    listing.list("push", |control| control.ring(1).push(0xCC, 2));
    listing.list("head", |control| control.ring(1).start_at(0xCC));
    listing.list("claim", |control| {
        records(control, &|record| assert!(record.try_claim(record.state(), Owner::of(id))));
    });
    listing.list("start", |control| {
        records(control, &|record| {
            record.set_started(0xDD);
            record.try_start(record.state()).unwrap();
        });
    });
    listing.list("output in the word", |control| {
        records(control, &|record| record.describe_output(output(Place::Word(0xEE)), &[]));
    });
    listing.list("output inline", |control| {
        records(control, &|record| record.describe_output(output(Place::Inline), &[0xFF; 128]));
    });
    listing.list("output in a block", |control| {
        records(control, &|record| record.describe_output(output(Place::Block(block)), &[]));
    });
    listing.list("commit", |control| {
        records(control, &|record| assert!(record.try_commit(record.state()).is_ok()));
    });
    listing.list("lane", |control| LaneWriter::at(0xC).push(control.lane(2), 2));
    listing.list("hand-back", |control| {
        let taken = control.report(2).handback_taken();
        assert!(HandbackWriter::at(0xD).try_push(control.handback(2), taken, block));
    });
    listing.list("arm", |control| control.host_flag().arm());
    listing.list("search", |control| control.bells().start_search(1));
    listing.list("sleep", |control| control.bells().sleep(2));
    listing.list("a task is called off", |control| control.attention(2).call());
    listing.list("assign", |control| control.attention(2).assign());
    listing.list("ask", |control| control.attention(2).ask());
    listing.list("stop", |control| control.attention(2).stop());
    listing.list("traced", |control| control.trace_switch(2).store(0x10, Relaxed));
    listing.list("lent", |control| control.lent(2).store(0xE, Relaxed));
    listing.list("completed", |control| control.report(2).note_completed());
    listing.list("polled", |control| {
        control.report(2).set_polled(Polled::default().next(2));
    });
    listing.list("begun", |control| {
        control.report(2).set_begun(Polled::default().next(2));
    });
    listing.list("progress", |control| records(control, &|record| record.set_progress(0xC, 0xD)));
    listing.list("program", |control| control.report(2).set_program(0xF));
    listing.list("text", |control| control.report(2).set_text(block, 0xF));
    listing.list("wants room", |control| control.report(2).wants_room().say(true));
    let phases =
        [Phase::Ready, Phase::Retiring, Phase::InitFailed, Phase::Leaving, Phase::Starting];
    for phase in phases {
        listing.list(&format!("{phase:?}"), |control| control.report(2).set_phase(phase));
    }
    for state in [
        State::Free,
        State::Queued,
        State::Claimed,
        State::Running,
        State::Done,
        State::Cancelled,
        State::Cancelling,
        State::Held,
    ] {
        writeln!(listing.text, "{state:?} is {}", state as u8).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/layout.txt");
    if std::env::var_os("AIOPOOL_BLESS").is_some() {
        std::fs::write(path, &listing.text).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap();
    let differs = known.lines().zip(listing.text.lines()).find(|(known, now)| known != now);
    assert!(
        known == listing.text,
        "the layout is not the one of layout.txt: raise LAYOUT_VERSION, say why beside it, and \
         rewrite the file; the first difference (before, now): {differs:?}"
    );
}
