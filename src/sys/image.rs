//! The loaded image (executable or shared library) that holds this very code.
#![allow(unsafe_code)] // walks the dynamic linker's list of images

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Where this code is, as the dynamic linker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// Whether it is the program itself, and not a library it loaded.
    pub is_program: bool,
    /// The file it was loaded from; for the program `/proc/self/exe`, which is the very file even
    /// when it was replaced since.
    pub path: PathBuf,
    /// The number the linker gave the build, if it gave one.
    build_id: Option<Vec<u8>>,
}

/// Finds the image that holds this code.
pub(crate) fn own() -> io::Result<Image> {
    let anchor = own as fn() -> io::Result<Image> as usize;
    let mut search = Search { anchor, index: 0, found: None };
    // SAFETY: `visit` takes `search` for what it is, and the call ends before `search` does.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut search).cast()) };
    let (is_program, build_id) =
        search.found.ok_or_else(|| io::Error::other("the dynamic linker does not list us"))?;
    let path = if is_program {
        PathBuf::from("/proc/self/exe")
    } else {
        let maps = std::fs::read("/proc/self/maps")?;
        mapped_path(&maps, anchor).ok_or_else(|| {
            io::Error::other("its file was replaced since it was loaded: restart the program")
        })?
    };
    Ok(Image { is_program, path, build_id })
}

/// Finds the program's file where this process was started by naming its loader, as in `ld.so
/// ./program`: `/proc/self/exe` is the loader then.
pub(crate) fn program_of_loader() -> io::Result<Option<PathBuf>> {
    unsafe extern "C" fn visit(
        image: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        found: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the linker passes the program first, valid during the call, and our own option.
        unsafe {
            let base = (*image).dlpi_addr as usize;
            let (headers, len) = ((*image).dlpi_phdr, (*image).dlpi_phnum.into());
            let headers = std::slice::from_raw_parts(headers, len);
            let is = |kind| headers.iter().find(move |header| header.p_type == kind);
            *found.cast::<Option<usize>>() = is(libc::PT_INTERP)
                .and_then(|_| is(libc::PT_LOAD))
                .map(|first| base.wrapping_add(first.p_vaddr as usize));
        }
        1
    }
    // The kernel says where it has put the loader, unless that is what it was asked to execute.
    // SAFETY: takes a number, and answers 0 for one it does not know.
    if unsafe { libc::getauxval(libc::AT_BASE) } != 0 {
        return Ok(None);
    }
    let mut found: Option<usize> = None;
    // SAFETY: `visit` takes `found` for what it is, and the call ends before `found` does.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut found).cast()) };
    let Some(address) = found else { return Ok(None) };
    let maps = std::fs::read("/proc/self/maps")?;
    let path = mapped_path(&maps, address);
    path.map(Some).ok_or_else(|| {
        io::Error::other(
            "its file was replaced since its loader was started with it: restart the program",
        )
    })
}

impl Image {
    /// Returns the number that the linker gave the build, in hexadecimal digits, if it gave one:
    /// the same for every copy of the file, on whatever machine.
    pub(crate) fn build(&self) -> Option<String> {
        let id = self.build_id.as_ref()?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Tells this build from every other: the same in each process that runs the same file.
    ///
    /// The linker's own number where there is one, else what the file system says of the file.
    pub(crate) fn identity(&self) -> io::Result<String> {
        if let Some(id) = self.build() {
            return Ok(id);
        }
        let file = std::fs::metadata(&self.path)?;
        let changed = (file.mtime(), file.mtime_nsec());
        Ok(format!("{}:{}:{}:{}.{}", file.dev(), file.ino(), file.size(), changed.0, changed.1))
    }
}

/// Returns whether `address` lies in the code of an image that is mapped now.
pub(crate) fn is_code(address: usize) -> bool {
    unsafe extern "C" fn visit(
        image: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        search: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the linker passes one image of its list, valid during the call, and our number.
        let (base, headers, address) = unsafe {
            let image = &*image;
            let headers = std::slice::from_raw_parts(image.dlpi_phdr, image.dlpi_phnum.into());
            (image.dlpi_addr as usize, headers, *search.cast::<usize>())
        };
        let found = headers.iter().any(|header| {
            let offset = address.wrapping_sub(base.wrapping_add(header.p_vaddr as usize));
            let is_code = header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
            is_code && offset < header.p_memsz as usize
        });
        libc::c_int::from(found)
    }
    let mut address = address;
    // SAFETY: the callback takes its argument for the number that it is, and keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut address).cast()) != 0 }
}

/// Whether `len` bytes from `address` on lie in the image that holds this code, readable.
pub(crate) fn holds(address: usize, len: usize) -> bool {
    struct Asked {
        anchor: usize,
        address: usize,
        len: usize,
        answer: bool,
    }
    unsafe extern "C" fn visit(
        image: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        asked: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the linker passes one image of its list, valid during the call, and our own
        // question.
        let (base, headers, asked) = unsafe {
            let image = &*image;
            let headers = std::slice::from_raw_parts(image.dlpi_phdr, image.dlpi_phnum.into());
            (image.dlpi_addr as usize, headers, &mut *asked.cast::<Asked>())
        };
        let within = |address: usize, len: usize| {
            headers.iter().any(|header| {
                let offset = address.wrapping_sub(base.wrapping_add(header.p_vaddr as usize));
                let size = header.p_memsz as usize;
                let readable = header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_R != 0;
                readable && offset < size && len <= size - offset
            })
        };
        if !within(asked.anchor, 1) {
            return 0;
        }
        asked.answer = within(asked.address, asked.len);
        1
    }
    let anchor = holds as fn(usize, usize) -> bool as usize;
    let mut asked = Asked { anchor, address, len, answer: false };
    // SAFETY: `visit` takes `asked` for what it is, and the call ends before `asked` does.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut asked).cast()) };
    asked.answer
}

struct Search {
    anchor: usize,
    index: usize,
    found: Option<(bool, Option<Vec<u8>>)>,
}

unsafe extern "C" fn visit(
    image: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    search: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the linker passes one image of its list, valid during the call, and our own search;
    // the list itself starts with the program, and headers and notes are mapped as they say.
    unsafe {
        let search = &mut *search.cast::<Search>();
        let base = (*image).dlpi_addr as usize;
        let headers = std::slice::from_raw_parts((*image).dlpi_phdr, (*image).dlpi_phnum.into());
        let holds_us = headers.iter().any(|header| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            let offset = search.anchor.wrapping_sub(start);
            header.p_type == libc::PT_LOAD && offset < header.p_memsz as usize
        });
        if !holds_us {
            search.index += 1;
            return 0;
        }
        let build_id =
            headers.iter().filter(|header| header.p_type == libc::PT_NOTE).find_map(|h| {
                let start = base.wrapping_add(h.p_vaddr as usize) as *const u8;
                parse_build_id(std::slice::from_raw_parts(start, h.p_memsz as usize))
            });
        search.found = Some((search.index == 0, build_id));
        1
    }
}

/// Returns the description of the note `GNU`, type 3, among the notes of a segment.
fn parse_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    const BUILD_ID: u32 = 3;
    let aligned = |len: usize| len.checked_next_multiple_of(4);
    loop {
        let word = |index: usize| -> Option<u32> {
            let bytes = notes.get(index * 4..index * 4 + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (name_len, len, kind) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let start = aligned(name_len)?.checked_add(12)?;
        let description = notes.get(start..start.checked_add(len)?)?;
        if kind == BUILD_ID && notes.get(12..16) == Some(b"GNU\0") && name_len == 4 && len > 0 {
            return Some(description.to_vec());
        }
        notes = notes.get(start.checked_add(aligned(len)?)?..)?;
    }
}

/// Returns the file that `address` lies in, if that has a name.
pub(crate) fn file_at(address: usize) -> io::Result<Option<PathBuf>> {
    Ok(mapped_path(&std::fs::read("/proc/self/maps")?, address))
}

/// Returns the file that is mapped where `address` lies; none for memory without a file, and for a
/// file that has no name any more.
fn mapped_path(maps: &[u8], address: usize) -> Option<PathBuf> {
    let line = maps.split(|&byte| byte == b'\n').find(|line| {
        let range = line.split(|&byte| byte == b' ').next().and_then(|r| str::from_utf8(r).ok());
        let ends = range.and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        let ends = ends.and_then(|(start, end)| Some(number(start)?..number(end)?));
        ends.is_some_and(|range| range.contains(&address))
    })?;
    let path = line.iter().position(|&byte| byte == b'/').map(|start| &line[start..])?;
    if path.ends_with(b" (deleted)") {
        return None;
    }
    // The kernel writes a line feed, and only that, as `\012`.
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    Some(PathBuf::from(OsString::from_vec(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_is_the_program() {
        let image = own().unwrap();
        assert!(image.is_program);
        assert_eq!(image.path, PathBuf::from("/proc/self/exe"));
        assert_eq!(image.identity().unwrap(), own().unwrap().identity().unwrap());
    }

    #[test]
    fn code_is_told_from_data_and_from_the_heap() {
        assert!(is_code(own as *const () as usize));
        assert!(is_code(libc::getpid as *const () as usize));
        assert!(!is_code(Box::new(0_u64).as_ref() as *const u64 as usize));
        assert!(!is_code(0) && !is_code(usize::MAX));
    }

    #[test]
    fn without_a_linkers_number_the_file_identifies() {
        let by_file = Image { build_id: None, ..own().unwrap() };
        assert_eq!(by_file.identity().unwrap().split(':').count(), 4);
    }

    #[test]
    fn finds_the_build_id_behind_another_note() {
        let mut notes = Vec::new();
        let mut note = |kind: u32, description: &[u8]| {
            notes.extend(4u32.to_ne_bytes());
            notes.extend((description.len() as u32).to_ne_bytes());
            notes.extend(kind.to_ne_bytes());
            notes.extend(b"GNU\0");
            notes.extend(description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        };
        note(1, &[9; 6]);
        note(3, &[1, 2, 3]);
        assert_eq!(parse_build_id(&notes), Some(vec![1, 2, 3]));
        assert_eq!(parse_build_id(&notes[..notes.len() - 4]), None);
        assert_eq!(parse_build_id(&[]), None);
        assert_eq!(parse_build_id(&[0xff; 40]), None);
    }

    #[test]
    fn the_path_is_the_one_mapped_at_the_address() {
        let maps = b"1000-2000 r-xp 00000000 08:01 7   /lib/a b.so\n\
            2000-3000 rw-p 00000000 00:00 0 \n\
            3000-4000 r-xp 00000000 08:01 8   /tmp/x\\012y.so\n\
            4000-5000 r-xp 00000000 08:01 9   /tmp/z.so (deleted)\n";
        let path = |address| mapped_path(maps, address);
        assert_eq!(path(0x1000), Some(PathBuf::from("/lib/a b.so")));
        assert_eq!(path(0x1fff), Some(PathBuf::from("/lib/a b.so")));
        assert_eq!(path(0x2000), None);
        assert_eq!(path(0x3800), Some(PathBuf::from("/tmp/x\ny.so")));
        assert_eq!(path(0x4000), None);
        assert_eq!(path(0x9000), None);
    }
}
