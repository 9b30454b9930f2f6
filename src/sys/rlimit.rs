//! Resource limits of this process.
#![allow(unsafe_code)] // calls into libc

use std::io;

use serde::{Deserialize, Serialize};

use super::{check, named};

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Bytes of address space.
    AddressSpace,
    /// Seconds of processor time.
    CpuSeconds,
    /// Bytes of the largest file, one in memory included.
    FileSize,
    /// The highest descriptor number, plus one.
    OpenFiles,
    /// Bytes of the first thread's stack.
    Stack,
}

/// How many kinds of limits Linux has (`RLIM_NLIMITS`).
const KINDS: u32 = 16;

/// A limit and how far this process may raise it; `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// What holds now.
    pub soft: u64,
    /// How far `soft` may be raised.
    pub hard: u64,
}

/// Returns the limit that holds now.
pub(crate) fn get(resource: Resource) -> io::Result<Limit> {
    get_numbered(code(resource))
}

/// `kind` is of another type in glibc than in musl.
fn get_numbered(kind: libc::c_int) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and of the type the call fills in.
    check(unsafe { libc::getrlimit(kind as _, &mut limit) })
        .map_err(|error| named("prlimit64", error))?;
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Sets a limit, for this process and those it makes from now on.
pub(crate) fn set(resource: Resource, limit: Limit) -> io::Result<()> {
    set_numbered(code(resource), limit)
}

fn set_numbered(kind: libc::c_int, limit: Limit) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `limit` is initialised and lives across the call.
    check(unsafe { libc::setrlimit(kind as _, &limit) }).map(drop)
}

/// Says that it is this process's limit, where a lack of address space is.
pub(crate) fn named_space(error: io::Error) -> io::Error {
    let limit = get(Resource::AddressSpace).map_or(u64::MAX, |limit| limit.soft);
    if error.kind() != io::ErrorKind::OutOfMemory || limit == u64::MAX {
        return error;
    }
    let text = format!("{error}: this process may map {limit} bytes: raise ulimit -v (RLIMIT_AS)");
    io::Error::new(error.kind(), text)
}

/// The limits of every kind that hold now, in the order of their numbers.
pub(crate) fn all() -> io::Result<Vec<Limit>> {
    (0..KINDS).map(|kind| get_numbered(kind as libc::c_int)).collect()
}

/// Sets the limits of every kind, as [`all`] listed them; those that hold already are left alone.
pub(crate) fn set_all(limits: &[Limit]) -> io::Result<()> {
    for (kind, &limit) in (0..KINDS).zip(limits) {
        let kind = kind as libc::c_int;
        if get_numbered(kind)? != limit {
            set_numbered(kind, limit)?;
        }
    }
    Ok(())
}

/// Lowers a limit so that it cannot be raised again; one that is lower already stays.
pub(crate) fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let now = get(resource)?;
    let soft = most.min(now.soft);
    // Processor time: at the soft limit comes `SIGXCPU`, which names the cause, at the hard one
    // `SIGKILL`, which does not; so the hard one is left a second behind.
    let slack = u64::from(resource == Resource::CpuSeconds);
    set(resource, Limit { soft, hard: most.saturating_add(slack).min(now.hard).max(soft) })
}

/// Returns the platform's own name for it: its type differs between C libraries.
fn code(resource: Resource) -> libc::c_int {
    match resource {
        Resource::AddressSpace => libc::RLIMIT_AS as libc::c_int,
        Resource::CpuSeconds => libc::RLIMIT_CPU as libc::c_int,
        Resource::FileSize => libc::RLIMIT_FSIZE as libc::c_int,
        Resource::OpenFiles => libc::RLIMIT_NOFILE as libc::c_int,
        Resource::Stack => libc::RLIMIT_STACK as libc::c_int,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_holds() {
        let now = get(Resource::OpenFiles).unwrap();
        assert!(now.soft > 0 && now.soft <= now.hard);
        set(Resource::OpenFiles, now).unwrap();
        assert_eq!(get(Resource::OpenFiles).unwrap(), now);
    }

    #[test]
    fn a_limit_above_the_present_one_changes_nothing() {
        let now = get(Resource::CpuSeconds).unwrap();
        lower(Resource::CpuSeconds, u64::MAX).unwrap();
        assert_eq!(get(Resource::CpuSeconds).unwrap(), now);
    }
}
