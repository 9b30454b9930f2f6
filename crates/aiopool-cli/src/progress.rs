//! The progress of a scrape, drawn on stderr while the harvest comes in.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aiopool_scrape::{Book, Harvest, Observer};
use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A harvest that is written to a file and shows two bars while it grows, if there is a terminal
/// to show them on.
pub struct Shown {
    pub harvest: Harvest<File>,
    path: PathBuf,
    bars: Option<Bars>,
}

/// The bars that are drawn now.
static DRAWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Calls what writes to stderr; bars that are drawn there are drawn anew below it.
pub fn beside_bars(write: impl FnOnce()) {
    match &*DRAWN.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

struct Bars {
    lists: ProgressBar,
    details: ProgressBar,
}

impl Shown {
    /// Starts the file at `path`.
    pub fn create(path: &Path, pages: u32) -> anyhow::Result<Self> {
        let harvest = File::create(path).and_then(Harvest::new);
        let harvest = harvest.with_context(|| unwritable(path))?;
        let bars = io::stderr().is_terminal().then(|| Bars::new(pages));
        Ok(Self { harvest, path: path.to_owned(), bars })
    }

    /// Leaves the bars as they are; what follows on stderr comes below them.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(Bars { lists, details }) = self.bars.take() {
            lists.abandon();
            details.abandon();
            *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.harvest.finish().with_context(|| unwritable(&self.path))
    }
}

fn unwritable(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

impl Bars {
    fn new(pages: u32) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:7} {wide_bar} {pos:>5}/{len:<5} {elapsed_precise}",
        )
        .expect("the template is a valid constant");
        let both = MultiProgress::new();
        let bar = |name, len| {
            let bar = ProgressBar::new(len).with_style(style.clone()).with_prefix(name);
            both.add(bar)
        };
        let bars = Self { lists: bar("lists", pages.into()), details: bar("details", 0) };
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(both);
        bars
    }
}

impl Observer for Shown {
    fn list(&mut self, url: &str, outcome: Result<usize, String>) -> anyhow::Result<()> {
        if let Some(bars) = &self.bars {
            bars.lists.inc(1);
            bars.details.inc_length(outcome.as_ref().map_or(0, |&books| books as u64));
        }
        self.harvest.list(url, outcome)
    }

    fn detail(&mut self, url: &str, outcome: Result<Book, String>) -> anyhow::Result<()> {
        if let Some(bars) = &self.bars {
            bars.details.inc(1);
        }
        self.harvest.detail(url, outcome).with_context(|| unwritable(&self.path))
    }
}
