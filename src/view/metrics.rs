//! A snapshot as metrics: names and units are by Prometheus's conventions.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stats::Histogram;

use super::numbers::{FunctionStats, Stats};
use super::snapshot::{QueueView, Snapshot, State, WorkerView};

/// Ends of the histograms' buckets, as powers of two nanoseconds: 1 µs to 18 minutes, each four
/// times the one before.
const ENDS: [u32; 16] = [10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40];

/// One number of a pool, under the name that `aiopool dashboard --metrics` and the feature
/// `metrics` give it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, which ends with its unit, and with `total` where it only grows.
    pub name: &'static str,
    /// What it counts or measures, in a sentence.
    pub help: &'static str,
    /// Names and values of what it belongs to: `pool`, `host_pid`, `number`, and what is below.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: MetricValue,
}

/// What kind of number a [`Metric`] is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// A count that only grows.
    Count(u64),
    /// A time that only grows, in seconds.
    Time(Duration),
    /// A number of the moment.
    Gauge(f64),
    /// Durations, counted in buckets.
    Durations(Histogram),
}

impl Histogram {
    /// Returns how many durations were no longer than each of these ends: 1 µs to 18 minutes, each
    /// four times the one before, which are the buckets of the metrics.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        ENDS.into_iter().map(|power| {
            let end = Duration::from_nanos(1 << power);
            let below = self.buckets().filter(|&(upper, _)| upper <= end);
            (end, below.fold(0_u64, |sum, (_, count)| sum.saturating_add(count)))
        })
    }
}

impl Snapshot {
    /// Returns the pool's numbers as metrics, for a monitoring system of the caller's.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let pool = &self.pool;
        let own = vec![
            ("pool", pool.name.clone()),
            ("host_pid", pool.host_pid.to_string()),
            ("number", pool.number.to_string()),
        ];
        let mut metrics = Metrics { all: Vec::new(), own };
        metrics.pool(&pool.stats);
        metrics.gauge("aiopool_input_arena_bytes", "Memory for inputs.", &[], pool.input_arena);
        metrics.gauge(
            "aiopool_workers_wanted",
            "Workers that the pool keeps.",
            &[],
            pool.processes,
        );
        self.queues.iter().for_each(|queue| metrics.queue(queue));
        metrics.workers(&self.workers);
        self.functions.iter().for_each(|function| metrics.function(function));
        metrics.all
    }
}

struct Metrics {
    all: Vec<Metric>,
    own: Vec<(&'static str, String)>,
}

impl Metrics {
    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: MetricValue,
    ) {
        let more = labels.iter().map(|&(name, value)| (name, value.to_owned()));
        let labels = self.own.iter().cloned().chain(more).collect();
        self.all.push(Metric { name, help, labels, value });
    }

    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        self.add(name, help, labels, MetricValue::Gauge(value as f64));
    }

    fn pool(&mut self, stats: &Stats) {
        let counts = [
            ("aiopool_tasks_submitted_total", "Tasks submitted.", stats.submitted),
            ("aiopool_task_retries_total", "Attempts after the first.", stats.retries),
            ("aiopool_tasks_requeued_total", "Tasks queued again unstarted.", stats.requeued),
            ("aiopool_worker_deaths_total", "Workers that ended unplanned.", stats.deaths),
            ("aiopool_worker_recycles_total", "Workers replaced as planned.", stats.recycles),
            ("aiopool_damages_total", "Times that shared memory was damaged.", stats.damages),
        ];
        for (name, help, count) in counts {
            self.add(name, help, &[], MetricValue::Count(count));
        }
        let outcomes = [
            ("ok", stats.ok),
            ("failed", stats.failed),
            ("panicked", stats.panicked),
            ("cancelled", stats.cancelled),
            ("timed_out", stats.timed_out),
            ("worker_lost", stats.worker_lost),
            ("pool_closed", stats.pool_closed),
            ("other", stats.other),
        ];
        for (outcome, count) in outcomes {
            let help = "Tasks ended, by outcome.";
            let labels = [("outcome", outcome)];
            self.add("aiopool_tasks_total", help, &labels, MetricValue::Count(count));
        }
        let times = [
            ("aiopool_worker_cpu_seconds_total", "Processor time of the workers.", stats.cpu),
            (
                "aiopool_host_cpu_seconds_total",
                "Processor time of the host process.",
                stats.host_cpu,
            ),
        ];
        for (name, help, time) in times {
            self.add(name, help, &[], MetricValue::Time(time));
        }
        let gauges = [
            ("aiopool_tasks_running", "Tasks that workers have.", stats.running),
            ("aiopool_tasks_pending", "Tasks without an outcome.", stats.pending),
            ("aiopool_input_bytes", "Memory of inputs in use.", stats.input_bytes),
            ("aiopool_records_free", "Tasks that there is room for.", stats.free_records),
        ];
        for (name, help, value) in gauges {
            self.gauge(name, help, &[], value);
        }
    }

    fn queue(&mut self, queue: &QueueView) {
        let number = queue.queue.to_string();
        for (class, &depth) in queue.depth.iter().enumerate() {
            let labels = [("queue", number.as_str()), ("class", &class.to_string())];
            self.gauge("aiopool_tasks_queued", "Tasks that wait.", &labels, depth);
        }
        let (help, labels) = ("Wait of the oldest queued task.", [("queue", number.as_str())]);
        let oldest = MetricValue::Gauge(queue.oldest_ns.unwrap_or(0) as f64 / 1e9);
        self.add("aiopool_oldest_task_seconds", help, &labels, oldest);
        let help = "Memory that outputs of a queue's workers have taken.";
        self.gauge("aiopool_output_bytes", help, &labels, queue.output_bytes);
    }

    fn workers(&mut self, workers: &[WorkerView]) {
        let always = [State::Idle, State::Polling, State::Blocked, State::Waiting, State::Stopped];
        let mut states: BTreeMap<&str, u64> = always.map(|state| (state.name(), 0)).into();
        for worker in workers {
            *states.entry(worker.state.name()).or_default() += 1;
            if let Some(rss) = worker.rss_bytes {
                let labels = [("worker", worker.seat.to_string())];
                let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
                let help = "Resident memory of a worker.";
                self.gauge("aiopool_worker_resident_bytes", help, &labels, rss);
            }
        }
        for (state, count) in states {
            self.gauge("aiopool_workers", "Workers, by what they do.", &[("state", state)], count);
        }
    }

    fn function(&mut self, function: &FunctionStats) {
        let name = ("function", function.name.as_str());
        for (outcome, count) in [("ok", function.ok), ("error", function.errors())] {
            let help = "Tasks of a function that ended.";
            let labels = [name, ("outcome", outcome)];
            self.add("aiopool_function_tasks_total", help, &labels, MetricValue::Count(count));
        }
        let waited = MetricValue::Durations(function.waited.clone());
        let help = "Time from the submission to the start.";
        self.add("aiopool_task_wait_seconds", help, &[name], waited);
        let ran = MetricValue::Durations(function.ran.clone());
        self.add("aiopool_task_run_seconds", "Time that the last attempt ran.", &[name], ran);
    }
}
