//! The books of the attempts, and the task functions that keep them.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in which attempts keep their book.
pub struct Book(pub PathBuf);

impl Book {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiopool-book-{name}-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        Self(path)
    }

    pub fn text(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }

    /// By task: when each attempt started and, if it came to that, ended, in nanoseconds.
    pub fn attempts(&self) -> HashMap<u64, Vec<(u64, Option<u64>)>> {
        let mut all: HashMap<u64, Vec<(u64, Option<u64>)>> = HashMap::new();
        let mut open: HashMap<(u64, String), usize> = HashMap::new();
        for line in fs::read_to_string(&self.0).unwrap().lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [n, what, id, at] = parts[..] else { panic!("a torn line: {line}") };
            let (n, at): (u64, u64) = (n.parse().unwrap(), at.parse().unwrap());
            let attempts = all.entry(n).or_default();
            if what == "start" {
                open.insert((n, id.to_owned()), attempts.len());
                attempts.push((at, None));
            } else {
                attempts[open[&(n, id.to_owned())]].1 = Some(at);
            }
        }
        all
    }

    /// What was noted, without tasks and times, in the order of the writes.
    pub fn notes(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap();
        let two = |line: &str| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
        text.lines().map(two).collect()
    }

    pub fn starts(&self) -> usize {
        self.attempts().values().map(Vec::len).sum()
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Appends a line to a book.
pub fn note(book: &str, n: u64, what: &str, id: &str) {
    let now = aiopool::remote::boottime_ns();
    let mut file = fs::OpenOptions::new().append(true).open(Path::new(book)).unwrap();
    // One write: appended as a whole or not at all.
    file.write_all(format!("{n} {what} {id} {now}\n").as_bytes()).unwrap();
}

/// Starts, waits, ends.
pub async fn work((book, n, ms): (String, u64, u64)) -> u64 {
    let id = format!("{}-{}", std::process::id(), aiopool::remote::boottime_ns());
    note(&book, n, "start", &id);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    note(&book, n, "end", &id);
    n
}

/// [`work`] that waits in its first attempt only.
pub async fn long_at_first((book, n, ms): (String, u64, u64)) -> u64 {
    let first = aiopool::TaskContext::current().is_none_or(|task| task.attempt() == 1);
    work((book, n, if first { ms } else { 0 })).await
}

/// Starts, and writes a line every 20 ms for as long as it runs.
pub async fn ticks(path: String) -> u64 {
    for n in 0.. {
        note(&path, n, "tick", "-");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    0
}

/// The bytes of a file of ticks: it grows for as long as code runs.
pub fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
