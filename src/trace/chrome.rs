//! A timeline as a text: Chrome's trace format, as a JSON object, which Perfetto opens.
//!
//! Each worker process is a process there. Polls are slices of its one thread; what overlaps is
//! asynchronous slices beside it: whole runs, and the waits between polls. The host is a process,
//! too: it has the queued tasks and the pool's events.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::view::json;

/// A process in the timeline.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Its place among the others.
    pub(crate) order: u32,
}

/// A poll of a task, or a whole run of it.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// The worker's.
    pub(crate) pid: u32,
    pub(crate) function: &'static str,
    pub(crate) task: u64,
    /// The attempt, from 1.
    pub(crate) attempt: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// How long the task had been queued, if this is the first poll of an attempt.
    pub(crate) waited: Option<u64>,
    pub(crate) is_run: bool,
    /// The task goes on after it.
    pub(crate) goes_on: bool,
    /// How it ended.
    pub(crate) how: &'static str,
}

/// Something that happened at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) pid: u32,
    pub(crate) at: u64,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What a pool did in some time.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) host_pid: u32,
    /// What it is of, and what is missing: texts that are JSON already, by name.
    pub(crate) about: Vec<(&'static str, String)>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) spans: Vec<Span>,
    pub(crate) marks: Vec<Mark>,
}

/// What is written at one moment, of the span or the mark with that number.
#[derive(Clone, Copy)]
enum What {
    Poll,
    Begin(Kind),
    End(Kind),
    Retry,
    Mark,
}

/// Kinds of asynchronous slices.
#[derive(Clone, Copy)]
enum Kind {
    Queued,
    Run,
    Waiting,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Run => "run",
            Self::Waiting => "waiting",
        }
    }
}

impl Timeline {
    /// Writes it, in one line.
    ///
    /// # Errors
    ///
    /// As `to`.
    pub(crate) fn write(&mut self, to: &mut impl Write) -> io::Result<()> {
        self.spans.sort_by_key(|span| span.start);
        self.part_polls();
        let mut moments = self.moments();
        // Stable: a slice of no length begins before it ends.
        moments.sort_by_key(|&(at, ..)| at);
        write!(to, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{")?;
        for (number, (name, value)) in self.about.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(to, "{comma}{}:{value}", json(name))?;
        }
        write!(to, "}},\"traceEvents\":[")?;
        let mut comma = "";
        for Lane { pid, name, order } in &self.lanes {
            let name = json(name);
            write!(
                to,
                "{comma}{{\"ph\":\"M\",\"pid\":{pid},\"tid\":{pid},\"ts\":0,\
                 \"name\":\"process_name\",\"args\":{{\"name\":{name}}}}},\
                 {{\"ph\":\"M\",\"pid\":{pid},\"tid\":{pid},\"ts\":0,\
                 \"name\":\"process_sort_index\",\"args\":{{\"sort_index\":{order}}}}},\
                 {{\"ph\":\"M\",\"pid\":{pid},\"tid\":{pid},\"ts\":0,\
                 \"name\":\"thread_name\",\"args\":{{\"name\":{name}}}}}"
            )?;
            comma = ",";
        }
        let mut names = HashMap::new();
        for (at, what, number) in moments {
            write!(to, "{comma}")?;
            comma = ",";
            self.write_moment(to, at, what, number as usize, &mut names)?;
        }
        write!(to, "]}}")
    }

    /// One poll of a worker ends before the next begins, whatever its clock has said.
    fn part_polls(&mut self) {
        let mut last: HashMap<u32, usize> = HashMap::new();
        for number in 0..self.spans.len() {
            let Span { pid, start, is_run, .. } = self.spans[number];
            if is_run {
                continue;
            }
            if let Some(before) = last.insert(pid, number) {
                let before = &mut self.spans[before];
                before.end = before.end.clamp(before.start, start);
            }
        }
    }

    fn moments(&self) -> Vec<(u64, What, u32)> {
        let mut moments = Vec::with_capacity(self.spans.len() * 3);
        let mut suspended: HashMap<(u32, u64, u32), (u64, u32)> = HashMap::new();
        for (number, span) in (0..).zip(&self.spans) {
            let end = span.end.max(span.start);
            let mut slice = |kind, (from, to), number| {
                moments.push((from, What::Begin(kind), number));
                moments.push((to, What::End(kind), number));
            };
            let key = (span.pid, span.task, span.attempt);
            if let Some((since, before)) = suspended.remove(&key) {
                slice(Kind::Waiting, (since, span.start.max(since)), before);
            }
            if span.goes_on {
                suspended.insert(key, (end, number));
            }
            if let Some(waited) = span.waited {
                slice(Kind::Queued, (span.start.saturating_sub(waited), span.start), number);
            }
            if span.is_run {
                slice(Kind::Run, (span.start, end), number);
            } else {
                moments.push((span.start, What::Poll, number));
            }
            if span.waited.is_some() && span.attempt > 1 {
                moments.push((span.start, What::Retry, number));
            }
        }
        // They wait still.
        let last = self.spans.iter().map(|span| span.end).max().unwrap_or(0);
        for (since, number) in suspended.into_values() {
            moments.push((since, What::Begin(Kind::Waiting), number));
            moments.push((last.max(since), What::End(Kind::Waiting), number));
        }
        moments.extend((0..).zip(&self.marks).map(|(number, mark)| (mark.at, What::Mark, number)));
        moments
    }

    fn write_moment(
        &self,
        to: &mut impl Write,
        at: u64,
        what: What,
        number: usize,
        names: &mut HashMap<&'static str, String>,
    ) -> io::Result<()> {
        let ts = Microseconds(at);
        if let What::Mark = what {
            let Mark { pid, name, text, .. } = &self.marks[number];
            let (name, text) = (json(name), json(text));
            return write!(
                to,
                "{{\"ph\":\"i\",\"s\":\"p\",\"cat\":\"event\",\"name\":{name},\"pid\":{pid},\
                 \"tid\":{pid},\"ts\":{ts},\"args\":{{\"text\":{text}}}}}"
            );
        }
        let span = &self.spans[number];
        let &Span { pid, task, attempt, how, .. } = span;
        let name = names.entry(span.function).or_insert_with(|| json(&span.function));
        let args = |to: &mut dyn Write| {
            write!(to, "\"args\":{{\"task\":{task},\"attempt\":{attempt},\"how\":\"{how}\"}}}}")
        };
        match what {
            What::Poll => {
                let dur = Microseconds(span.end.saturating_sub(span.start));
                write!(
                    to,
                    "{{\"ph\":\"X\",\"cat\":\"poll\",\"name\":{name},\"pid\":{pid},\
                     \"tid\":{pid},\"ts\":{ts},\"dur\":{dur},"
                )?;
                args(to)
            }
            What::Begin(kind) | What::End(kind) => {
                let begins = matches!(what, What::Begin(_));
                let (ph, cat) = (if begins { 'b' } else { 'e' }, kind.name());
                let pid = if matches!(kind, Kind::Queued) { self.host_pid } else { pid };
                write!(
                    to,
                    "{{\"ph\":\"{ph}\",\"cat\":\"{cat}\",\"name\":{name},\"id\":\"{task}.{attempt}\",\
                     \"pid\":{pid},\"tid\":{pid},\"ts\":{ts}"
                )?;
                if !begins {
                    return write!(to, "}}");
                }
                write!(to, ",")?;
                args(to)
            }
            What::Retry => {
                write!(
                    to,
                    "{{\"ph\":\"i\",\"s\":\"t\",\"cat\":\"event\",\"name\":\"retry\",\
                     \"pid\":{pid},\"tid\":{pid},\"ts\":{ts},"
                )?;
                args(to)
            }
            What::Mark => Ok(()),
        }
    }
}

/// Nanoseconds, shown as the format has times.
struct Microseconds(u64);

impl std::fmt::Display for Microseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
