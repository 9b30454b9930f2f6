//! The program's constructors: what its loader calls before `main`, in the order of a list.
//!
//! The list of the program itself is the last that a loader goes through: the libraries it needs,
//! and those that are preloaded, come first. So what is called after its last entry has everything
//! before it that `main` would have, and knows nothing of the loader but the list.
#![allow(unsafe_code)] // reads and changes the program's own list of constructors

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// The last constructor, which [`last`] stands for, and what is called after it.
static LAST: OnceLock<(Constructor, fn())> = OnceLock::new();

/// Has `then` called when the last constructor of the program has returned.
///
/// To be called in a constructor, whose entry in a list is `own`. False, and nothing is changed,
/// where no other constructor comes after that one, or where the list is not found (a program
/// without a dynamic section).
pub(crate) fn call_after_the_last(own: *const (), then: fn()) -> bool {
    let Some(list) = program_list() else { return false };
    let last_entry = list.last.cast::<()>();
    if std::ptr::eq(last_entry, own) {
        return false;
    }
    // SAFETY: an entry of the list, which the loader calls with these arguments.
    let constructor = unsafe { *list.last };
    if LAST.set((constructor, then)).is_err() || !list.protect(libc::PROT_READ | libc::PROT_WRITE) {
        return false;
    }
    // SAFETY: writable by now. The loader, on this very thread, reads an entry when it comes to it.
    unsafe { list.last.write_volatile(last) };
    if list.is_read_only {
        list.protect(libc::PROT_READ);
    }
    true
}

extern "C" fn last(count: c_int, arguments: *const *const c_char, environ: *const *const c_char) {
    let (constructor, then) = LAST.get().expect("set before this took the entry's place");
    constructor(count, arguments, environ);
    then();
}

/// The end of the program's list of constructors.
#[derive(Debug, Clone, Copy)]
struct List {
    last: *mut Constructor,
    /// The linker asked for it to be made read-only once it is relocated.
    is_read_only: bool,
}

impl List {
    /// Sets the protection of the page of the last entry.
    fn protect(self, protection: c_int) -> bool {
        // SAFETY: takes a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let start = self.last as usize & !(page - 1);
        // SAFETY: the page holds data of the program, which stays readable.
        unsafe { libc::mprotect(start as *mut c_void, page, protection) == 0 }
    }
}

fn program_list() -> Option<List> {
    let mut found = None;
    // SAFETY: `visit` takes `found` for what it is, and the call ends before `found` does.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut found).cast()) };
    found
}

/// Looks at the first image, which is the program.
unsafe extern "C" fn visit(
    image: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> c_int {
    /// An entry of the dynamic section: what it is, and its value.
    type Dynamic = [usize; 2];
    const END: usize = 0;
    const INIT_ARRAY: usize = 25;
    const INIT_ARRAY_SIZE: usize = 27;
    // SAFETY: the linker passes one image of its list, valid during the call, and our own option.
    // The dynamic section is mapped where its header says, and ends with a null entry.
    unsafe {
        let base = (*image).dlpi_addr as usize;
        let headers = std::slice::from_raw_parts((*image).dlpi_phdr, (*image).dlpi_phnum.into());
        let segment = |kind: u32, address: usize, size: usize| {
            headers.iter().filter(|header| header.p_type == kind).any(|header| {
                let offset = address.wrapping_sub(base.wrapping_add(header.p_vaddr as usize));
                let length = header.p_memsz as usize;
                offset < length && size <= length - offset
            })
        };
        let Some(dynamic) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else {
            return 1;
        };
        let mut entry = base.wrapping_add(dynamic.p_vaddr as usize) as *const Dynamic;
        let (mut start, mut size) = (None, 0);
        while (*entry)[0] != END {
            match *entry {
                [INIT_ARRAY, address] => start = Some(base.wrapping_add(address)),
                [INIT_ARRAY_SIZE, bytes] => size = bytes,
                _ => {}
            }
            entry = entry.add(1);
        }
        if let Some(start) = start.filter(|&start| size > 0 && segment(libc::PT_LOAD, start, size))
        {
            let last = start + size - size_of::<Constructor>();
            let is_read_only = segment(libc::PT_GNU_RELRO, last, size_of::<Constructor>());
            *found.cast::<Option<List>>() =
                Some(List { last: last as *mut Constructor, is_read_only });
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_has_constructors() {
        let list = program_list().unwrap();
        // SAFETY: an entry of the list.
        let constructor = unsafe { *list.last };
        assert!(crate::sys::image::is_code(constructor as *const () as usize));
        assert!(!call_after_the_last(list.last.cast(), || unreachable!("it is the last one")));
    }
}
