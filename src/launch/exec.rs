//! Starting a zygote from a host that cannot be forked, because it has threads or a runtime.
//!
//! The program executes itself anew; the library's constructor recognises the zygote by the
//! greeting on an inherited socket, and `main` is never reached. Where this library is not part
//! of the program but loaded into it (Python, Node), `LD_PRELOAD` brings it along.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::line::Line;
use super::wire::{self, Build, Greeting, ZYGOTE_MAGIC, ZYGOTE_VARIABLE};
use super::zygote;
use crate::error::{Error, Result};
use crate::sync::crash::{self, Point};
use crate::sys::image::{self, Image};
use crate::sys::{fd, pidfd, process, socket};

/// The program that is executed: this one, even when its file was replaced meanwhile.
pub(super) const PROGRAM: &std::ffi::CStr = c"/proc/self/exe";
pub(super) const PRELOAD_VARIABLE: &str = "LD_PRELOAD";

impl Build {
    /// This very build.
    pub(super) fn own(image: &Image) -> io::Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path: image.path.clone(),
            identity: image.identity()?,
        })
    }
}

/// Starts a zygote by executing this program.
pub(super) fn start(keep_fds: bool) -> Result<Line> {
    let system = |what: &'static str| move |error| Error::system(what, error);
    zygote::check_catchable()?;
    let image = image::own().map_err(system("find the file this library was loaded from"))?;
    let build = Build::own(&image).map_err(system("identify the file of this library"))?;
    let (ours, theirs) = socket::pair().map_err(system("make the zygote's line"))?;
    let theirs = fd::above_stdio(theirs).map_err(system("make the zygote's line"))?;
    let host = pidfd::open(process::own_pid()).map_err(system("open this process"))?;

    let number = theirs.as_raw_fd();
    let recipe = Recipe::new(&image, ZYGOTE_VARIABLE, number)
        .map_err(system("prepare the zygote's environment"))?;
    let greeting = Greeting { build, preloaded: recipe.preloaded, keep_fds };
    // Said before anybody listens: the socket keeps it, and the constructor need not wait.
    let bytes = wire::encode_first(ZYGOTE_MAGIC, &greeting);
    socket::send(ours.as_fd(), &bytes, &[host.as_fd()]).map_err(system("greet the zygote"))?;

    let arguments = [c"aiopool-zygote".to_owned()];
    let mut inherited = vec![theirs.as_fd()];
    inherited.extend(recipe.library.as_ref().map(|library| library.as_fd()));
    let pid = crate::sys::exec::spawn(PROGRAM, &arguments, &recipe.environment, &inherited)
        .map_err(system("execute /proc/self/exe as the zygote"))?;
    // Z1: the host dies here → a zygote that finds the host's pidfd readable at its first look.
    crash::here(Point::Z1);
    drop(theirs);
    Line::greet(ours, pid, keep_fds, false)
}

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
    /// This process's environment, plus `variable` set to the number of a descriptor, plus this
    /// library if the program does not have it.
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

/// What `LD_PRELOAD` was before [`Recipe::new`] put a library in front of it.
pub(super) fn preload_before(value: &OsStr) -> Option<OsString> {
    let bytes = value.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b':')?;
    Some(OsString::from_vec(bytes[end + 1..].to_vec()))
}

/// The library as an element of `LD_PRELOAD`, which knows no quoting: where the path has a
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
