//! What a program is executed with, as a zygote or as a worker: its environment, and this library.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::sys::fd;
use crate::sys::image::Image;

/// The program that is executed: this one, even when its file was replaced meanwhile.
pub(super) const PROGRAM: &CStr = c"/proc/self/exe";
pub(super) const PRELOAD_VARIABLE: &str = "LD_PRELOAD";

/// What an executed program needs so that this library finds itself in it.
pub(super) struct Recipe {
    /// Its environment, as `NAME=value`.
    pub environment: Vec<CString>,
    /// The library is the first element of its `LD_PRELOAD`.
    pub preloaded: bool,
    /// To be inherited under its number.
    pub library: Option<OwnedFd>,
}

impl Recipe {
    /// Makes a recipe of this process's environment, plus `variable` set to the number of a
    /// descriptor, plus this library if the program does not have it.
    pub(super) fn new(image: &Image, variable: &str, fd: i32) -> io::Result<Self> {
        let mut recipe = Self::without_library(variable, fd)?;
        if image.is_program {
            return Ok(recipe);
        }
        // Opened in any case: a file that is gone would only be named on the error output.
        let library = fd::above_stdio(File::open(&image.path)?.into())?;
        let before = std::env::var_os(PRELOAD_VARIABLE);
        let (mut value, library) = preload_entry(&image.path, library);
        if let Some(before) = before.as_ref().filter(|before| !before.is_empty()) {
            value.push(":");
            value.push(before);
        }
        recipe.environment.retain(|entry| !is_of(entry.as_bytes(), PRELOAD_VARIABLE));
        recipe.environment.push(entry(PRELOAD_VARIABLE, &value)?);
        recipe.preloaded = true;
        recipe.library = library;
        Ok(recipe)
    }

    /// As [`Recipe::new`] for a program that looks after itself.
    pub(super) fn without_library(variable: &str, fd: i32) -> io::Result<Self> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            if name.as_bytes() != variable.as_bytes() {
                environment.push(entry(&name, &value)?);
            }
        }
        environment.push(entry(variable, OsStr::new(&fd.to_string()))?);
        Ok(Self { environment, preloaded: false, library: None })
    }
}

/// Returns what `LD_PRELOAD` was before [`Recipe::new`] put a library in front of it.
pub(super) fn preload_before(value: &OsStr) -> Option<OsString> {
    let bytes = value.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b':')?;
    Some(OsString::from_vec(bytes[end + 1..].to_vec()))
}

/// Returns the library as an element of `LD_PRELOAD`, which knows no quoting: where the path has a
/// separator in it, the descriptor stands for it.
fn preload_entry(path: &Path, library: OwnedFd) -> (OsString, Option<OwnedFd>) {
    const SPECIAL: &[u8] = b": \t\n$";
    let plain = path.as_os_str().as_bytes().iter().all(|byte| !SPECIAL.contains(byte));
    if plain {
        return (path.as_os_str().to_owned(), None);
    }
    (format!("/proc/self/fd/{}", library.as_raw_fd()).into(), Some(library))
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

/// Makes descriptors survive the execution of a program, under their numbers.
pub(super) fn inherit(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    fds.iter().try_for_each(|&fd| fd::set_close_on_exec(fd, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::image;

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
        assert!(value[0].starts_with("/proc/self/exe"), "{value:?}");
        assert_eq!(preload_before(OsStr::new("/lib/us.so")), None);
        assert_eq!(preload_before(OsStr::new("/lib/us.so:/a b:/c")), Some("/a b:/c".into()));
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
