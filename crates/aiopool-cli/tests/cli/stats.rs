//! `aiopool stats`: what a running pool publishes, on a terminal and as JSON.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::rig::{aiopool, run, wait};
use aiopool::Pool;

async fn double(x: u64) -> u64 {
    x * 2
}

fn busy_pool(name: &str) -> Pool {
    let pool = Pool::builder().processes(2).stats_page(name).build().unwrap();
    let all: Vec<_> = pool.map(double, 0..100).into_blocking_iter().collect();
    assert_eq!(all.len(), 100);
    while aiopool::observe(name).unwrap().get("ok") != Some(100) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    pool
}

#[test]
fn numbers_are_printed_once_in_lines_and_in_json() {
    let name = format!("cli-{}", std::process::id());
    let pool = busy_pool(&name);
    let lines = run(&mut aiopool(["stats", &name]));
    assert_eq!(lines.code(), Some(0), "{}", lines.stderr);
    let has = |line: &str| lines.stdout.lines().any(|l| l.split_whitespace().eq(line.split(' ')));
    assert!(has("ok 100") && has("submitted 100") && has("workers 2"), "{}", lines.stdout);
    assert!(has(&format!("host_pid {}", std::process::id())), "{}", lines.stdout);
    let json = run(&mut aiopool(["stats", &name, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["ok"], &json["ran"]["count"]), (&100.into(), &100.into()), "{json}");
    drop(pool);
}

#[test]
fn a_watch_ends_with_the_pool() {
    let name = format!("cli-watch-{}", std::process::id());
    let pool = busy_pool(&name);
    let mut watch = aiopool(["stats", &name, "--json", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        let stats: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(stats["ok"], 100, "{line}");
    }
    drop(pool);
    assert!(lines.all(|line| line.unwrap().starts_with('{')));
    assert_eq!(wait(&mut watch).code(), Some(0));
}

#[test]
fn no_such_page_is_an_error_that_says_what_to_do() {
    let none = run(&mut aiopool(["stats", "nobody-has-this-name"]));
    assert_eq!(none.code(), Some(1));
    assert!(none.stderr.contains("stats_page(\"nobody-has-this-name\")"), "{}", none.stderr);
    assert_eq!(run(&mut aiopool(["stats"])).code(), Some(2));
}
