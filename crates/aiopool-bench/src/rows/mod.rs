//! The rows, the most important first.

#[cfg(feature = "cluster")]
mod cluster;
mod codec;
mod copies;
mod floors;
mod idle;
mod makespan;
mod pages;
mod payloads;
mod rings;
mod scale;
mod scrape;
mod seen;
mod spawned;
mod start;
mod steps;
mod verbs;

use std::path::PathBuf;
use std::time::Duration;

use super::contest::Contest;
use super::python::Python;

/// What rows need to know to build their contestants.
pub struct Setup {
    pub python: Option<PathBuf>,
    /// The number of the C function that borrows its payloads.
    pub lent: u32,
}

impl Setup {
    /// Python's pools, if they are wanted.
    pub fn python(&self) -> anyhow::Result<Option<Python>> {
        self.python.as_deref().map(Python::start).transpose()
    }
}

/// A row that can be built.
#[derive(Clone, Copy)]
pub struct Spec {
    pub name: &'static str,
    pub about: &'static str,
    pub build: fn(&Setup) -> anyhow::Result<Contest>,
}

/// All of them, or all that need no Python.
pub fn all(python: bool) -> Vec<Spec> {
    let mut rows = Vec::new();
    rows.extend(verbs::rows());
    rows.extend(rings::rows());
    rows.extend(payloads::rows());
    rows.extend(codec::rows());
    rows.extend(makespan::rows());
    rows.extend(pages::rows());
    if python {
        rows.extend(scrape::rows());
    }
    rows.extend(start::rows());
    rows.extend(scale::rows());
    rows.extend(idle::rows());
    rows.extend(seen::rows());
    rows.extend(floors::rows());
    #[cfg(feature = "cluster")]
    rows.extend(cluster::rows());
    rows
}

/// How long a block may take, about.
const BLOCK: Duration = Duration::from_millis(8);

/// Rounds of rows whose blocks take a good part of a second.
const ROUNDS_LONG: usize = 11;

/// Nanoseconds an operation, of `operations` in `time`.
fn ns_each(time: Duration, operations: u64) -> f64 {
    time.as_nanos() as f64 / operations as f64
}

/// Millions of operations a second.
fn millions(time: Duration, operations: u64) -> f64 {
    operations as f64 / time.as_secs_f64() / 1e6
}

/// Does `once` again and again for a block, after a few times that do not count, and gives the
/// median time of one in microseconds.
#[cfg(feature = "rivals")]
pub fn median_us(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    for _ in 0..3 {
        once()?;
    }
    let mut times = Vec::new();
    let start = std::time::Instant::now();
    while start.elapsed() < BLOCK {
        let before = std::time::Instant::now();
        once()?;
        times.push(before.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(super::contest::quantile(&times, 0.5))
}

/// A runtime as a service would have it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let workers = std::thread::available_parallelism().map_or(2, Into::into);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(workers).enable_all().build()?)
}

/// A pool of `processes` workers that has answered once.
fn pool(processes: usize) -> anyhow::Result<aiopool::Pool> {
    let pool = aiopool::Pool::builder().processes(processes).build()?;
    anyhow::ensure!(pool.apply(same, 1).wait()? == 1);
    Ok(pool)
}

/// The task that does nothing.
async fn same(x: u64) -> u64 {
    x
}

/// The other process of a row, which this process was started as.
pub fn serve(name: &str, arguments: &[String]) -> Option<anyhow::Result<()>> {
    #[cfg(feature = "cluster")]
    if let Some(served) = cluster::serve(name, arguments) {
        return Some(served);
    }
    match (name, arguments) {
        ("compute", tasks) => Some(makespan::serve(tasks)),
        ("steps", [verb]) => Some(steps::serve(verb)),
        ("parse", [which]) => Some(pages::serve(usize::from(which == "1"))),
        _ => None,
    }
}
