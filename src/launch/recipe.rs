//! What a program is executed with, as a zygote or as a worker: its environment, and this library.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::sys::image::{self, Image};
use crate::sys::{fd, process};

/// The program that is executed: this one, even when its file was replaced meanwhile. The loader,
/// where this process was started by naming that.
pub(super) const PROGRAM: &CStr = c"/proc/self/exe";
pub(super) const PRELOAD_VARIABLE: &str = "LD_PRELOAD";

/// An address in the library of [`needs_library_of`].
static NEEDED: OnceLock<usize> = OnceLock::new();

/// Says that this library takes symbols from the one that has something at `address`.
///
/// For bindings that are modules of an interpreter. A program that loads the interpreter after its
/// start, such as one that embeds it or is frozen, can be executed as the zygote only with both.
/// The first call counts.
pub fn needs_library_of(address: usize) {
    let _ = NEEDED.set(address);
}

/// Returns the library of [`needs_library_of`], unless that is the program or has a name that
/// `LD_PRELOAD` cannot have.
fn needed() -> io::Result<Option<PathBuf>> {
    let Some(&address) = NEEDED.get() else { return Ok(None) };
    let found = image::file_at(address)?;
    let program = std::fs::read_link("/proc/self/exe")?;
    Ok(found.filter(|path| *path != program && is_plain(path)))
}

/// What an executed program needs so that this library finds itself in it.
pub(super) struct Recipe {
    /// Its environment, as `NAME=value`.
    pub environment: Vec<CString>,
    /// The library is the last element of its `LD_PRELOAD`: a sanitizer has to be the first.
    pub preloaded: bool,
    /// To be inherited under its number.
    pub library: Option<OwnedFd>,
}

impl Recipe {
    /// Makes a recipe of this process's environment, plus `variable` set to the number of a
    /// descriptor, plus this library if the program does not have it.
    pub(super) fn new(image: &Image, variable: &str, fd: i32) -> io::Result<Self> {
        let mut recipe = Self::without_library(variable, &fd.to_string())?;
        if image.is_program {
            return Ok(recipe);
        }
        // Opened in any case: a file that is gone would only be named on the error output.
        let library = fd::above_stdio(File::open(&image.path)?.into())?;
        let before = std::env::var_os(PRELOAD_VARIABLE);
        let (own, library) = preload_entry(&image.path, library);
        let mut value = before.filter(|before| !before.is_empty()).unwrap_or_default();
        if !value.is_empty() {
            value.push(":");
        }
        if let Some(needed) = needed()? {
            // A blank, which separates, too: both are one element where they are taken out again.
            value.push(needed);
            value.push(" ");
        }
        value.push(own);
        recipe.environment.retain(|entry| !is_of(entry.as_bytes(), PRELOAD_VARIABLE));
        recipe.environment.push(entry(PRELOAD_VARIABLE, &value)?);
        recipe.preloaded = true;
        recipe.library = library;
        Ok(recipe)
    }

    /// Makes the recipe of a worker that is any program, for the process that executes it: which
    /// process that is stands in the variable, too.
    pub(super) fn of_command(variable: &str, fd: i32) -> io::Result<Self> {
        Self::without_library(variable, &format!("{fd}:{}", process::own_pid()))
    }

    /// Makes the recipe of a program that looks after itself, with `variable` set to `value`.
    pub(super) fn without_library(variable: &str, value: &str) -> io::Result<Self> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            if name.as_bytes() != variable.as_bytes() {
                environment.push(entry(&name, &value)?);
            }
        }
        environment.push(entry(variable, OsStr::new(value))?);
        Ok(Self { environment, preloaded: false, library: None })
    }
}

/// Returns what `LD_PRELOAD` was before [`Recipe::new`] put a library behind it.
pub(super) fn preload_before(value: &OsStr) -> Option<OsString> {
    let bytes = value.as_bytes();
    let end = bytes.iter().rposition(|&byte| byte == b':')?;
    Some(OsString::from_vec(bytes[..end].to_vec()))
}

/// Returns the arguments with which [`PROGRAM`] is executed, under `name`.
///
/// The loader, where that was named to start this process, gets its options and the program again.
pub(super) fn arguments(name: &CStr) -> io::Result<Vec<CString>> {
    let mut arguments = vec![name.to_owned()];
    if let Some(program) = image::program_of_loader()? {
        let all = std::fs::read("/proc/self/cmdline")?;
        let count = std::env::args_os().count();
        arguments.extend(loader_options(&all, count));
        arguments.push(CString::new(program.into_os_string().into_vec())?);
    }
    Ok(arguments)
}

/// Returns what stands before the program in a command line that names the loader first; the
/// program and its own arguments are the last `count` words.
fn loader_options(all: &[u8], count: usize) -> Vec<CString> {
    let words: Vec<_> = all.split_inclusive(|&byte| byte == 0).collect();
    let options = words.len().saturating_sub(count);
    let options = words.get(1..options).unwrap_or_default();
    options.iter().filter_map(|word| Some(CStr::from_bytes_with_nul(word).ok()?.into())).collect()
}

/// Returns the library as an element of `LD_PRELOAD`, which knows no quoting: where the path has a
/// separator in it, the descriptor stands for it.
fn preload_entry(path: &Path, library: OwnedFd) -> (OsString, Option<OwnedFd>) {
    if is_plain(path) {
        return (path.as_os_str().to_owned(), None);
    }
    (format!("/proc/self/fd/{}", library.as_raw_fd()).into(), Some(library))
}

fn is_plain(path: &Path) -> bool {
    const SPECIAL: &[u8] = b": \t\n$";
    path.as_os_str().as_bytes().iter().all(|byte| !SPECIAL.contains(byte))
}

fn entry(name: impl AsRef<OsStr>, value: &OsStr) -> io::Result<CString> {
    let mut entry = name.as_ref().to_owned();
    entry.push("=");
    entry.push(value);
    Ok(CString::new(entry.into_vec())?)
}

fn is_of(entry: &[u8], name: &str) -> bool {
    entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
}

/// Returns words as C has them.
pub(super) fn c_strings<W: AsRef<OsStr>>(
    words: impl IntoIterator<Item = W>,
) -> io::Result<Vec<CString>> {
    words.into_iter().map(|word| Ok(CString::new(word.as_ref().as_bytes())?)).collect()
}

/// Makes descriptors survive the execution of a program, under their numbers.
pub(super) fn inherit(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    fds.iter().try_for_each(|&fd| fd::set_close_on_exec(fd, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(recipe: &Recipe, name: &str) -> Vec<String> {
        let entries = recipe.environment.iter().map(|entry| entry.to_str().unwrap());
        entries.filter_map(|e| e.strip_prefix(name)?.strip_prefix('=')).map(String::from).collect()
    }

    #[test]
    fn a_program_that_has_the_library_gets_the_variable_only() {
        let recipe = Recipe::new(&image::own().unwrap(), "AIOPOOL_TEST", 7).unwrap();
        assert_eq!(value_of(&recipe, "AIOPOOL_TEST"), ["7"]);
        assert_eq!(recipe.environment.len(), std::env::vars_os().count() + 1);
        assert!(!recipe.preloaded);
    }

    #[test]
    fn a_library_that_is_loaded_is_preloaded_and_taken_out_again() {
        let mut image = image::own().unwrap();
        image.is_program = false;
        let recipe = Recipe::new(&image, "AIOPOOL_TEST", 7).unwrap();
        assert!(recipe.preloaded);
        let value = value_of(&recipe, PRELOAD_VARIABLE);
        assert_eq!(value.len(), 1);
        assert!(value[0].ends_with("/proc/self/exe"), "{value:?}");
        assert_eq!(preload_before(OsStr::new("/lib/us.so")), None);
        assert_eq!(preload_before(OsStr::new("/a b:/c:/lib/us.so")), Some("/a b:/c".into()));
    }

    #[test]
    fn the_loader_gets_its_options_again() {
        let none: [&CStr; 0] = [];
        assert_eq!(loader_options(b"ld.so\0./prog\0a\0b\0", 3), none);
        let options = loader_options(b"ld.so\0--library-path\0/x y\0./prog\0", 1);
        assert_eq!(options, [c"--library-path", c"/x y"]);
        // A program may have written something else there.
        assert_eq!(loader_options(b"a title\0", 5), none);
        assert_eq!(arguments(c"name").unwrap(), [c"name"]);
    }

    #[test]
    fn a_path_with_a_separator_is_preloaded_by_descriptor() {
        let open = || OwnedFd::from(File::open("/dev/null").unwrap());
        let (plain, kept) = preload_entry(Path::new("/lib/a.so"), open());
        assert_eq!((plain.to_str(), kept.is_some()), (Some("/lib/a.so"), false));
        for path in ["/my lib/a.so", "/a:b.so", "/$LIB/a.so"] {
            let (entry, kept) = preload_entry(Path::new(path), open());
            let number = kept.unwrap().as_raw_fd();
            assert_eq!(entry.to_str().unwrap(), format!("/proc/self/fd/{number}"));
        }
    }
}
