//! The worker's end: a subscriber and a logger that send records to the host.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use env_filter::Filter;
use tracing::span::{self, Attributes, Id};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_core::span::Current;

use super::record::{self, Record};
use super::spans::{Around, Spans, Text};
use super::{ForWorkers, has_logger, parse};
use crate::sys::{process, socket};

/// Forwards what this worker logs, until it is dropped or set up for good.
pub(crate) struct Forward {
    to_host: Arc<ToHost>,
    /// The events of the executor thread go to the host, whatever subscriber there is.
    _events: DefaultGuard,
    asked_for: bool,
}

/// Begins to send this thread's events to the host; `None` where the worker has a logger of its
/// own, which it inherited.
pub(crate) fn forward(wanted: &ForWorkers, socket: OwnedFd, seat: u32) -> Option<Forward> {
    if has_logger() && !wanted.asked_for {
        return None;
    }
    let to_host = Arc::new(ToHost::new(wanted, socket, seat)?);
    let dispatch = Dispatch::new(Events(Arc::clone(&to_host)));
    let events = tracing::dispatcher::set_default(&dispatch);
    Some(Forward { to_host, _events: events, asked_for: wanted.asked_for })
}

impl Forward {
    /// Goes on after the initializer, for all threads, unless that has set up a logger.
    ///
    /// The result is to be kept while the worker runs.
    pub(crate) fn for_good(self) -> Option<Self> {
        let dispatch = Dispatch::new(Events(Arc::clone(&self.to_host)));
        let ours = tracing::dispatcher::set_global_default(dispatch).is_ok();
        let max = self.to_host.filter.filter();
        if log::max_level() == log::LevelFilter::Off
            && log::set_boxed_logger(Box::new(Records(Arc::clone(&self.to_host)))).is_ok()
        {
            log::set_max_level(max);
        }
        (ours || self.asked_for).then_some(self)
    }
}

/// A worker's end of the socket.
pub(super) struct ToHost {
    socket: OwnedFd,
    seat: u32,
    pub(super) filter: Filter,
    dropped: AtomicUsize,
    spans: Spans,
}

impl ToHost {
    /// Makes the end of a worker with this seat; `None` for a filter that cannot be read.
    pub(super) fn new(wanted: &ForWorkers, socket: OwnedFd, seat: u32) -> Option<Self> {
        // The host has read it once.
        let filter = parse(&wanted.filter).ok()?;
        Some(Self { socket, seat, filter, dropped: AtomicUsize::new(0), spans: Spans::default() })
    }

    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        let level = record::level_of(metadata.level());
        let metadata = log::Metadata::builder().level(level).target(metadata.target()).build();
        self.filter.enabled(&metadata)
    }

    pub(super) fn send(&self, level: log::Level, target: &str, text: &str, around: &Around) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let function = around.task.as_ref().map(|(_, function)| function.as_str());
        let record = Record {
            level: level as u8,
            worker: self.seat,
            pid: process::own_pid(),
            task: around.task.as_ref().map(|(task, _)| *task),
            function: function.filter(|name| !name.is_empty()),
            target,
            spans: &around.spans,
            text,
            dropped: dropped as u64,
        };
        if socket::send(self.socket.as_fd(), &record.encode(), &[]).is_err() {
            // L2. Also where the host is gone, which ends this worker in a moment.
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }
}

/// The subscriber of a worker without one.
struct Events(Arc<ToHost>);

impl Subscriber for Events {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The span of a task says which task an event belongs to, at whatever level.
        let wanted = metadata.is_span() || self.0.takes(metadata);
        if wanted { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() || self.0.takes(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        // Spans up to `info` are kept, whatever the filter says.
        Some(match self.0.filter.filter() {
            log::LevelFilter::Trace => LevelFilter::TRACE,
            log::LevelFilter::Debug => LevelFilter::DEBUG,
            _ => LevelFilter::INFO,
        })
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.0.spans.open(attributes)
    }

    fn record(&self, id: &Id, values: &span::Record<'_>) {
        self.0.spans.record(id, values);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let level = record::level_of(metadata.level());
        let around = self.0.spans.around(Some(event));
        self.0.send(level, metadata.target(), &text.line(), &around);
    }

    fn enter(&self, id: &Id) {
        self.0.spans.enter(id);
    }

    fn exit(&self, id: &Id) {
        self.0.spans.exit(id);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.0.spans.copy(id);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.0.spans.close(&id)
    }

    fn current_span(&self) -> Current {
        match self.0.spans.current() {
            Some((id, metadata)) => Current::new(id, metadata),
            None => Current::none(),
        }
    }
}

/// The logger of a worker without one.
struct Records(Arc<ToHost>);

impl log::Log for Records {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.filter.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.0.filter.matches(record) {
            let around = self.0.spans.around(None);
            self.0.send(record.level(), record.target(), &record.args().to_string(), &around);
        }
    }

    fn flush(&self) {}
}
