//! The numbers of all pools in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write;

use aiopool::view::{Address, Metric, MetricValue};
use aiopool::{Histogram, Snapshot};

use crate::pools::{Asked, plain};

/// Returns the metrics of every pool of this user that answers.
pub fn of_all_pools() -> String {
    let ask = |address: &Address| Some(Asked::new(address).ok()?.ask().ok()?.snapshot);
    let addresses = aiopool::view::pools();
    // At once: each whose host is stopped takes two seconds, and Prometheus waits for ten.
    let snapshots: Vec<Snapshot> = std::thread::scope(|scope| {
        let asked: Vec<_> = addresses.iter().map(|one| scope.spawn(move || ask(one))).collect();
        asked.into_iter().filter_map(|answer| answer.join().ok()?).collect()
    });
    text(&snapshots)
}

/// Returns the metrics of these pools, all of one name together as the format wants it.
fn text(snapshots: &[Snapshot]) -> String {
    let mut families: BTreeMap<&str, (&str, &str, String)> = BTreeMap::new();
    for Metric { name, help, labels, value, .. } in snapshots.iter().flat_map(Snapshot::metrics) {
        let kind = match value {
            MetricValue::Gauge(_) => "gauge",
            MetricValue::Durations(_) => "histogram",
            _ => "counter",
        };
        let lines = &mut families.entry(name).or_insert((kind, help, String::new())).2;
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
        let labels = labels.join(",");
        let _ = match value {
            MetricValue::Count(count) => writeln!(lines, "{name}{{{labels}}} {count}"),
            MetricValue::Time(time) => writeln!(lines, "{name}{{{labels}}} {}", time.as_secs_f64()),
            MetricValue::Gauge(value) => writeln!(lines, "{name}{{{labels}}} {value}"),
            MetricValue::Durations(histogram) => {
                write!(lines, "{}", durations(name, &labels, &histogram))
            }
            _ => Ok(()),
        };
    }
    let mut text = String::new();
    for (name, (kind, help, lines)) in families {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
    }
    text
}

fn durations(name: &str, labels: &str, of: &Histogram) -> String {
    let mut lines = String::new();
    for (end, count) in of.cumulative() {
        let end = end.as_secs_f64();
        let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"{end}\"}} {count}");
    }
    let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", of.count());
    let _ = writeln!(lines, "{name}_sum{{{labels}}} {}", of.sum().as_secs_f64());
    let _ = writeln!(lines, "{name}_count{{{labels}}} {}", of.count());
    lines
}

fn quoted(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}
