//! Which library runs the other threads of this process, found by their stacks.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Bytes of a thread's stack that are looked at: a thread that waits has few frames.
const LOOKED_AT: usize = 256 << 10;

/// Names the file whose code a thread runs that is not the calling process's first one, as far as
/// the kernel lets that be seen.
///
/// The innermost frame counts that is not the C library's, in which threads wait. One that runs
/// cannot be looked at; it may have to start first, and then waits.
pub(crate) fn of_another_thread() -> Option<String> {
    const TRIES: u32 = 50;
    (0..TRIES).find_map(|_| {
        let found = look();
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        found
    })
}

fn look() -> Option<String> {
    let own = std::process::id().to_string();
    let maps = Maps(fs::read_to_string("/proc/self/maps").ok()?);
    let memory = File::open("/proc/self/mem").ok()?;
    let threads = fs::read_dir("/proc/self/task").ok()?.filter_map(|entry| entry.ok());
    threads.filter(|thread| thread.file_name() != *own).find_map(|thread| {
        // Its last two words are the stack pointer and the next instruction; a thread that runs has
        // none.
        let state = fs::read_to_string(thread.path().join("syscall")).ok()?;
        let mut words = state.split_whitespace().rev();
        let number = |word: &str| usize::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let (instruction, stack) = (number(words.next()?)?, number(words.next()?)?);
        if let Some(file) = maps.code_of(instruction) {
            return Some(file.to_owned());
        }
        let mut bytes = vec![0; maps.end_of(stack)?.saturating_sub(stack).min(LOOKED_AT)];
        memory.read_exact_at(&mut bytes, stack as u64).ok()?;
        let words = bytes.chunks_exact(size_of::<usize>());
        let mut words = words.map(|word| usize::from_ne_bytes(word.try_into().expect("a word")));
        words.find_map(|word| maps.code_of(word)).map(str::to_owned)
    })
}

/// The text of `/proc/self/maps`.
struct Maps(String);

impl Maps {
    /// The columns of each mapping: its range and the rest.
    fn mappings(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.0.lines().filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?, rest))
        })
    }

    fn end_of(&self, address: usize) -> Option<usize> {
        let found = self.mappings().find(|&(start, end, _)| (start..end).contains(&address));
        found.map(|(_, end, _)| end)
    }

    /// The file that has the code at an address, unless it is the C library.
    fn code_of(&self, address: usize) -> Option<&str> {
        let here = |&(start, end, _): &(usize, usize, &str)| (start..end).contains(&address);
        let (_, _, rest) = self.mappings().find(here)?;
        if !rest.starts_with("r-x") && !rest.starts_with("--x") {
            return None;
        }
        let file = &rest[rest.find('/')?..];
        let name = Path::new(file).file_name()?.to_str()?;
        let is_of_the_c_library = ["libc.so", "libc-", "libc.musl", "libpthread", "ld-"]
            .iter()
            .any(|start| name.starts_with(start));
        (!is_of_the_c_library).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_of_a_test_is_the_test_binarys() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        let found = of_another_thread();
        let own = std::env::current_exe().unwrap();
        assert_eq!(found.as_deref(), own.to_str());
        drop(stop);
        other.join().unwrap().unwrap_err();
    }
}
