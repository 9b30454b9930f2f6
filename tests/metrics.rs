//! A pool's numbers through the `metrics` facade, with a real exporter as the program's recorder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use aiopool::view::MetricValue;
use aiopool::{Pool, PoolBuilder};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn fail(_: u64) -> Result<u64, String> {
    Err("no".to_owned())
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

static SHUT: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn set_gate(shut: bool) {
    *SHUT.0.lock().unwrap() = shut;
    SHUT.1.notify_all();
}

/// The exporter, which does not return while its gate is shut.
struct Gated(PrometheusRecorder);

impl Recorder for Gated {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_counter(key, unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_gauge(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_histogram(key, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        drop(SHUT.1.wait_while(SHUT.0.lock().unwrap(), |shut| *shut).unwrap());
        self.0.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

/// A sample's name and its labels.
type Series = (String, BTreeMap<String, String>);

/// What an exporter's page says, and the kind of each name.
fn read(text: &str) -> (BTreeMap<Series, f64>, BTreeMap<String, String>) {
    let (mut samples, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            kinds.insert(name.to_owned(), kind.to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap();
        let labels = labels.trim_end_matches('}').split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        samples.insert((name.to_owned(), labels.collect()), value.parse().unwrap());
    }
    (samples, kinds)
}

fn named(name: &str) -> PoolBuilder {
    Pool::builder().name(name).processes(2).queues(2).priorities(2)
}

fn end(pool: &Pool) {
    pool.close();
    pool.join_blocking().unwrap();
}

/// One test: a program has one recorder.
#[test]
fn the_programs_exporter_shows_what_the_pool_has_counted() {
    let exporter = PrometheusBuilder::new().build_recorder();
    let page = exporter.handle();
    metrics::set_global_recorder(Gated(exporter)).ok().unwrap();

    let silent = named("silent").build().unwrap();
    let pool = named("told").metrics(true).build().unwrap();
    assert_eq!(pool.map(double, 0..321).into_blocking_iter().count(), 321);
    pool.try_apply(fail, 1).wait().unwrap_err();
    pool.apply(die, 1).wait().unwrap_err();
    silent.apply(double, 1).wait().unwrap();
    let resident = |text: &str| -> Vec<f64> {
        let (samples, _) = read(text);
        let of = |((name, _), value): (&Series, &f64)| {
            (name == "aiopool_worker_resident_bytes").then_some(*value)
        };
        samples.iter().filter_map(of).collect()
    };
    let ended = Instant::now() + Duration::from_secs(120);
    // While the pool runs. The page may be read in the midst of a round of the pool's.
    loop {
        let text = page.render();
        let has_lost = text.contains("outcome=\"worker_lost\"} 1");
        if has_lost && resident(&text).iter().sum::<f64>() > 1e6 {
            break;
        }
        assert!(Instant::now() < ended, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    }

    let names: BTreeSet<_> = pool.snapshot().metrics().iter().map(|metric| metric.name).collect();
    end(&pool);
    end(&silent);
    let text = page.render();
    let (samples, kinds) = read(&text);
    assert!(samples.keys().all(|(_, labels)| labels["pool"] == "told"), "{text}");

    let shown: BTreeSet<&str> = kinds.keys().map(String::as_str).collect();
    let of_durations =
        |name: &str| name.ends_with("_wait_seconds") || name.ends_with("_run_seconds");
    let parts = ["bucket", "count", "sum"];
    let wanted: BTreeSet<String> = names
        .iter()
        .flat_map(|name| match of_durations(name) {
            true => parts.map(|part| format!("{name}_{part}")).to_vec(),
            false => vec![(*name).to_owned()],
        })
        .collect();
    assert_eq!(shown, wanted.iter().map(String::as_str).collect(), "{text}");

    let value = |name: &str, labels: &[(&str, &str)]| {
        let all = samples.iter().filter(|((found, all), _)| {
            found == name && labels.iter().all(|(name, value)| all[*name].ends_with(value))
        });
        all.map(|(_, value)| value).sum::<f64>()
    };
    let last = pool.snapshot();
    for metric in last.metrics() {
        let labels: Vec<(&str, &str)> = metric.labels.iter().map(|(n, v)| (*n, &**v)).collect();
        let labels: Vec<_> = labels.into_iter().filter(|(name, _)| *name != "host_pid").collect();
        let shown = |part: &str| value(&format!("{}{part}", metric.name), &labels);
        match &metric.value {
            MetricValue::Count(count) => assert_eq!(shown(""), *count as f64, "{metric:?}"),
            MetricValue::Durations(histogram) => {
                assert_eq!(shown("_count"), histogram.count() as f64, "{metric:?}");
                assert!((shown("_sum") - histogram.sum().as_secs_f64()).abs() < 1e-6, "{metric:?}");
            }
            // The host's processor time goes on.
            _ => {}
        }
    }
    assert_eq!(value("aiopool_tasks_total", &[("outcome", "ok")]), 321.0);
    assert_eq!(value("aiopool_tasks_total", &[]), 323.0);
    let buckets =
        |le| value("aiopool_task_run_seconds_bucket", &[("function", "double"), ("le", le)]);
    assert_eq!((buckets("+Inf"), buckets("1099.511627776")), (321.0, 321.0));
    assert!(buckets("0.000001024") <= buckets("0.001048576"));
    assert!(value("aiopool_worker_cpu_seconds_total", &[]) > 0.0, "{text}");
    assert_eq!(kinds["aiopool_tasks_total"], "counter");
    assert_eq!(kinds["aiopool_tasks_queued"], "gauge");
    // Nothing is left of the workers.
    assert_eq!(resident(&text).iter().sum::<f64>(), 0.0, "{text}");
    for ((name, labels), value) in &samples {
        // The processor time of the host and of its workers is a sum, as those of histograms.
        let is_sum = name.ends_with("_total") || name.ends_with("_sum");
        let is_zero = kinds.get(name).is_none_or(|kind| kind != "gauge") || is_sum || *value == 0.0;
        assert!(is_zero, "{name} {labels:?} is {value} after the pool's end");
    }

    // A recorder that does not return holds up neither the tasks nor, for ever, the pool's end.
    set_gate(true);
    let pool = named("held").metrics(true).build().unwrap();
    assert_eq!(pool.map(double, 0..1000).into_blocking_iter().count(), 1000);
    end(&pool);
    assert!(!page.render().contains("held"));
    set_gate(false);
}
