//! `aiopool trace`, and `AIOPOOL_TRACE` of a program that was not built for it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiopool::Pool;
use aiopool_scrape::site::SiteProcess;
use aiopool_testing::Folder;
use aiopool_testing::chrome::validated;

use crate::rig::{aiopool, run};

async fn double(x: u64) -> u64 {
    x * 2
}

#[test]
fn a_pool_that_runs_is_recorded_for_some_time() {
    let folder = Folder::new("cli-trace");
    let pool = Pool::builder().name("cli-trace").processes(2).build().unwrap();
    let (path, over) = (folder.path().join("out.json"), AtomicBool::new(false));
    let (all, sampled) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(pool.map(double, 0..20).into_blocking_iter().count(), 20);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // A busy machine may do nothing of it for some tenths of a second.
        let mut command = aiopool(["trace", "cli-trace", "--seconds", "2", "-o"]);
        let all = run(command.arg(&path));
        let mut command = aiopool(["trace", "cli-trace", "--seconds", "2", "--every", "5"]);
        let sampled = run(command.args(["-o", "-"]));
        over.store(true, Ordering::Relaxed);
        (all, sampled)
    });
    assert_eq!(all.code(), Some(0), "{}", all.stderr);
    assert!(all.stdout.contains("polls of cli-trace"), "{}", all.stdout);
    assert!(all.last_line().contains("ui.perfetto.dev"), "{}", all.stdout);
    let timeline = validated(&fs::read_to_string(&path).unwrap());
    assert_eq!(timeline.about["host_pid"], std::process::id());
    assert!(timeline.slices("double").len() >= 20, "{}", timeline.slices("double").len());
    let mut pids = pool.worker_pids();
    pids.sort_unstable();
    assert_eq!(timeline.workers(), pids);
    let timeline = validated(sampled.stdout.trim_end());
    let is_fifth = |task: &serde_json::Value| task.as_u64().unwrap().is_multiple_of(5);
    assert!(timeline.slices("double").iter().all(|slice| is_fifth(&slice.args["task"])));
    assert!(!timeline.slices("double").is_empty());
    let wrong = run(&mut aiopool(["trace", "cli-trace", "--seconds", "601"]));
    assert_eq!(wrong.code(), Some(2));
    let nobody = run(&mut aiopool(["trace", "no-such-pool"]));
    assert!(nobody.stderr.contains("no-such-pool"), "{}", nobody.stderr);
}

#[test]
fn a_program_is_recorded_by_its_environment_alone() {
    let folder = Folder::new("env-trace");
    let site =
        SiteProcess::start(Path::new(env!("CARGO_BIN_EXE_aiopool")), Duration::ZERO).unwrap();
    let mut command = aiopool(["scrape", "--json", "--processes", "2", "--pages", "5"]);
    command.args(["--base-url", site.base_url(), "--out"]).arg(folder.path().join("out.csv"));
    command.env("AIOPOOL_TRACE", folder.path().join("out-%p.json"));
    let scraped = run(&mut command);
    assert_eq!((scraped.code(), scraped.stderr.as_str()), (Some(0), ""));
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let traces: Vec<_> = files.filter(|path| path.extension().unwrap() == "json").collect();
    let [path] = &traces[..] else { panic!("{traces:?}") };
    let timeline = validated(&fs::read_to_string(path).unwrap());
    let pid = timeline.about["host_pid"].as_u64().unwrap();
    assert!(path.ends_with(format!("out-{pid}.json")), "{path:?}");
    assert_eq!(timeline.workers().len(), 2);
    assert!(timeline.about["entries"].as_u64().unwrap() >= 5, "{}", timeline.about);
    // A file that cannot be made costs the trace and nothing else.
    command.env("AIOPOOL_TRACE", folder.path().join("no/such/folder.json")).env_remove("RUST_LOG");
    let scraped = run(&mut command);
    assert_eq!(scraped.code(), Some(0));
    assert!(scraped.stderr.contains("the pool is not traced"), "{}", scraped.stderr);
}
