//! What the options of a pool may be, and what the system allows.

use std::io;

use crate::arena::CHUNK;
use crate::error::{Error, Result};
use crate::launch::{Limits, PoolSpec, fds_needed};
use crate::ring::MAX_RECORDS;
use crate::sys::eventfd::EventFd;
use crate::sys::fd;
use crate::sys::rlimit::{self, Resource};

/// The most processes, and queues, of a pool: queues are numbered with 16 bits.
pub(super) const MAX_PROCESSES: usize = 1 << 16;
/// The most tasks that a worker has in flight.
pub(super) const MAX_CONCURRENCY: usize = 1 << 16;
/// The smallest table of a queue.
const MIN_CAPACITY: usize = 16;
/// The largest `max_payload`, in bytes.
pub(super) const MAX_PAYLOAD: usize = 1 << 30;
/// The largest arena, in bytes.
const MAX_ARENA: usize = 32 << 30;

pub(super) fn within(name: &'static str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let allowed = format!("{least} to {most}");
    Err(Error::InvalidOption { name, value: value.to_string(), allowed })
}

/// Checks the number of records of a queue.
pub(super) fn check_capacity(tasks: usize) -> Result<()> {
    within("capacity", tasks, MIN_CAPACITY, MAX_RECORDS as usize)?;
    if tasks.is_power_of_two() {
        return Ok(());
    }
    Err(Error::InvalidOption {
        name: "capacity",
        value: tasks.to_string(),
        allowed: format!("a power of two from {MIN_CAPACITY} to {MAX_RECORDS}"),
    })
}

/// Returns an arena's length: room for four of the largest payloads unless the caller says
/// otherwise.
pub(super) fn arena(name: &'static str, asked: Option<usize>, max_payload: usize) -> Result<usize> {
    let bytes = asked.unwrap_or_else(|| 4 * max_payload.next_power_of_two());
    let least = 2 * max_payload;
    if asked.is_some() && !(least..=MAX_ARENA).contains(&bytes) {
        let allowed = format!(
            "{least} to {MAX_ARENA}: at least two of the largest payloads have room; lower \
             max_payload, which is {max_payload}, for less"
        );
        return Err(Error::InvalidOption { name, value: bytes.to_string(), allowed });
    }
    Ok(bytes.max(CHUNK).next_power_of_two())
}

pub(super) fn check_fds(spec: &PoolSpec) -> Result<()> {
    let needed = fds_needed(spec);
    let open = match fd::count_open() {
        Ok(open) => open,
        // No more than a look ahead, and not every process may read its /proc/self/fd.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(Error::system("count the open files in /proc/self/fd", error)),
    };
    let limit = rlimit::get(Resource::OpenFiles)
        .map_err(|error| Error::system("read the limit of open files", error))?
        .soft;
    if (open + needed) as u64 > limit {
        return Err(Error::InvalidOption {
            name: "processes",
            value: spec.slots.iter().map(|slots| slots / 2).sum::<u32>().to_string(),
            allowed: format!(
                "a pool of that size needs {needed} descriptors; {open} are open and the limit \
                 (RLIMIT_NOFILE, ulimit -n) is {limit}: raise it or use fewer processes"
            ),
        });
    }
    Ok(())
}

/// Refuses a stack on which no worker would come to its first task: it has this process's limit.
pub(super) fn check_stack() -> Result<()> {
    /// What a worker of a debug build needs before any code of a task, and as much again.
    const LEAST: u64 = 128 << 10;
    let limit = rlimit::get(Resource::Stack)
        .map_err(|error| Error::system("read the limit of the stack", error))?
        .soft;
    if limit < LEAST {
        let text = format!(
            "start workers whose stack may have {limit} bytes: raise ulimit -s (RLIMIT_STACK) to \
             {LEAST} at least"
        );
        return Err(Error::system(text, io::ErrorKind::OutOfMemory.into()));
    }
    Ok(())
}

/// Makes a doorbell.
pub(super) fn bell() -> Result<EventFd> {
    EventFd::new().map_err(|error| {
        // One that does not come from the system as it is names the call that is refused.
        let lacks = error.raw_os_error().is_some();
        let remedy = if lacks { ": raise the limit of open files" } else { "" };
        Error::system(format!("create an eventfd{remedy}"), error)
    })
}

/// Makes the error of shared memory that the system refuses; `remedy` is for a lack of memory only.
pub(super) fn no_memory(
    what: &'static str,
    remedy: &'static str,
) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    move |error| {
        let lacks = [FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull].contains(&error.kind());
        Error::system(if lacks { format!("{what}: {remedy}") } else { what.to_owned() }, error)
    }
}

/// Refuses limits under which no worker could start: it maps `arenas` bytes, and has two doorbells
/// for each of the `seats` of its queue.
pub(super) fn check_limits(limits: &Limits, seats: usize, arenas: usize) -> Result<()> {
    /// What a small program, its stack and the task table take beside the arenas.
    const PROGRAM: u64 = 64 << 20;
    /// The pool's other descriptors in a worker, the standard three and the runtime's.
    const DESCRIPTORS: u64 = 20;
    let at_least = |name, value: Option<u64>, least: u64, why: &str| match value {
        Some(value) if value < least => Err(Error::InvalidOption {
            name,
            value: value.to_string(),
            allowed: format!("at least {least}{why}"),
        }),
        _ => Ok(()),
    };
    let why = ": the arenas, which input_arena and output_arena choose, and 64 MiB for the rest";
    at_least("limits.address_space", limits.address_space, arenas as u64 + PROGRAM, why)?;
    at_least("limits.cpu_seconds", limits.cpu_seconds, 1, "")?;
    let why = ": two for each worker of the queue and those of the pool and the runtime";
    at_least("limits.open_files", limits.open_files, 2 * seats as u64 + DESCRIPTORS, why)
}
