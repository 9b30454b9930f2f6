//! Pools.
//!
//! A pool is started, given tasks, closed or terminated, joined and freed. Freeing it frees
//! everything that belongs to it, worker processes included.
//!
//! Thread rule, unless a function says otherwise: callable from every thread of the process that
//! started the pool, also several at once. In a forked child every call returns
//! `AIOPOOL_ERR_FORKED`, in a task function `AIOPOOL_ERR_IN_WORKER`; a freed handle is
//! `AIOPOOL_ERR_HANDLE`.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::boundary::Failure;
use super::inbox::Inbox;
use super::options::{AIOPOOL_START_FORK, aiopool_pool_options};
use super::pointer::{Sized32, out, sized};
use super::status::*;
use super::turns::deadline;
use super::{entry, init, registry};
use crate::error::Error;
use crate::pool::{Pool, PoolBuilder};
use crate::supervisor::{Shared, Stage};
use crate::sync::lock;

handle! {
    /// A pool of worker processes.
    pub struct aiopool_pool(Arc<HostPool>) in POOLS, gone: "this pool was freed";
}

/// What a pool handle stands for.
#[derive(Debug)]
pub struct HostPool {
    pool: Pool,
    pub(super) inbox: Arc<Inbox>,
    /// Workers are forks of this process: they have its functions.
    forked: bool,
    /// The pool's numbers of functions, by ours.
    numbers: Mutex<Vec<Option<Numbered>>>,
}

/// A task function as a pool knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) number: u32,
    pub(super) name: &'static str,
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
        // SAFETY: the caller vouches for the pointers.
        let builder = adjust(unsafe { options.builder() }?);
        let forked = options.start_method == AIOPOOL_START_FORK;
        if forked && registry::any_registered() && !init::is_done() {
            let text = "functions are registered but aiopool_init() was not called: call it after \
                        registering them and before the first pool";
            return Err(Failure::new(AIOPOOL_ERR_TOO_EARLY, text));
        }
        let pool = builder.needs_snapshot(forked && registry::any_registered()).build()?;
        let shared = &pool.shared;
        let shares = shared.share_bell();
        shares.map_err(|error| Error::system("watch the pool's doorbell", error))?;
        let limit = shared.plan.capacity as usize * shared.queues.len();
        let inbox = Inbox::new(Arc::clone(&shared.common), limit);
        Ok(Self { pool, inbox, forked, numbers: Mutex::default() })
    }

    /// Returns the engine below.
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
    }

    /// Returns what it has counted.
    pub(super) fn stats(&self) -> crate::view::Stats {
        self.pool.stats()
    }

    /// Returns its workers that are alive.
    pub(super) fn worker_pids(&self) -> Vec<u32> {
        self.pool.worker_pids()
    }

    /// Whether it can be freed by a handle of which there are `users`; `what` it is to its owner.
    pub(super) fn check_free(&self, users: usize, what: &str) -> Result<(), Failure> {
        let lent = self.inbox.lent.load(Ordering::Relaxed);
        let text = if lent > 0 {
            format!(
                "{lent} outcomes or loans of this {what} are not given back: release them first"
            )
        } else if users > 1 {
            format!("another thread is in a call with this {what}: end it first")
        } else {
            return Ok(());
        };
        Err(Failure::new(AIOPOOL_ERR_BUSY, text))
    }

    /// Returns the pool's number of task function `function`.
    pub(super) fn number_of(&self, function: u32) -> Result<Numbered, Failure> {
        thread_local! {
            /// The function that this thread submitted last: its pool, its number, the pool's.
            static LAST: Cell<Option<(usize, u32, Numbered)>> = const { Cell::new(None) };
        }
        let id = self.shared().id;
        if let Some((pool, known, numbered)) = LAST.get()
            && (pool, known) == (id, function)
        {
            return Ok(numbered);
        }
        let numbered = self.look_up(function)?;
        LAST.set(Some((id, function, numbered)));
        Ok(numbered)
    }

    fn look_up(&self, function: u32) -> Result<Numbered, Failure> {
        let mut numbers = lock(&self.numbers);
        if let Some(&Some(known)) = numbers.get(function as usize) {
            return Ok(known);
        }
        let (entry, name) = entry::function_entry(function, self.forked)?;
        let number = self.shared().common.inputs.function(entry, name)?;
        if numbers.len() <= function as usize {
            numbers.resize(function as usize + 1, None);
        }
        Ok(*numbers[function as usize].insert(Numbered { number, name }))
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
pub(super) fn pool_of(pool: Option<&aiopool_pool>) -> Result<Arc<HostPool>, Failure> {
    let cell = pool.ok_or_else(|| Failure::null("pool"))?;
    init::check_host()?;
    let pool = cell.enter()?.as_ref().map(Arc::clone);
    pool.ok_or_else(aiopool_pool::gone)
}

ffi_fn! {
    /// Starts a pool; `options` may be NULL for the defaults.
    ///
    /// Returns when the worker processes exist. The caller owns `pool_out` and frees it with
    /// `aiopool_pool_free`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` and `AIOPOOL_ERR_STRUCT` for options;
    /// `AIOPOOL_ERR_TOO_EARLY` if functions are registered but `aiopool_init` was not called;
    /// `AIOPOOL_ERR_NO_WORKERS`, `AIOPOOL_ERR_SYSTEM`.
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
        pool_out.write(aiopool_pool::own(Arc::new(pool)));
        Ok(())
    }
}

ffi_fn! {
    /// Frees a pool: terminates it if it was not, and waits until nothing is left of it.
    ///
    /// Idle workers leave at once and in order: their exit function runs, what they printed
    /// arrives. One that is still busy after `grace_ms` is killed.
    ///
    /// Outcomes that were not received are dropped with it. NULL is accepted and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_BUSY`, and does nothing, while outcomes are not
    /// released, loans are not given back or another thread is in a call with this pool;
    /// `AIOPOOL_ERR_TIMEOUT` when a worker lives 10 seconds after it was killed.
    fn aiopool_pool_free(pool: Option<&'static aiopool_pool>) -> aiopool_status {
        let Some(cell) = pool else { return Ok(()) };
        init::check_host()?;
        let pool = cell.disown(|pool| pool.check_free(Arc::strong_count(pool), "pool"))?;
        pool.pool.terminate();
        // Its worker may be one that no signal reaches: that is no freed pool.
        pool.pool.wait_gone()?;
        drop(pool);
        Ok(())
    }
}

ffi_fn! {
    /// Closes the pool: it takes no more tasks and finishes those that were submitted.
    ///
    /// Returns `AIOPOOL_OK`, also the second time.
    fn aiopool_pool_close(pool: Option<&aiopool_pool>) -> aiopool_status {
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
    fn aiopool_pool_terminate(pool: Option<&aiopool_pool>) -> aiopool_status {
        let pool = pool_of(pool)?;
        pool.pool.terminate();
        pool.inbox.ring();
        Ok(())
    }
}

ffi_fn! {
    /// Closes the pool and waits until every task has its outcome, at most `timeout_ms`.
    ///
    /// The outcomes can then be received without waiting. Tasks that are not over in time continue:
    /// join, drain again or terminate.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_TIMEOUT`.
    fn aiopool_pool_drain(pool: Option<&aiopool_pool>, timeout_ms: u64) -> aiopool_status = waits => {
        let pool = pool_of(pool)?;
        pool.pool.close();
        drained(&pool, deadline(timeout_ms))
    }
}

ffi_fn! {
    /// Waits until a closed or terminated pool has come to its end, at most `timeout_ms`.
    ///
    /// Then no worker is left; outcomes that were not received still can be.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the pool is open; `AIOPOOL_ERR_TIMEOUT`;
    /// `AIOPOOL_ERR_FAILED` if the pool ended for another reason than close or terminate.
    fn aiopool_pool_join(pool: Option<&aiopool_pool>, timeout_ms: u64) -> aiopool_status = waits => {
        let pool = pool_of(pool)?;
        let shared = &pool.shared();
        if shared.stage() == Stage::Open {
            let text = "the pool is open: close or terminate it before you join it";
            return Err(Failure::new(AIOPOOL_ERR_MISUSE, text));
        }
        let until = deadline(timeout_ms);
        drained(&pool, until)?;
        let left = until.map(|at| at.saturating_duration_since(Instant::now()));
        if !shared.wait_ended(left) {
            return Err(Failure::new(AIOPOOL_ERR_TIMEOUT, "workers are still leaving"));
        }
        match shared.reason() {
            None => Ok(()),
            Some(reason) => Err(Failure::new(AIOPOOL_ERR_FAILED, reason.to_string())),
        }
    }
}

fn drained(pool: &HostPool, until: Option<Instant>) -> Result<(), Failure> {
    let shared = pool.shared();
    if shared.pending() == 0 {
        // Return before touching the doorbell, so that no other waiter's wake-up is consumed.
        return Ok(());
    }
    let over = pool.inbox.looking(|| shared.block(until, || (shared.pending() == 0).then_some(())));
    over.ok_or_else(|| Failure::new(AIOPOOL_ERR_TIMEOUT, "tasks are still running"))
}

ffi_fn! {
    /// Writes the pool's descriptor, which any event loop can watch for reading.
    ///
    /// It is level-triggered: readable until a peek or wait finds nothing. Do not read from it,
    /// write to it or close it; it belongs to the pool and is valid until the pool is freed.
    /// Outcomes kept for their ticket make it readable, too.
    ///
    /// Returns `AIOPOOL_OK`.
    fn aiopool_pool_fd(
        pool: Option<&aiopool_pool>,
        fd_out: Option<&mut MaybeUninit<i32>>,
    ) -> aiopool_status {
        let fd_out = out("fd_out", fd_out)?;
        let pool = pool_of(pool)?;
        pool.inbox.set_polled();
        fd_out.write(pool.shared().common.host_bell.as_fd().as_raw_fd());
        Ok(())
    }
}
