//! Schedulers.
//!
//! A scheduler chooses the queue of each task. The choice is final; the queue's idle workers take
//! its tasks in order. Three schedulers are built in, and a program can supply its own.
//!
//! Thread rule: the functions of a scheduler are called from any thread of the host, several at
//! once; they must be quick, must not block and must not call this library.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;

use super::boundary::Failure;
use super::pointer::{Sized32, out, sized};
use super::status::*;
use crate::pool::PoolBuilder;
use crate::scheduler::{
    CompletedTask, LeastLoaded, Load, NewTask, Priority, ProcessInfo, RoundRobin, Scheduler,
};

/// Takes the queues in turn.
pub const AIOPOOL_SCHEDULER_ROUND_ROBIN: u32 = 0;
/// Chooses the queue with the fewest unfinished tasks per living worker.
pub const AIOPOOL_SCHEDULER_LEAST_LOADED: u32 = 1;
/// Chooses the queue with the fewest tasks ahead: those of the task's priority class and of more
/// urgent ones.
pub const AIOPOOL_SCHEDULER_PRIORITY: u32 = 2;
/// The functions of the options' `custom_scheduler`.
pub const AIOPOOL_SCHEDULER_CUSTOM: u32 = 3;

/// A task that needs a queue.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_new_task {
    /// Its ticket.
    pub ticket: u64,
    /// The name of its function; valid during the call.
    pub function: *const c_char,
    /// Bytes of its input.
    pub input_len: usize,
    /// Its priority class, 0 the most urgent.
    pub priority: u32,
    /// 0.
    pub reserved_0: u32,
    /// 0.
    pub reserved: [u64; 4],
}

/// The approximate load of a queue at this moment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_queue_load {
    /// Tasks that no worker has claimed.
    pub waiting: u64,
    /// Tasks without an outcome, claimed or not.
    pub pending: u64,
    /// Workers alive.
    pub workers: u64,
}

/// A task that has its outcome.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_completed_task {
    /// Its ticket.
    pub ticket: u64,
    /// The queue it was on, counted from 0.
    pub queue: u32,
    /// 1 if its outcome is `AIOPOOL_OUTCOME_OK`, else 0.
    pub ok: u32,
    /// Nanoseconds from its submission to the start of its last attempt; 0 if that is not known.
    pub waited_ns: u64,
    /// Nanoseconds that its last attempt ran; 0 if that is not known.
    pub ran_ns: u64,
    /// 0.
    pub reserved: [u64; 4],
}

/// A worker process that was started or has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_process_change {
    /// The queue it serves, counted from 0.
    pub queue: u32,
    /// Its seat in the pool.
    pub seat: u32,
    /// Its process id.
    pub pid: u32,
    /// 1 if it was started, 0 if it has ended.
    pub started: u32,
    /// 1 if its end was not planned: neither recycling nor the end of the pool.
    pub died: u32,
    /// 0.
    pub reserved_0: u32,
    /// 0.
    pub reserved: [u64; 4],
}

/// Chooses the queue for `task`, counted from 0; a number that is no queue counts as queue 0.
///
/// `loads` has `queues` entries and is valid during the call. If the chosen queue is full, it may
/// be called again for the same task.
pub type aiopool_schedule_fn = Option<
    unsafe extern "C" fn(
        task: *const aiopool_new_task,
        loads: *const aiopool_queue_load,
        queues: u32,
        user: *mut c_void,
    ) -> u32,
>;

/// Called for each task that gets its outcome; `task` is valid during the call.
pub type aiopool_completed_fn =
    Option<unsafe extern "C" fn(task: *const aiopool_completed_task, user: *mut c_void)>;

/// Called when a worker process starts or ends; `change` is valid during the call.
pub type aiopool_process_fn =
    Option<unsafe extern "C" fn(change: *const aiopool_process_change, user: *mut c_void)>;

/// A scheduler supplied by the program; copied by `aiopool_pool_start`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_scheduler {
    /// `sizeof(aiopool_scheduler)`.
    pub struct_size: u32,
    /// 0.
    pub reserved_0: u32,
    /// Chooses the queue of each task; required.
    pub schedule: aiopool_schedule_fn,
    /// May be NULL.
    pub completed: aiopool_completed_fn,
    /// May be NULL.
    pub process: aiopool_process_fn,
    /// Passed to the functions; must stay valid as long as the pool.
    pub user: *mut c_void,
    /// 0.
    pub reserved: [u64; 4],
}

// SAFETY: integers, pointers and functions that may be NULL, and the size comes first.
unsafe impl Sized32 for aiopool_scheduler {
    const NAME: &'static str = "aiopool_scheduler";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            reserved_0: 0,
            schedule: None,
            completed: None,
            process: None,
            user: std::ptr::null_mut(),
            reserved: [0; 4],
        }
    }
}

ffi_fn! {
    /// Sets all fields of a scheduler to their defaults; the caller then sets `schedule`.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_scheduler_init(
        scheduler_out: Option<&mut MaybeUninit<aiopool_scheduler>>,
    ) -> aiopool_status {
        out("scheduler_out", scheduler_out)?.write(aiopool_scheduler::defaults());
        Ok(())
    }
}

/// Returns the builder with the scheduler that the options name.
///
/// # Safety
///
/// `custom` is NULL or a struct that begins with its size.
pub(super) unsafe fn choose(
    builder: PoolBuilder,
    kind: u32,
    priorities: u32,
    custom: *const aiopool_scheduler,
) -> Result<PoolBuilder, Failure> {
    let invalid = |text: String| Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    if kind != AIOPOOL_SCHEDULER_CUSTOM && !custom.is_null() {
        return invalid("custom_scheduler is set, but scheduler is another".to_owned());
    }
    Ok(match kind {
        AIOPOOL_SCHEDULER_ROUND_ROBIN => builder.scheduler(RoundRobin::default()),
        AIOPOOL_SCHEDULER_LEAST_LOADED => builder.scheduler(LeastLoaded::default()),
        AIOPOOL_SCHEDULER_PRIORITY => builder.scheduler(Priority::new(priorities as usize)),
        AIOPOOL_SCHEDULER_CUSTOM => {
            // SAFETY: the caller vouches for it.
            let functions = unsafe { sized(custom) }?;
            if functions.reserved_0 != 0 || functions.reserved.iter().any(|&word| word != 0) {
                return Err(Failure::new(AIOPOOL_ERR_STRUCT, "a reserved field is not 0"));
            }
            if functions.schedule.is_none() {
                return Err(Failure::null("custom_scheduler.schedule"));
            }
            builder.scheduler(Custom { functions, queues: 0 })
        }
        other => return invalid(format!("scheduler = {other} is none of AIOPOOL_SCHEDULER_*")),
    })
}

/// A scheduler in C.
struct Custom {
    functions: aiopool_scheduler,
    queues: usize,
}

// SAFETY: the caller that sets the functions vouches that they may be called from any thread,
// several at once.
unsafe impl Send for Custom {}
// SAFETY: as for `Send`.
unsafe impl Sync for Custom {}

impl Custom {
    fn tell(&self, queue: &ProcessInfo, started: bool, died: bool) {
        let Some(function) = self.functions.process else { return };
        let change = aiopool_process_change {
            queue: queue.queue as u32,
            seat: queue.worker,
            pid: queue.pid,
            started: u32::from(started),
            died: u32::from(died),
            reserved_0: 0,
            reserved: [0; 4],
        };
        // SAFETY: a function of this type with its own `user`; the struct is there for the call.
        unsafe { function(&raw const change, self.functions.user) }
    }
}

impl Scheduler for Custom {
    fn register_queue(&mut self, _: usize) {
        self.queues += 1;
    }

    fn register_process(&mut self, _: usize) {}

    fn schedule_task(&self, task: &NewTask<'_>, load: &dyn Load) -> usize {
        let Some(schedule) = self.functions.schedule else { return 0 };
        let loads: Vec<_> = (0..self.queues)
            .map(|queue| aiopool_queue_load {
                waiting: load.depth(queue) as u64,
                pending: load.pending(queue) as u64,
                workers: load.processes(queue) as u64,
            })
            .collect();
        let function = CString::new(task.function).unwrap_or_default();
        let new = aiopool_new_task {
            ticket: task.task,
            function: function.as_ptr(),
            input_len: task.input_bytes,
            priority: u32::from(task.priority),
            reserved_0: 0,
            reserved: [0; 4],
        };
        let (loads, queues) = (loads.as_ptr(), loads.len() as u32);
        // SAFETY: a function of this type with its own `user`; all of it is there for the call.
        unsafe { schedule(&raw const new, loads, queues, self.functions.user) as usize }
    }

    fn complete_task(&self, task: &CompletedTask) {
        let Some(function) = self.functions.completed else { return };
        let nanoseconds = |time: std::time::Duration| time.as_nanos() as u64;
        let completed = aiopool_completed_task {
            ticket: task.task,
            queue: task.queue as u32,
            ok: u32::from(task.ok),
            waited_ns: nanoseconds(task.waited),
            ran_ns: nanoseconds(task.ran),
            reserved: [0; 4],
        };
        // SAFETY: a function of this type with its own `user`; the struct is there for the call.
        unsafe { function(&raw const completed, self.functions.user) }
    }

    fn process_started(&self, process: &ProcessInfo) {
        self.tell(process, true, false);
    }

    fn process_ended(&self, process: &ProcessInfo, died: bool) {
        self.tell(process, false, died);
    }
}
