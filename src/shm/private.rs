//! Bytes of a region as memory of this process alone.

#![allow(unsafe_code)] // An island: writes to pages that other code here may use.

use std::sync::atomic::AtomicU8;

use memmap2::{Advice, MmapMut};

use crate::sync::atomic::Ordering::Relaxed;

/// The smallest page that a kernel has, in bytes.
const PAGE: usize = 4096;

/// A private mapping: a page that is written here becomes a copy, and until then it shows what the
/// region has.
#[derive(Debug)]
pub struct PrivateMap(MmapMut);

impl PrivateMap {
    pub(super) fn new(map: MmapMut) -> Self {
        Self(map)
    }

    /// Returns where the bytes are, for as long as this lives; they may be written.
    pub(crate) fn address(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut()
    }

    /// Returns how many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes every page this process's own: what others write to the region from now on does not
    /// show here. Other threads may read and write the bytes meanwhile.
    pub(crate) fn own(&self) {
        if self.0.is_empty() || self.0.advise(Advice::PopulateWrite).is_ok() {
            return;
        }
        // Linux before 5.14.
        let last = self.len() - 1;
        for at in (0..last).step_by(PAGE).chain([last]) {
            // SAFETY: within the mapping, which is writable. Other code has raw pointers to the
            // byte and no references, as this has; the value that is stored is the one there is.
            let byte = unsafe { AtomicU8::from_ptr(self.address().add(at)) };
            let value = byte.load(Relaxed);
            // Relaxed: nothing is carried. If it fails, another thread has written the page.
            let _ = byte.compare_exchange(value, value, Relaxed, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::shm::Region;

    #[test]
    fn what_is_written_stays_here_and_what_is_owned_changes_no_more() {
        let region = Region::create(c"test", 3 * 4096).unwrap();
        region.write(0, &[1; 3 * 4096]);
        // From the middle of a page on.
        let copy = region.map_copy(100, 8192).unwrap();
        let byte = |at: usize| {
            assert!(at < copy.len());
            // SAFETY: within the mapping, which no other thread has.
            unsafe { copy.address().add(at).read_volatile() }
        };
        // SAFETY: within the mapping, which no other thread has.
        unsafe { copy.address().write_volatile(2) };
        let mut back = [0; 2];
        region.read(100, &mut back);
        assert_eq!(back, [1, 1], "the region has not what was written here");
        region.write(0, &[3; 3 * 4096]);
        assert_eq!((byte(0), byte(1), byte(8191)), (2, 1, 3), "the first page is a copy by now");
        copy.own();
        region.write(0, &[4; 3 * 4096]);
        assert_eq!((byte(0), byte(1), byte(5000), byte(8191)), (2, 1, 3, 3));
    }
}
