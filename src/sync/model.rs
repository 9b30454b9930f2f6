//! What the loom models stand on: words before whose every change a process can die, bytes on
//! which a race is reported, an eventfd, and the checker's settings.
#![allow(unsafe_code)] // One `Sync`, for a cell whose accesses loom checks.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::{Condvar, Mutex};

use super::atomic::Ordering;

/// Runs `model` in every interleaving with at most `preemptions` preemptions, and says how many
/// there were. `LOOM_MAX_PREEMPTIONS` overrides the bound.
pub(crate) fn check(what: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = runs.clone();
    let mut loom = loom::model::Builder::new();
    loom.preemption_bound = loom.preemption_bound.or(Some(preemptions));
    loom.max_branches = 20_000;
    loom.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    eprintln!("{what}: {} interleavings", runs.load(std::sync::atomic::Ordering::Relaxed));
}

loom::thread_local! {
    /// How many more changes of shared memory this thread lives to make.
    static LEFT: Cell<usize> = Cell::new(usize::MAX);
}

/// The payload of the unwinding that stands for SIGKILL.
struct Killed;

/// Runs `life`, a worker process, and kills it before its change number `after` of anything
/// shared, counted from 0; true if it came to that.
///
/// A kill anywhere else leaves the same memory as one of these.
pub(crate) fn mortal(after: usize, life: impl FnOnce()) -> bool {
    LEFT.with(|left| left.set(after));
    let end = catch_unwind(AssertUnwindSafe(life));
    LEFT.with(|left| left.set(usize::MAX));
    match end {
        Ok(()) => false,
        Err(payload) if payload.is::<Killed>() => true,
        Err(payload) => resume_unwind(payload),
    }
}

fn about_to_change() {
    LEFT.with(|left| match left.get() {
        0 => resume_unwind(Box::new(Killed)),
        usize::MAX => {}
        more => left.set(more - 1),
    });
}

/// loom's atomic word, and a kill point before each change of it.
///
/// `turn` makes the loads of a word take turns. loom remembers one last access per word, so a
/// thread that loads a word and then changes it hides that another had loaded it before, and the
/// other order is never tried (tokio-rs/loom issues 166 and 392). A `Notify` that no thread waits
/// for orders the schedule and carries nothing.
#[derive(Debug)]
pub struct AtomicU64 {
    word: loom::sync::atomic::AtomicU64,
    turn: loom::sync::Notify,
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self { word: loom::sync::atomic::AtomicU64::new(value), turn: loom::sync::Notify::new() }
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.turn.notify();
        self.word.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        about_to_change();
        self.word.store(value, order);
    }

    pub(crate) fn compare_exchange(
        &self,
        seen: u64,
        next: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        about_to_change();
        self.word.compare_exchange(seen, next, success, failure)
    }

    pub(crate) fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        about_to_change();
        self.word.fetch_add(more, order)
    }

    pub(crate) fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
        about_to_change();
        self.word.fetch_sub(less, order)
    }

    pub(crate) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        about_to_change();
        self.word.fetch_or(bits, order)
    }

    pub(crate) fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        about_to_change();
        self.word.fetch_and(bits, order)
    }
}

/// The bytes of a payload in a block: plain memory, so that an access which the protocol does not
/// order after another is reported as the race that it is.
#[derive(Debug)]
pub(crate) struct Bytes(loom::cell::UnsafeCell<u64>);

// SAFETY: loom checks every access for races, which is what these are for.
unsafe impl Sync for Bytes {}

impl Bytes {
    pub(crate) fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(0))
    }

    pub(crate) fn write(&self, value: u64) {
        about_to_change();
        // SAFETY: loom gives a valid pointer, and panics where another thread may use it.
        self.0.with_mut(|bytes| unsafe { *bytes = value });
    }

    pub(crate) fn read(&self) -> u64 {
        // SAFETY: as in `write`.
        self.0.with(|bytes| unsafe { *bytes })
    }
}

/// An eventfd.
#[derive(Debug)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    readable: Condvar,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { rung: Mutex::new(false), readable: Condvar::new() }
    }

    pub(crate) fn ring(&self) {
        about_to_change();
        *self.rung.lock().unwrap() = true;
        self.readable.notify_all();
    }

    /// Returns a waker that rings it.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(Wakes(Arc::clone(self))))
    }

    /// Sleeps until it is rung, and drains it. If no thread is left that could ring, loom reports a
    /// deadlock.
    pub(crate) fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.readable.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// A thread that is woken by its bell.
struct Wakes(Arc<Bell>);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring();
    }
}

#[test]
fn both_orders_of_a_load_and_a_change_are_tried_whatever_was_loaded_before() {
    use loom::sync::atomic::Ordering::{AcqRel, Acquire};
    use std::sync::Mutex;

    let seen = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let sees = seen.clone();
    check("load against change", 2, move || {
        let word = Arc::new(AtomicU64::new(0));
        let same = word.clone();
        let other = loom::thread::spawn(move || {
            let now = same.load(Acquire);
            let _ = same.compare_exchange(now, 1, AcqRel, Acquire);
        });
        sees.lock().unwrap().insert(word.load(Acquire));
        other.join().unwrap();
    });
    assert_eq!(seen.lock().unwrap().len(), 2, "loom does not try both orders");
}
