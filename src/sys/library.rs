//! Shared libraries that are loaded at run time and stay.
#![allow(unsafe_code)] // runs what a library does when it is loaded

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// A loaded library; never unloaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library(NonNull<c_void>);

impl Library {
    /// Loads the library at `path`, with all that it needs.
    ///
    /// # Errors
    ///
    /// What the loader says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a C string; what the library's constructors do is the caller's wish.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        NonNull::new(handle).map(Self).ok_or_else(loader_error)
    }

    /// Returns the address of `name` in the library or in one that it needs.
    ///
    /// # Errors
    ///
    /// What the loader says when there is none.
    pub(crate) fn symbol(self, name: &CStr) -> io::Result<NonNull<c_void>> {
        // SAFETY: the handle is never closed.
        let found = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        NonNull::new(found).ok_or_else(loader_error)
    }
}

fn loader_error() -> io::Error {
    // SAFETY: NULL or a string of the loader's, valid until this thread's next call of it.
    let text = unsafe {
        let text = libc::dlerror();
        if text.is_null() { c"no reason given" } else { CStr::from_ptr(text) }.to_string_lossy()
    };
    io::Error::other(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_named() {
        let math = Library::open(Path::new("libm.so.6")).unwrap();
        math.symbol(c"cos").unwrap();
        let missing = math.symbol(c"aiopool_no_such_thing").unwrap_err().to_string();
        assert!(missing.contains("aiopool_no_such_thing"), "{missing}");
        let missing = Library::open(Path::new("/nowhere/libtasks.so")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/libtasks.so"), "{missing}");
    }
}
