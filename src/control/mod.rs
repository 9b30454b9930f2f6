//! Floor 3: a queue's control region, where the rings, the table and the doorbell meet memory.

#![cfg(not(aiopool_loom))]
#![allow(unsafe_code)] // An island: the records are cast from mapped words.

mod header;
mod layout;
#[cfg(test)]
mod listing;
mod report;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::doorbell::{Attention, HostFlag, Processors, SlotSet, WorkerBells};
use crate::ring::{TaskRing, has_task};
use crate::shm::Region;
use crate::sync::atomic::AtomicU64;
use crate::table::Record;
use crate::trace::{ENTRY_WORDS, Ring};

pub(crate) use header::LAYOUT_VERSION;
pub use layout::Shape;
pub(crate) use report::{Phase, Polled, Report};

/// A mapped control region and the views of its parts.
#[derive(Debug)]
pub struct Control {
    region: Region,
    /// Where it begins; its bounds are checked once, not in every step of a task.
    base: NonNull<AtomicU64>,
    shape: Shape,
    layout: layout::Layout,
}

// SAFETY: `base` points into the mapping that `region` owns, which no thread is bound to; every
// access through it is atomic.
unsafe impl Send for Control {}
// SAFETY: as for `Send`.
unsafe impl Sync for Control {}

const NAME: &CStr = c"aiopool-control";

/// A part of a control region.
#[cfg(any(test, aiopool_fuzz))]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Header,
    Heads,
    HostFlag,
    Sleepers,
    Searchers,
    Processors,
    Attention,
    Report,
    Rings,
    Lanes,
    Handbacks,
    Records,
}

#[cfg(any(test, aiopool_fuzz))]
impl Part {
    /// Those that are no records.
    pub(crate) const BEFORE_RECORDS: [Self; 11] = [
        Self::Header,
        Self::Heads,
        Self::HostFlag,
        Self::Sleepers,
        Self::Searchers,
        Self::Processors,
        Self::Attention,
        Self::Report,
        Self::Rings,
        Self::Lanes,
        Self::Handbacks,
    ];
}

impl Control {
    /// Creates a new control region, its pages reserved, every record FREE and every ring empty.
    ///
    /// # Errors
    ///
    /// Whatever the system refuses; `shape` is the caller's to have checked.
    pub fn create(shape: Shape) -> io::Result<Self> {
        assert!(shape.is_sound(), "{shape:?}");
        let layout = shape.layout();
        let region = Region::create(NAME, layout.len)?;
        region.reserve(0, layout.traces)?;
        header::write(&region, shape);
        Ok(Self::over(region, shape, layout))
    }

    /// Maps the control region behind `fd`. `shape` comes from the host; nothing in the region
    /// itself is trusted.
    ///
    /// # Errors
    ///
    /// What mmap refuses, or a region that has no room for `shape`.
    pub(crate) fn open(fd: OwnedFd, shape: Shape) -> io::Result<Self> {
        let region = Region::open(fd)?;
        shape.check(region.len()).map_err(io::Error::other)?;
        Ok(Self::over(region, shape, shape.layout()))
    }

    /// Like [`open`](Self::open), with the shape that the region's own header names.
    #[cfg(test)]
    pub(crate) fn open_by_header(fd: OwnedFd) -> io::Result<Self> {
        let region = Region::open(fd)?;
        let shape = header::read(&region).map_err(io::Error::other)?;
        Ok(Self::over(region, shape, shape.layout()))
    }

    /// Returns the views of `region`, which `layout` fits.
    fn over(region: Region, shape: Shape, layout: layout::Layout) -> Self {
        let base = NonNull::from(region.words(0, layout.len / 8)).cast();
        Self { region, base, shape, layout }
    }

    /// Keeps the mapping out of children that this process forks.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.region.keep_from_children()
    }

    /// Whether the header still says what it was created with; else what it says.
    pub(crate) fn check_header(&self) -> Result<(), String> {
        match header::read(&self.region)? {
            shape if shape == self.shape => Ok(()),
            shape => Err(format!("{shape:?} in the header of {:?}", self.shape)),
        }
    }

    /// Returns what the region has room for.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the task ring of priority class `class`, 0 the most urgent.
    #[inline]
    pub fn ring(&self, class: usize) -> TaskRing<'_> {
        let capacity = self.shape.capacity as usize;
        assert!(class < self.shape.classes as usize);
        let head = self.word(self.layout.heads + class * layout::LINE);
        TaskRing::new(head, self.words(self.layout.rings + class * capacity * 8, capacity))
    }

    /// Returns how many priority classes there are.
    #[inline]
    pub(crate) fn classes(&self) -> usize {
        self.shape.classes as usize
    }

    /// Returns whether any ring has an entry at its head.
    #[inline]
    pub(crate) fn has_task(&self) -> bool {
        (0..self.classes()).any(|class| has_task(self.ring(class)))
    }

    /// Returns the task table.
    #[inline]
    pub fn records(&self) -> &[Record] {
        // SAFETY: a `Record` consists of `AtomicU64`s.
        unsafe { self.atomics(self.layout.records, self.shape.capacity as usize) }
    }

    /// Returns the result lane of `slot`.
    #[inline]
    pub fn lane(&self, slot: usize) -> &[AtomicU64] {
        let words = self.shape.lane_words();
        self.words(self.layout.lanes + self.slot(slot) * words * 8, words)
    }

    /// Returns the hand-back lane of `slot`.
    pub(crate) fn handback(&self, slot: usize) -> &[AtomicU64] {
        let start = self.layout.handbacks + self.slot(slot) * layout::HANDBACK * 8;
        self.words(start, layout::HANDBACK)
    }

    /// Returns the host's side of the doorbell.
    #[inline]
    pub(crate) fn host_flag(&self) -> HostFlag<'_> {
        HostFlag::new(self.word(self.layout.host_flag))
    }

    /// Returns the workers' side of the doorbell.
    #[inline]
    pub(crate) fn bells(&self) -> WorkerBells<'_> {
        let set = |offset| SlotSet::new(self.words(offset, self.shape.set_words()));
        WorkerBells::new(set(self.layout.sleepers), set(self.layout.searchers))
    }

    /// Returns the words that say where host and workers run.
    #[inline]
    pub(crate) fn processors(&self) -> Processors<'_> {
        let slots = self.shape.slots as usize;
        let sleepers = SlotSet::new(self.words(self.layout.sleepers, self.shape.set_words()));
        Processors::new(self.words(self.layout.processors, 1 + slots), sleepers)
    }

    /// Returns the word in which the host calls the worker in `slot`.
    #[inline]
    pub(crate) fn attention(&self, slot: usize) -> Attention<'_> {
        Attention::new(self.word(self.layout.attention + self.slot(slot) * layout::LINE))
    }

    /// Returns the bytes of the result arena of the worker in `slot` that receivers have borrowed;
    /// the host writes it. Beside the attention word, which the host writes, too.
    pub(crate) fn lent(&self, slot: usize) -> &AtomicU64 {
        self.word(self.layout.attention + self.slot(slot) * layout::LINE + 8)
    }

    /// Returns the word with which the host has the worker in `slot` traced; likewise.
    #[inline]
    pub(crate) fn trace_switch(&self, slot: usize) -> &AtomicU64 {
        self.word(self.layout.attention + self.slot(slot) * layout::LINE + 16)
    }

    /// Has the system set the memory of the rings of timelines aside; nobody touches them before.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(crate) fn reserve_traces(&self) -> io::Result<()> {
        self.region.reserve(self.layout.traces, self.layout.len - self.layout.traces)
    }

    /// Returns the ring of the timeline of the worker in `slot`.
    #[inline]
    pub(crate) fn trace(&self, slot: usize) -> Ring<'_> {
        let bytes = self.layout.trace;
        let start = self.layout.traces + self.slot(slot) * bytes;
        let words = (bytes - layout::LINE) / 8;
        debug_assert!(words.is_multiple_of(ENTRY_WORDS));
        Ring::new(self.word(start), self.words(start + layout::LINE, words))
    }

    /// Returns the report of the worker in `slot`.
    #[inline]
    pub(crate) fn report(&self, slot: usize) -> Report<'_> {
        let start = self.layout.report + self.slot(slot) * layout::LINE;
        Report::new(self.words(start, layout::LINE / 8))
    }

    /// Returns the word in which the worker in `slot` says how far it is, for tests that damage it.
    #[cfg(test)]
    pub(crate) fn phase_word(&self, slot: usize) -> &AtomicU64 {
        self.word(self.layout.report + self.slot(slot) * layout::LINE)
    }

    /// Every word that is always there, for tests that damage it.
    #[cfg(any(test, aiopool_fuzz))]
    pub(crate) fn all_words(&self) -> &[AtomicU64] {
        self.words(0, self.layout.traces / 8)
    }

    /// Returns the words of one part, likewise.
    #[cfg(any(test, aiopool_fuzz))]
    pub(crate) fn part(&self, part: Part) -> &[AtomicU64] {
        let at = &self.layout;
        let (start, end) = match part {
            Part::Header => (0, at.heads),
            Part::Heads => (at.heads, at.host_flag),
            Part::HostFlag => (at.host_flag, at.sleepers),
            Part::Sleepers => (at.sleepers, at.searchers),
            Part::Searchers => (at.searchers, at.processors),
            Part::Processors => (at.processors, at.attention),
            Part::Attention => (at.attention, at.report),
            Part::Report => (at.report, at.rings),
            Part::Rings => (at.rings, at.lanes),
            Part::Lanes => (at.lanes, at.handbacks),
            Part::Handbacks => (at.handbacks, at.records),
            Part::Records => (at.records, at.traces),
        };
        self.words(start, (end - start) / 8)
    }

    #[inline]
    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        debug_assert!(offset.is_multiple_of(8));
        // SAFETY: words are atomics.
        unsafe { self.atomics(offset, count) }
    }

    /// `count` values of a type made of atomic words at `offset`: a part of the layout.
    ///
    /// # Safety
    ///
    /// `T` consists of [`AtomicU64`]s only.
    #[inline]
    unsafe fn atomics<T>(&self, offset: usize, count: usize) -> &[T] {
        debug_assert!(offset + count * size_of::<T>() <= self.region.len());
        // SAFETY: each caller asks for a part of the layout, of a slot and a class that it has
        // checked, and the layout fits the region: `create` makes the region as long as the layout,
        // `open` has `Shape::check` compare the two; aligned by the layout; the mapping lives as
        // long as `self` and cannot shrink (its size is sealed), zero pages are initialised, and
        // every process accesses the words as atomics.
        unsafe { std::slice::from_raw_parts(self.base.byte_add(offset).cast().as_ptr(), count) }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words(offset, 1)[0]
    }

    #[inline]
    fn slot(&self, slot: usize) -> usize {
        assert!(slot < self.shape.slots as usize);
        slot
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.region.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_overlap_at_any_size() {
        for capacity in [1, 16, 4096] {
            for slots in [1, 2, 64, 65, 300] {
                for classes in 1..=4 {
                    let shape = Shape { capacity, slots, classes };
                    let at = shape.layout();
                    let n = capacity as usize;
                    let parts = [
                        (at.heads, classes as usize * layout::LINE),
                        (at.host_flag, 8),
                        (at.sleepers, shape.set_words() * 8),
                        (at.searchers, shape.set_words() * 8),
                        (at.processors, (1 + slots as usize) * 8),
                        (at.attention, slots as usize * layout::LINE),
                        (at.report, slots as usize * layout::LINE),
                        (at.rings, classes as usize * n * 8),
                        (at.lanes, slots as usize * shape.lane_words() * 8),
                        (at.handbacks, slots as usize * layout::HANDBACK * 8),
                        (at.records, n * size_of::<Record>()),
                        (at.traces, slots as usize * at.trace),
                        (at.len, 0),
                    ];
                    assert!(parts[0].0 >= layout::HEADER);
                    for pair in parts.windows(2) {
                        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{shape:?}: {pair:?}");
                    }
                    assert!(at.records.is_multiple_of(256));
                }
            }
        }
    }

    #[test]
    fn another_mapping_finds_the_same_parts_and_a_foreign_file_is_refused() {
        let shape = Shape { capacity: 16, slots: 3, classes: 2 };
        let host = Control::create(shape).unwrap();
        let worker = Control::open(host.as_fd().try_clone_to_owned().unwrap(), shape).unwrap();
        assert_eq!(worker.shape(), shape);
        host.attention(2).stop();
        assert!(Attention::says_stop(worker.attention(2).get()));
        worker.bells().sleep(1);
        assert_eq!(host.bells().to_wake(|| 1, 0), Some(1));

        let foreign = Region::create(c"test", 4096).unwrap();
        let foreign = foreign.as_fd().try_clone_to_owned().unwrap();
        let error = Control::open(foreign, shape).unwrap_err();
        assert!(error.to_string().contains("a region of 4096 bytes"), "{error}");
    }
}
