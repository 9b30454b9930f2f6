//! Whether this process is still the one it was, and locks that a fork cannot leave locked. Notices
//! any fork without asking the kernel at each call.
#![allow(unsafe_code)] // one call into libc, and memory that is never freed

use std::sync::atomic::{
    AtomicPtr, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::sync::{Once, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns a number that differs between a process and the children that `fork` made of it.
#[inline]
pub(crate) fn generation() -> u32 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler only touches an atomic, which is safe in a child of any process.
        // A refusal (no memory) leaves the children of this process unnoticed, nothing worse.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Relaxed)
}

/// Takes note that this process is a copy that was made without the C library's knowledge.
pub(crate) fn note() {
    in_child();
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
}

/// A lock that each process has for itself: a forked child gets a new one, since a thread that does
/// not exist there may hold its parent's.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static> {
    own: AtomicPtr<Own<T>>,
    /// Makes the value of a process: out of its parent's, unless that was being changed.
    inherit: fn(Option<&T>) -> T,
}

#[derive(Debug)]
struct Own<T: 'static> {
    /// The process, by [`generation`].
    generation: u32,
    value: RwLock<T>,
    /// What the process was forked with. Only names it, so that leak checkers find it: a thread
    /// that does not exist here may have been changing it, and nothing can be freed of it.
    _parents: Option<&'static Own<T>>,
}

impl<T: 'static> PerProcess<T> {
    /// Creates a lock whose value `inherit` makes, in each process when it first asks for it.
    pub(crate) const fn new(inherit: fn(Option<&T>) -> T) -> Self {
        Self { own: AtomicPtr::new(std::ptr::null_mut()), inherit }
    }

    /// Locks the value for reading.
    pub(crate) fn read(&self) -> RwLockReadGuard<'static, T> {
        self.own().read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Locks the value for changes.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'static, T> {
        self.own().write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn own(&self) -> &'static RwLock<T> {
        let generation = generation();
        // Acquire: pairs with the release in `renew`.
        let own = self.own.load(Acquire);
        // SAFETY: null, or what `renew` has leaked.
        match unsafe { own.as_ref::<'static>() } {
            Some(own) if own.generation == generation => &own.value,
            parents => self.renew(parents, generation),
        }
    }

    #[cold]
    fn renew(&self, parents: Option<&'static Own<T>>, generation: u32) -> &'static RwLock<T> {
        let seen = parents.and_then(|parents| match parents.value.try_read() {
            Ok(seen) => Some(seen),
            Err(TryLockError::Poisoned(seen)) => Some(seen.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        let value = RwLock::new((self.inherit)(seen.as_deref()));
        let fresh = Box::into_raw(Box::new(Own { generation, value, _parents: parents }));
        let before = parents.map_or(std::ptr::null_mut(), |own| std::ptr::from_ref(own).cast_mut());
        // AcqRel: pairs with the Acquire in `own` and with that of another thread here.
        match self.own.compare_exchange(before, fresh, AcqRel, Acquire) {
            // SAFETY: never freed from here on.
            Ok(_) => unsafe { &(*fresh).value },
            Err(now) => {
                // SAFETY: made above, and given to no other thread.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: what another thread of this process has leaked.
                unsafe { &(*now).value }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Side, fork};

    static HELD: PerProcess<u32> = PerProcess::new(|parents| parents.map_or(7, |n| n + 1));

    #[test]
    fn a_child_gets_a_lock_of_its_own_though_its_parents_is_held() {
        assert_eq!(*HELD.read(), 7);
        for held in [false, true] {
            let guard = held.then(|| HELD.write());
            // SAFETY: the child touches no lock but this one, and ends.
            match unsafe { fork() }.unwrap() {
                Side::Child => {
                    let expected = if held { 7 } else { 8 };
                    let right = *HELD.read() == expected && *HELD.write() == expected;
                    // SAFETY: takes a number.
                    unsafe { libc::_exit(i32::from(!right)) }
                }
                Side::Parent(pid) => {
                    drop(guard);
                    let mut status = 0;
                    // SAFETY: `status` is writable.
                    let waited = unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
                    assert_eq!((waited, status), (pid as i32, 0));
                }
            }
        }
        assert_eq!(*HELD.read(), 7);
    }
}
