//! How much of its stack a thread has left.
#![allow(unsafe_code)] // calls into libc

use std::cell::Cell;
use std::mem::MaybeUninit;

thread_local! {
    /// Where this thread's stack ends and begins; `None`: not asked yet.
    static ENDS: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Bytes that are kept for what is called last.
const KEPT: usize = 256 << 10;

/// Returns whether the calling thread may go deeper from address `here`. True where nobody knows:
/// on a stack that a program has made for itself.
#[cold]
pub(crate) fn has_room(here: usize) -> bool {
    let (low, high) = ENDS.get().unwrap_or_else(|| {
        let ends = ends().unwrap_or((0, 0));
        ENDS.set(Some(ends));
        ends
    });
    !(low..high).contains(&here) || here - low > KEPT.min((high - low) / 4)
}

fn ends() -> Option<(usize, usize)> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the call initialises the attributes of the calling thread, or fails.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut low, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: initialised above; both places are writable.
    let failed =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut len) };
    // SAFETY: initialised above, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (failed == 0).then(|| (low.addr(), low.addr().saturating_add(len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_has_room_at_its_top_and_none_at_its_end() {
        let local = std::hint::black_box(0_u8);
        let here = std::ptr::from_ref(&local).addr();
        assert!(has_room(here));
        let (low, high) = ENDS.get().unwrap();
        assert!((low..high).contains(&here));
        assert!(!has_room(low + 100) && has_room(low - 1) && has_room(high));
    }
}
