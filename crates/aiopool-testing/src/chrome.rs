//! Reads a timeline as strictly as the format allows: what Perfetto would guess at is refused.
//!
//! The rules are those of the "Trace Event Format" that its importer and Chrome's page follow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A timeline that keeps the rules.
#[derive(Debug)]
pub struct Timeline {
    /// What the file says about itself.
    pub about: Value,
    slices: Vec<Slice>,
    spans: Vec<Slice>,
    marks: Vec<Slice>,
    processes: BTreeMap<u32, String>,
}

/// A slice of a thread, an asynchronous one, or a mark; times in microseconds.
#[derive(Clone, Debug)]
pub struct Slice {
    /// What it is called: a function, of most.
    pub name: String,
    /// Its category.
    pub cat: String,
    /// Whose it is.
    pub pid: u32,
    /// When it began.
    pub ts: f64,
    /// How long it lasted.
    pub dur: f64,
    /// What else is said.
    pub args: Value,
}

impl Slice {
    /// Returns how the poll ended.
    ///
    /// # Panics
    ///
    /// If it is no poll.
    pub fn how(&self) -> &str {
        self.args["how"].as_str().unwrap()
    }
}

impl Timeline {
    /// Returns the slices of a function's polls, in their order.
    pub fn slices(&self, name: &str) -> Vec<Slice> {
        named(&self.slices, name).collect()
    }

    /// Returns the asynchronous slices of a function in a category.
    pub fn spans(&self, cat: &str, name: &str) -> Vec<Slice> {
        named(&self.spans, name).filter(|span| span.cat == cat).collect()
    }

    /// Returns the marks of that name.
    pub fn marks(&self, name: &str) -> Vec<Slice> {
        self.marks.iter().filter(|mark| mark.name == name).cloned().collect()
    }

    /// Returns the pids of all workers.
    pub fn workers(&self) -> Vec<u32> {
        let workers = self.processes.iter().filter(|(_, name)| name.starts_with("worker "));
        workers.map(|(&pid, _)| pid).collect()
    }
}

/// Names of functions are paths; `name` is the end of one.
fn named(slices: &[Slice], name: &str) -> impl Iterator<Item = Slice> {
    let is_it = move |slice: &&Slice| {
        let before = slice.name.strip_suffix(name);
        before.is_some_and(|before| before.is_empty() || before.ends_with(':'))
    };
    slices.iter().filter(is_it).cloned()
}

/// Returns what the text says.
///
/// # Panics
///
/// If it breaks a rule of the format.
pub fn validated(text: &str) -> Timeline {
    let value: Value = serde_json::from_str(text).expect("a timeline is JSON");
    let top = value.as_object().expect("an object");
    let known = ["displayTimeUnit", "otherData", "traceEvents"];
    assert!(top.keys().all(|key| known.contains(&key.as_str())), "{:?}", top.keys());
    assert!(["ms", "ns"].contains(&top["displayTimeUnit"].as_str().unwrap()));
    let mut timeline = Timeline {
        about: top["otherData"].clone(),
        slices: Vec::new(),
        spans: Vec::new(),
        marks: Vec::new(),
        processes: BTreeMap::new(),
    };
    let mut open: BTreeMap<(String, String), Vec<Slice>> = BTreeMap::new();
    let mut stacks: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let (mut last, mut used) = (0.0, BTreeSet::new());
    for event in top["traceEvents"].as_array().unwrap() {
        let event = event.as_object().unwrap();
        let slice = slice_of(event);
        let phase = event["ph"].as_str().unwrap();
        if phase != "M" {
            assert!(slice.ts >= last, "out of order: {event:?}");
            last = slice.ts;
            used.insert(slice.pid);
        }
        match phase {
            "M" => {
                let is_name = slice.name == "process_name";
                if is_name {
                    let name = slice.args["name"].as_str().unwrap().to_owned();
                    assert_eq!(timeline.processes.insert(slice.pid, name), None, "{event:?}");
                }
                let known = ["process_name", "process_sort_index", "thread_name"];
                assert!(known.contains(&slice.name.as_str()), "{event:?}");
            }
            "X" => {
                // One inside the other, or one after the other, in a thread.
                let stack = stacks.entry(slice.pid).or_default();
                let end = slice.ts + slice.dur;
                while stack.last().is_some_and(|&end| end <= slice.ts + 1e-4) {
                    stack.pop();
                }
                assert!(stack.last().is_none_or(|&outer| outer + 1e-4 >= end), "{event:?}");
                stack.push(end);
                timeline.slices.push(slice);
            }
            "b" => {
                let key = (slice.cat.clone(), event["id"].as_str().unwrap().to_owned());
                open.entry(key).or_default().push(slice);
            }
            "e" => {
                let key = (slice.cat.clone(), event["id"].as_str().unwrap().to_owned());
                let begun = open.get_mut(&key).and_then(Vec::pop);
                let begun = begun.unwrap_or_else(|| panic!("no beginning of {event:?}"));
                assert_eq!((&begun.name, begun.pid), (&slice.name, slice.pid));
                timeline.spans.push(Slice { dur: slice.ts - begun.ts, ..begun });
            }
            "i" => {
                assert!(["g", "p", "t"].contains(&event["s"].as_str().unwrap()), "{event:?}");
                timeline.marks.push(slice);
            }
            other => panic!("phase {other:?} of {event:?}"),
        }
    }
    let open: Vec<_> = open.values().flatten().collect();
    assert!(open.is_empty(), "no end of {open:?}");
    let unnamed: Vec<_> = used.iter().filter(|pid| !timeline.processes.contains_key(pid)).collect();
    assert!(unnamed.is_empty(), "no name of processes {unnamed:?}");
    timeline
}

fn slice_of(event: &Map<String, Value>) -> Slice {
    let number = |key: &str| event.get(key).and_then(Value::as_u64);
    let time = |key: &str| event.get(key).map(|value| value.as_f64().unwrap());
    let text = |key: &str| event.get(key).map(|value| value.as_str().unwrap().to_owned());
    let pid = number("pid").unwrap() as u32;
    assert!(number("tid").is_some() && pid > 0, "{event:?}");
    let (ts, dur) = (time("ts").unwrap(), time("dur").unwrap_or(0.0));
    assert!(ts >= 0.0 && dur >= 0.0, "{event:?}");
    Slice {
        name: text("name").unwrap(),
        cat: text("cat").unwrap_or_default(),
        pid,
        ts,
        dur,
        args: event.get("args").cloned().unwrap_or_default(),
    }
}
