//! The descriptor on which an event loop waits for room.
//!
//! It is readable until a call is refused for want of room, and again when there may be some. The
//! protocol is in `doorbell/README.md`, "Submitters that wait for room".

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Wake, Waker};

use super::boundary::Failure;
use crate::error::Error;
use crate::queue::RoomWait;
use crate::supervisor::Shared;
use crate::sync::lock;
use crate::sys::epoll::Edges;
use crate::sys::eventfd::EventFd;

/// A pool's descriptor for room, once the program has asked for it.
#[derive(Debug, Default)]
pub(super) struct RoomBell(OnceLock<Arc<Bell>>);

#[derive(Debug)]
struct Bell {
    /// Rings of the pool's doorbell, which is left as it is, and of `own`.
    edges: Edges,
    /// Never emptied: each ring is an edge.
    own: EventFd,
    /// Where it stands in the lines of queues, by the number of the queue.
    places: Mutex<Vec<(usize, RoomWait)>>,
    waker: Waker,
}

/// What queues and the memory for inputs wake. Weak: they keep it until they have room again.
struct Woken(Weak<Bell>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let Some(bell) = self.0.upgrade() else { return };
        // Given up before it rings: the program may not come back, and others stand in the line.
        let places = std::mem::take(&mut *lock(&bell.places));
        drop(places);
        bell.ring();
    }
}

impl Bell {
    fn new(doorbell: BorrowedFd<'_>) -> Result<Arc<Self>, Failure> {
        let system = |error| Error::system("make the descriptor for room", error);
        let own = EventFd::new().map_err(system)?;
        let edges = Edges::of(&[doorbell, own.as_fd()]).map_err(system)?;
        // No call was refused yet.
        own.ring().map_err(system)?;
        Ok(Arc::new_cyclic(|me| Self {
            edges,
            own,
            places: Mutex::default(),
            waker: Waker::from(Arc::new(Woken(Weak::clone(me)))),
        }))
    }

    fn ring(&self) {
        // Must not block: the caller may be the supervisor. The eventfd is this process's own, so
        // it cannot be refused.
        let _ = self.own.ring_nonblocking();
    }
}

impl RoomBell {
    /// Returns the descriptor, which is there from now on.
    pub(super) fn fd(&self, doorbell: BorrowedFd<'_>) -> Result<BorrowedFd<'_>, Failure> {
        let bell = match self.0.get() {
            Some(bell) => bell,
            None => {
                let made = Bell::new(doorbell)?;
                self.0.get_or_init(|| made)
            }
        };
        Ok(bell.edges.as_fd())
    }

    /// Returns whether the program has the descriptor.
    pub(super) fn is_given(&self) -> bool {
        self.0.get().is_some()
    }

    /// There may be room.
    pub(super) fn ring(&self) {
        if let Some(bell) = self.0.get() {
            bell.ring();
        }
    }

    /// A call has found no room: has the descriptor say when there may be some. `stand` has a waker
    /// woken then, and may return a place in the line of a queue, with the queue's number. Returns
    /// what `again` found, which is called once more after that.
    ///
    /// None where nothing was found, and where the program has no descriptor.
    pub(super) fn refused<T>(
        &self,
        shared: &Arc<Shared>,
        stand: impl FnOnce(&Waker) -> Option<(usize, RoomWait)>,
        mut again: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let bell = self.0.get()?;
        let before = {
            let mut places = lock(&bell.places);
            // Our own: at worst it is readable once in vain.
            let _ = bell.edges.take();
            stand(&bell.waker).and_then(|(number, place)| {
                if let Some((_, known)) = places.iter_mut().find(|(of, _)| *of == number) {
                    return Some(std::mem::replace(known, place));
                }
                places.push((number, place));
                None
            })
        };
        // Outside the lock: its turn may have come, and passes on to the next in the line.
        drop(before);
        // First arm, then look: an outcome that this does not find rings the doorbell.
        shared.queues.iter().for_each(|queue| queue.arm());
        shared.drain();
        let found = again();
        if found.is_some() {
            bell.ring();
        }
        found
    }
}
