//! A task's record: 256 bytes of shared memory that say all there is to say about one task.
//!
//! Every field is an atomic word, so that a process that scribbles can spoil a value but never
//! the host's memory safety. Apart from the state word, whose changes are in `transition.rs`,
//! each word has one writer at a time: the host until QUEUED, the owner from RUNNING to DONE.

#![allow(unsafe_code)] // An island: one hint to the processor.

use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::payload::{INLINE_INPUT, INLINE_OUTPUT, InputDesc, OutputDesc};

/// Words of a record. Under loom only the first of each inline area exist: models use one.
#[cfg(not(aiopool_loom))]
const INPUT_WORDS: usize = INLINE_INPUT / 8;
#[cfg(not(aiopool_loom))]
const OUTPUT_WORDS: usize = INLINE_OUTPUT / 8;
#[cfg(aiopool_loom)]
const INPUT_WORDS: usize = 1;
#[cfg(aiopool_loom)]
const OUTPUT_WORDS: usize = 1;

/// One record. The first 64 bytes are all that a task with an input and an output of up to eight
/// bytes touches.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Record {
    /// `{ generation, owner, state }`; see `state.rs`.
    pub(super) state: AtomicU64,
    /// Where its newest ring entry is: `{ class:2, position:62 }`.
    pub(super) position: AtomicU64,
    /// `{ flags:32, attempts:16, function:16 }`.
    call: AtomicU64,
    /// Where the input is; see [`InputDesc`].
    input: [AtomicU64; 2],
    /// Where the output is; see [`OutputDesc`]. While the task runs: how far it says that it is.
    output: [AtomicU64; 2],
    /// When the host queued it; from RUNNING on, when the owner started it: `CLOCK_MONOTONIC` in
    /// nanoseconds.
    started: AtomicU64,
    inline_input: [AtomicU64; INPUT_WORDS],
    inline_output: [AtomicU64; OUTPUT_WORDS],
}

#[cfg(not(aiopool_loom))]
const _: () = {
    assert!(size_of::<Record>() == 256);
    assert!(std::mem::offset_of!(Record, inline_input) == 64);
    assert!(std::mem::offset_of!(Record, inline_output) == 128);
};

/// What the host says about a task besides its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The task function's number in the table of function entries, below 65,536.
    pub function: u32,
    /// Attempts that were made before this one; at 65,535 it stays.
    pub attempts: u16,
    /// [`Call::ALONE`] or nothing, and the task's [`tag`](Call::tag).
    pub flags: u32,
}

impl Call {
    /// The task is suspected of having killed a worker: nothing else may run beside it.
    pub(crate) const ALONE: u32 = 1;

    /// Returns the low 31 bits of the task's number, for the worker to tell in its spans.
    pub(crate) fn tag(task: u64) -> u32 {
        (task as u32) << 1
    }

    /// Returns what [`tag`](Self::tag) was given.
    pub(crate) fn task(self) -> u32 {
        self.flags >> 1
    }

    /// Returns it as one word.
    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.flags) << 32 | u64::from(self.attempts) << 16 | u64::from(self.function)
    }

    /// Returns what [`to_word`](Self::to_word) made a word of.
    #[inline]
    pub(crate) fn of_word(word: u64) -> Self {
        let (function, attempts) = (word as u32 & 0xFFFF, (word >> 16) as u16);
        Self { function, attempts, flags: (word >> 32) as u32 }
    }
}

impl Default for Record {
    fn default() -> Self {
        let word = || AtomicU64::new(0);
        Self {
            state: word(),
            position: word(),
            call: word(),
            input: std::array::from_fn(|_| word()),
            output: std::array::from_fn(|_| word()),
            started: word(),
            inline_input: std::array::from_fn(|_| word()),
            inline_output: std::array::from_fn(|_| word()),
        }
    }
}

// Accesses below are Relaxed where they do not say why not: the bytes are carried by the state
// word's Release (publish, commit) and Acquire (claim, receive).
impl Record {
    /// Has the processor fetch the record's first line, for a look at it soon.
    pub fn prefetch(&self) {
        #[cfg(all(target_arch = "x86_64", not(aiopool_loom), not(miri)))]
        // SAFETY: a hint; the address is of `self`, and any would do.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(self).cast());
        }
    }

    /// The host describes the task, with its input's [`words`](InputDesc::words); inline bytes go
    /// along.
    pub fn describe(&self, call: Call, [place, rest]: [u64; 2], inline: &[u8]) {
        debug_assert!(call.function <= u32::from(u16::MAX));
        self.call.store(call.to_word(), Relaxed);
        self.input[0].store(place, Relaxed);
        self.input[1].store(rest, Relaxed);
        store_bytes(&self.inline_input, inline);
    }

    /// Returns what is to be called.
    pub(crate) fn call(&self) -> Call {
        Call::of_word(self.call.load(Relaxed))
    }

    /// Returns where the input is.
    pub fn input(&self) -> InputDesc {
        InputDesc::from_words([self.input[0].load(Relaxed), self.input[1].load(Relaxed)])
    }

    /// Copies inline input bytes out; at most as many as there are.
    pub(crate) fn read_inline_input(&self, into: &mut [u8]) {
        load_bytes(&self.inline_input, into);
    }

    /// The owner describes its output; inline bytes go along.
    pub fn describe_output(&self, output: OutputDesc, inline: &[u8]) {
        let [place, rest] = output.words();
        self.output[0].store(place, Relaxed);
        // Release: pairs with the Acquire in `progress`, which is not to take this word for one.
        self.output[1].store(rest, Release);
        store_bytes(&self.inline_output, inline);
    }

    /// The owner says how far the task is, of which its `generation` is; between RUNNING and the
    /// description of the output, whose words it uses.
    pub(crate) fn set_progress(&self, generation: u32, progress: u64) {
        self.output[1].store(progress, Relaxed);
        // Release: the number is there when its tag is seen.
        self.output[0].store(progress_tag(generation), Release);
    }

    /// Returns how far the task of this `generation` says that it is; `None` if it has not said so,
    /// or has ended.
    pub(crate) fn progress(&self, generation: u32) -> Option<u64> {
        let tag = progress_tag(generation);
        let is_tagged = self.output[0].load(Acquire) == tag;
        // Acquire: where this is an output's word, the look after it finds the tag gone.
        let progress = self.output[1].load(Acquire);
        (is_tagged && self.output[0].load(Relaxed) == tag).then_some(progress)
    }

    /// Returns where the output is, as the owner says; not to be trusted.
    pub fn output(&self) -> OutputDesc {
        OutputDesc::from_words([self.output[0].load(Relaxed), self.output[1].load(Relaxed)])
    }

    /// Returns the length, the word and the time of an output of status 0 that is in its
    /// descriptor, not to be trusted; none for any other.
    #[inline]
    pub(crate) fn output_in_words(&self) -> Option<(u8, u64, u64)> {
        OutputDesc::in_words([self.output[0].load(Relaxed), self.output[1].load(Relaxed)])
    }

    /// Copies inline output bytes out; at most as many as there are.
    pub(crate) fn read_inline_output(&self, into: &mut [u8]) {
        load_bytes(&self.inline_output, into);
    }

    /// The host says when it queued the task, before it does.
    #[inline]
    pub(crate) fn set_queued(&self, monotonic_ns: u64) {
        self.started.store(monotonic_ns, Relaxed);
    }

    /// Returns when the host queued the task; for its owner, before it says that it has started it.
    #[inline]
    pub(crate) fn queued(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// The owner says when it started the task.
    pub(crate) fn set_started(&self, monotonic_ns: u64) {
        self.started.store(monotonic_ns, Relaxed);
    }

    /// When the owner says that it started the task.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }
}

/// Says that the word behind it is a progress: a place that no output has.
fn progress_tag(generation: u32) -> u64 {
    u64::from(generation) << 8 | 0xE
}

fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(eight), Relaxed);
    }
}

fn load_bytes(words: &[AtomicU64], into: &mut [u8]) {
    for (word, chunk) in words.iter().zip(into.chunks_mut(8)) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::table::payload::Place;

    #[test]
    fn inline_bytes_come_back_whole_at_every_length() {
        let record = Record::default();
        for len in 0..=INLINE_INPUT {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8 ^ 0xA5).collect();
            let input = InputDesc { len: len as u32, place: Place::Inline };
            let call = Call { function: 7, attempts: u16::MAX, flags: Call::ALONE };
            record.describe(call, input.words(), &bytes);
            let mut back = vec![0; len];
            record.read_inline_input(&mut back);
            assert_eq!(back, bytes);
            assert_eq!(record.input(), input);
            assert_eq!(record.call(), call);
        }
    }

    #[test]
    fn a_call_carries_the_number_of_its_task() {
        let record = Record::default();
        let flags = Call::ALONE | Call::tag((5 << 32) + 77);
        let input = InputDesc { len: 0, place: Place::Inline };
        record.describe(Call { function: 3, attempts: 0, flags }, input.words(), &[]);
        assert_eq!((record.call().task(), record.call().flags & 1), (77, Call::ALONE));
    }

    #[test]
    fn a_progress_is_of_one_attempt_and_ends_with_its_output() {
        let record = Record::default();
        assert_eq!(record.progress(0), None);
        record.set_progress(7, u64::MAX);
        assert_eq!((record.progress(7), record.progress(8)), (Some(u64::MAX), None));
        record.set_progress(7, 3);
        assert_eq!(record.progress(7), Some(3));
        let word = OutputDesc { status: 0, elapsed_ns: 0, len: 1, place: Place::Word(5) };
        record.describe_output(word, &[]);
        assert_eq!(record.progress(7), None);
    }

    #[test]
    fn input_and_output_share_no_bytes() {
        let record = Record::default();
        let input = InputDesc { len: 64, place: Place::Inline };
        let call = Call { function: 0, attempts: 0, flags: 0 };
        record.describe(call, input.words(), &[1; INLINE_INPUT]);
        record.describe_output(
            OutputDesc { status: 1, elapsed_ns: 0, len: 128, place: Place::Inline },
            &[2; INLINE_OUTPUT],
        );
        let mut back = [0; INLINE_INPUT];
        record.read_inline_input(&mut back);
        assert_eq!(back, [1; INLINE_INPUT]);
    }
}
