//! Options of a pool.

use std::ffi::{c_char, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use super::boundary::Failure;
use super::context::aiopool_context;
use super::contexts::ContextId;
use super::pointer::{Sized32, arguments, bytes, out, text};
use super::scheduler::{self, AIOPOOL_SCHEDULER_ROUND_ROBIN, aiopool_scheduler};
use super::status::*;
use super::surroundings::{aiopool_surroundings, surround};
use super::{entry, exception, registry};
#[cfg(feature = "sandbox")]
use crate::launch::Sandbox;
use crate::launch::{Limits, StartMethod};
use crate::pool::{Pool, PoolBuilder};
use crate::task::address::ImageAddress;
use crate::task::entry::Target;
use crate::worker::Hook;

/// Workers are forked from the process that called `aiopool_init`.
pub const AIOPOOL_START_FORK: u32 = 0;
/// Workers execute this program anew and never reach its `main`. They have the functions that its
/// constructors register in the default context, and no others: a pool of another context, too,
/// finds them there, by their names.
pub const AIOPOOL_START_SPAWN: u32 = 1;
/// Workers are another program: `command`.
pub const AIOPOOL_START_COMMAND: u32 = 2;

/// Workers keep the descriptors that were open at `aiopool_init`.
pub const AIOPOOL_POOL_KEEP_FDS: u32 = 1;
/// Executing a set-user-id program gives workers no new rights. Every rule of a sandbox (the flags
/// below, paths, denied calls) implies it.
pub const AIOPOOL_POOL_NO_NEW_PRIVS: u32 = 2;
/// Workers cannot create sockets: `socket` fails with `EPERM`.
pub const AIOPOOL_POOL_NO_NETWORK: u32 = 4;
/// Workers cannot execute programs. Not possible with `AIOPOOL_START_COMMAND`.
pub const AIOPOOL_POOL_NO_EXEC: u32 = 8;
/// Workers can send signals to their own children only (Linux 6.12).
pub const AIOPOOL_POOL_NO_SIGNALS: u32 = 16;
/// Leaves out those rules (of the three flags above, `read_only`, `read_write` and `denied_calls`)
/// that the kernel cannot enforce. Without this flag `aiopool_pool_start` fails, and its text names
/// them.
pub const AIOPOOL_POOL_BEST_EFFORT: u32 = 32;

/// Nobody can look at the pool with `aiopool ps`, `aiopool top` or `aiopool dashboard`. Without
/// this flag the programs of this user can.
pub const AIOPOOL_POOL_NOT_OBSERVABLE: u32 = 64;

/// `held_fd` is set.
pub const AIOPOOL_POOL_HOLD: u32 = 128;

/// What `flags` can have.
const FLAGS: u32 = AIOPOOL_POOL_KEEP_FDS
    | AIOPOOL_POOL_NO_NEW_PRIVS
    | AIOPOOL_POOL_NOT_OBSERVABLE
    | AIOPOOL_POOL_HOLD
    | SANDBOX;
/// The rules of a sandbox.
const SANDBOX: u32 = AIOPOOL_POOL_NO_NETWORK
    | AIOPOOL_POOL_NO_EXEC
    | AIOPOOL_POOL_NO_SIGNALS
    | AIOPOOL_POOL_BEST_EFFORT;

/// Options of a pool; set by `aiopool_pool_options_init`, then changed where wanted.
///
/// `aiopool_pool_start` refuses a number outside its range with a text that gives the range.
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
    /// Most tasks that a worker has in flight, 16 by default. It matters for asynchronous
    /// functions.
    pub child_concurrency: u32,
    /// Priority classes, 1 (the default) to 4.
    pub priorities: u32,
    /// Tasks that a worker runs before it is replaced; 0, the default, for no limit.
    pub max_tasks_per_child: u64,
    /// Most tasks that a queue holds, a power of two; 4096 by default.
    pub capacity: u64,
    /// The largest input in bytes; 64 MiB by default.
    pub max_payload: u64,
    /// Bytes of memory for inputs above 64 bytes; 0, the default, for four times `max_payload`.
    /// Taken from the system as it is used, and given back, but for 16 MiB, when most of it was not
    /// used for a second.
    pub input_arena: u64,
    /// Bytes of memory of each worker for outputs above 128 bytes; default as `input_arena`.
    pub output_arena: u64,
    /// Milliseconds that a worker has to obey a deadline or the pool's end; 2000 by default.
    pub grace_ms: u64,
    /// `AIOPOOL_START_*`; `AIOPOOL_START_FORK` by default.
    pub start_method: u32,
    /// `AIOPOOL_SCHEDULER_*`; `AIOPOOL_SCHEDULER_ROUND_ROBIN` by default.
    pub scheduler: u32,
    /// With `AIOPOOL_START_COMMAND` the program and its arguments, ended by NULL; else NULL.
    pub command: *const *const c_char,
    /// A registered function that each worker runs before its first task, or 0. If it returns an
    /// error the worker does not start; if it fails in every worker, the pool fails with its text.
    pub init_function: u32,
    /// A registered function that each worker runs after its last task, or 0.
    pub exit_function: u32,
    /// The input of the init function; copied. With `AIOPOOL_START_COMMAND` workers get it with
    /// `aiopool_worker_describe`.
    pub init_input: *const c_void,
    /// Its length in bytes.
    pub init_input_len: usize,
    /// The input of the exit function; copied.
    pub exit_input: *const c_void,
    /// Its length in bytes.
    pub exit_input_len: usize,
    /// Bytes of address space that a worker may map, the arenas included; 0, the default, for this
    /// process's own limit. An allocation beyond it fails.
    pub limit_address_space: u64,
    /// Seconds of processor time in a worker's life, then `SIGXCPU`; 0 for this process's own
    /// limit.
    pub limit_cpu_seconds: u64,
    /// Descriptors that a worker may have open, the pool's included; 0 for this process's own
    /// limit.
    pub limit_open_files: u64,
    /// Paths that workers can read and execute, ended by NULL; NULL, the default, for no rule. If
    /// this or `read_write` is not NULL, workers can open nothing else. Needs Linux 6.2.
    pub read_only: *const *const c_char,
    /// Paths that workers can also write, create and remove, ended by NULL; or NULL.
    pub read_write: *const *const c_char,
    /// Numbers of system calls that fail with `EPERM` in workers.
    pub denied_calls: *const i64,
    /// Number of entries in `denied_calls`.
    pub denied_calls_len: usize,
    /// With `AIOPOOL_SCHEDULER_CUSTOM` the scheduler, else NULL.
    pub custom_scheduler: *const aiopool_scheduler,
    /// The name under which the pool publishes its numbers, for `aiopool stats` and others, in
    /// `/dev/shm/aiopool.<name>`; NULL, the default, to publish nothing.
    pub stats_page: *const c_char,
    /// A registered function that each worker calls with each error of a task, in an
    /// `aiopool_exception`; or 0.
    pub exception_function: u32,
    /// Milliseconds that a worker has from its order until it can take tasks, its init function or
    /// its attaching included; 0, the default, for 60 seconds. Then it is killed, and if no other
    /// worker can take tasks the pool fails with a text that names the function or the command.
    pub start_timeout_ms: u32,
    /// The pool's name for `aiopool top` and others, 1 to 32 letters, digits, dots, dashes and
    /// underscores; NULL, the default, for the program's name.
    pub name: *const c_char,
    /// What workers are that this process is not; NULL, the default, for nothing.
    pub surroundings: *const aiopool_surroundings,
    /// The context whose functions and log the pool has; NULL, the default, for the default one.
    /// Contexts have no names, so workers that are no forks (`AIOPOOL_START_SPAWN`,
    /// `AIOPOOL_START_COMMAND`) look in their own default context for a function of the same name,
    /// which may be another library's: give it a name that only yours has.
    pub context: *mut aiopool_context,
    /// Milliseconds after which a task that holds up its worker becomes an event: in the snapshot,
    /// in `aiopool top`, in the log. 0, the default, for none. In a worker of another program it is
    /// a task after which the loop has not called `aiopool_worker_next` again.
    pub blocked_after_ms: u64,
    /// Tasks of a function that run alone in their workers before others may run beside them; 0,
    /// the default, for none. A death that one of them may have caused begins the count anew. See
    /// `AIOPOOL_CALL_ALONE` for a single call.
    pub probation: u32,
    /// With `AIOPOOL_POOL_HOLD` a descriptor of which the fork server and every worker keep a
    /// duplicate until they have ended; programs that tasks start do not get it. A lock that its
    /// open file holds is free when the last process of the pool has ended, however it did, and the
    /// caller has closed its own. Such a pool ends with its fork server.
    pub held_fd: i32,
    /// When every worker is killed, in nanoseconds of `CLOCK_BOOTTIME`; 0, the default, for never.
    /// It comes even if this process is stopped or blocked, and the pool has ended then. See
    /// `aiopool_pool_extend_deadline`.
    pub deadline_ns: u64,
    /// 0.
    pub reserved: [u64; 4],
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
            scheduler: AIOPOOL_SCHEDULER_ROUND_ROBIN,
            command: std::ptr::null(),
            init_function: 0,
            exit_function: 0,
            init_input: std::ptr::null(),
            init_input_len: 0,
            exit_input: std::ptr::null(),
            exit_input_len: 0,
            limit_address_space: 0,
            limit_cpu_seconds: 0,
            limit_open_files: 0,
            read_only: std::ptr::null(),
            read_write: std::ptr::null(),
            denied_calls: std::ptr::null(),
            denied_calls_len: 0,
            custom_scheduler: std::ptr::null(),
            stats_page: std::ptr::null(),
            exception_function: 0,
            start_timeout_ms: 0,
            name: std::ptr::null(),
            surroundings: std::ptr::null(),
            context: std::ptr::null_mut(),
            blocked_after_ms: 0,
            probation: 0,
            held_fd: 0,
            deadline_ns: 0,
            reserved: [0; 4],
        }
    }
}

impl aiopool_pool_options {
    /// Returns the builder that these options are, of a pool in `context`.
    ///
    /// # Safety
    ///
    /// `command`, `read_only` and `read_write` are NULL or arrays of C strings that NULL ends; the
    /// inputs and `denied_calls` are as their lengths; the scheduler and the surroundings begin
    /// with their sizes, and what they name is as they say; the names are NULL or C strings.
    pub(super) unsafe fn builder(&self, context: ContextId) -> Result<PoolBuilder, Failure> {
        if self.reserved.iter().any(|&word| word != 0) {
            return Err(Failure::new(AIOPOOL_ERR_STRUCT, "a reserved field is not 0"));
        }
        if self.flags & !FLAGS != 0 {
            let text = format!(
                "flags = {:#x} has unknown bits: the known ones are {FLAGS:#x}",
                self.flags
            );
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
            .probation(self.probation)
            .keep_fds(self.flags & AIOPOOL_POOL_KEEP_FDS != 0)
            .observable(self.flags & AIOPOOL_POOL_NOT_OBSERVABLE == 0);
        if !self.name.is_null() {
            // SAFETY: the caller vouches for it.
            builder = builder.name(unsafe { text("name", self.name) }?);
        }
        if self.start_timeout_ms != 0 {
            let limit = Duration::from_millis(self.start_timeout_ms.into());
            builder = builder.start_timeout(limit);
        }
        if self.blocked_after_ms != 0 {
            builder = builder.blocked_after(Duration::from_millis(self.blocked_after_ms));
        }
        if self.deadline_ns != 0 {
            builder = builder.deadline(self.deadline_ns);
        }
        if let Some(descriptor) = self.held()? {
            builder = builder.hold(descriptor);
        }
        if self.processes != 0 {
            builder = builder.processes(self.processes as usize);
        }
        if self.input_arena != 0 {
            builder = builder.input_arena(size(self.input_arena));
        }
        if self.output_arena != 0 {
            builder = builder.output_arena(size(self.output_arena));
        }
        // SAFETY: the caller vouches for the inputs.
        let (init_input, exit_input) = unsafe {
            (
                bytes("init_input", self.init_input, self.init_input_len)?,
                bytes("exit_input", self.exit_input, self.exit_input_len)?,
            )
        };
        let handler = match self.exception_function {
            0 => None,
            _ if self.start_method != AIOPOOL_START_FORK => {
                let text = "exception_function: only forked workers have registered functions";
                return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
            }
            number => Some(registry::target_of(context, number)?),
        };
        if handler.is_some() {
            builder = builder.exception_handler(exception::tell);
        }
        let init_hook =
            self.hook(context, "init_function", self.init_function, init_input, handler)?;
        let exit_hook =
            self.hook(context, "exit_function", self.exit_function, exit_input, None)?;
        // SAFETY: the caller vouches for `command`, the scheduler, the name, paths and numbers.
        let builder = unsafe {
            let builder = builder.start_method(self.start_method()?);
            let (kind, custom) = (self.scheduler, self.custom_scheduler);
            let builder = scheduler::choose(builder, kind, self.priorities, custom)?;
            self.isolated(surround(self.with_stats_page(builder)?, self.surroundings)?)?
        };
        Ok(builder.hooks(init_hook, exit_hook))
    }

    /// Returns a duplicate of the descriptor that the pool is to hold.
    fn held(&self) -> Result<Option<OwnedFd>, Failure> {
        let fd = self.held_fd;
        if self.flags & AIOPOOL_POOL_HOLD == 0 {
            if fd == 0 {
                return Ok(None);
            }
            let text = format!("held_fd = {fd} is set, but flags lacks AIOPOOL_POOL_HOLD");
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        let refused = |error: io::Error| {
            Failure::new(AIOPOOL_ERR_SYSTEM, format!("held_fd = {fd} cannot be held: {error}"))
        };
        if fd < 0 {
            return Err(refused(io::Error::from_raw_os_error(libc::EBADF)));
        }
        // SAFETY: borrowed for one system call, which answers `EBADF` if it is not open.
        let own = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        own.map(Some).map_err(refused)
    }

    /// # Safety
    ///
    /// `stats_page` is NULL or a C string.
    unsafe fn with_stats_page(&self, builder: PoolBuilder) -> Result<PoolBuilder, Failure> {
        if self.stats_page.is_null() {
            return Ok(builder);
        }
        // SAFETY: the caller vouches for it.
        let name = unsafe { text("stats_page", self.stats_page) }?;
        #[cfg(feature = "stats-page")]
        return Ok(builder.stats_page(name));
        #[cfg(not(feature = "stats-page"))]
        {
            let text = format!("stats_page = {name:?}: this library was built without that");
            Err(Failure::new(AIOPOOL_ERR_INVALID, text))
        }
    }

    /// With the limits and what workers are forbidden.
    ///
    /// # Safety
    ///
    /// As [`builder`](Self::builder), for the paths and numbers.
    unsafe fn isolated(&self, builder: PoolBuilder) -> Result<PoolBuilder, Failure> {
        let mut limits = Limits::new();
        if self.limit_address_space != 0 {
            limits = limits.address_space(self.limit_address_space);
        }
        if self.limit_cpu_seconds != 0 {
            limits = limits.cpu_seconds(self.limit_cpu_seconds);
        }
        if self.limit_open_files != 0 {
            limits = limits.open_files(self.limit_open_files);
        }
        let builder =
            builder.limits(limits).no_new_privs(self.flags & AIOPOOL_POOL_NO_NEW_PRIVS != 0);
        let rules = self.flags & SANDBOX != 0 || self.denied_calls_len != 0;
        if !rules && self.read_only.is_null() && self.read_write.is_null() {
            return Ok(builder);
        }
        // SAFETY: passed on.
        unsafe { self.sandboxed(builder) }
    }

    #[cfg(not(feature = "sandbox"))]
    unsafe fn sandboxed(&self, _: PoolBuilder) -> Result<PoolBuilder, Failure> {
        let text = "this library was built without the feature sandbox: workers can be limited \
                    (limit_…), and nothing else";
        Err(Failure::new(AIOPOOL_ERR_INVALID, text))
    }

    /// # Safety
    ///
    /// As [`isolated`](Self::isolated).
    #[cfg(feature = "sandbox")]
    unsafe fn sandboxed(&self, builder: PoolBuilder) -> Result<PoolBuilder, Failure> {
        let (numbers, len) = (self.denied_calls, self.denied_calls_len);
        // SAFETY: the caller vouches for it; any bytes are numbers.
        let numbers =
            unsafe { bytes("denied_calls", numbers.cast(), len.saturating_mul(size_of::<i64>()))? };
        let numbers = numbers
            .chunks_exact(size_of::<i64>())
            .map(|bytes| i64::from_ne_bytes(bytes.try_into().expect("chunks of that size")));
        let mut sandbox = Sandbox::new().deny_system_calls(numbers);
        if !self.read_only.is_null() {
            // SAFETY: the caller vouches for it.
            sandbox = sandbox.read_only(unsafe { arguments(self.read_only) });
        }
        if !self.read_write.is_null() {
            // SAFETY: the caller vouches for it.
            sandbox = sandbox.read_write(unsafe { arguments(self.read_write) });
        }
        type Rule = fn(Sandbox) -> Sandbox;
        let rules: [(u32, Rule); 4] = [
            (AIOPOOL_POOL_NO_NETWORK, Sandbox::no_network),
            (AIOPOOL_POOL_NO_EXEC, Sandbox::no_exec),
            (AIOPOOL_POOL_NO_SIGNALS, Sandbox::no_signals),
            (AIOPOOL_POOL_BEST_EFFORT, Sandbox::best_effort),
        ];
        for (flag, rule) in rules {
            if self.flags & flag != 0 {
                sandbox = rule(sandbox);
            }
        }
        Ok(builder.sandbox(sandbox))
    }

    fn hook(
        &self,
        context: ContextId,
        name: &str,
        function: u32,
        input: &[u8],
        handler: Option<Target>,
    ) -> Result<Option<Hook>, Failure> {
        let refuse = |text: String| Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        if self.start_method != AIOPOOL_START_FORK {
            if function != 0 {
                return refuse(format!("{name}: only forked workers have registered functions"));
            }
            if input.is_empty() {
                return Ok(None);
            }
            if self.start_method != AIOPOOL_START_COMMAND || name != "init_function" {
                return refuse(format!("there is an input for {name}, but no function"));
            }
            // For the program to find at its attachment.
            return Ok(Some(Hook { vtable: None, argument: input.to_vec() }));
        }
        if function == 0 {
            if !input.is_empty() {
                return refuse(format!("there is an input for {name}, but no function"));
            }
            if handler.is_none() {
                return Ok(None);
            }
        }
        let target =
            if function == 0 { None } else { Some(registry::target_of(context, function)?) };
        let argument = entry::hook_argument(handler, target, input);
        Ok(Some(Hook { vtable: Some(ImageAddress::of(&entry::C_HOOK)), argument }))
    }

    unsafe fn start_method(&self) -> Result<StartMethod, Failure> {
        if self.start_method != AIOPOOL_START_COMMAND && !self.command.is_null() {
            let text = "there is a command, but start_method is not AIOPOOL_START_COMMAND";
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
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
