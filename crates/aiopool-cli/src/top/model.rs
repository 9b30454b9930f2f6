//! What the screen shows, and what keys change in it.

use std::cmp::Ordering;
use std::time::Duration;

use aiopool::view::{EventView, QueueView, State, WorkerView};
use aiopool::{FunctionStats, Snapshot};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::pools::{Rates, Sample};

/// A table of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Workers,
    Queues,
    Functions,
    Events,
}

impl Tab {
    pub const ALL: [Self; 4] = [Self::Workers, Self::Queues, Self::Functions, Self::Events];

    pub fn title(self) -> &'static str {
        ["workers", "queues", "functions", "events"][self as usize]
    }

    /// The columns by which the table can be sorted; the first is the default.
    pub fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Workers => {
                &["seat", "state", "in flight", "oldest", "cpu", "rss", "done", "restarts"]
            }
            Self::Queues => &["queue", "depth", "oldest"],
            Self::Functions => &["name", "count", "rate", "errors", "p99 run", "p99 wait"],
            Self::Events => &["newest"],
        }
    }
}

/// What comes of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Stay,
    Pace(Duration),
    Leave,
}

pub struct Model {
    pub colours: bool,
    pub interval: Duration,
    /// The two last samples that are shown.
    pub now: Option<Sample>,
    pub before: Option<Sample>,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    pub paused: bool,
    pub tab: Tab,
    /// By table: the column by which it is sorted, and whether backwards.
    pub orders: [(usize, bool); 4],
    pub chosen: usize,
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// The worker whose tasks are shown, by seat.
    pub detail: Option<u32>,
}

impl Model {
    pub fn new(interval: Duration, colours: bool) -> Self {
        Self {
            colours,
            interval,
            now: None,
            before: None,
            trouble: None,
            paused: false,
            tab: Tab::Workers,
            orders: [(0, false); 4],
            chosen: 0,
            filter: String::new(),
            typing: false,
            detail: None,
        }
    }

    /// Takes the next answer of the pool, or why there is none.
    pub fn take(&mut self, answer: Result<Sample, String>) {
        if self.paused {
            return;
        }
        match answer {
            Ok(sample) => {
                self.trouble = None;
                self.before = self.now.replace(sample);
                let pid =
                    |sample: &Option<Sample>| sample.as_ref().map(|s| s.snapshot.pool.host_pid);
                if pid(&self.before) != pid(&self.now) {
                    self.before = None;
                }
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    pub fn rates(&self) -> Option<Rates<'_>> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        Some(Rates::between(before, now))
    }

    pub fn press(&mut self, key: KeyEvent) -> Turn {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Turn::Leave;
        }
        if self.typing {
            self.edit(key.code);
            return Turn::Stay;
        }
        match key.code {
            KeyCode::Esc if self.detail.take().is_some() => {}
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Char('q') | KeyCode::Esc => return Turn::Leave,
            KeyCode::Tab | KeyCode::Right => self.show((self.tab as usize + 1) % 4),
            KeyCode::BackTab | KeyCode::Left => self.show((self.tab as usize + 3) % 4),
            KeyCode::Char(digit @ '1'..='4') => self.show(digit as usize - '1' as usize),
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.chosen += 1,
            KeyCode::PageUp => self.chosen = self.chosen.saturating_sub(10),
            KeyCode::PageDown => self.chosen += 10,
            KeyCode::Home => self.chosen = 0,
            KeyCode::End => self.chosen = usize::MAX,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('s') => {
                let (order, _) = &mut self.orders[self.tab as usize];
                *order = (*order + 1) % self.tab.orders().len();
            }
            KeyCode::Char('r') => {
                let (_, backwards) = &mut self.orders[self.tab as usize];
                *backwards = !*backwards;
            }
            KeyCode::Char('+') => return self.pace(self.interval / 2),
            KeyCode::Char('-') => return self.pace(self.interval * 2),
            KeyCode::Enter if self.tab == Tab::Workers && self.detail.is_none() => {
                self.detail = self.workers().get(self.chosen).map(|worker| worker.seat);
            }
            KeyCode::Enter => self.detail = None,
            _ => {}
        }
        Turn::Stay
    }

    fn edit(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.len() < 60 => self.filter.push(c),
            _ => {}
        }
    }

    fn show(&mut self, tab: usize) {
        self.tab = Tab::ALL[tab];
        self.chosen = 0;
        self.detail = None;
    }

    fn pace(&mut self, interval: Duration) -> Turn {
        self.interval = interval.clamp(Duration::from_millis(100), Duration::from_secs(60));
        Turn::Pace(self.interval)
    }

    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.now.as_ref().map(|sample| &sample.snapshot)
    }

    fn matches(&self, words: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || words.iter().any(|word| word.to_lowercase().contains(&filter))
    }

    fn sorted<T>(
        &self,
        tab: Tab,
        mut rows: Vec<T>,
        compare: impl Fn(&T, &T, usize) -> Ordering,
    ) -> Vec<T> {
        let (order, backwards) = self.orders[tab as usize];
        rows.sort_by(|a, b| compare(a, b, order));
        if backwards {
            rows.reverse();
        }
        rows
    }

    /// The workers to show, in their order.
    pub fn workers(&self) -> Vec<&WorkerView> {
        let Some(snapshot) = self.snapshot() else { return Vec::new() };
        let rates = self.rates();
        let cpu =
            |worker: &WorkerView| rates.as_ref().and_then(|rates| rates.cpu(worker)).unwrap_or(0.0);
        let oldest = |worker: &WorkerView| worker.tasks.iter().map(|task| task.age_ns).max();
        let rows = snapshot.workers.iter().filter(|worker| {
            let mut words = vec![worker.state.name().to_owned(), worker.pid.to_string()];
            words.extend(worker.tasks.iter().map(|task| task.function.clone()));
            words.extend(worker.last_end.clone());
            self.matches(&words.iter().map(String::as_str).collect::<Vec<_>>())
        });
        self.sorted(Tab::Workers, rows.collect(), |a, b, order| match order {
            1 => urgency(b.state).cmp(&urgency(a.state)),
            2 => b.in_flight.cmp(&a.in_flight),
            3 => oldest(b).cmp(&oldest(a)),
            4 => cpu(b).total_cmp(&cpu(a)),
            5 => b.rss_bytes.cmp(&a.rss_bytes),
            6 => b.done.cmp(&a.done),
            7 => b.restarts.cmp(&a.restarts),
            _ => a.seat.cmp(&b.seat),
        })
    }

    /// The queues likewise.
    pub fn queues(&self) -> Vec<&QueueView> {
        let Some(snapshot) = self.snapshot() else { return Vec::new() };
        let depth =
            |queue: &QueueView| queue.depth.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        let rows = snapshot.queues.iter().filter(|queue| self.matches(&[&queue.queue.to_string()]));
        self.sorted(Tab::Queues, rows.collect(), |a, b, order| match order {
            1 => depth(b).cmp(&depth(a)),
            2 => b.oldest_ns.cmp(&a.oldest_ns),
            _ => a.queue.cmp(&b.queue),
        })
    }

    /// The functions likewise.
    pub fn functions(&self) -> Vec<&FunctionStats> {
        let Some(snapshot) = self.snapshot() else { return Vec::new() };
        let rates = self.rates();
        let rate = |f: &FunctionStats| rates.as_ref().map_or(0.0, |rates| rates.function(f));
        let rows = snapshot.functions.iter().filter(|function| self.matches(&[&function.name]));
        self.sorted(Tab::Functions, rows.collect(), |a, b, order| match order {
            1 => b.count().cmp(&a.count()),
            2 => rate(b).total_cmp(&rate(a)),
            3 => b.errors().cmp(&a.errors()),
            4 => b.ran.quantile(0.99).cmp(&a.ran.quantile(0.99)),
            5 => b.waited.quantile(0.99).cmp(&a.waited.quantile(0.99)),
            _ => a.name.cmp(&b.name),
        })
    }

    /// The events likewise.
    pub fn events(&self) -> Vec<&EventView> {
        let Some(snapshot) = self.snapshot() else { return Vec::new() };
        let rows = snapshot.events.iter().filter(|event| self.matches(&[&event.text, kind(event)]));
        self.sorted(Tab::Events, rows.collect(), |a, b, _| b.number.cmp(&a.number))
    }
}

/// How much a state deserves a look.
fn urgency(state: State) -> u32 {
    match state {
        State::Stopped => 5,
        State::Blocked => 4,
        State::Starting | State::Leaving | State::Retiring => 3,
        State::Polling | State::Busy => 2,
        State::Waiting => 1,
        _ => 0,
    }
}

/// The name of an event's kind.
pub fn kind(event: &EventView) -> &'static str {
    use aiopool::view::Kind;
    match event.kind {
        Kind::Death => "death",
        Kind::KilledForDeadline => "killed: deadline",
        Kind::KilledForDamage => "killed: damage",
        Kind::Recycle => "recycle",
        Kind::Blocked => "blocked",
        Kind::Timeout => "timeout",
        Kind::PoisonTask => "poison task",
        Kind::Damage => "damage",
        Kind::InitializerFailed => "initializer",
        Kind::ForkFailed => "fork failed",
        Kind::ForkServer => "fork server",
        Kind::PoolFailed => "pool failed",
        _ => "?",
    }
}
