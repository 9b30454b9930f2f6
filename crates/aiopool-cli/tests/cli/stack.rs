//! `aiopool stack`: a worker that is stuck is asked where it is, and goes on.

use std::time::Duration;

use aiopool::Pool;
use aiopool::view::State;

use crate::rig::{aiopool, run, wait_until};

#[inline(never)]
fn wait_for_a_file(path: &str) {
    while !std::fs::exists(path).unwrap() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn stuck(path: String) -> u32 {
    wait_for_a_file(&path);
    std::process::id()
}

#[inline(never)]
fn compute(path: &str) -> u64 {
    let mut sum = 0_u64;
    loop {
        sum = (0..1 << 20).fold(sum, |sum, i| std::hint::black_box(sum ^ i));
        if std::fs::exists(path).unwrap() {
            return sum;
        }
    }
}

async fn computing(path: String) -> u64 {
    compute(&path)
}

#[test]
fn a_stuck_worker_says_where_it_is_and_goes_on() {
    let folder = aiopool_testing::Folder::new("cli-stack");
    let pool = Pool::builder().name("cli-stack").processes(2).child_concurrency(1).build().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let blocked = pool.apply(stuck, path("go"));
    let computes = pool.apply(computing, path("enough"));
    // For a tenth of a second, so that each is where it stays.
    wait_until("both are in a poll", || {
        pool.snapshot().workers.iter().all(|worker| worker.state == State::Blocked)
    });
    let mut all = String::new();
    for seat in ["0", "1"] {
        // More than once: each time it goes on as if nothing had been.
        for _ in 0..3 {
            let told = run(&mut aiopool(["stack", "cli-stack", seat, "--all"]));
            assert_eq!((told.code(), told.stderr.as_str()), (Some(0), ""));
            assert!(told.stdout.contains(&format!("worker {seat} (pid ")), "{}", told.stdout);
            assert!(!told.stdout.contains("cannot be followed"), "{}", told.stdout);
            all += &told.stdout;
        }
    }
    assert!(all.matches("wait_for_a_file").count() >= 3, "{all}");
    assert!(all.matches("stack::compute").count() >= 3, "{all}");
    // Down to the program's own beginning.
    assert!(all.contains("_start in ") && all.contains("cli/stack.rs:"), "{all}");
    assert!(all.contains("polls task"), "{all}");
    let short = ["0", "1"].map(|seat| run(&mut aiopool(["stack", "cli-stack", seat])).stdout);
    let short = short.join("");
    assert!(short.contains("wait_for_a_file") && short.contains("stack::compute"), "{short}");
    assert!(short.contains("--all shows them") && !short.contains("_start"), "{short}");
    std::fs::write(path("go"), "").unwrap();
    let pid = blocked.wait().unwrap();
    std::fs::write(path("enough"), "").unwrap();
    computes.wait().unwrap();
    assert_eq!(pool.stats().deaths, 0);
    // By its pid, too, and when it is idle.
    wait_until("it sleeps where it waits for tasks", || {
        let told = run(aiopool(["stack", "cli-stack"]).arg(pid.to_string()));
        assert_eq!(told.code(), Some(0), "{}", told.stderr);
        told.stdout.contains("epoll_wait")
    });
    assert_eq!(pool.apply(stuck, path("go")).wait().unwrap().cmp(&0), std::cmp::Ordering::Greater);
}

#[test]
fn who_is_meant_must_be_said() {
    let pool = Pool::builder().name("cli-whose-stack").processes(2).build().unwrap();
    let told = run(&mut aiopool(["stack", "cli-whose-stack"]));
    assert_eq!(told.code(), Some(1));
    assert!(told.stderr.contains("say which worker") && told.stderr.contains("worker 1 (pid"));
    let told = run(&mut aiopool(["stack", "cli-whose-stack", "7"]));
    assert!(told.stderr.contains("no worker 7"), "{}", told.stderr);
    drop(pool);
}
