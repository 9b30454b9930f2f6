//! What compilers put into a program to write its coverage or profile, where the linker hides it.
//!
//! Those functions are hidden symbols of the image that is instrumented: neither a weak reference
//! of another image nor `dlsym` finds them, and those of a static library are not even linked in
//! for a weak reference. They stand in the image's own list of symbols unless that was stripped.
#![allow(unsafe_code)] // walks the dynamic linker's list of images, and calls what it found

use std::ffi::{CStr, OsStr, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The functions that write out what was collected. Each may be there once in an image.
const WRITERS: [&[u8]; 3] = [b"__llvm_profile_write_file", b"__gcov_dump", b"__gcov_exit"];

/// The addresses of [`WRITERS`] in this process.
static FOUND: OnceLock<Vec<usize>> = OnceLock::new();

/// Looks for the writers in each image of this process, once: what is forked later knows them.
///
/// Costs about as much as reading the names of a program's symbols.
pub(crate) fn look() {
    FOUND.get_or_init(|| {
        let images = images();
        let found = images.iter().filter_map(|(base, file)| writer_of(*base, file));
        found.filter(|&address| super::image::is_code(address)).collect()
    });
}

/// Has coverage and profile written out, if [`look`] has found by what; not by functions that the
/// caller knows and has `called`.
pub(crate) fn write_out(called: &[usize]) {
    for &address in FOUND.get().into_iter().flatten().filter(|found| !called.contains(found)) {
        // SAFETY: the address of a C function of that name in code that is mapped: it takes
        // nothing, and its result, a number or nothing, is not looked at.
        let writer: extern "C" fn() = unsafe { std::mem::transmute(address) };
        writer();
    }
}

/// Where each image was loaded, and its file.
fn images() -> Vec<(usize, PathBuf)> {
    unsafe extern "C" fn visit(
        image: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        found: *mut c_void,
    ) -> libc::c_int {
        // SAFETY: the linker passes one image of its list, valid during the call, and our own list.
        let (base, name, found) = unsafe {
            let name = (*image).dlpi_name;
            let name = if name.is_null() { c"" } else { CStr::from_ptr(name) };
            ((*image).dlpi_addr as usize, name, &mut *found.cast::<Vec<(usize, PathBuf)>>())
        };
        let file = match name.to_bytes() {
            // The program, which comes first, has no name there.
            b"" if found.is_empty() => PathBuf::from("/proc/self/exe"),
            name => PathBuf::from(OsStr::from_bytes(name)),
        };
        found.push((base, file));
        0
    }
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    // SAFETY: `visit` takes `found` for what it is, and the call ends before `found` does.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut found).cast()) };
    found
}

/// The address of the first of [`WRITERS`] that an image has.
fn writer_of(base: usize, path: &Path) -> Option<usize> {
    const SECTION: usize = 64;
    const SYMBOL: usize = 24;
    const SYMBOLS: u64 = 2;
    let file = File::open(path).ok()?;
    let read = |at: u64, len: u64| {
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|&len| len < 1 << 30)?];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    };
    let header = read(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let sections = read(number(&header, 40, 8)?, number(&header, 60, 2)? * SECTION as u64)?;
    let section = |index: usize| sections.chunks_exact(SECTION).nth(index);
    let content = |section: &[u8]| read(number(section, 24, 8)?, number(section, 32, 8)?);
    let is_list = |section: &&[u8]| number(section, 4, 4) == Some(SYMBOLS);
    let list = sections.chunks_exact(SECTION).find(is_list)?;
    let names = content(section(number(list, 40, 4)? as usize)?)?;
    // Most images have none, and their symbols are not read.
    let mut place = 0;
    let places = names.split(|&byte| byte == 0).map(|name| {
        let at = place;
        place += name.len() as u64 + 1;
        (name, at)
    });
    let at = places.filter(|(name, _)| WRITERS.contains(name)).map(|(_, at)| at).next()?;
    let symbols = content(list)?;
    let symbol = symbols.chunks_exact(SYMBOL).find(|symbol| {
        number(symbol, 0, 4) == Some(at) && number(symbol, 6, 2).is_some_and(|place| place != 0)
    })?;
    Some(base.wrapping_add(number(symbol, 8, 8)? as usize))
}

/// The number of `len` bytes at `at`, which this machine and its files have in one order.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..len].copy_from_slice(bytes.get(at..at + len)?);
    Some(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_looked_into_and_what_has_no_writer_has_none() {
        let images = images();
        assert_eq!(images[0].1, PathBuf::from("/proc/self/exe"));
        assert!(images.len() > 1);
        look();
        write_out(&[]);
    }
}
