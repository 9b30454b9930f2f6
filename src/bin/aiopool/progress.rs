//! The progress of a scrape, drawn on stderr while the harvest comes in.

use std::io::{self, IsTerminal, Write};

use aiopool::scrape::{Book, Harvest, Observer};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A harvest that shows two bars while it grows, if there is a terminal to show them on.
pub struct Shown<W: Write> {
    pub harvest: Harvest<W>,
    bars: Option<Bars>,
}

struct Bars {
    lists: ProgressBar,
    details: ProgressBar,
}

impl<W: Write> Shown<W> {
    pub fn new(harvest: Harvest<W>, pages: u32) -> Self {
        let bars = io::stderr().is_terminal().then(|| Bars::new(pages));
        Self { harvest, bars }
    }

    /// Leaves the bars as they are; what follows on stderr comes below them.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(Bars { lists, details }) = self.bars.take() {
            lists.abandon();
            details.abandon();
        }
        self.harvest.finish()
    }
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
        Self { lists: bar("lists", pages.into()), details: bar("details", 0) }
    }
}

impl<W: Write> Observer for Shown<W> {
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
        self.harvest.detail(url, outcome)
    }
}
