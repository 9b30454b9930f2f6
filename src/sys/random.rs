//! The generator of random numbers of the C library.
#![allow(unsafe_code)] // calls into libc

/// Whether the C library's `random` and `rand` were used or seeded in this process, which has one
/// thread. False where the library does not show it.
pub(crate) fn is_warm() -> bool {
    #[cfg(target_env = "gnu")]
    {
        /// The size of the state that a program starts with.
        const STATE: usize = 128;
        unsafe extern "C" {
            fn initstate(seed: libc::c_uint, state: *mut u8, size: usize) -> *mut u8;
            fn setstate(state: *mut u8) -> *mut u8;
        }
        // Aligned for the words that the library keeps in it.
        let mut fresh = [0u64; STATE / 8];
        // SAFETY: `fresh` is writable for its size and the generator's only until the second call,
        // which gives it back the state that it had. That is at least as long as the kind of state
        // says that stands in its first word, and only compared where it is of the first kind.
        unsafe {
            let own = initstate(1, fresh.as_mut_ptr().cast(), STATE);
            if own.is_null() || setstate(own).is_null() {
                return false;
            }
            // The generator's start is as if it had been seeded with 1. The first word says the
            // kind of state, 3 for this size, and how far it was used.
            let kind = fresh.as_ptr().cast::<i32>().read() % 5;
            own.cast::<i32>().read_unaligned() % 5 != kind
                || std::slice::from_raw_parts(own, STATE)
                    != std::slice::from_raw_parts(fresh.as_ptr().cast::<u8>(), STATE)
        }
    }
    #[cfg(not(target_env = "gnu"))]
    false
}
