//! Pools.
//!
//! A pool is started, given tasks, closed or terminated, joined and freed. Freeing it frees
//! everything that belongs to it, worker processes included.
//!
//! Thread rule, unless a function says otherwise: callable from every thread of the process that
//! started the pool, also several at once. In a forked child every call returns
//! `AIOPOOL_ERR_FORKED`, in a task function `AIOPOOL_ERR_IN_WORKER`; a freed handle is
//! `AIOPOOL_ERR_HANDLE`.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::arrivals::is_idle;
use super::boundary::{Failure, in_c};
use super::context;
use super::contexts::{ContextId, OpenPool};
use super::handle::{Cells, Held, Use, of_handle};
use super::inbox::Inbox;
use super::options::{AIOPOOL_START_FORK, aiopool_pool_options};
use super::pointer::{Sized32, out, sized};
use super::status::*;
use super::turns::deadline;
use super::{entry, init, registry};
use crate::error::Error;
use crate::pool::{Pool, PoolBuilder, Trace};
use crate::queue::Receiver;
use crate::supervisor::{Shared, Stage};
use crate::sync::lock;

/// A pool of worker processes.
#[derive(Debug)]
#[repr(transparent)]
pub struct aiopool_pool(Held<HostPool>);

static POOLS: Cells<aiopool_pool> = Cells::new();

impl Default for aiopool_pool {
    fn default() -> Self {
        Self(Held::new(|cell| {
            // SAFETY: a cell of this kind is what a handle is, and nothing else.
            POOLS.give_back(unsafe { &*std::ptr::from_ref(cell).cast::<Self>() });
        }))
    }
}

/// What a pool handle stands for.
pub struct HostPool {
    pool: Pool,
    pub(super) inbox: Arc<Inbox>,
    /// The same, as the engine knows it.
    pub(super) receiver: Arc<dyn Receiver>,
    /// The snapshot whose functions the workers have; none if they are not forks of this process.
    snapshot: Option<u32>,
    /// What `aiopool_pool_trace` has begun.
    pub(super) trace: Mutex<Option<Trace>>,
    /// No scheduler wants to choose a queue.
    pub(super) no_choice: bool,
    /// The pool's numbers of functions, by ours.
    numbers: [OnceLock<Numbered>; AT_ONCE],
    /// Those of functions with larger numbers.
    more: Mutex<Vec<Option<Numbered>>>,
    /// Dropped last.
    open: OpenPool,
}

/// Functions that a pool finds without a lock: the first that a program registers.
const AT_ONCE: usize = 64;

/// A task function as a pool knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) number: u32,
    pub(super) name: &'static str,
}

impl std::fmt::Debug for HostPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostPool").field(&self.pool).finish()
    }
}

impl HostPool {
    /// Starts a pool of `options`, which `adjust` has the last word about.
    ///
    /// # Safety
    ///
    /// The pointers of `options` are what its fields say.
    pub(super) unsafe fn start(
        options: &aiopool_pool_options,
        adjust: impl FnOnce(PoolBuilder) -> PoolBuilder,
    ) -> Result<Self, Failure> {
        let open = context::open(NonNull::new(options.context))?;
        let context = open.context;
        let forked = options.start_method == AIOPOOL_START_FORK;
        let has_functions = forked && registry::any_registered(context);
        let is_new = registry::any_new_of(context) || !init::is_done();
        if has_functions && is_new && context != ContextId::DEFAULT {
            init::take()?;
        }
        let snapshot = forked.then(init::snapshot);
        // SAFETY: the caller vouches for the pointers.
        let builder = adjust(unsafe { options.builder(context) }?);
        if has_functions && !init::is_done() {
            let text = "functions are registered but aiopool_init() was not called: call it after \
                        registering them and before the first pool";
            return Err(Failure::new(AIOPOOL_ERR_TOO_EARLY, text));
        }
        let pool = builder.id(open.pool).needs_snapshot(has_functions).build()?;
        let shared = &pool.shared;
        let shares = shared.share_bell();
        shares.map_err(|error| Error::system("watch the pool's doorbell", error))?;
        let limit = shared.plan.capacity as usize * shared.queues.len();
        let inbox = Inbox::new(Arc::clone(&shared.common), limit);
        let receiver = Arc::clone(&inbox) as Arc<dyn Receiver>;
        let (no_choice, numbers) = (shared.has_no_choice(), [const { OnceLock::new() }; AT_ONCE]);
        let (trace, more) = (Mutex::default(), Mutex::default());
        Ok(Self { pool, inbox, receiver, snapshot, trace, no_choice, numbers, more, open })
    }

    /// Returns the engine below.
    #[inline]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.pool.shared
    }

    /// The same as a program in Rust has it.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes no more tasks.
    pub(super) fn close(&self) {
        self.pool.close();
        self.inbox.ring();
        self.inbox.room.ring();
    }

    /// Ends every unfinished task, has the workers leave and waits for their end.
    pub(super) fn end(&self) -> Result<(), Failure> {
        self.pool.terminate();
        self.inbox.ring();
        self.inbox.room.ring();
        // Its worker may be one that no signal reaches: that is no freed pool.
        Ok(self.pool.wait_gone()?)
    }

    /// Returns what it has counted.
    pub(super) fn stats(&self) -> crate::view::Stats {
        self.pool.stats()
    }

    /// Returns its workers that are alive.
    pub(super) fn worker_pids(&self) -> Vec<u32> {
        self.pool.worker_pids()
    }

    /// Returns the context whose functions it has.
    pub(super) fn context(&self) -> ContextId {
        self.open.context
    }

    /// Returns the pool's number of task function `function`.
    #[inline]
    pub(super) fn number_of(&self, function: u32) -> Result<Numbered, Failure> {
        if let Some(place) = self.numbers.get(function as usize)
            && let Some(&known) = place.get()
        {
            return Ok(known);
        }
        self.look_up(function)
    }

    /// Returns the pool's number of a function that was submitted before.
    #[inline]
    pub(super) fn known_number(&self, function: u32) -> Option<u32> {
        Some(self.numbers.get(function as usize)?.get()?.number)
    }

    #[cold]
    fn look_up(&self, function: u32) -> Result<Numbered, Failure> {
        let mut more = lock(&self.more);
        if let Some(&Some(known)) = more.get(function as usize) {
            return Ok(known);
        }
        let (entry, name) = entry::function_entry(self.context(), function, self.snapshot)?;
        let number = self.shared().common.inputs.function(entry, name)?;
        let numbered = Numbered { number, name };
        if let Some(place) = self.numbers.get(function as usize) {
            return Ok(*place.get_or_init(|| numbered));
        }
        if more.len() <= function as usize {
            more.resize(function as usize + 1, None);
        }
        Ok(*more[function as usize].insert(numbered))
    }
}

/// Options that begin with their size, or the defaults for NULL.
///
/// # Safety
///
/// As [`sized`].
pub(super) unsafe fn options_or_defaults(
    options: *const aiopool_pool_options,
) -> Result<aiopool_pool_options, Failure> {
    if options.is_null() {
        return Ok(aiopool_pool_options::defaults());
    }
    // SAFETY: the caller vouches for it.
    unsafe { sized(options) }
}

/// Returns the pool that a handle stands for, to be used by this call.
#[inline]
pub(super) fn pool_of(pool: Option<NonNull<aiopool_pool>>) -> Result<Use<HostPool>, Failure> {
    if let Some(cell) = of_handle(pool) {
        // A worker, too, is a process that is not the pool's owner.
        if let Some(pool) = cell.0.enter()
            && pool.shared().is_owner()
        {
            return Ok(pool);
        }
    }
    Err(no_pool(pool))
}

/// The same for a short way: says nothing of what is wrong.
#[inline(always)]
pub(super) fn pool_at_once(pool: Option<NonNull<aiopool_pool>>) -> Option<Use<HostPool>> {
    of_handle(pool)?.0.enter().filter(|pool| pool.shared().is_owner())
}

/// Returns why a handle stands for no pool of this process.
#[cold]
fn no_pool(pool: Option<NonNull<aiopool_pool>>) -> Failure {
    let Some(cell) = of_handle(pool) else { return Failure::null("pool") };
    if let Err(failure) = init::check_host() {
        return failure;
    }
    match cell.0.enter().map(|pool| pool.shared().check_process()) {
        Some(Err(error)) => error.into(),
        _ => Failure::new(AIOPOOL_ERR_HANDLE, "this pool was freed"),
    }
}

ffi_fn! {
    /// Starts a pool; `options` may be NULL for the defaults.
    ///
    /// Returns when the worker processes exist. The caller owns `pool_out` and frees it with
    /// `aiopool_pool_free`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` and `AIOPOOL_ERR_STRUCT` for options;
    /// `AIOPOOL_ERR_TOO_EARLY` if functions are registered but `aiopool_init` was not called; with
    /// a context, `AIOPOOL_ERR_TOO_LATE` where that is called here and refuses;
    /// `AIOPOOL_ERR_HANDLE` for a context that was freed; `AIOPOOL_ERR_NO_WORKERS`,
    /// `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_pool_start(
        options: *const aiopool_pool_options,
        pool_out: Option<&mut MaybeUninit<*mut aiopool_pool>>,
    ) -> aiopool_status {
        let pool_out: &mut _ = out("pool_out", pool_out)?;
        init::check_host()?;
        // SAFETY: the caller gives NULL or options that begin with their size.
        let options = unsafe { options_or_defaults(options) }?;
        // SAFETY: the caller vouches for the options' pointers.
        let pool = unsafe { HostPool::start(&options, |builder| builder) }?;
        let cell = POOLS.take();
        cell.0.put(pool);
        pool_out.write(std::ptr::from_ref(cell).cast_mut());
        Ok(())
    }
}

ffi_fn! {
    /// Waits until every worker can take tasks, at most `timeout_ms`: its process is there and its
    /// init function has returned, or it has attached.
    ///
    /// Tasks may be submitted before that. It is for a program that is to say that it is ready, or
    /// that is to fail at its start and not at its first task.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_FAILED` if no worker can start,
    /// with a text that says why; `AIOPOOL_ERR_CLOSED` if the pool was closed.
    fn aiopool_pool_ready(pool: Option<NonNull<aiopool_pool>>, timeout_ms: u64) -> aiopool_status = waits => {
        let pool = pool_of(pool)?;
        let shared = pool.shared();
        let ready = shared.wait_ready(deadline(timeout_ms)).ok_or_else(|| {
            let (ready, all) = (shared.ready_workers(), shared.plan.processes);
            let text = format!("{ready} of {all} workers can take tasks after the time given");
            Failure::new(AIOPOOL_ERR_TIMEOUT, text)
        })?;
        ready.map_err(|error| match error {
            Error::Failed(reason) => Failure::new(AIOPOOL_ERR_FAILED, in_c(&reason)),
            other => other.into(),
        })
    }
}

ffi_fn! {
    /// Frees a pool: terminates it if it was not, and waits until no worker is left of it.
    ///
    /// Idle workers leave at once and in order: their exit function runs, what they printed
    /// arrives. One that is still busy after `grace_ms` is killed.
    ///
    /// It refuses nothing. Outcomes and loans that the caller holds stay valid until they are
    /// released or given back, outcomes that were not received are dropped, and calls of other
    /// threads with this pool return as for a terminated one. NULL is accepted and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT` when a worker lives 10 seconds after it was
    /// killed (the handle is freed all the same); `AIOPOOL_ERR_HANDLE` for one that was freed.
    fn aiopool_pool_free(pool: Option<NonNull<aiopool_pool>>) -> aiopool_status {
        let Some(cell) = of_handle(pool) else { return Ok(()) };
        drop(pool_of(pool)?);
        cell.0.end().ok_or_else(|| no_pool(pool))?.end()
    }
}

ffi_fn! {
    /// Closes the pool: it takes no more tasks and finishes those that were submitted.
    ///
    /// Returns `AIOPOOL_OK`, also the second time.
    fn aiopool_pool_close(pool: Option<NonNull<aiopool_pool>>) -> aiopool_status {
        pool_of(pool)?.close();
        Ok(())
    }
}

ffi_fn! {
    /// Ends every unfinished task as `AIOPOOL_OUTCOME_POOL_CLOSED` and has the workers leave.
    ///
    /// Their outcomes can be received. Workers that do not leave within `grace_ms` are killed.
    ///
    /// Returns `AIOPOOL_OK`, also the second time.
    fn aiopool_pool_terminate(pool: Option<NonNull<aiopool_pool>>) -> aiopool_status {
        let pool = pool_of(pool)?;
        pool.pool.terminate();
        pool.inbox.ring();
        pool.inbox.room.ring();
        Ok(())
    }
}

ffi_fn! {
    /// Moves the `deadline_ns` of the pool's options, at which every worker is killed.
    ///
    /// Returns `AIOPOOL_OK`, also when the old time has come, which ended the pool;
    /// `AIOPOOL_ERR_INVALID` if `deadline_ns` is 0; `AIOPOOL_ERR_MISUSE` for a pool that was
    /// started without one; `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_pool_extend_deadline(
        pool: Option<NonNull<aiopool_pool>>,
        deadline_ns: u64,
    ) -> aiopool_status {
        let pool = pool_of(pool)?;
        if deadline_ns == 0 {
            let text = "deadline_ns = 0: a time of CLOCK_BOOTTIME from 1 on is possible";
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        Ok(pool.pool.extend_deadline(deadline_ns)?)
    }
}

ffi_fn! {
    /// Waits until every task has its outcome, at most `timeout_ms`. The pool stays as it is, open
    /// or closed.
    ///
    /// The outcomes can then be received without waiting; those of calls with `on_complete` were
    /// handed to their functions, of which another thread may still run one.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_TIMEOUT`.
    fn aiopool_pool_wait_idle(
        pool: Option<NonNull<aiopool_pool>>,
        timeout_ms: u64,
    ) -> aiopool_status = waits => {
        idle(&*pool_of(pool)?, deadline(timeout_ms))
    }
}

ffi_fn! {
    /// Deprecated: `aiopool_pool_close` and then `aiopool_pool_wait_idle`, under a name that does
    /// not say that it closes.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_TIMEOUT`.
    fn aiopool_pool_drain(
        pool: Option<NonNull<aiopool_pool>>,
        timeout_ms: u64,
    ) -> aiopool_status = waits => {
        let pool = pool_of(pool)?;
        pool.close();
        idle(&pool, deadline(timeout_ms))
    }
}

ffi_fn! {
    /// Waits until a closed or terminated pool has come to its end, at most `timeout_ms`.
    ///
    /// Then no worker is left; outcomes that were not received still can be.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the pool is open; `AIOPOOL_ERR_TIMEOUT`;
    /// `AIOPOOL_ERR_FAILED` if the pool ended for another reason than close or terminate.
    fn aiopool_pool_join(pool: Option<NonNull<aiopool_pool>>, timeout_ms: u64) -> aiopool_status = waits => {
        let pool = pool_of(pool)?;
        let shared = &pool.shared();
        if shared.stage() == Stage::Open {
            let text = "the pool is open: close or terminate it before you join it";
            return Err(Failure::new(AIOPOOL_ERR_MISUSE, text));
        }
        let until = deadline(timeout_ms);
        idle(&pool, until)?;
        let left = until.map(|at| at.saturating_duration_since(Instant::now()));
        if !shared.wait_ended(left) {
            return Err(Failure::new(AIOPOOL_ERR_TIMEOUT, "workers are still leaving"));
        }
        match shared.reason() {
            None => Ok(()),
            Some(reason) => Err(Failure::new(AIOPOOL_ERR_FAILED, in_c(&reason))),
        }
    }
}

fn idle(pool: &HostPool, until: Option<Instant>) -> Result<(), Failure> {
    let (shared, inbox) = (pool.shared(), &pool.inbox);
    loop {
        // Return before touching the doorbell, so that no other waiter's wake-up is consumed.
        if !is_idle(shared) {
            let over = inbox.looking(|| shared.block(until, || is_idle(shared).then_some(())));
            over.ok_or_else(|| Failure::new(AIOPOOL_ERR_TIMEOUT, "tasks are still running"))?;
        }
        // A function may have submitted more.
        if !inbox.call_functions() {
            return Ok(());
        }
    }
}

ffi_fn! {
    /// Writes the pool's descriptor, which any event loop can watch for reading.
    ///
    /// It is level-triggered: readable until a try_wait or wait finds nothing. Do not read from it,
    /// write to it or close it; it belongs to the pool and is valid until the pool is freed.
    /// Outcomes kept for their ticket make it readable, too.
    ///
    /// Returns `AIOPOOL_OK`.
    fn aiopool_pool_fd(
        pool: Option<NonNull<aiopool_pool>>,
        fd_out: Option<&mut MaybeUninit<i32>>,
    ) -> aiopool_status {
        let fd_out = out("fd_out", fd_out)?;
        let pool = pool_of(pool)?;
        pool.inbox.set_polled();
        fd_out.write(pool.shared().common.host_bell.as_fd().as_raw_fd());
        Ok(())
    }
}

ffi_fn! {
    /// Writes the descriptor of the pool's room, which an event loop watches for reading while it
    /// has something to submit.
    ///
    /// It is level-triggered: readable until a submission, or `aiopool_pool_loan`, answers
    /// `AIOPOOL_ERR_FULL` or waits in vain for room, and then when there may be room again, or the
    /// pool has come to its end. May: another thread can have taken it. Where outcomes wait that
    /// fill the pool, it is receiving some that makes room. Do not read from it, write to it or
    /// close it; it belongs to the pool and is valid until the pool is freed. One thread should
    /// watch it, and try again all that it has to submit.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_pool_room_fd(
        pool: Option<NonNull<aiopool_pool>>,
        fd_out: Option<&mut MaybeUninit<i32>>,
    ) -> aiopool_status {
        let fd_out = out("fd_out", fd_out)?;
        let pool = pool_of(pool)?;
        fd_out.write(pool.inbox.room.fd(pool.shared().common.host_bell.as_fd())?.as_raw_fd());
        Ok(())
    }
}
