//! Options of a pool.

use std::ffi::{OsString, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use super::boundary::Failure;
use super::pointer::{Sized32, out};
use super::status::*;
use crate::launch::StartMethod;
use crate::pool::{Pool, PoolBuilder};

/// Workers are forked from the process that called `aiopool_init`.
pub const AIOPOOL_START_FORK: u32 = 0;
/// Workers execute this program anew; only functions declared by name are of use then.
pub const AIOPOOL_START_SPAWN: u32 = 1;
/// Workers are another program: `command`.
pub const AIOPOOL_START_COMMAND: u32 = 2;

/// Workers keep the descriptors that were open at `aiopool_init`.
pub const AIOPOOL_POOL_KEEP_FDS: u32 = 1;

/// Options of a pool; set by `aiopool_pool_options_init`, then changed where wanted.
///
/// A number outside its range is refused by `aiopool_pool_start` with a text that says the range.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_pool_options {
    /// `sizeof(aiopool_pool_options)`.
    pub struct_size: u32,
    /// `AIOPOOL_POOL_*`, or 0.
    pub flags: u32,
    /// Worker processes; 0, the default, for one for each processor that this process may use.
    pub processes: u32,
    /// Queues, 1 (the default) to `processes`; worker w serves queue w modulo `queues`.
    pub queues: u32,
    /// Tasks that a worker has in flight at most; 16. Means something to asynchronous functions.
    pub child_concurrency: u32,
    /// Priority classes, 1 (the default) to 4.
    pub priorities: u32,
    /// Tasks that a worker runs before it is replaced; 0, the default, for no limit.
    pub max_tasks_per_child: u64,
    /// Tasks that a queue holds at most, a power of two; 4096.
    pub capacity: u64,
    /// The largest input in bytes; 64 MiB.
    pub max_payload: u64,
    /// Memory for inputs above 64 bytes; 0, the default, for four times `max_payload`.
    pub input_arena: u64,
    /// Memory of each worker for outputs above 128 bytes, as `input_arena`.
    pub output_arena: u64,
    /// Milliseconds that a worker has to obey a deadline or the pool's end; 2000.
    pub grace_ms: u64,
    /// `AIOPOOL_START_*`; `AIOPOOL_START_FORK`.
    pub start_method: u32,
    /// 0.
    pub reserved_0: u32,
    /// With `AIOPOOL_START_COMMAND` the program and its arguments, ended by NULL; else NULL.
    pub command: *const *const c_char,
    /// 0.
    pub reserved: [u64; 8],
}

// SAFETY: integers and pointers only, and the size comes first.
unsafe impl Sized32 for aiopool_pool_options {
    const NAME: &'static str = "aiopool_pool_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            flags: 0,
            processes: 0,
            queues: 1,
            child_concurrency: 16,
            priorities: 1,
            max_tasks_per_child: 0,
            capacity: 4096,
            max_payload: 64 << 20,
            input_arena: 0,
            output_arena: 0,
            grace_ms: 2000,
            start_method: AIOPOOL_START_FORK,
            reserved_0: 0,
            command: std::ptr::null(),
            reserved: [0; 8],
        }
    }
}

impl aiopool_pool_options {
    /// The builder that these options are.
    ///
    /// # Safety
    ///
    /// `command` is NULL or an array of C strings that NULL ends.
    pub(super) unsafe fn builder(&self) -> Result<PoolBuilder, Failure> {
        if self.reserved_0 != 0 || self.reserved.iter().any(|&word| word != 0) {
            return Err(Failure::new(AIOPOOL_ERR_STRUCT, "a reserved field is not 0"));
        }
        if self.flags & !AIOPOOL_POOL_KEEP_FDS != 0 {
            let text = format!("flags = {:#x} has bits that nobody knows", self.flags);
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut builder = Pool::builder()
            .queues(self.queues as usize)
            .child_concurrency(self.child_concurrency as usize)
            .priorities(self.priorities as usize)
            .max_tasks_per_child(self.max_tasks_per_child)
            .capacity(size(self.capacity))
            .max_payload(size(self.max_payload))
            .grace(Duration::from_millis(self.grace_ms))
            .keep_fds(self.flags & AIOPOOL_POOL_KEEP_FDS != 0);
        if self.processes != 0 {
            builder = builder.processes(self.processes as usize);
        }
        if self.input_arena != 0 {
            builder = builder.input_arena(size(self.input_arena));
        }
        if self.output_arena != 0 {
            builder = builder.output_arena(size(self.output_arena));
        }
        // SAFETY: the caller vouches for `command`.
        Ok(builder.start_method(unsafe { self.start_method() }?))
    }

    unsafe fn start_method(&self) -> Result<StartMethod, Failure> {
        match self.start_method {
            AIOPOOL_START_FORK => Ok(StartMethod::Fork),
            AIOPOOL_START_SPAWN => Ok(StartMethod::Spawn),
            AIOPOOL_START_COMMAND => {
                // SAFETY: the caller vouches for it.
                let command = unsafe { arguments(self.command) };
                if command.is_empty() {
                    return Err(Failure::new(AIOPOOL_ERR_INVALID, "command names no program"));
                }
                Ok(StartMethod::Command(command))
            }
            other => {
                let text = format!("start_method = {other} is none of AIOPOOL_START_*");
                Err(Failure::new(AIOPOOL_ERR_INVALID, text))
            }
        }
    }
}

/// # Safety
///
/// NULL or an array of C strings that NULL ends.
unsafe fn arguments(command: *const *const c_char) -> Vec<OsString> {
    let mut all = Vec::new();
    if command.is_null() {
        return all;
    }
    // SAFETY: the caller vouches for the array and that NULL ends it.
    unsafe {
        while !(*command.add(all.len())).is_null() {
            let argument = std::ffi::CStr::from_ptr(*command.add(all.len()));
            all.push(OsString::from_vec(argument.to_bytes().to_vec()));
        }
    }
    all
}

ffi_fn! {
    /// Sets all options to their defaults.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_pool_options_init(
        options_out: Option<&mut MaybeUninit<aiopool_pool_options>>,
    ) -> aiopool_status {
        out("options_out", options_out)?.write(aiopool_pool_options::defaults());
        Ok(())
    }
}
