//! Starting a zygote from a host that cannot be forked, because it has threads or a runtime.
//!
//! The program executes itself anew; the library's constructor recognises the zygote by the
//! greeting on an inherited socket, and `main` is never reached. Where this library is not part
//! of the program but loaded into it (Python, Node), `LD_PRELOAD` brings it along.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::line::{Line, Made};
use super::recipe::{self, PROGRAM, Recipe, c_strings};
use super::wire::{self, Build, Greeting, TEMPLATE_VARIABLE, ZYGOTE_MAGIC, ZYGOTE_VARIABLE};
use super::zygote;
use crate::error::{Error, Result};
use crate::sync::crash::{self, Point};
use crate::sys::image::Image;
use crate::sys::{fd, image, pidfd, process, socket};

/// Starts a zygote by executing this program.
pub(super) fn start(keep_fds: bool) -> Result<Line> {
    zygote::check_catchable()?;
    let image = own_image()?;
    let arguments = recipe::arguments(c"aiopool-zygote")
        .map_err(|error| Error::system("find the program that this process is", error))?;
    let recipe = |number| Recipe::new(&image, ZYGOTE_VARIABLE, number);
    execute(PROGRAM, &arguments, &image, keep_fds, recipe)
}

/// Starts the zygote of one pool by executing a program that loads what workers are to share.
pub(super) fn start_template(words: &[OsString]) -> Result<Line> {
    let words = c_strings(words).map_err(|error| Error::system("pass on the command", error))?;
    let Some(program) = words.first() else {
        return Err(Error::Misuse("the program that is to be preloaded is not named"));
    };
    let recipe = |number: i32| Recipe::without_library(TEMPLATE_VARIABLE, &number.to_string());
    execute(program, &words, &own_image()?, true, recipe)
}

fn own_image() -> Result<Image> {
    image::own().map_err(|error| Error::system("find the file this library was loaded from", error))
}

fn execute(
    program: &CStr,
    arguments: &[CString],
    image: &Image,
    keep_fds: bool,
    recipe: impl FnOnce(i32) -> io::Result<Recipe>,
) -> Result<Line> {
    let system = |what: &'static str| move |error| Error::system(what, error);
    let build = Build::own(image).map_err(system("identify the file of this library"))?;
    let (ours, theirs) = socket::pair().map_err(system("make the zygote's line"))?;
    let theirs = fd::above_stdio(theirs).map_err(system("make the zygote's line"))?;
    let host = pidfd::open(process::own_pid()).map_err(system("open this process"))?;

    let recipe = recipe(theirs.as_raw_fd()).map_err(system("prepare the zygote's environment"))?;
    let greeting = Greeting { build, preloaded: recipe.preloaded, keep_fds };
    // Sent before the zygote listens: the socket keeps it, so the constructor need not wait.
    let bytes = wire::encode_first(ZYGOTE_MAGIC, &greeting);
    socket::send(ours.as_fd(), &bytes, &[host.as_fd()]).map_err(system("greet the zygote"))?;

    let mut inherited = vec![theirs.as_fd()];
    inherited.extend(recipe.library.as_ref().map(|library| library.as_fd()));
    let pid = crate::sys::exec::spawn(program, arguments, &recipe.environment, &inherited)
        .map_err(|error| {
            Error::system(format!("execute {} as the zygote", program.to_string_lossy()), error)
        })?;
    // Z1: the host dies here → a zygote that finds the host's pidfd readable at its first look.
    crash::here(Point::Z1);
    drop(theirs);
    Line::greet(ours, Made::Parent(pid), keep_fds)
}
