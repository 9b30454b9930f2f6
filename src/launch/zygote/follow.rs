//! Whether workers of this zygote can become what the host is, found out while the pool is opened.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::super::snapshot::{Places, Snapshot};
use crate::sys::credentials::Credentials;
use crate::sys::exit::exit_now;
use crate::sys::poll::{PollFd, poll};
use crate::sys::process::{self, Side};
use crate::sys::{fd, place, wait};

/// The ways to where the host is, from its directories.
///
/// # Errors
///
/// What this zygote cannot follow.
pub(super) fn places(host: &Snapshot, root: OwnedFd, directory: OwnedFd) -> Result<Places, String> {
    let mut namespaces = Vec::new();
    for (kind, theirs) in place::NAMESPACES.into_iter().zip(&host.namespaces) {
        let ours = place::namespace("self", kind).ok().flatten();
        if theirs.is_some() && *theirs != ours {
            let namespace = place::open_namespace(host.host, kind).map_err(|error| {
                format!(
                    "the host is in another {kind} namespace than its fork server, which cannot \
                     open it: {error}: call aiopool::init() in that namespace"
                )
            })?;
            namespaces.push((kind, namespace));
        }
    }
    Ok(Places { root, directory, namespaces })
}

/// Checks that the host is what it says, and has a child of this zygote try to become it where
/// that is not certain.
///
/// # Errors
///
/// What cannot be followed, and what to do about it.
pub(super) fn check(host: &Snapshot, places: &Places, alive: &OwnedFd) -> Result<(), String> {
    let own = Snapshot::take().map_err(|error| error.to_string())?;
    // A host that has given up rights must not get them back from workers of an older zygote.
    if host.credentials != own.credentials && host.namespaces[0] == own.namespaces[0] {
        let said = Credentials::of(host.host)
            .map_err(|error| format!("the host's user cannot be checked: {error}"))?;
        if said != host.credentials {
            return Err(format!(
                "the thread that builds the pool is {}, its process {said}: build the pool where \
                 they agree",
                host.credentials
            ));
        }
    }
    if host.is_sure_from(&own) {
        return Ok(());
    }
    let failed = |error| format!("the fork server cannot try to become the host: {error}");
    let threads = process::thread_count().map_err(failed)?;
    if threads != 1 {
        return Err(format!("the fork server has {threads} threads and cannot be forked"));
    }
    let (mut reason, writer) = std::io::pipe().map_err(failed)?;
    // SAFETY: counted just above, and the one thread is here.
    match unsafe { process::fork() }.map_err(failed)? {
        Side::Child => {
            let _ = process::die_with_parent();
            exit_now(match attempt(host, places, writer.into()) {
                true => 0,
                false => 1,
            })
        }
        Side::Parent(pid) => {
            drop(writer);
            // It takes microseconds, but the host's death is seen all the same.
            let mut ends = [PollFd::readable(reason.as_fd()), PollFd::readable(alive.as_fd())];
            let _ = poll(&mut ends, None);
            let said = ends[0].is_ready();
            let mut text = String::new();
            if said {
                let _ = reason.read_to_string(&mut text);
            } else {
                let _ = process::signal(pid, libc::SIGKILL);
            }
            match wait::reap_waiting(pid) {
                Ok(Some(wait::Ended::Exited(0))) => Ok(()),
                _ if !text.is_empty() => Err(text),
                ended => Err(failed(std::io::Error::other(format!("it ended: {ended:?}")))),
            }
        }
    }
}

/// Becomes the host; false, and a text on `reason`, where that is impossible.
fn attempt(host: &Snapshot, places: &Places, reason: OwnedFd) -> bool {
    let keep: Vec<_> = places.numbers().chain([reason.as_raw_fd()]).collect();
    // SAFETY: this copy of the zygote ends without returning to the owners of what is closed.
    let closed = unsafe { fd::close_all_except(&keep) }.map_err(|error| error.to_string());
    match closed.and_then(|()| host.take_on(places)) {
        Ok(()) => true,
        Err(text) => {
            // A zygote that does not listen any more knows by the status.
            let _ = File::from(reason).write_all(text.as_bytes());
            false
        }
    }
}
