//! loom model of a ring: a worker that writes more entries than there is room for, beside a reader.

use std::sync::Arc;

use crate::sync::atomic::AtomicU64;
use crate::sync::model::check;
use crate::table::Call;

use super::ring::{ENTRY_WORDS, Entry, Reader, Ring, Writer};

struct Memory {
    head: AtomicU64,
    words: Vec<AtomicU64>,
}

impl Memory {
    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.head, &self.words)
    }
}

/// Returns the entry of a number, which is in every word of it.
fn entry(number: u64) -> Entry {
    let call = Call { function: number as u32, attempts: 0, flags: Call::tag(number) };
    let (start, waited) = (number, Some(number));
    Entry { start, call, waited, is_run: false, incarnation: number as u16, end: None }
}

/// A worker writes `writes` entries into room for two, while a reader visits twice.
fn beside_a_reader(writes: u64) {
    let word = || AtomicU64::new(0);
    let words = (0..2 * ENTRY_WORDS).map(|_| word()).collect();
    let memory = Arc::new(Memory { head: word(), words });
    let mut reader = Reader::new(memory.ring());
    let worker = {
        let memory = memory.clone();
        loom::thread::spawn(move || {
            let mut writer = Writer::new(memory.ring());
            for number in 0..writes {
                let open = writer.begin(memory.ring(), entry(number));
                writer.end(memory.ring(), open, 2 * number, 1);
            }
        })
    };
    let mut last = None;
    let mut visit = |reader: &mut Reader| {
        reader.visit(memory.ring(), |position, found| {
            // Whole, of one number, and in order; its end is there or not.
            assert_eq!(Entry { end: None, ..found }, entry(position));
            assert!(found.end.is_none_or(|end| end == (position, 1)));
            assert!(last.is_none_or(|last| last < position));
            last = Some(position);
            if let Ok(Some(end)) = Reader::look_again(memory.ring(), position) {
                assert_eq!(end, (position, 1));
            }
        });
    };
    visit(&mut reader);
    worker.join().unwrap();
    visit(&mut reader);
    // The newest one is never overwritten.
    assert_eq!(last, Some(writes - 1));
    assert!(reader.lost() < writes);
}

#[test]
fn no_torn_entry_is_kept() {
    check("a trace, three entries", 2, || beside_a_reader(3));
}
