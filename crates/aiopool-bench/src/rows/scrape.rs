//! The reference workload as a whole: the article's scrape of the built-in site, beside the same
//! job in Python with aiomultiprocess. The site is a process of its own, and in neither figure.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use aiopool_scrape::site::SiteProcess;
use anyhow::Context;

use super::{Setup, Spec};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "scrape-wall",
            about: "1,050 pages of the built-in site to a CSV file, a program each; needs --python",
            build: |setup| build(setup, View::Wall, "s", 1.0 / 8.0),
        },
        Spec {
            name: "scrape-cpu",
            about: "the same: processor time of all processes but the site",
            build: |setup| build(setup, View::Cpu, "s CPU", 1.0 / 15.0),
        },
    ]
}

/// Python takes ten seconds a run.
const ROUNDS: usize = 3;

/// Seconds of one run.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

/// Which of the two figures a row shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Wall,
    Cpu,
}

/// Runs that the first row has shown and the second has not: one run gives both figures.
type Left = RefCell<VecDeque<Cost>>;

thread_local! {
    static OURS: Left = RefCell::default();
    static PYTHONS: Left = RefCell::default();
}

impl View {
    fn of(
        self,
        left: &'static LocalKey<Left>,
        run: impl FnOnce() -> anyhow::Result<Cost>,
    ) -> anyhow::Result<f64> {
        match self {
            Self::Wall => {
                let cost = run()?;
                left.with_borrow_mut(|left| left.push_back(cost));
                Ok(cost.wall)
            }
            Self::Cpu => {
                left.with_borrow_mut(VecDeque::pop_front).map_or_else(run, Ok).map(|c| c.cpu)
            }
        }
    }
}

fn build(setup: &Setup, view: View, unit: &'static str, bar: f64) -> anyhow::Result<Contest> {
    let python = setup.python()?.context("needs --python")?;
    let python = python.shared();
    let site = Rc::new(SiteProcess::start(Path::new("/proc/self/exe"), Duration::ZERO)?);
    let theirs = Rc::clone(&site);
    Ok(Contest::new(unit, move || view.of(&OURS, || scrape(site.base_url())))
        .against("aiomultiprocess", Some(Bar::AtMost(bar)), move || {
            view.of(&PYTHONS, || {
                let figures = python.ask_all(&format!("scrape {}", theirs.base_url()))?;
                let [wall, cpu] = figures[..] else { anyhow::bail!("two figures") };
                Ok(Cost { wall, cpu })
            })
        })
        .rounds(ROUNDS)
        .cold())
}

/// `aiopool scrape` as a user starts it.
fn scrape(url: &str) -> anyhow::Result<Cost> {
    let out = std::env::temp_dir().join(format!("aiopool-bench-{}.csv", std::process::id()));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["scrape", "--json", "--base-url", url, "--out"]).arg(&out);
    let start = Instant::now();
    let output = command.output()?;
    let wall = start.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&out);
    let text = String::from_utf8_lossy(&output.stdout);
    let summary: serde_json::Value = serde_json::from_str(text.trim()).context("the summary")?;
    anyhow::ensure!(summary["books"] == 1000 && summary["failed"] == 0, "{summary}");
    let cpu = summary["cpu_seconds"].as_f64().context("cpu_seconds")?;
    Ok(Cost { wall, cpu })
}
