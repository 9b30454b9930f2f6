//! Starting a zygote from a host that cannot be forked, because it has threads or a runtime.
//!
//! The program executes itself anew; the library's constructor recognises the zygote by the
//! greeting on an inherited socket, and `main` is never reached. Where this library is not part
//! of the program but loaded into it (Python, Node), `LD_PRELOAD` brings it along.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use super::line::{Line, Made};
use super::recipe::{self, PROGRAM, Recipe};
use super::wire::{self, Build, Greeting, ZYGOTE_MAGIC, ZYGOTE_VARIABLE};
use super::zygote;
use crate::error::{Error, Result};
use crate::sync::crash::{self, Point};
use crate::sys::{fd, image, pidfd, process, socket};

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
    // Sent before the zygote listens: the socket keeps it, so the constructor need not wait.
    let bytes = wire::encode_first(ZYGOTE_MAGIC, &greeting);
    socket::send(ours.as_fd(), &bytes, &[host.as_fd()]).map_err(system("greet the zygote"))?;

    let arguments = recipe::arguments(c"aiopool-zygote")
        .map_err(system("find the program that this process is"))?;
    let mut inherited = vec![theirs.as_fd()];
    inherited.extend(recipe.library.as_ref().map(|library| library.as_fd()));
    let pid = crate::sys::exec::spawn(PROGRAM, &arguments, &recipe.environment, &inherited)
        .map_err(system("execute /proc/self/exe as the zygote"))?;
    // Z1: the host dies here → a zygote that finds the host's pidfd readable at its first look.
    crash::here(Point::Z1);
    drop(theirs);
    Line::greet(ours, Made::Parent(pid), keep_fds)
}
