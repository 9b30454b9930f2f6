//! The reference workload's costly part: parsing pages that are already in memory.

use std::process::{Command, Stdio};
use std::time::Instant;

use aiopool_scrape::parse;
use aiopool_scrape::site::{Pages, Shop};

use super::makespan::Hand;
use super::{ROUNDS_LONG, Setup, Spec};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![Spec {
        name: "parse-1000",
        about: "1,000 pages in memory parsed by a pool of 2, against two processes with half each",
        build,
    }]
}

/// The built-in site's pages of books, the same in every process.
fn pages() -> Vec<String> {
    let pages = Pages::new(&Shop::new());
    let mut details: Vec<(&str, String)> = pages
        .iter()
        .filter(|(path, _)| path.ends_with("/index.html"))
        .map(|(path, html)| (path, String::from_utf8_lossy(html).into_owned()))
        .collect();
    details.sort();
    details.into_iter().map(|(_, html)| html).collect()
}

async fn title(html: String) -> anyhow::Result<String> {
    Ok(parse::detail(&html)?.title)
}

fn build(_: &Setup) -> anyhow::Result<Contest> {
    let pool = super::pool(2)?;
    let pages = pages();
    Ok(Contest::new("pages/s", move || {
        let pages = pages.clone();
        let count = pages.len();
        let start = Instant::now();
        let mut titles = 0;
        for title in pool.try_map(title, pages).into_blocking_iter() {
            titles += usize::from(!title?.is_empty());
        }
        let time = start.elapsed();
        anyhow::ensure!(titles == count, "a title is missing");
        Ok(count as f64 / time.as_secs_f64())
    })
    .against("two processes", Some(Bar::AtLeast(0.95)), || {
        let mut halves = [half("0")?, half("1")?];
        let start = Instant::now();
        halves.iter_mut().for_each(Hand::go);
        halves.into_iter().try_for_each(Hand::done)?;
        Ok(1000.0 / start.elapsed().as_secs_f64())
    })
    .rounds(ROUNDS_LONG))
}

fn half(which: &str) -> anyhow::Result<Hand> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "--partner", "parse", which]);
    Hand::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// The other side: parses every second page, twice. The first time is before the start, so that
/// the process is as warm as a worker that has parsed pages before.
pub fn serve(which: usize) -> anyhow::Result<()> {
    let pages = pages();
    let parse_all = || {
        pages.iter().skip(which).step_by(2).try_for_each(|page| {
            anyhow::ensure!(!parse::detail(page)?.title.is_empty(), "a title is missing");
            Ok(())
        })
    };
    parse_all()?;
    super::makespan::wait_for_start()?;
    parse_all()
}
