//! What is mapped in a process: its code, and the names of it.

use std::fs;
use std::path::{Path, PathBuf};

use addr2line::{Loader, demangle_auto};
use anyhow::Context;
use framehop::{ExplicitModuleSectionInfo, Module};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};

/// A file whose code is mapped.
pub struct Image {
    /// Its name, for people.
    name: String,
    range: std::ops::Range<u64>,
    /// What an address has over the one in the file.
    bias: u64,
    loader: Option<Loader>,
}

/// What a file has for those who follow stacks, if it can be read.
type Tables = Option<Module<Vec<u8>>>;

/// One line of `/proc/PID/maps`, of code.
#[derive(Debug, PartialEq)]
struct Mapping {
    range: std::ops::Range<u64>,
    offset: u64,
    path: String,
}

impl Mapping {
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ').filter(|word| !word.is_empty());
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?;
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let path = words.nth(2)?.trim_start();
        let number = |text| u64::from_str_radix(text, 16).ok();
        let is_code = rights.contains('x') && path.starts_with('/');
        is_code.then(|| {
            Some(Self { range: number(start)?..number(end)?, offset, path: path.to_owned() })
        })?
    }
}

/// Returns the code that process `pid` has mapped, and what unwinds it.
pub fn images(pid: u32) -> anyhow::Result<Vec<(Image, Tables)>> {
    let path = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(maps.lines().filter_map(Mapping::of_line).map(|mapping| open(pid, mapping)).collect())
}

fn open(pid: u32, mapping: Mapping) -> (Image, Tables) {
    let name = Path::new(&mapping.path).file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let mut image = Image { name, range: mapping.range.clone(), bias: 0, loader: None };
    let path = file_of(pid, &mapping);
    let Ok(bytes) = fs::read(&path) else { return (image, None) };
    let Ok(file) = object::File::parse(&*bytes) else { return (image, None) };
    // The segment that this is a mapping of.
    let segment = file.segments().find(|segment| {
        let (offset, size) = segment.file_range();
        // Its neighbour may end on the page on which it begins.
        let is_code = matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. }
            if p_flags & object::elf::PF_X == object::elf::PF_X);
        is_code && (offset & !0xFFF..offset + size).contains(&mapping.offset)
    });
    let Some(segment) = segment else { return (image, None) };
    let address =
        segment.address().wrapping_add(mapping.offset).wrapping_sub(segment.file_range().0);
    image.bias = mapping.range.start.wrapping_sub(address);
    image.loader = Loader::new(&path).ok();
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        let range = section.address()..section.address() + section.size();
        Some((range, section.uncompressed_data().ok()?.into_owned()))
    };
    let mut sections = ExplicitModuleSectionInfo::default();
    if let Some((range, data)) = section(".text") {
        (sections.text_svma, sections.text) = (Some(range), Some(data));
    }
    if let Some((range, data)) = section(".eh_frame") {
        (sections.eh_frame_svma, sections.eh_frame) = (Some(range), Some(data));
    }
    if let Some((range, data)) = section(".eh_frame_hdr") {
        (sections.eh_frame_hdr_svma, sections.eh_frame_hdr) = (Some(range), Some(data));
    }
    sections.got_svma = section(".got").map(|(range, _)| range);
    sections.debug_frame = section(".debug_frame").map(|(_, data)| data);
    let module = Module::new(image.name.clone(), mapping.range, image.bias, sections);
    (image, Some(module))
}

/// Returns where the file can be read, also if its name is gone or is another one here.
fn file_of(pid: u32, mapping: &Mapping) -> PathBuf {
    let range = &mapping.range;
    let mapped = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
    let here = format!("/proc/{pid}/root{}", mapping.path);
    let of_exe = fs::read_link(format!("/proc/{pid}/exe"));
    if of_exe.is_ok_and(|exe| exe.to_string_lossy() == mapping.path) {
        return format!("/proc/{pid}/exe").into();
    }
    let found = [here, mapped].into_iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| mapping.path.clone().into())
}

/// Returns a line for each function that `address` is in, the innermost of inlined ones first.
pub fn names(images: &[Image], address: u64) -> Vec<String> {
    let Some(image) = images.iter().find(|image| image.range.contains(&address)) else {
        return vec![format!("{address:#x}")];
    };
    let at = address.wrapping_sub(image.bias);
    let unknown = || format!("{}+{at:#x}", image.name);
    let Some(loader) = &image.loader else { return vec![unknown()] };
    let mut frames = Vec::new();
    if let Ok(mut found) = loader.find_frames(at) {
        while let Ok(Some(frame)) = found.next() {
            let name = frame.function.and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let place =
                frame.location.and_then(|place| Some((place.file?.to_owned(), place.line?)));
            frames.push((name, place));
        }
    }
    if frames.is_empty() {
        frames.push((None, None));
    }
    // The last one is the function itself, of which the symbol says more than some debug files do.
    if let (Some((name, _)), Some(symbol)) = (frames.last_mut(), loader.find_symbol(at)) {
        *name = Some(demangle_auto(symbol.into(), None).into_owned());
    }
    let line = |(name, place): (Option<String>, Option<(String, u32)>)| {
        let name = name.unwrap_or_else(unknown);
        match place {
            Some((file, line)) => format!("{name} at {file}:{line}"),
            None => format!("{name} in {}", image.name),
        }
    };
    frames.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_code_is_told_from_others() {
        let line = "7f1f2c000000-7f1f2c021000 r-xp 00028000 08:01 123   /usr/lib/a b.so (deleted)";
        let mapping = Mapping::of_line(line).unwrap();
        assert_eq!((mapping.offset, &*mapping.path), (0x28000, "/usr/lib/a b.so (deleted)"));
        assert_eq!(mapping.range, 0x7f1f_2c00_0000..0x7f1f_2c02_1000);
        for line in [
            "7f1f2c000000-7f1f2c021000 r--p 00000000 08:01 123 /usr/lib/a.so",
            "7ffd6f5d9000-7ffd6f5db000 r-xp 00000000 00:00 0 [vdso]",
            "7f1f2c000000-7f1f2c021000 rwxp 00000000 00:00 0 ",
            "nonsense",
        ] {
            assert_eq!(Mapping::of_line(line), None, "{line}");
        }
    }
}
