//! Gives a pool's numbers to the program's recorder of the `metrics` facade, once a second.
//!
//! The recorder is the user's code and may take its time: a thread of the pool's own calls it, so
//! that neither tasks nor the supervisor wait for it. Only the pool's end does, for the last
//! numbers, and not for ever.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::stats::Histogram;
use crate::sys::gate::Running;
use crate::view::{Metric, MetricValue};

use super::Shared;

/// The time between two readings: a Prometheus server asks less often.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the pool's end waits for a recorder that does not return.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread that reads the numbers, until it is dropped.
#[derive(Debug)]
pub(super) struct Exporter {
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let ((stop, stopped), (end, ended)) = (channel(), channel());
        let shared = Arc::clone(shared);
        let running = Running::begin();
        let thread = std::thread::Builder::new().name("aiopool-metrics".to_owned());
        let thread = thread.spawn(move || {
            // Dropped last, also when the recorder panics.
            let _end: Sender<()> = end;
            let mut recorded = Recorded::default();
            loop {
                recorded.record(&shared.snapshot().metrics());
                let told = running.asleep(|| stopped.recv_timeout(INTERVAL));
                if told == Err(RecvTimeoutError::Disconnected) {
                    recorded.record(&shared.snapshot().metrics());
                    return recorded.end();
                }
            }
        })?;
        Ok(Self { stop: Some(stop), ended, thread: Some(thread) })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            // A recorder that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// The gauges of the last time.
#[derive(Default)]
struct Recorded {
    gauges: HashMap<(&'static str, Vec<Label>), bool>,
}

impl Recorded {
    /// Sets every gauge to 0: of a pool that has ended nothing is in use. What was counted stays.
    fn end(&mut self) {
        for (name, labels) in self.gauges.keys() {
            gauge!(*name, labels.iter()).set(0.0);
        }
    }

    fn record(&mut self, all: &[Metric]) {
        self.gauges.values_mut().for_each(|is_there| *is_there = false);
        for metric in all {
            self.one(metric);
        }
        // Of a worker or a class that is gone: without this, the recorder keeps its last number.
        self.gauges.retain(|(name, labels), is_there| {
            if !*is_there {
                gauge!(*name, labels.iter()).set(0.0);
            }
            *is_there
        });
    }

    fn one(&mut self, metric: &Metric) {
        let Metric { name, help, labels, value } = metric;
        let name = *name;
        // The program that records is the host, and its exporter knows which process that is.
        let labels = labels.iter().filter(|(name, _)| *name != "host_pid");
        let labels: Vec<Label> =
            labels.map(|(name, value)| Label::new(*name, value.clone())).collect();
        match value {
            MetricValue::Count(count) => {
                describe_counter!(name, unit_of(name), *help);
                counter!(name, labels.iter()).absolute(*count);
            }
            MetricValue::Time(time) => {
                // The facade's counters are whole numbers.
                describe_gauge!(name, unit_of(name), *help);
                gauge!(name, labels.iter()).set(time.as_secs_f64());
            }
            MetricValue::Gauge(value) => {
                describe_gauge!(name, unit_of(name), *help);
                gauge!(name, labels.iter()).set(*value);
                self.gauges.insert((name, labels), true);
            }
            MetricValue::Durations(histogram) => durations(name, help, &labels, histogram),
        }
    }
}

/// Records a histogram as Prometheus shows one: its buckets are counters of their own. The facade's
/// histograms want each duration by itself, which would cost a call a task.
fn durations(name: &'static str, help: &'static str, labels: &[Label], of: &Histogram) {
    let named = |end: &str| format!("{name}_{end}");
    describe_counter!(named("bucket"), Unit::Count, help);
    describe_counter!(named("count"), Unit::Count, help);
    describe_gauge!(named("sum"), Unit::Seconds, help);
    let ends = of.cumulative().map(|(end, count)| (end.as_secs_f64().to_string(), count));
    for (end, count) in ends.chain([("+Inf".to_owned(), of.count())]) {
        let with_end: Vec<Label> = labels.iter().cloned().chain([Label::new("le", end)]).collect();
        counter!(named("bucket"), with_end.iter()).absolute(count);
    }
    counter!(named("count"), labels.iter()).absolute(of.count());
    gauge!(named("sum"), labels.iter()).set(of.sum().as_secs_f64());
}

/// Returns the unit that a metric's name ends with.
fn unit_of(name: &str) -> Unit {
    let name = name.trim_end_matches("_total");
    match name.rsplit('_').next() {
        Some("seconds") => Unit::Seconds,
        Some("bytes") => Unit::Bytes,
        _ => Unit::Count,
    }
}
