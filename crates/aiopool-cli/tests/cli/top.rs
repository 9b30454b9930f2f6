//! `aiopool ps` and `aiopool top`: a pool of this process, seen from another one.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiopool::view::State;
use aiopool::{Pool, TaskOptions};
use serde_json::Value;

use crate::rig::{WATCHDOG, aiopool, run, signal, wait, wait_until};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn fail(_: u64) -> Result<u64, String> {
    Err("no".to_owned())
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

/// A pool that has done this and that.
fn busy_pool(name: &str) -> Pool {
    let pool = Pool::builder().name(name).processes(2).build().unwrap();
    assert_eq!(pool.map(double, 0..100).into_blocking_iter().count(), 100);
    pool.try_apply(fail, 1).wait().unwrap_err();
    pool.apply(die, 1).wait().unwrap_err();
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(10)));
    limited.apply(sleep_for_ever, 1).wait().unwrap_err();
    wait_until("both workers are back", || pool.stats().workers == 2 && pool.stats().deaths == 1);
    pool
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn pools_are_listed_with_their_hosts() {
    let pool = busy_pool("cli-ps");
    let own = std::process::id();
    let is_ours = |entry: &&Value| entry["name"] == "cli-ps" && entry["host_pid"] == own;
    let list = json(&run(&mut aiopool(["ps", "--json"])).stdout);
    let ours = list.as_array().unwrap().iter().find(is_ours).unwrap_or_else(|| panic!("{list}"));
    assert_eq!((&ours["processes"], &ours["deaths"]), (&2.into(), &1.into()), "{ours}");
    assert!(ours["program"].as_str().unwrap().starts_with("cli"), "{ours}");
    let table = run(&mut aiopool(["ps"])).stdout;
    let line = table.lines().find(|line| line.contains("cli-ps")).unwrap();
    assert!(line.starts_with(&own.to_string()) && line.contains("open"), "{table}");
    drop(pool);
    assert!(!run(&mut aiopool(["ps"])).stdout.contains("cli-ps"));
}

#[test]
fn one_object_has_everything_that_the_pool_shows() {
    let pool = busy_pool("cli-json");
    let held: Vec<_> = (0..3).map(|i| pool.apply(sleep_for_ever, i)).collect();
    wait_until("all run", || pool.stats().running == 3);
    // Once its tasks have been polled, a worker goes to sleep; one of the two may have them all.
    wait_until("the workers wait", || {
        let workers = pool.snapshot().workers;
        workers.iter().all(|worker| matches!(worker.state, State::Waiting | State::Idle))
    });
    let seen = run(&mut aiopool(["top", "cli-json", "--once", "--json"]));
    assert_eq!(seen.code(), Some(0), "{}", seen.stderr);
    let top = json(&seen.stdout);
    let keys: Vec<&str> = top.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["events", "functions", "pool", "queues", "workers"]);
    let stats = pool.stats();
    for (name, number) in [
        ("submitted", stats.submitted),
        ("ok", stats.ok),
        ("failed", stats.failed),
        ("worker_lost", stats.worker_lost),
        ("timed_out", stats.timed_out),
        ("deaths", stats.deaths),
        ("running", stats.running),
        ("workers", stats.workers),
    ] {
        assert_eq!(top["pool"][name], number, "{name}: {top}");
    }
    let of = |name: &str| {
        let mut functions = top["functions"].as_array().unwrap().iter();
        functions.find(|f| f["name"].as_str().unwrap().ends_with(name)).unwrap().clone()
    };
    assert_eq!((&of("double")["count"], &of("fail")["failed"]), (&100.into(), &1.into()));
    assert!(of("double")["ran"]["p99_ns"].as_u64() >= of("double")["ran"]["p50_ns"].as_u64());
    let in_flight = |worker: &Value| worker["in_flight"].as_u64().unwrap();
    assert_eq!(top["workers"].as_array().unwrap().iter().map(in_flight).sum::<u64>(), 3);
    assert!(top["workers"][0]["cpu_percent"].is_number(), "{top}");
    let kinds: Vec<&str> =
        top["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"death") && kinds.contains(&"timeout"), "{kinds:?}");
    let text = run(&mut aiopool(["top", "cli-json", "--once"])).stdout;
    for part in ["cli-json", "1:workers (2)", "3:functions (", "double", "death", "waiting"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    // Its host's process id names it, too, where it is the only one of the host.
    drop(held);
}

#[test]
fn a_pool_that_is_not_there_is_an_error_that_says_what_to_do() {
    let none = run(&mut aiopool(["top", "nobody-has-this-name", "--once"]));
    assert_eq!(none.code(), Some(1));
    assert!(none.stderr.contains("aiopool ps"), "{}", none.stderr);
    let pool = busy_pool("cli-pipe");
    let piped = run(&mut aiopool(["top", "cli-pipe"]));
    assert_eq!(piped.code(), Some(1));
    assert!(piped.stderr.contains("--once"), "{}", piped.stderr);
    let wrong = run(&mut aiopool(["top", "cli-pipe", "--interval", "0"]));
    assert_eq!(wrong.code(), Some(2));
    drop(pool);
}

/// `aiopool top` on a terminal of its own, and what stands on that.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    pub fn open(pool: &str, size: (u16, u16)) -> Self {
        Self::after(":", pool, size)
    }

    /// Runs `top` after a command of the shell.
    fn after(command: &str, pool: &str, (rows, columns): (u16, u16)) -> Self {
        let program = env!("CARGO_BIN_EXE_aiopool");
        let line = format!(
            "stty rows {rows} cols {columns}; {command}; exec {program} top {pool} --interval 0.1"
        );
        let mut script = Command::new("script");
        script.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm-256color");
        script.env("SHELL", "/bin/sh").env_remove("NO_COLOR");
        let mut child =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux");
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let size = |cells| std::num::NonZero::new(cells).unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0)));
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (to_screen, to_bytes) = (Arc::clone(&screen), Arc::clone(&bytes));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                to_screen.lock().unwrap().process(&buffer[..read]);
                to_bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keys, screen, bytes, reader: Some(reader) }
    }

    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    pub fn wait_for(&self, part: &str) {
        let started = std::time::Instant::now();
        while !self.text().contains(part) {
            assert!(
                started.elapsed() < WATCHDOG,
                "{part:?} is not on the screen:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The screen as HTML, with its colours.
    pub fn html(&self) -> String {
        let colour = |colour| match colour {
            vt100::Color::Idx(1) => "#f14c4c",
            vt100::Color::Idx(2) => "#23d18b",
            vt100::Color::Idx(3) => "#e5e510",
            vt100::Color::Idx(6) => "#29b8db",
            vt100::Color::Idx(8) => "#8a8a8a",
            _ => "inherit",
        };
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let mut html = String::new();
        for row in 0..rows.get() {
            let mut last = String::new();
            for cell in (0..columns.get()).filter_map(|column| screen.cell(row, column)) {
                let (mut front, mut back) = (colour(cell.fgcolor()), colour(cell.bgcolor()));
                if cell.inverse() {
                    let plain = front == "inherit";
                    (front, back) = ("#1e1e1e", if plain { "#d4d4d4" } else { front });
                }
                let mut style = format!("color:{front}");
                if back != "inherit" {
                    style += &format!(";background:{back}");
                }
                if cell.bold() {
                    style += ";font-weight:bold";
                }
                if cell.dim() {
                    style += ";opacity:.6";
                }
                if style != last {
                    html += if last.is_empty() { "" } else { "</span>" };
                    html += &format!("<span style=\"{style}\">");
                    last = style;
                }
                match cell.contents() {
                    "" => html.push(' '),
                    text => html += &text.replace('&', "&amp;").replace('<', "&lt;"),
                }
            }
            html += "</span>\n";
        }
        html
    }

    /// Waits for the end, and checks that the terminal is as it was.
    fn ended(mut self) -> Option<i32> {
        let status = wait(&mut self.child);
        self.reader.take().unwrap().join().unwrap();
        let bytes = self.bytes.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("\u{1b}[?1049h"), "the screen was never another one");
        for back in ["\u{1b}[?1049l", "\u{1b}[?25h"] {
            assert!(text.contains(back), "{back:?} was not written: {text:?}");
        }
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The program's terminal goes with `script`, and the program ends.
        if let Ok(None) = self.child.try_wait() {
            signal("KILL", self.child.id());
            let _ = self.child.wait();
        }
    }
}

#[test]
fn the_screen_shows_the_pool_and_obeys_its_keys() {
    let pool = busy_pool("cli-screen");
    let held: Vec<_> = (0..2).map(|i| pool.apply(sleep_for_ever, i)).collect();
    let mut top = Terminal::open("cli-screen", (24, 80));
    top.wait_for("cli-screen");
    top.wait_for("1:workers (2)");
    top.wait_for("waiting");
    // A screen comes in pieces, so that its upper part may be there alone.
    for part in ["100 ok", "1 failed", "1 deaths", "2 of 2 workers", "q quit"] {
        top.wait_for(part);
    }
    assert!(top.text().lines().count() <= 24);
    top.press("3");
    top.wait_for("3:functions (4)");
    top.press("/doub\r");
    top.wait_for("3:functions (1)");
    top.press("\u{1b}");
    top.wait_for("3:functions (4)");
    top.press("ss");
    top.wait_for("by rate");
    top.press("4");
    top.wait_for("poison task");
    top.press("1\r");
    top.wait_for("in flight, ");
    top.press("\u{1b}");
    top.wait_for("1:workers (2)");
    top.press("p");
    top.wait_for("PAUSED");
    top.press("p");
    // What happens now is seen now.
    pool.apply(die, 2).wait().unwrap_err();
    top.wait_for("2 deaths");
    top.press("q");
    assert_eq!(top.ended(), Some(0));
    drop(held);
}

#[test]
fn a_wide_screen_has_every_table_and_a_signal_restores_it() {
    let pool = busy_pool("cli-wide");
    let top = Terminal::open("cli-wide", (50, 160));
    for part in ["1:workers (2)", "2:queues (1)", "3:functions (4)", "4:events ("] {
        top.wait_for(part);
    }
    let script = top.child.id();
    let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
    let child: u32 = children.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(signal("TERM", child));
    assert_eq!(top.ended(), Some(0));
    drop(pool);
}

#[test]
fn a_terminal_that_goes_away_ends_it() {
    let pool = busy_pool("cli-gone");
    // Also where the signal that says so is ignored, as under `nohup`.
    for command in [":", "trap '' HUP"] {
        let mut top = Terminal::after(command, "cli-gone", (24, 80));
        top.wait_for("1:workers (2)");
        let script = top.child.id();
        let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
        let child: u32 = children.unwrap().split_whitespace().next().unwrap().parse().unwrap();
        assert!(signal("KILL", script));
        wait(&mut top.child);
        wait_until("it has ended", || !crate::family::runs(child));
    }
    drop(pool);
}

#[test]
fn the_end_of_the_pool_is_said_on_the_screen() {
    let pool = busy_pool("cli-end");
    let mut top = Terminal::open("cli-end", (24, 80));
    top.wait_for("1:workers (2)");
    drop(pool);
    top.wait_for("no pool");
    top.press("q");
    assert_eq!(top.ended(), Some(0));
}
