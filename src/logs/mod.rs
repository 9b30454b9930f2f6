//! Floor 3: what tasks log, on its way to the host's subscriber.
//!
//! A worker that has no logger of its own sends its `tracing` events and `log` records to the host,
//! which gives them to its own subscriber.
//!
//! - **L1** The host makes one pair of `SOCK_SEQPACKET` sockets a pool. The zygote keeps the
//!   workers' end, and each worker has a copy of it.
//! - **L2** A record is one message of at most [`record::LONGEST`] bytes. The worker sends it
//!   without waiting, so it arrives whole or not at all. Where the socket is full the worker counts
//!   the record as dropped, and its next record that is sent carries the count.
//! - **L3** One thread of the host reads the pair. What a worker wrote is input: bytes that are no
//!   record are reported, and nothing else happens.
//! - **L4** A worker that dies leaves in the socket what it has sent, and the host reads it. At the
//!   pool's end, after the last worker's death, the supervisor shuts the pair down; the thread
//!   reads what is left and ends.
#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

mod callers;
mod forward;
mod reader;
mod record;
mod sender;
mod spans;
mod taken;

use env_filter::Filter;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::task::address::ImageAddress;
use crate::task::callback::{self, AdoptContext};

pub(crate) use callers::Callers;
pub(crate) use forward::{Forward, forward};
pub(crate) use reader::Reader;
pub use sender::LogSender;
pub(crate) use spans::Text;
pub use taken::LogRecord;
use taken::Taker;

/// Returns whether this process has a logger, of `tracing` or of `log`.
pub(crate) fn has_logger() -> bool {
    tracing::dispatcher::has_been_set() || log::max_level() > log::LevelFilter::Off
}

/// Which records of its workers a pool brings to the host.
///
/// Made by [`logs`], for [`PoolBuilder::logs`](crate::PoolBuilder::logs).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Logs {
    filter: Option<String>,
    off: bool,
    taker: Option<Taker>,
    task_spans: bool,
    context: Option<Context>,
}

/// What takes the context of a task's caller, and what gives it to the task's span.
pub(crate) type Context = (fn() -> Option<String>, ImageAddress<AdoptContext>);

/// Returns how a pool brings what its tasks log to the host, for
/// [`PoolBuilder::logs`](crate::PoolBuilder::logs).
///
/// A record that a task makes with `tracing` or `log` reaches the host's `tracing` subscriber or,
/// where there is none, the host's `log` logger. It keeps its level and its target, and says which
/// worker, process and task it comes from. Fields other than the message become part of the text;
/// the spans around it are in the field `spans`. Where the caller of the task was in a span, the
/// record is within that span.
///
/// Pools do this by themselves where the host has a subscriber or a logger when the pool is built,
/// and where its workers have none. A subscriber that workers inherit (set before [`init`]) or set
/// up in their initializer is theirs, and gets their records.
///
/// [`init`]: crate::init
///
/// # Limits
///
/// - A record longer than 8 KiB is cut.
/// - No worker waits for the host: some 200 records that the host has not read yet fit between
///   them, those beyond are dropped, and a warning says how many.
/// - Records of `log` begin after the worker's initializer, events of `tracing` with it.
///
/// # Examples
///
/// ```
/// # fn main() -> aiopool::Result<()> {
/// let pool = aiopool::Pool::builder()
///     .processes(2)
///     .logs(aiopool::logs().filter("warn,scraper=debug"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub fn logs() -> Logs {
    Logs::default()
}

impl Logs {
    /// Sets what workers send, in the form of `RUST_LOG`: `"info"`, `"warn,scraper=debug"`.
    ///
    /// Without it workers send up to the most detailed level that the host's subscriber or logger
    /// takes. With it they send their `tracing` events also where they have inherited a subscriber.
    pub fn filter(mut self, directives: impl Into<String>) -> Self {
        self.filter = Some(directives.into());
        self
    }

    /// Gives records to `taker` instead of a subscriber or a logger: for hosts that log in another
    /// way. Workers send up to `info` then, unless there is a [`filter`](Self::filter).
    ///
    /// One thread of the pool calls it, for one record after the other. While it does not return,
    /// nothing is read; what does not fit between is dropped and counted, as ever.
    pub fn hand_to(mut self, taker: impl Fn(&LogRecord<'_>) + Send + Sync + 'static) -> Self {
        self.taker = Some(Taker(std::sync::Arc::new(taker)));
        self
    }

    /// Opens a span for each task that is submitted within a span: named `task`, with the target
    /// `aiopool::task` and the task's number, from its submission to its outcome. It is a child of
    /// its caller's span, and what the task logs meanwhile is within it: in a distributed trace
    /// (`tracing-opentelemetry`) the task has the caller's trace id.
    ///
    /// It is a span of the host; for those of workers there is
    /// [`carry_context`](Self::carry_context). Costs each such task what the host's subscriber
    /// takes for a span.
    pub fn task_spans(mut self) -> Self {
        self.task_spans = true;
        self
    }

    /// Carries the caller's trace into the worker: `of_caller` returns the context of the code that
    /// submits a task, in whatever form, and `adopt` is given it in the worker, with the span of
    /// the task there (`task`, around all that the task does) before that is entered.
    ///
    /// It is for workers with a subscriber of their own, set up in the pool's initializer: an
    /// exporter has threads, which no fork brings along. Each task of a function of this program
    /// has the context of its own submission, a `map`'s of the moment when the item is taken, and
    /// keeps it for all attempts. Tasks by name have none, and nothing says so when they run: their
    /// input is the bytes that a function of another program or language gets, with no place for
    /// it. These are [`Pool::apply_named`](crate::Pool::apply_named),
    /// [`PolledPool`](crate::PolledPool), the C API, Python, and the tasks of a cluster; put it
    /// into their inputs. Pools whose workers are another program are refused with it. It counts as
    /// input for [`max_payload`](crate::PoolBuilder::max_payload). Where `of_caller` returns
    /// `None`, `adopt` is not called and the task is within the worker's span; so it is where
    /// `adopt` panics.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use opentelemetry::propagation::TextMapPropagator;
    /// use opentelemetry_sdk::propagation::TraceContextPropagator;
    /// use tracing::Span;
    /// use tracing_opentelemetry::OpenTelemetrySpanExt;
    ///
    /// fn of_caller() -> Option<String> {
    ///     let mut context = HashMap::new();
    ///     TraceContextPropagator::new().inject_context(&Span::current().context(), &mut context);
    ///     (!context.is_empty()).then(|| serde_json::to_string(&context).unwrap())
    /// }
    ///
    /// fn adopt(span: &Span, context: &str) {
    ///     let context: HashMap<String, String> = serde_json::from_str(context).unwrap();
    ///     let _ = span.set_parent(TraceContextPropagator::new().extract(&context));
    /// }
    ///
    /// # fn main() -> aiopool::Result<()> {
    /// let logs = aiopool::logs().carry_context(of_caller, adopt);
    /// // Its initializer sets up the workers' subscriber and exporter.
    /// let pool = aiopool::Pool::builder().processes(2).logs(logs).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn carry_context<F>(mut self, of_caller: fn() -> Option<String>, adopt: F) -> Self
    where
        F: Fn(&tracing::Span, &str) + Copy + 'static,
    {
        self.context = Some((of_caller, callback::adopt_context(adopt)));
        self
    }

    /// Returns what takes and gives the contexts of callers, if tasks are to have them.
    pub(crate) fn context(&self) -> Option<Context> {
        self.context
    }

    /// Keeps records in the workers.
    pub fn off(mut self) -> Self {
        self.off = true;
        self
    }

    /// Returns what workers get to know, or `None` where they are to send nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for a filter that cannot be read.
    pub(crate) fn for_workers(&self) -> Result<Option<ForWorkers>> {
        if let Some(directives) = &self.filter {
            parse(directives).map_err(|error| Error::InvalidOption {
                name: "logs",
                value: directives.clone(),
                allowed: format!("a filter as in RUST_LOG, \"warn,scraper=debug\"; {error}"),
            })?;
        }
        if self.off || self.taker.is_none() && !has_logger() {
            return Ok(None);
        }
        let filter = match (&self.filter, &self.taker) {
            (Some(filter), _) => filter.clone(),
            (None, Some(_)) => "info".to_owned(),
            (None, None) => most_detailed().to_string(),
        };
        Ok(Some(ForWorkers { filter, asked_for: self.filter.is_some() }))
    }
}

/// What each worker gets to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForWorkers {
    /// What to send, as [`Logs::filter`] takes it.
    filter: String,
    /// The caller named the filter.
    asked_for: bool,
}

/// Returns the most detailed level that the calling thread's subscriber or logger takes.
fn most_detailed() -> log::LevelFilter {
    let events = tracing::level_filters::LevelFilter::current().into_level();
    let events =
        events.map_or(log::LevelFilter::Off, |level| record::level_of(&level).to_level_filter());
    if to_tracing() { events } else { log::max_level() }
}

/// Returns whether records go to a subscriber of `tracing`, rather than to a logger of `log`.
fn to_tracing() -> bool {
    tracing::dispatcher::get_default(|now| !now.is::<tracing::subscriber::NoSubscriber>())
}

fn parse(directives: &str) -> std::result::Result<Filter, env_filter::ParseError> {
    let mut builder = env_filter::Builder::new();
    builder.try_parse(directives)?;
    Ok(builder.build())
}
