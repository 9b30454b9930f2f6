//! What the processes of workers are, where that is not what the host is.
//!
//! By default a worker has the environment, directory, user, niceness and umask of the process that
//! starts its pool, as they are then, and the processors and the scheduling policy of the thread
//! that calls `aiopool_pool_start`: set that policy (`sched_setscheduler`) before the call, and
//! back after it. No signal is ever blocked in a worker.

use std::ffi::{OsString, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;

use super::boundary::Failure;
use super::pointer::{Sized32, arguments, bytes, out, sized};
use super::status::*;
use crate::pool::PoolBuilder;

/// Workers have the variables that `environment` sets, and no others.
pub const AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT: u32 = 1;
/// `umask` is set.
pub const AIOPOOL_SURROUNDINGS_UMASK: u32 = 2;
/// `user` is set.
pub const AIOPOOL_SURROUNDINGS_USER: u32 = 4;
/// `group` is set.
pub const AIOPOOL_SURROUNDINGS_GROUP: u32 = 8;

/// What each task prints goes to files of its own in `output_directory`, `task-17.out` and
/// `task-17.err` for the ticket 17: see `aiopool_pool_printed`. It takes a `child_concurrency` of
/// 1.
pub const AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK: u32 = 16;

const FLAGS: u32 = AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT
    | AIOPOOL_SURROUNDINGS_UMASK
    | AIOPOOL_SURROUNDINGS_USER
    | AIOPOOL_SURROUNDINGS_GROUP
    | AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK;

/// What workers are that the host is not: `surroundings` of the options of a pool; set by
/// `aiopool_surroundings_init`, then changed where wanted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_surroundings {
    /// `sizeof(aiopool_surroundings)`.
    pub struct_size: u32,
    /// `AIOPOOL_SURROUNDINGS_*`, or 0.
    pub flags: u32,
    /// Variables of their environment, ended by NULL: `NAME=value` sets one, `NAME` takes it out;
    /// or NULL.
    pub environment: *const *const c_char,
    /// Their working directory, or NULL.
    pub directory: *const c_char,
    /// A directory for their standard output and error, or NULL: those of the worker on seat 3 go
    /// to `worker-3.out` and `worker-3.err` there, behind what is there.
    pub output_directory: *const c_char,
    /// With `AIOPOOL_SURROUNDINGS_UMASK` the bits that files created by workers lack, 0 to 0777.
    pub umask: u32,
    /// With `AIOPOOL_SURROUNDINGS_USER` the number of the user that they run as; it takes root.
    /// They then have the groups of `group` alone, or none but their own.
    pub user: u32,
    /// With `AIOPOOL_SURROUNDINGS_GROUP` the number of the group that they run in; it takes root.
    pub group: u32,
    /// How much nicer than the host they are, 0 to 39.
    pub nice: i32,
    /// The numbers of the processors that they run on; NULL, the default, for those of the thread
    /// that starts the pool. Where `processes` is 0 there is one worker for each of them.
    pub processors: *const u32,
    /// Number of entries in `processors`.
    pub processors_len: usize,
    /// 0.
    pub reserved: [u64; 2],
}

// SAFETY: integers and pointers only, and the size comes first.
unsafe impl Sized32 for aiopool_surroundings {
    const NAME: &'static str = "aiopool_surroundings";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            flags: 0,
            environment: std::ptr::null(),
            directory: std::ptr::null(),
            output_directory: std::ptr::null(),
            umask: 0,
            user: 0,
            group: 0,
            nice: 0,
            processors: std::ptr::null(),
            processors_len: 0,
            reserved: [0; 2],
        }
    }
}

/// Returns the builder of a pool whose workers are what `surroundings` says.
///
/// # Safety
///
/// NULL, or a struct that begins with its size, whose array is NULL or ends with NULL, and whose
/// strings are NULL or C strings; the processors are as their length.
pub(super) unsafe fn surround(
    mut builder: PoolBuilder,
    surroundings: *const aiopool_surroundings,
) -> Result<PoolBuilder, Failure> {
    if surroundings.is_null() {
        return Ok(builder);
    }
    // SAFETY: the caller vouches for it.
    let surroundings = unsafe { sized(surroundings) }?;
    if surroundings.reserved.iter().any(|&word| word != 0) {
        return Err(Failure::new(AIOPOOL_ERR_STRUCT, "a reserved field of surroundings is not 0"));
    }
    let has = |flag| surroundings.flags & flag != 0;
    if surroundings.flags & !FLAGS != 0 {
        let text = format!(
            "surroundings.flags = {:#x} has unknown bits: the known ones are {FLAGS:#x}",
            surroundings.flags
        );
        return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    }
    let numbers = [
        ("umask", surroundings.umask, AIOPOOL_SURROUNDINGS_UMASK),
        ("user", surroundings.user, AIOPOOL_SURROUNDINGS_USER),
        ("group", surroundings.group, AIOPOOL_SURROUNDINGS_GROUP),
    ];
    // A number whose flag was forgotten would be silently of no effect.
    if let Some((name, number, _)) = numbers.iter().find(|(_, n, flag)| *n != 0 && !has(*flag)) {
        let text = format!("surroundings.{name} = {number} without its flag in surroundings.flags");
        return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    }
    if has(AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT) {
        builder = builder.env_clear();
    }
    // SAFETY: the caller vouches for it.
    for variable in unsafe { arguments(surroundings.environment) } {
        let bytes = variable.into_vec();
        let name = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        builder = match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => builder.env(name(&bytes[..at]), name(&bytes[at + 1..])),
            None => builder.env_remove(name(&bytes)),
        };
    }
    // SAFETY: the caller vouches for them.
    let (directory, output) =
        unsafe { (path(surroundings.directory), path(surroundings.output_directory)) };
    if let Some(directory) = directory {
        builder = builder.current_dir(directory);
    }
    if let Some(directory) = output {
        builder = builder.output_to(directory);
    }
    builder = builder.output_per_task(has(AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK));
    if has(AIOPOOL_SURROUNDINGS_UMASK) {
        builder = builder.umask(surroundings.umask);
    }
    if has(AIOPOOL_SURROUNDINGS_USER) {
        builder = builder.user(surroundings.user);
    }
    if has(AIOPOOL_SURROUNDINGS_GROUP) {
        builder = builder.group(surroundings.group);
    }
    let (numbers, len) = (surroundings.processors, surroundings.processors_len);
    if !numbers.is_null() || len != 0 {
        let len = len.saturating_mul(size_of::<u32>());
        // SAFETY: the caller vouches for it; any bytes are numbers.
        let numbers = unsafe { bytes("surroundings.processors", numbers.cast(), len)? };
        let numbers = numbers.chunks_exact(size_of::<u32>());
        builder = builder.processors(
            numbers.map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("chunks of that size"))),
        );
    }
    Ok(builder.nice(surroundings.nice))
}

/// # Safety
///
/// NULL or a C string.
unsafe fn path(path: *const c_char) -> Option<OsString> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for it.
    let bytes = unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes();
    Some(OsString::from_vec(bytes.to_vec()))
}

ffi_fn! {
    /// Sets surroundings that change nothing.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_surroundings_init(
        surroundings_out: Option<&mut MaybeUninit<aiopool_surroundings>>,
    ) -> aiopool_status {
        out("surroundings_out", surroundings_out)?.write(aiopool_surroundings::defaults());
        Ok(())
    }
}
