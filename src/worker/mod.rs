//! Floor 4: the worker process.
//!
//! `engine` is the protocol without an executor, `root` the executor, `slots` the memory of the
//! futures, `local` what user code sees of all this.

#![cfg(not(aiopool_loom))]

mod answers;
mod attached;
mod claimed;
mod config;
mod engine;
mod functions;
mod in_hand;
mod in_place;
mod input;
mod last_words;
mod local;
mod outputs;
mod own_processor;
mod panics;
mod printed;
mod root;
mod says;
mod slots;
mod spin;
mod start;
mod timeline;
mod view;

use std::os::fd::AsFd;
use std::panic::AssertUnwindSafe;

use tracing::Instrument;

use crate::control::Phase;
use crate::logs;
use crate::sys::epoll::Edges;
use crate::sys::{exit, requests, signal, stderr};
use crate::task::{context, exception};

pub use attached::{AttachedWorker, Completion, Event};
pub(crate) use config::{Hook, WorkerConfig};
pub(crate) use functions::set_by_name;
pub use in_place::EventInPlace;
pub use local::{TaskContext, WorkerContext, is_cancelled, progress};
pub(crate) use local::{in_child, outputs as arena_of_this_worker};
pub(crate) use outputs::{LoanError, OutputLoan};
pub(crate) use printed::file_of_task;
pub use start::{WorkerFds, WorkerStart};

/// What a worker is made of, for measurements of the parts.
#[cfg(feature = "internals")]
pub mod internals {
    pub use super::claimed::now;
    pub use super::engine::{Engine, Look};
    pub use super::start::WorkerFds;
}

#[cfg(any(test, aiopool_fuzz))]
pub(crate) use claimed::Claimed;
#[cfg(not(any(test, aiopool_fuzz)))]
use engine::Engine;
pub(crate) use engine::MAX_FAILURE_TEXT;
#[cfg(any(test, aiopool_fuzz))]
pub(crate) use engine::{Engine, Look, Said};
use functions::{Functions, Hooks};
use last_words::Subject;
use root::{Leave, Root};
use spin::Spin;

/// Exit status of a worker that left in order.
pub(crate) const EXIT_OK: i32 = 0;
/// Exit status of a worker whose initializer failed; its text is in the result arena.
pub(crate) const EXIT_INIT_FAILED: i32 = 64;
/// Exit status of a worker that could not be set up; the text is on stderr, and in the result arena
/// if there was one already.
pub(crate) const EXIT_SETUP: i32 = 65;

/// Serves the queue until the pool ends, the worker is recycled, or something goes wrong.
///
/// # Safety
///
/// `start` is what a host gave this process, and that host runs the image of this process.
#[allow(unsafe_code)] // An island: whose addresses a worker follows is decided at its start.
pub(crate) unsafe fn run(start: WorkerStart) -> ! {
    end_with(|| {
        let config = WorkerConfig::decode(&start.config)?;
        // SAFETY: the caller vouches for `start`, so for its configuration and for its regions.
        let (functions, hooks) = unsafe { functions::of_host(&config) };
        serve(&config, start, functions, &hooks)
    })
}

/// Like [`run`], in a program of its own, which serves the functions that it registered by name.
pub(crate) fn run_by_name(start: WorkerStart) -> ! {
    end_with(|| {
        let config = WorkerConfig::decode(&start.config)?;
        let (functions, hooks) = functions::by_name(&config)?;
        serve(&config, start, functions, &hooks)
    })
}

/// Ends the process with the status of `served`. Nothing unwinds into the zygote's frames below.
fn end_with(served: impl FnOnce() -> Result<i32, String>) -> ! {
    let status = std::panic::catch_unwind(AssertUnwindSafe(|| {
        served().unwrap_or_else(|reason| {
            stderr::line(&format!("aiopool: a worker could not be set up: {reason}"));
            EXIT_SETUP
        })
    }));
    exit::orderly_exit(status.unwrap_or(EXIT_SETUP))
}

fn serve(
    config: &WorkerConfig,
    start: WorkerStart,
    functions: Functions,
    hooks: &Hooks<'_>,
) -> Result<i32, String> {
    let WorkerStart { id, seat, lane_start, handback_start, config: _, fds, logs } = start;
    let shape = config.shape(fds.bells.len());
    let mut engine =
        Engine::open(id, lane_start, handback_start, shape, fds).map_err(|e| e.to_string())?;
    engine.may_end();
    engine.print_apart(config.printed.clone()).map_err(|e| e.to_string())?;
    let _bell = requests::Bell::new(engine.own_bell().as_fd()).map_err(|e| e.to_string())?;
    requests::catch(config.replaced).map_err(|e| e.to_string())?;
    // What was sent since the fork comes now.
    signal::Mask::of(&[]).set().map_err(|e| e.to_string())?;
    panics::install();
    if last_words::NEEDED {
        last_words::prepare(engine.last_words().map_err(|e| e.to_string())?);
    }
    local::enter(seat, engine.outputs().clone(), engine.view());
    if let Some(handler) = hooks.exception_handler {
        exception::set_handler(handler);
    }
    if let Some(adopt) = hooks.adopt_context {
        context::set_adopter(adopt);
    }
    let forward = logs.zip(config.logs.as_ref());
    let forward = forward.and_then(|(socket, wanted)| logs::forward(wanted, socket, seat));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    if let Some(configure) = hooks.runtime_initializer {
        configure(&mut builder);
    }
    // A wait that is refused is an error here; tokio has a panic for it.
    let can_wait = Edges::of(&[]).and_then(|edges| edges.take());
    let runtime = can_wait.and_then(|()| builder.build()).map_err(|error| {
        let reason = format!("an event loop (epoll, eventfd) is refused here: {error}");
        engine.set_failure(&reason);
        reason
    })?;
    let status = runtime.block_on(async {
        if let Some((vtable, argument)) = hooks.initializer
            && let Err(reason) = slots::run_hook(vtable, argument, Some(Subject::Initializer)).await
        {
            engine.set_failure(&reason);
            return Ok(EXIT_INIT_FAILED);
        }
        if hooks.initializer.is_some() {
            panics::install();
        }
        let _forward = forward.and_then(logs::Forward::for_good);
        engine.set_phase(Phase::Ready);
        let spin = Spin::new(config.spin_ns, config.searchers, config.crowded);
        let root =
            Root::new(&mut engine, config.child_concurrency, config.max_tasks, functions, spin)
                .map_err(|e| e.to_string())?;
        // Made now, since it may have been the initializer that set the subscriber.
        let span = tracing::info_span!("worker", worker = seat, pid = std::process::id());
        let leave: Leave = root.instrument(span.clone()).await;
        span.in_scope(|| tracing::debug!(?leave, "the worker leaves"));
        if let Some((vtable, argument)) = hooks.exit_hook
            && let Err(reason) = slots::run_hook(vtable, argument, None).await
        {
            stderr::line(&format!("aiopool: the exit hook of worker {seat} failed: {reason}"));
        }
        local::leave();
        engine.set_phase(Phase::Leaving);
        Ok::<i32, String>(EXIT_OK)
    })?;
    // Subtasks that user code spawned die with the process; a runtime that waited for blocking
    // ones would let them hold up the pool.
    runtime.shutdown_background();
    Ok(status)
}
