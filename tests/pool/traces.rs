//! Timelines: what is in the file, also of workers that died, and that it is one that Perfetto
//! opens.

use std::path::PathBuf;
use std::time::Duration;

use aiopool::{Pool, TaskOptions};
use aiopool_testing::chrome::{Timeline, validated};
use aiopool_testing::{Folder, in_time, until};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn yield_twice(x: u64) -> u64 {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
    x
}

/// Holds up its worker, once `began` exists, until `end` does.
async fn block((began, end): (String, String)) {
    std::fs::write(began, "").unwrap();
    while !std::fs::exists(&end).unwrap() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn fail(_: u64) -> Result<u64, String> {
    Err("no".to_owned())
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn block_for_ever(path: String) -> u64 {
    std::fs::write(path, "").unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

async fn die_at_first(path: String) -> u64 {
    if std::fs::exists(&path).unwrap() {
        return 1;
    }
    std::fs::write(path, "").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    std::process::abort()
}

fn kill_9(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

fn file(folder: &Folder, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn read(path: &PathBuf) -> Timeline {
    validated(&std::fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn every_poll_of_every_task_is_in_the_file() {
    let folder = Folder::new("trace");
    let pool = Pool::builder().processes(2).name("traced").build().unwrap();
    in_time(pool.map(double, 0..10)).await.unwrap();
    let path = file(&folder, "trace.json");
    let trace = pool.trace(&path).unwrap();
    in_time(pool.map(double, 0..500)).await.unwrap();
    in_time(pool.map(yield_twice, 0..4)).await.unwrap();
    in_time(pool.try_apply(fail, 1)).await.unwrap_err();
    assert!(!path.exists(), "a reader would find a part of it");
    trace.finish().unwrap();
    // What comes after is in no file.
    in_time(pool.map(double, 0..10)).await.unwrap();
    let timeline = read(&path);
    assert_eq!(timeline.about["pool"], "traced");
    assert_eq!(timeline.about["lost"], 0);
    let doubles = timeline.slices("double");
    assert_eq!(doubles.len(), 500);
    assert!(doubles.iter().all(|slice| slice.args["how"] == "ok"));
    let mut pids = pool.worker_pids();
    pids.sort_unstable();
    assert_eq!(timeline.workers(), pids);
    // A first poll, and one more after each time that a task gave way.
    let polls = timeline.slices("yield_twice");
    let pending = polls.iter().filter(|slice| slice.args["how"] == "pending").count();
    assert_eq!((polls.len(), pending), (12, 8), "{polls:?}");
    let waits = timeline.spans("waiting", "yield_twice");
    assert_eq!(waits.len(), 8);
    assert!(waits.iter().all(|span| span.dur >= 0.0), "{waits:?}");
    assert_eq!(timeline.spans("queued", "double").len(), 500);
    assert_eq!(timeline.spans("queued", "yield_twice").len(), 4, "once a task");
    assert_eq!(timeline.slices("fail")[0].args["how"], "failed");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a part is left behind");
}

#[tokio::test]
async fn what_a_killed_worker_was_doing_is_in_the_file() {
    let folder = Folder::new("trace-death");
    let pool = Pool::builder().processes(1).child_concurrency(4).build().unwrap();
    let path = file(&folder, "trace.json");
    let trace = pool.trace(&path).unwrap();
    let waiting = pool.apply(sleep_for_ever, 1);
    until(|| pool.stats().running == 1).await;
    let began = file(&folder, "began");
    let stuck = pool.apply(block_for_ever, began.to_str().unwrap().to_owned());
    until(|| began.exists()).await;
    let pid = pool.worker_pids()[0];
    kill_9(pid);
    in_time(stuck).await.unwrap_err();
    in_time(waiting).await.unwrap_err();
    assert_eq!(in_time(pool.apply(double, 4)).await.unwrap(), 8);
    trace.finish().unwrap();
    let timeline = read(&path);
    let stuck = &timeline.slices("block_for_ever")[0];
    assert_eq!((stuck.pid, stuck.args["how"].as_str()), (pid, Some("lost")));
    let [death] = &timeline.marks("death")[..] else { panic!("{:?}", timeline.marks("death")) };
    assert_eq!(death.pid, pid);
    // Until it died; the host learns of that by two ways, one of which may be late.
    assert!((stuck.ts + stuck.dur - death.ts).abs() < 60e6, "{stuck:?} {death:?}");
    let next = &timeline.slices("double")[0];
    assert_ne!(next.pid, pid);
    assert!(next.ts >= stuck.ts + stuck.dur);
    assert_eq!(timeline.slices("sleep_for_ever")[0].args["how"], "pending");
}

#[tokio::test]
async fn a_retry_and_a_cancelled_task_are_told() {
    let folder = Folder::new("trace-retry");
    let pool = Pool::builder().processes(1).build().unwrap();
    let path = file(&folder, "trace.json");
    let trace = pool.trace(&path).unwrap();
    let again = pool.with(TaskOptions::new().retries(2));
    let mark = file(&folder, "mark").to_str().unwrap().to_owned();
    in_time(again.apply(die_at_first, mark)).await.unwrap();
    // Long enough for a first poll, however busy the machine is.
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(500)));
    in_time(limited.apply(sleep_for_ever, 1)).await.unwrap_err();
    // The worker lets go of it before it takes the next one.
    in_time(pool.apply(double, 1)).await.unwrap();
    trace.finish().unwrap();
    let timeline = read(&path);
    let attempts: Vec<_> =
        timeline.slices("die_at_first").iter().map(|s| s.how().to_owned()).collect();
    assert_eq!(attempts, ["lost", "ok"]);
    assert_eq!(timeline.marks("retry").len(), 1);
    assert_eq!(timeline.marks("timeout").len(), 1);
    let dropped: Vec<_> =
        timeline.slices("sleep_for_ever").iter().map(|s| s.how().to_owned()).collect();
    assert_eq!(dropped, ["pending", "cancelled"]);
}

#[tokio::test]
async fn a_sampled_trace_has_each_nth_task_and_others_beside_it_have_theirs() {
    let folder = Folder::new("trace-sampled");
    let pool = Pool::builder().processes(2).queues(2).build().unwrap();
    let (few, all) = (file(&folder, "few.json"), file(&folder, "all.json"));
    let sampled = pool.trace_sampled(&few, 10).unwrap();
    in_time(pool.map(double, 0..300)).await.unwrap();
    let whole = pool.trace(&all).unwrap();
    in_time(pool.map(double, 0..300)).await.unwrap();
    // Dropped is finished, too.
    drop(whole);
    in_time(pool.map(double, 0..300)).await.unwrap();
    sampled.finish().unwrap();
    let sampled = read(&few);
    assert_eq!(sampled.about["every"], 10);
    assert_eq!(sampled.slices("double").len(), 90);
    assert!(sampled.slices("double").iter().all(|s| s.args["task"].as_u64().unwrap() % 10 == 0));
    assert_eq!(read(&all).slices("double").len(), 300);
}

#[tokio::test]
async fn a_poll_that_began_before_the_trace_is_in_it() {
    let folder = Folder::new("trace-before");
    let pool = Pool::builder().processes(1).build().unwrap();
    let [began, end] = ["began", "end"].map(|name| file(&folder, name));
    let names = [&began, &end].map(|path| path.to_str().unwrap().to_owned());
    let blocked = pool.apply(block, names.into());
    until(|| began.exists()).await;
    let path = file(&folder, "trace.json");
    pool.trace(&path).unwrap().finish().unwrap();
    let timeline = read(&path);
    assert_eq!(timeline.slices("block")[0].how(), "goes on", "{timeline:?}");
    std::fs::write(end, "").unwrap();
    in_time(blocked).await.unwrap();
}

#[tokio::test]
async fn a_trace_outlives_its_pool_and_a_region_that_is_replaced() {
    let folder = Folder::new("trace-end");
    let pool = Pool::builder().processes(2).build().unwrap();
    let path = file(&folder, "trace.json");
    let trace = pool.trace(&path).unwrap();
    in_time(pool.map(double, 0..100)).await.unwrap();
    drop(pool);
    trace.finish().unwrap();
    assert_eq!(read(&path).slices("double").len(), 100);
    let pool = Pool::builder().processes(1).build().unwrap();
    let refused = pool.trace(file(&folder, "no/such/folder.json")).unwrap_err();
    assert!(refused.to_string().contains("no/such/folder.json"), "{refused}");
}
