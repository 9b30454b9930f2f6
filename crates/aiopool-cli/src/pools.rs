//! Which pool an argument means, and what it answers from one moment to the next.

use std::time::{Duration, Instant};

use aiopool::view::{Address, Observer, pools};
use aiopool::{Histogram, Snapshot};
use anyhow::{Context, bail};
use serde_json::{Value, json};

/// Returns the pool that `word`, a name or a host's process id, means; without one the only pool.
pub fn find(word: Option<&str>) -> anyhow::Result<Address> {
    let listening = pools();
    // What a killed host has left behind does not count.
    let alive = |address: &&Address| address.connect().is_ok();
    let called = |address: &&Address| word.is_none_or(|word| address.is_called(word));
    let found: Vec<&Address> = listening.iter().filter(called).filter(alive).collect();
    match (&found[..], word) {
        ([one], _) => Ok((*one).clone()),
        ([], Some(word)) => bail!(
            "no pool {word:?} is running that can be observed: `aiopool ps` lists those that can"
        ),
        ([], None) => bail!(
            "no pool of this user is running that can be observed: start a program that has one"
        ),
        (several, _) => {
            let lines = several
                .iter()
                .map(|address| format!("  {} {}", address.host_pid(), plain(address.name())));
            let lines = lines.collect::<Vec<_>>().join("\n");
            bail!(
                "more than one pool is meant; say which, by its host's process id or name:\n{lines}"
            )
        }
    }
}

/// Returns `text` with nothing in it that a terminal would act on.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_acted_on(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns `value` as JSON with nothing in it that a terminal would act on.
pub fn plain_json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    // Outside of strings, JSON has no such character.
    let escaped = |c: char| {
        if is_acted_on(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
    };
    Ok(serde_json::to_string(value)?.chars().map(escaped).collect())
}

/// Returns whether a terminal acts on `c`, or shows nothing for it; each is within the first 65,536.
fn is_acted_on(c: char) -> bool {
    c.is_control()
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{206f}').contains(&c)
        || c == '\u{feff}'
}

/// A pool that is asked again and again.
pub struct Asked {
    observer: Observer,
}

/// What a pool answered, and when.
#[derive(Clone)]
pub struct Sample {
    pub at: Instant,
    pub snapshot: Snapshot,
}

impl Asked {
    pub fn new(address: &Address) -> anyhow::Result<Self> {
        Ok(Self { observer: address.connect()? })
    }

    pub fn ask(&mut self) -> anyhow::Result<Sample> {
        let text = self.observer.ask()?;
        let at = Instant::now();
        let snapshot = serde_json::from_str(&text)
            .context("the pool's answer is of another version: use the `aiopool` of that build")?;
        Ok(Sample { at, snapshot })
    }

    /// Asks twice, so that there are rates.
    pub fn twice(&mut self) -> anyhow::Result<(Sample, Sample)> {
        let first = self.ask()?;
        std::thread::sleep(Duration::from_millis(250));
        Ok((first, self.ask()?))
    }
}

/// The change between two samples, by the second.
pub struct Rates<'s> {
    before: &'s Snapshot,
    seconds: f64,
}

impl<'s> Rates<'s> {
    pub fn between(before: &'s Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        Self { before: &before.snapshot, seconds }
    }

    fn of(&self, now: u64, before: u64) -> f64 {
        if self.seconds > 0.0 { now.saturating_sub(before) as f64 / self.seconds } else { 0.0 }
    }

    /// Returns the outcomes a second of the whole pool.
    pub fn ended(&self, now: &Snapshot) -> f64 {
        self.of(ended(now), ended(self.before))
    }

    /// Returns the submissions a second.
    pub fn submitted(&self, now: &Snapshot) -> f64 {
        self.of(now.pool.stats.submitted, self.before.pool.stats.submitted)
    }

    /// Returns the outcomes a second of a function.
    pub fn function(&self, function: &aiopool::FunctionStats) -> f64 {
        let known = self.before.functions.iter().find(|known| known.name == function.name);
        self.of(function.count(), known.map_or(0, aiopool::FunctionStats::count))
    }

    /// Returns how much of a processor a worker uses, in percent, if that is known.
    pub fn cpu(&self, worker: &aiopool::view::WorkerView) -> Option<f64> {
        let known = self.before.workers.iter().find(|known| known.pid == worker.pid);
        let before = known.map_or(Some(0), |known| known.cpu_ns)?;
        Some(self.of(worker.cpu_ns?, before) / 1e7)
    }

    /// Returns how long the tasks ran, and how long they waited, that ended in between.
    pub fn recent(&self, now: &Snapshot) -> (Histogram, Histogram) {
        let (mut ran, mut waited) = (Histogram::default(), Histogram::default());
        for function in &now.functions {
            let known = self.before.functions.iter().find(|known| known.name == function.name);
            let none = Histogram::default();
            ran.merge(&function.ran.since(known.map_or(&none, |known| &known.ran)));
            waited.merge(&function.waited.since(known.map_or(&none, |known| &known.waited)));
        }
        (ran, waited)
    }

    /// Returns how much of a processor the host uses, in percent.
    pub fn host_cpu(&self, now: &Snapshot) -> f64 {
        let ns = |snapshot: &Snapshot| snapshot.pool.stats.host_cpu.as_nanos() as u64;
        self.of(ns(now), ns(self.before)) / 1e7
    }
}

/// Returns the outcomes so far.
pub fn ended(snapshot: &Snapshot) -> u64 {
    snapshot.pool.stats.submitted.saturating_sub(snapshot.pool.stats.pending)
}

/// Returns a sample as scripts get it: the snapshot, with rates beside its counts.
pub fn in_json(before: &Sample, now: &Sample) -> anyhow::Result<Value> {
    let rates = Rates::between(before, now);
    let mut value = serde_json::to_value(&now.snapshot)?;
    value["pool"]["ended_per_second"] = json!(rates.ended(&now.snapshot));
    value["pool"]["submitted_per_second"] = json!(rates.submitted(&now.snapshot));
    value["pool"]["host_cpu_percent"] = json!(rates.host_cpu(&now.snapshot));
    let (ran, waited) = rates.recent(&now.snapshot);
    value["pool"]["recent"] = json!({ "ran": ran, "waited": waited });
    for (at, worker) in now.snapshot.workers.iter().enumerate() {
        value["workers"][at]["cpu_percent"] = json!(rates.cpu(worker));
    }
    for (at, function) in now.snapshot.functions.iter().enumerate() {
        value["functions"][at]["count"] = json!(function.count());
        value["functions"][at]["ended_per_second"] = json!(rates.function(function));
    }
    Ok(value)
}
