//! Version and features.
//!
//! The library's version follows semantic versioning; a program that was compiled against one
//! 0.x header runs with every later library of the same 0.x.

use std::ffi::{CStr, c_char};

use super::pointer::text;

/// The version of this header, major number.
pub const AIOPOOL_VERSION_MAJOR: u32 = 0;
/// The version of this header, minor number.
pub const AIOPOOL_VERSION_MINOR: u32 = 1;
/// The version of this header, patch number.
pub const AIOPOOL_VERSION_PATCH: u32 = 0;
/// The version of this header as one number, in the form of `aiopool_version`.
pub const AIOPOOL_VERSION: u32 =
    AIOPOOL_VERSION_MAJOR << 16 | AIOPOOL_VERSION_MINOR << 8 | AIOPOOL_VERSION_PATCH;

const _: () = {
    // The header cannot be wrong about the version: this does not compile then.
    const fn number(text: &str) -> u32 {
        let (bytes, mut i, mut n) = (text.as_bytes(), 0, 0);
        while i < bytes.len() {
            n = n * 10 + (bytes[i] - b'0') as u32;
            i += 1;
        }
        n
    }
    assert!(number(env!("CARGO_PKG_VERSION_MAJOR")) == AIOPOOL_VERSION_MAJOR);
    assert!(number(env!("CARGO_PKG_VERSION_MINOR")) == AIOPOOL_VERSION_MINOR);
    assert!(number(env!("CARGO_PKG_VERSION_PATCH")) == AIOPOOL_VERSION_PATCH);
};

ffi_fn! {
    /// Returns the version of the library, as `major << 16 | minor << 8 | patch`.
    ///
    /// Thread rule: callable from everywhere, at any time, as are all functions of this section.
    fn aiopool_version() -> u32 = 0 => {
        AIOPOOL_VERSION
    }
}

ffi_fn! {
    /// Returns the version of the library as text, such as `"0.1.0"`; static, never freed.
    fn aiopool_version_text() -> *const c_char = c"".as_ptr() => {
        const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
        TEXT.as_ptr().cast()
    }
}

ffi_fn! {
    /// Returns whether the library has the feature `name`; false for one it does not know.
    ///
    /// Features of this version: `async` (asynchronous task functions), `command` (workers that
    /// are other programs), `hooks`, `loan` (zero-copy), `log`, `process`. Depending on how the
    /// library was built: `sandbox` (`aiopool_pool_options.sandbox`), `stats-page`.
    fn aiopool_has_feature(name: *const c_char) -> bool = false => {
        const FEATURES: [(&CStr, bool); 8] = [
            (c"async", true),
            (c"command", true),
            (c"hooks", true),
            (c"loan", true),
            (c"log", true),
            (c"process", true),
            (c"sandbox", cfg!(feature = "sandbox")),
            (c"stats-page", cfg!(feature = "stats-page")),
        ];
        // SAFETY: the caller gives a C string or NULL.
        let name = unsafe { text("name", name) };
        name.is_ok_and(|name| {
            FEATURES.iter().any(|&(known, has)| has && known.to_bytes() == name.as_bytes())
        })
    }
}
