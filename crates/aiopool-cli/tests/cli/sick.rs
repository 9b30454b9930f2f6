//! The four sick pools of `docs/why-is-it-slow.md`, as `aiopool top` shows them on a terminal.
//!
//! With `AIOPOOL_PICTURES=DIR` each screen is left there as a text, and one as a picture.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aiopool::{Pool, Task, TaskOptions};

use crate::browser::Browser;
use crate::rig::wait_until;
use crate::top::Terminal;

const SIZE: (u16, u16) = (24, 80);

/// Where screens are left, if anywhere.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("AIOPOOL_PICTURES").map(PathBuf::from)
}

/// Leaves the screen as a text, without what is empty at its end.
fn keep(name: &str, top: &Terminal) {
    if let Some(folder) = pictures() {
        let text = top.text();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        std::fs::write(folder.join(name).with_extension("txt"), lines.join("\n") + "\n").unwrap();
    }
}

/// The lines of the screen that contain `part`.
fn lines_with(top: &Terminal, part: &str) -> Vec<String> {
    top.text().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

async fn parse(seconds: u64) -> u64 {
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while std::time::Instant::now() < end {
        rounds = std::hint::black_box(rounds + 1);
    }
    rounds
}

async fn fetch(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

#[test]
fn a_task_that_blocks_is_in_the_row_of_its_worker() {
    let pool = Pool::builder().name("sick-blocked").processes(2).grace(Duration::from_millis(100));
    let pool = pool.build().unwrap();
    let blocks = pool.apply(parse, 3600);
    let rest: Vec<Task<u64>> = (0..20).map(|_| pool.apply(fetch, 3_600_000)).collect();
    let top = Terminal::open("sick-blocked", SIZE);
    top.wait_for("blocked");
    // One worker is blocked by that task and computes; the other one waits for its timers.
    wait_until("the screen shows both", || {
        let blocked = lines_with(&top, "blocked");
        let named = blocked.iter().any(|line| line.contains("parse"));
        named && lines_with(&top, "waiting").iter().any(|line| line.contains("fetch"))
    });
    keep("sick-blocked", &top);
    if let Some(folder) = pictures()
        && let Some(mut browser) = Browser::start("top-picture")
    {
        browser.open("about:blank");
        picture_of(&top, &mut browser, &folder.join("top.png"));
    }
    drop((blocks, rest, pool));
}

/// Draws the screen with its colours in a browser, and leaves a picture of it.
fn picture_of(top: &Terminal, browser: &mut Browser, path: &Path) {
    let (rows, columns) = SIZE;
    let html = top.html();
    assert!(html.contains(":#f14c4c"), "what is bad is not red: {html}");
    browser.size(u32::from(columns) * 9 + 16, u32::from(rows) * 18 + 16);
    browser.value(&format!(
        "document.body.innerHTML = {}; document.body.style = \
         'margin:8px;background:#1e1e1e;color:#d4d4d4;font:15px/18px DejaVu Sans Mono,monospace'; \
         true",
        serde_json::to_string(&format!("<pre style=\"margin:0;font:inherit\">{html}</pre>"))
            .unwrap()
    ));
    browser.picture(path);
}

async fn uneven(task: u64) -> u64 {
    // The pool gives its queues the tasks in turn: every other one is long.
    fetch(if task.is_multiple_of(2) { 3_600_000 } else { 1 }).await
}

#[test]
fn a_skewed_load_has_one_deep_queue_and_an_idle_worker() {
    let pool = Pool::builder().name("sick-skewed").processes(2).queues(2).child_concurrency(1);
    let pool = pool.grace(Duration::from_millis(100)).build().unwrap();
    let tasks: Vec<Task<u64>> = (0..200).map(|task| pool.apply(uneven, task)).collect();
    wait_until("the short ones are over", || pool.stats().pending == 100);
    let mut top = Terminal::open("sick-skewed", SIZE);
    top.wait_for("idle");
    keep("sick-skewed-workers", &top);
    top.press("2");
    top.wait_for("2:queues (2)");
    wait_until("one queue is deep and the other empty", || {
        let text = top.text();
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Its number, its depth, its pending tasks.
        let is_queue = |row: &Vec<&str>| row.len() > 6 && row[0].parse::<u32>().is_ok();
        let rows: Vec<Vec<&str>> = rows.filter(is_queue).collect();
        let has = |depth: &str, pending: &str| {
            rows.iter().any(|row| row[1] == depth && row[2] == pending)
        };
        has("99", "100") && has("0", "0")
    });
    keep("sick-skewed", &top);
    drop((tasks, pool));
}

async fn hold(input: Vec<u8>) -> usize {
    fetch(3_600_000).await;
    input.len()
}

#[test]
fn a_full_arena_is_red_while_there_are_records() {
    let pool = Pool::builder().name("sick-arena").processes(1).max_payload(1 << 20);
    let pool = pool.input_arena(4 << 20).grace(Duration::from_millis(100)).build().unwrap();
    let mut tasks = Vec::new();
    while let Ok(task) = pool.submit_now(hold, &vec![7; 65_000]) {
        tasks.push(task);
    }
    assert!(tasks.len() > 40, "{} tasks", tasks.len());
    let top = Terminal::open("sick-arena", SIZE);
    // The terminal ends within "records free". A screen comes in pieces.
    wait_until("the inputs are red", || {
        let red = "<span style=\"color:#f14c4c;font-weight:bold\">inputs ";
        top.html().contains(red) && lines_with(&top, "inputs ")[0].contains(", 40")
    });
    keep("sick-arena", &top);
    drop((tasks, pool));
}

async fn decode(task: u64) -> u64 {
    if task == 7 {
        std::process::abort();
    }
    task
}

#[test]
fn a_crash_loop_names_the_task_that_was_given_up() {
    let pool = Pool::builder().name("sick-crashing").processes(2).child_concurrency(1);
    let pool = pool.build().unwrap();
    let patient = pool.with(TaskOptions::new().retries(2));
    let mut poisoned = patient.apply(decode, 7);
    for _ in 0..3 {
        let others = pool.map(decode, (8..40).collect::<Vec<_>>());
        assert_eq!(others.into_blocking_iter().filter(Result::is_ok).count(), 32);
        poisoned.wait().unwrap_err();
        poisoned = patient.apply(decode, 7);
    }
    poisoned.wait().unwrap_err();
    let mut top = Terminal::open("sick-crashing", SIZE);
    // Three attempts of four tasks.
    for part in ["12 deaths", "4 lost", "8 retries"] {
        top.wait_for(part);
    }
    keep("sick-crashing-workers", &top);
    top.press("4");
    top.wait_for("poison task");
    top.wait_for("was killed by signal 6");
    keep("sick-crashing", &top);
    drop(pool);
}
