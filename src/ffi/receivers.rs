//! The threads that receive a pool's outcomes, for a submitter that may wait for them.

use std::time::Duration;

use crate::sys::thread;

/// The threads that have received outcomes of a pool, or wait for some.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    known: Vec<Receiver>,
    /// The one of them that was here last.
    last: i32,
    /// Number of threads that wait to submit until another thread has received.
    submitting: usize,
}

#[derive(Debug)]
struct Receiver {
    /// The kernel's id.
    thread: i32,
    /// It waits to submit, and so receives nothing.
    submits: bool,
}

/// How long a submitter waits for the first receiver: a thread that was just started needs
/// milliseconds to its first call. Shorter than a turn of the call, which counts anew.
const FIRST: Duration = Duration::from_millis(500);

/// More threads than this are searched for such as have ended.
const MANY: usize = 64;

impl Receivers {
    /// Takes note of the calling thread, which receives. True if another one waits for that.
    pub(super) fn note(&mut self) -> bool {
        let thread = thread::own_id();
        if self.last != thread {
            self.last = thread;
            if self.known.iter().all(|known| known.thread != thread) {
                if self.known.len() >= MANY {
                    self.known.retain(|known| thread::exists(known.thread));
                }
                self.known.push(Receiver { thread, submits: false });
            }
        }
        self.submitting > 0
    }

    /// The calling thread waits to submit.
    pub(super) fn submits(&mut self) {
        self.submitting += 1;
        self.set_submits(true);
    }

    /// The calling thread has waited to submit.
    pub(super) fn submits_no_more(&mut self) {
        self.submitting -= 1;
        self.set_submits(false);
    }

    fn set_submits(&mut self, submits: bool) {
        let thread = thread::own_id();
        self.known.iter_mut().filter(|known| known.thread == thread).for_each(|known| {
            known.submits = submits;
        });
    }

    /// Returns whether a thread may receive while the calling one, which has waited for `waited`,
    /// does not.
    pub(super) fn any_other(&self, waited: Duration) -> bool {
        if self.known.is_empty() {
            return waited < FIRST && thread::has_others();
        }
        self.known.iter().any(|known| !known.submits && thread::exists(known.thread))
    }
}
