//! What the C library keeps of a process's surroundings: its environment and its locale.
#![allow(unsafe_code)] // calls into libc, and replaces the environment

use std::ffi::{CStr, CString, c_char};

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Replaces the environment, given as `NAME=value`.
///
/// # Safety
///
/// This process has one thread, so no other reads the environment meanwhile.
pub(crate) unsafe fn replace_environment(entries: Vec<CString>) {
    // Kept for as long as the process lives: what was read from it may be used for ever.
    let entries = entries.leak();
    let pointers = entries.iter().map(|entry| entry.as_ptr()).chain([std::ptr::null()]);
    let pointers: Vec<_> = pointers.collect();
    // SAFETY: the caller vouches for the single thread; the list ends with a null pointer, and
    // neither it nor its strings are ever freed.
    unsafe { environ = pointers.leak().as_ptr() };
}

/// The locale of the C library, of all categories; `None` if it says none.
pub(crate) fn locale() -> Option<CString> {
    // SAFETY: a null locale only asks. The answer is a C string, copied at once.
    unsafe {
        let locale = libc::setlocale(libc::LC_ALL, std::ptr::null());
        (!locale.is_null()).then(|| CStr::from_ptr(locale).to_owned())
    }
}

/// Sets the locale of the C library, as [`locale`] said it; false if the system lacks it.
pub(crate) fn set_locale(locale: &CStr) -> bool {
    // SAFETY: takes a C string, which the library copies.
    unsafe { !libc::setlocale(libc::LC_ALL, locale.as_ptr()).is_null() }
}
