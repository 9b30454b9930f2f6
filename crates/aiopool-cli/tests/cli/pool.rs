//! The scrape in worker processes: every shape of pool, and workers that are killed meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::family;
use crate::rig::{aiopool, run, scratch, signal};
use aiopool_scrape::Book;
use aiopool_scrape::site::{Shop, SiteProcess};

/// Whether the file has a row for each book of the site's `pages`, in the site's order.
fn is_whole(path: &Path, pages: u32) -> bool {
    let mut rows = csv::Reader::from_path(path).unwrap();
    let rows: Vec<Book> = rows.deserialize().collect::<Result<_, _>>().unwrap();
    rows.iter().eq(Shop::new().books(pages))
}

fn scrape(site: &SiteProcess, pages: u32, options: &[&str]) -> PathBuf {
    let out = scratch(&format!("{}.csv", options.join("")));
    let mut command = aiopool(["scrape", "--json", "--base-url", site.base_url(), "--out"]);
    let run = run(command.arg(&out).args(["--pages", &pages.to_string()]).args(options));
    assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""), "{options:?}");
    out
}

#[test]
fn every_shape_of_pool_writes_what_one_process_writes() {
    let site =
        SiteProcess::start(Path::new(env!("CARGO_BIN_EXE_aiopool")), Duration::ZERO).unwrap();
    let wanted = fs::read(scrape(&site, 50, &["--engine", "single"])).unwrap();
    for processes in ["1", "2", "4", "8"] {
        for queues in ["1", "2", "4"].into_iter().filter(|queues| *queues <= processes) {
            let shape = ["--processes", processes, "--queues", queues];
            for order in [&[] as &[_], &["--pipelined"]] {
                let out = scrape(&site, 50, &[&shape, order].concat());
                assert!(fs::read(out).unwrap() == wanted, "{shape:?} {order:?}: another file");
            }
        }
    }
}

#[test]
fn workers_that_are_replaced_write_the_same_file() {
    let site =
        SiteProcess::start(Path::new(env!("CARGO_BIN_EXE_aiopool")), Duration::ZERO).unwrap();
    for tasks in ["1", "7"] {
        let options = ["--processes", "3", "--max-tasks-per-child", tasks];
        assert!(is_whole(&scrape(&site, 8, &options), 8), "{options:?}");
    }
}

#[test]
fn workers_killed_again_and_again_cost_no_book_and_double_none() {
    for order in [&[] as &[_], &["--pipelined"]] {
        let out = scratch("killed.csv");
        let mut command = aiopool(["scrape", "--json", "--latency-ms", "40", "--processes", "4"]);
        command.args(["--child-concurrency", "8", "--queues", "2", "--out"]).arg(&out).args(order);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let host = child.id();
        let watched = thread::spawn(move || crate::rig::watch(child));
        // As long as it runs, but not so often that a slow machine gets nothing done.
        let mut kills = 0;
        while !watched.is_finished() && kills < 80 {
            let workers = family::workers(host);
            // Another one each time, at another moment of its life.
            if let Some(&worker) = workers.get(kills % workers.len().max(1)) {
                kills += usize::from(signal("KILL", worker));
            }
            thread::sleep(Duration::from_millis(20 + 17 * (kills as u64 % 5)));
        }
        let run = watched.join().unwrap();
        assert_eq!(run.code(), Some(0), "{}", run.stderr);
        let summary: serde_json::Value = serde_json::from_str(run.last_line()).unwrap();
        assert_eq!((&summary["books"], &summary["failed"]), (&1_000.into(), &0.into()));
        assert!(is_whole(&out, 50), "each book once, in its place");
        let deaths = summary["worker_deaths"].as_u64().unwrap();
        assert!(deaths >= 5, "{kills} kills, {summary}");
        assert!(summary["retries"].as_u64().unwrap() > 0, "{kills} kills, {summary}");
    }
}
