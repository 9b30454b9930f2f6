//! What a run counted, and what it holds against the pool.

use std::time::{Duration, Instant};

/// The figures of a run; the last four and `wrong` must be 0.
#[derive(Debug)]
pub struct Figures {
    /// Instructions or system calls stepped over.
    pub steps: u64,
    /// `SIGKILL`s that hit.
    pub kills: u64,
    /// `SIGSTOP`s that hit.
    pub stops: u64,
    /// Tasks submitted.
    pub tasks: u64,
    /// Tasks whose outcome is missing from the books.
    pub lost: u64,
    /// Tasks with two outcomes, or run more often than allowed.
    pub doubled: u64,
    /// Tasks or pools that did not end.
    pub wedged: u64,
    /// Records, bytes, descriptors, processes or regions left behind.
    pub leaked: u64,
    /// Outcomes that are not what the task can have ended with.
    pub wrong: u64,
    /// Whatever else a mode counts.
    pub more: Vec<(String, u64)>,
    /// What was wrong, in words; the first few.
    pub complaints: Vec<String>,
    started: Instant,
    took: Option<Duration>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            steps: 0,
            kills: 0,
            stops: 0,
            tasks: 0,
            lost: 0,
            doubled: 0,
            wedged: 0,
            leaked: 0,
            wrong: 0,
            more: Vec::new(),
            complaints: Vec::new(),
            started: Instant::now(),
            took: None,
        }
    }
}

impl Figures {
    /// Takes a complaint down; the first of them are printed.
    pub fn complain(&mut self, what: impl Into<String>) {
        if self.complaints.len() < 20 {
            self.complaints.push(what.into());
        }
    }

    /// Whether nothing is held against the pool.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.wedged + self.leaked + self.wrong == 0
    }

    /// Adds `other`'s figures.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.kills += other.kills;
        self.stops += other.stops;
        self.tasks += other.tasks;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.wedged += other.wedged;
        self.leaked += other.leaked;
        self.wrong += other.wrong;
        for (name, value) in other.more {
            self.count(&name, value);
        }
        other.complaints.into_iter().for_each(|complaint| self.complain(complaint));
    }

    /// Adds `value` to the figure `name`.
    pub fn count(&mut self, name: &str, value: u64) {
        match self.more.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => self.more.push((name.to_owned(), value)),
        }
    }

    /// Prints them.
    pub fn print(&self, mode: &str, json: bool) {
        let seconds = self.took.unwrap_or_else(|| self.started.elapsed()).as_secs_f64();
        let all = self.all();
        if json {
            let pairs: Vec<String> =
                all.iter().map(|(name, n)| format!("\"{name}\": {n}")).collect();
            println!("{{\"mode\": \"{mode}\", \"seconds\": {seconds:.1}, {}}}", pairs.join(", "));
        } else {
            println!("{mode}: {seconds:.1} s");
            all.iter().for_each(|(name, n)| println!("  {name:<28} {n:>12}"));
        }
        self.complaints.iter().for_each(|complaint| eprintln!("chaos: {complaint}"));
    }

    /// Prints them for the process that started this one.
    pub fn hand_over(&self) {
        self.all().iter().for_each(|(name, n)| println!("{name} {n}"));
        self.complaints.iter().for_each(|complaint| eprintln!("chaos: {complaint}"));
    }

    /// Adds what a process has handed over. False if that is not whole.
    pub fn take_over(&mut self, printed: &str) -> bool {
        let mut whole = false;
        for line in printed.lines() {
            let Some((name, n)) = line.split_once(' ') else { return false };
            let Ok(n) = n.parse::<u64>() else { return false };
            match name {
                "steps" => self.steps += n,
                "kills" => self.kills += n,
                "stops" => self.stops += n,
                "tasks" => self.tasks += n,
                "lost" => self.lost += n,
                "doubled" => self.doubled += n,
                "wedged" => self.wedged += n,
                "leaked" => self.leaked += n,
                "wrong" => {
                    self.wrong += n;
                    whole = true;
                }
                other => self.count(other, n),
            }
        }
        whole
    }

    fn all(&self) -> Vec<(&str, u64)> {
        let fixed = [
            ("steps", self.steps),
            ("kills", self.kills),
            ("stops", self.stops),
            ("tasks", self.tasks),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("wedged", self.wedged),
            ("leaked", self.leaked),
            ("wrong", self.wrong),
        ];
        let more = self.more.iter().map(|(name, n)| (name.as_str(), *n));
        fixed.into_iter().chain(more).collect()
    }
}
