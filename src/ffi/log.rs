//! Log.
//!
//! What the library has to say beside its statuses: workers that died, pools that failed.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::boundary::Failure;
use super::contexts::{self, ContextId};
use super::status::*;
use crate::logs::Text;
use crate::sys::forked::PerProcess;

/// Something is wrong: a pool has failed, shared memory is damaged.
pub const AIOPOOL_LOG_ERROR: u32 = 1;
/// Something went wrong and was dealt with: a worker died.
pub const AIOPOOL_LOG_WARN: u32 = 2;
/// Something happened.
pub const AIOPOOL_LOG_INFO: u32 = 3;
/// Something happened that only helps to find mistakes.
pub const AIOPOOL_LOG_DEBUG: u32 = 4;

/// Called with each message, one at a time, from any thread of the host; `text` is valid during
/// the call. It must not call this library.
pub type aiopool_log_fn =
    Option<unsafe extern "C" fn(level: u32, text: *const c_char, user: *mut c_void)>;

#[derive(Clone, Copy)]
struct Listener {
    level: u32,
    function: unsafe extern "C" fn(u32, *const c_char, *mut c_void),
    user: *mut c_void,
}

// SAFETY: the caller of `aiopool_log_set` says that the function may be called from any thread.
unsafe impl Send for Listener {}

static LISTENERS: PerProcess<BTreeMap<ContextId, Listener>> =
    PerProcess::new(|parents| parents.cloned().unwrap_or_default());

/// Has a function called with the messages about pools of `context`; none ends that.
pub(super) fn set(
    context: ContextId,
    level: u32,
    function: aiopool_log_fn,
    user: *mut c_void,
) -> Result<(), Failure> {
    if !(AIOPOOL_LOG_ERROR..=AIOPOOL_LOG_DEBUG).contains(&level) {
        let text = format!("level = {level}: 1 to 4 are possible");
        return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    }
    super::init::check_host()?;
    let ours = tracing::dispatcher::get_default(|now| now.is::<Forwarder>());
    if !ours && tracing::subscriber::set_global_default(Forwarder).is_err() {
        let text = "this program has a tracing subscriber already: the messages go there";
        return Err(Failure::new(AIOPOOL_ERR_MISUSE, text));
    }
    match function {
        Some(function) => {
            LISTENERS.write().insert(context, Listener { level, function, user });
        }
        None => end(context),
    }
    Ok(())
}

/// Calls the function of `context` no more; one that runs has returned.
pub(super) fn end(context: ContextId) {
    LISTENERS.write().remove(&context);
}

ffi_fn! {
    /// Has `function` called with every message up to `level`, `AIOPOOL_LOG_*`; NULL ends that. Not
    /// with those about pools of a context that has a log of its own (`aiopool_context_log_set`).
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` for a level that does not exist;
    /// `AIOPOOL_ERR_MISUSE` in a program that listens by other means (tracing, in Rust).
    /// Thread rule: callable from every thread of the host, at any time; in no worker.
    fn aiopool_log_set(
        level: u32,
        function: aiopool_log_fn,
        user: *mut c_void,
    ) -> aiopool_status {
        set(ContextId::DEFAULT, level, function, user)
    }
}

/// What an event is about.
#[derive(Default)]
struct About {
    pool: Option<usize>,
}

impl Visit for About {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "pool" {
            self.pool = Some(value as usize);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Hands the library's events on to the listeners.
struct Forwarder;

impl Subscriber for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("aiopool")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => AIOPOOL_LOG_ERROR,
            Level::WARN => AIOPOOL_LOG_WARN,
            Level::INFO => AIOPOOL_LOG_INFO,
            _ => AIOPOOL_LOG_DEBUG,
        };
        let mut about = About::default();
        event.record(&mut about);
        let context = about.pool.and_then(contexts::of_pool).unwrap_or(ContextId::DEFAULT);
        // One at a time: the lock is held during the call.
        let listeners = LISTENERS.write();
        let listener = listeners.get(&context).or_else(|| listeners.get(&ContextId::DEFAULT));
        let Some(&Listener { function, user, .. }) = listener.filter(|l| level <= l.level) else {
            return;
        };
        let mut text = Text::default();
        event.record(&mut text);
        let text = text.line().replace('\0', " ");
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: the caller of `aiopool_log_set` gave both for this call.
        unsafe { function(level, text.as_ptr(), user) };
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
