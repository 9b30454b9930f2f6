//! The numbers of all pools in Prometheus's text format. Names and units are by its conventions.

use std::collections::BTreeMap;
use std::fmt::Write;

use aiopool::view::State;
use aiopool::{Histogram, Snapshot};

use crate::pools::{Asked, plain};
use crate::top::state_name;

/// Ends of the histograms' buckets, as powers of two nanoseconds: 1 µs to 18 minutes, each four
/// times the one before.
const ENDS: [u32; 16] = [10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40];

/// Returns the metrics of every pool of this user that answers.
pub fn of_all_pools() -> String {
    let mut snapshots = Vec::new();
    for address in aiopool::view::pools() {
        if let Ok(sample) = Asked::new(&address).and_then(|mut asked| asked.ask()) {
            snapshots.push(sample.snapshot);
        }
    }
    text(&snapshots)
}

/// The lines of each metric, all of one name together as the format wants it.
#[derive(Default)]
struct Metrics(BTreeMap<&'static str, (&'static str, &'static str, String)>);

impl Metrics {
    fn family(
        &mut self,
        name: &'static str,
        kind: &'static str,
        help: &'static str,
    ) -> &mut String {
        &mut self.0.entry(name).or_insert((kind, help, String::new())).2
    }

    fn counter(&mut self, name: &'static str, help: &'static str, labels: &str, value: f64) {
        let _ = writeln!(self.family(name, "counter", help), "{name}{{{labels}}} {value}");
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, labels: &str, value: f64) {
        let _ = writeln!(self.family(name, "gauge", help), "{name}{{{labels}}} {value}");
    }

    fn histogram(&mut self, name: &'static str, help: &'static str, labels: &str, of: &Histogram) {
        let lines = self.family(name, "histogram", help);
        for power in ENDS {
            let end = std::time::Duration::from_nanos(1 << power);
            let below = of.buckets().filter(|&(upper, _)| upper <= end);
            let count = below.fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
            let _ =
                writeln!(lines, "{name}_bucket{{{labels},le=\"{}\"}} {count}", end.as_secs_f64());
        }
        let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", of.count());
        let _ = writeln!(lines, "{name}_sum{{{labels}}} {}", of.sum().as_secs_f64());
        let _ = writeln!(lines, "{name}_count{{{labels}}} {}", of.count());
    }
}

fn quoted(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}

/// Returns the metrics of these pools.
pub fn text(snapshots: &[Snapshot]) -> String {
    let mut metrics = Metrics::default();
    snapshots.iter().for_each(|snapshot| add(&mut metrics, snapshot));
    let mut text = String::new();
    for (name, (kind, help, lines)) in metrics.0 {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
    }
    text
}

fn add(to: &mut Metrics, snapshot: &Snapshot) {
    let (pool, stats) = (&snapshot.pool, &snapshot.pool.stats);
    let own = format!(
        "pool=\"{}\",host_pid=\"{}\",number=\"{}\"",
        quoted(&pool.name),
        pool.host_pid,
        pool.number
    );
    let counters = [
        ("aiopool_tasks_submitted_total", "Tasks submitted.", stats.submitted),
        ("aiopool_task_retries_total", "Attempts after the first.", stats.retries),
        ("aiopool_tasks_requeued_total", "Tasks queued again unstarted.", stats.requeued),
        ("aiopool_worker_deaths_total", "Workers that ended unplanned.", stats.deaths),
        ("aiopool_worker_recycles_total", "Workers replaced as planned.", stats.recycles),
        ("aiopool_damages_total", "Times that shared memory was damaged.", stats.damages),
    ];
    for (name, help, value) in counters {
        to.counter(name, help, &own, value as f64);
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
    for (outcome, value) in outcomes {
        let labels = format!("{own},outcome=\"{outcome}\"");
        to.counter("aiopool_tasks_total", "Tasks ended, by outcome.", &labels, value as f64);
    }
    to.counter(
        "aiopool_worker_cpu_seconds_total",
        "Processor time of the workers.",
        &own,
        stats.cpu.as_secs_f64(),
    );
    to.counter(
        "aiopool_host_cpu_seconds_total",
        "Processor time of the host process.",
        &own,
        stats.host_cpu.as_secs_f64(),
    );
    let gauges = [
        ("aiopool_tasks_running", "Tasks that workers have.", stats.running),
        ("aiopool_tasks_pending", "Tasks without an outcome.", stats.pending),
        ("aiopool_input_bytes", "Memory of inputs in use.", stats.input_bytes),
        ("aiopool_input_arena_bytes", "Memory for inputs.", pool.input_arena),
        ("aiopool_records_free", "Tasks that there is room for.", stats.free_records),
        ("aiopool_workers_wanted", "Workers that the pool keeps.", pool.processes),
    ];
    for (name, help, value) in gauges {
        to.gauge(name, help, &own, value as f64);
    }
    for queue in &snapshot.queues {
        for (class, depth) in queue.depth.iter().enumerate() {
            let labels = format!("{own},queue=\"{}\",class=\"{class}\"", queue.queue);
            to.gauge("aiopool_tasks_queued", "Tasks that wait.", &labels, *depth as f64);
        }
        let labels = format!("{own},queue=\"{}\"", queue.queue);
        let oldest = queue.oldest_ns.unwrap_or(0) as f64 / 1e9;
        to.gauge("aiopool_oldest_task_seconds", "Wait of the oldest queued task.", &labels, oldest);
    }
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for state in [State::Idle, State::Polling, State::Blocked, State::Waiting, State::Stopped] {
        states.insert(state_name(state), 0);
    }
    for worker in &snapshot.workers {
        *states.entry(state_name(worker.state)).or_default() += 1;
        if let Some(rss) = worker.rss_bytes {
            let labels = format!("{own},worker=\"{}\"", worker.seat);
            let help = "Resident memory of a worker.";
            to.gauge("aiopool_worker_resident_bytes", help, &labels, rss as f64);
        }
    }
    for (state, workers) in states {
        let labels = format!("{own},state=\"{state}\"");
        to.gauge("aiopool_workers", "Workers, by what they do.", &labels, workers as f64);
    }
    for function in &snapshot.functions {
        let labels = format!("{own},function=\"{}\"", quoted(&function.name));
        for (outcome, value) in [("ok", function.ok), ("error", function.errors())] {
            let labels = format!("{labels},outcome=\"{outcome}\"");
            let help = "Tasks of a function that ended.";
            to.counter("aiopool_function_tasks_total", help, &labels, value as f64);
        }
        let help = "Time from the submission to the start.";
        to.histogram("aiopool_task_wait_seconds", help, &labels, &function.waited);
        let help = "Time that the last attempt ran.";
        to.histogram("aiopool_task_run_seconds", help, &labels, &function.ran);
    }
}
