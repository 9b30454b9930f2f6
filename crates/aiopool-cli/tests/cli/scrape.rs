//! The contract of the command line: output, files, exit status.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::family;
use crate::rig::{Run, aiopool, run, scratch, signal, signal_all, wait, wait_until, watch};
use aiopool_scrape::Book;
use aiopool_scrape::site::Shop;

/// Every engine must behave the same.
const ENGINES: [&str; 2] = ["pool", "single"];

/// Rows of a CSV file after checking its header.
fn rows(path: &Path) -> Vec<Book> {
    let mut rows = csv::Reader::from_path(path).unwrap();
    assert_eq!(rows.headers().unwrap(), vec!["title", "price", "description"]);
    rows.deserialize().collect::<Result<_, _>>().unwrap()
}

fn scrape(engine: &str, pages: &str, out: &Path) -> Command {
    let mut command = aiopool(["scrape", "--engine", engine, "--pages", pages, "--out"]);
    command.arg(out);
    command
}

#[test]
fn scrape_writes_all_books_in_list_order() {
    for engine in ENGINES {
        let out = scratch("all.csv");
        let run = run(scrape(engine, "50", &out).args(["--processes", "3", "--json"]));
        assert_eq!(run.code(), Some(0), "{}", run.stderr);
        assert_eq!(run.stderr, "", "no progress bars where there is no terminal");
        assert!(rows(&out).iter().eq(Shop::new().books(50)), "all books, as the site has them");

        let summary: serde_json::Value = serde_json::from_str(run.last_line()).unwrap();
        assert_eq!(run.stdout.lines().count(), 1);
        let keys: Vec<_> = summary.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = vec![
            "books",
            "pages",
            "failed",
            "seconds",
            "cpu_seconds",
            "engine",
            "processes",
            "worker_deaths",
            "retries",
        ];
        wanted.sort();
        assert_eq!(keys, wanted);
        assert_eq!(summary["books"], 1_000);
        assert_eq!(summary["pages"], 50);
        assert_eq!(summary["failed"], 0);
        assert_eq!(summary["engine"], engine);
        assert_eq!(summary["processes"], if engine == "pool" { 3 } else { 1 });
        assert_eq!(summary["worker_deaths"], 0);
        assert_eq!(summary["retries"], 0);
        assert!(summary["seconds"].as_f64().unwrap() > 0.0);
        assert!(summary["cpu_seconds"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn the_pool_is_the_default_engine() {
    let mut command = aiopool(["scrape", "--pages", "1", "--json", "--out"]);
    let run = run(command.arg(scratch("default.csv")));
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    let summary: serde_json::Value = serde_json::from_str(run.last_line()).unwrap();
    assert_eq!((&summary["engine"], &summary["books"]), (&"pool".into(), &20.into()));
}

#[test]
fn scrape_pipelined_writes_the_same_file() {
    for engine in ENGINES {
        let (plain, pipelined) = (scratch("plain.csv"), scratch("pipelined.csv"));
        assert_eq!(run(&mut scrape(engine, "4", &plain)).code(), Some(0));
        assert_eq!(run(scrape(engine, "4", &pipelined).arg("--pipelined")).code(), Some(0));
        assert_eq!(rows(&plain).len(), 80);
        assert_eq!(fs::read(plain).unwrap(), fs::read(pipelined).unwrap());
    }
}

#[test]
fn scrape_ends_with_a_summary_for_people() {
    for (engine, who) in [("single", "in one process"), ("pool", "with 2 workers")] {
        let mut command = scrape(engine, "1", &scratch("summary.csv"));
        let run = run(command.args(["--latency-ms", "5", "--processes", "2"]));
        assert_eq!(run.code(), Some(0), "{}", run.stderr);
        let last = run.last_line();
        assert!(last.starts_with("20 books from 1 pages, 0 failed, in "), "{last}");
        assert!(last.contains(who), "{last}");
        assert!(last.contains("CPU"), "{last}");
    }
}

#[test]
fn wrong_usage_is_status_2_and_says_what() {
    let cases: [(&[&str], &str); 23] = [
        (&[], "Usage"),
        (&["fly"], "fly"),
        (&["scrape", "--no-such-flag"], "--no-such-flag"),
        (&["scrape", "--engine", "warp"], "single"),
        (&["scrape", "--pages", "0"], "0 is not in 1.."),
        (&["scrape", "--pages", "-1"], "-1"),
        (&["scrape", "--pages", "many"], "many"),
        (&["scrape", "--pages", "51"], "1 to 50"),
        (&["scrape", "--processes", "0"], "0 is not in 1.."),
        (&["scrape", "--processes", "-2"], "-2"),
        (&["scrape", "--processes", "70000"], "1 to 65536"),
        (&["scrape", "--queues", "0"], "0 is not in 1.."),
        (&["scrape", "--processes", "2", "--queues", "3"], "queue count must be <= process count"),
        (&["scrape", "--max-tasks-per-child", "few"], "few"),
        (&["scrape", "--retries", "-1"], "-1"),
        (&["scrape", "--child-concurrency", "0"], "0 is not in 1.."),
        (&["scrape", "--child-concurrency", "-3"], "-3"),
        (&["scrape", "--timeout-ms", "0"], "0 is not in 1.."),
        (&["scrape", "--base-url", "ftp://shop.test/"], "must begin with http:// or https://"),
        (&["scrape", "--base-url", "shop"], "bad address"),
        (&["scrape", "--base-url", "http://shop.test/", "--latency-ms", "1"], "--latency-ms"),
        (&["site", "--port", "65536"], "65536"),
        (&["site", "--latency-ms", "soon"], "soon"),
    ];
    for (args, wanted) in cases {
        let run = run(aiopool([]).args(args));
        assert_eq!(run.code(), Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(wanted), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn help_and_version_are_status_0() {
    for args in [["--help"], ["--version"]] {
        let run = run(&mut aiopool(args));
        assert_eq!(run.code(), Some(0));
        assert!(run.stdout.contains("aiopool"), "{}", run.stdout);
    }
}

#[test]
fn wrong_usage_leaves_a_file_that_is_there() {
    let out = scratch("kept.csv");
    fs::write(&out, "mine").unwrap();
    let run = run(scrape("pool", "1", &out).args(["--processes", "1", "--queues", "2"]));
    assert_eq!(run.code(), Some(2), "{}", run.stderr);
    assert_eq!(fs::read_to_string(out).unwrap(), "mine");
}

#[test]
fn output_that_cannot_be_written_is_status_1_and_named() {
    for engine in ENGINES {
        for out in ["/no/such/folder/books.csv", "/dev/full", env!("CARGO_TARGET_TMPDIR")] {
            let run = run(&mut scrape(engine, "1", Path::new(out)));
            assert_eq!(run.code(), Some(1), "{out}");
            assert!(run.stderr.contains(&format!("cannot write {out}")), "{}", run.stderr);
        }
    }
}

#[test]
fn progress_bars_are_for_terminals() {
    for engine in ENGINES {
        let out = scratch("terminal.csv");
        let binary = env!("CARGO_BIN_EXE_aiopool");
        // `script` gives a command a terminal of its own.
        let scrape = format!(
            "stty cols 80; '{binary}' scrape --engine {engine} --pages 2 --out '{}'",
            out.display()
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &scrape, "/dev/null"]);
        let run = run(script.env("TERM", "xterm").stdin(Stdio::null()));
        assert_eq!(run.code(), Some(0), "{}", run.stdout);
        for bar in ["lists", "2/2", "details", "40/40"] {
            assert!(run.stdout.contains(bar), "no {bar}: {:?}", run.stdout);
        }
        let last = run.last_line();
        assert!(last.contains("40 books from 2 pages, 0 failed, in "), "{last:?}");
        assert_eq!(rows(&out).len(), 40);
    }
}

#[test]
fn what_is_logged_stands_above_the_bars() {
    let out = scratch("logged-above.csv");
    let binary = env!("CARGO_BIN_EXE_aiopool");
    // More workers than one, so that they log while bars are drawn.
    let scrape = format!(
        "stty rows 200 cols 200; '{binary}' scrape --pages 2 --processes 3 --latency-ms 20 \
         --out '{}'",
        out.display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &scrape, "/dev/null"]);
    script.env("TERM", "xterm").env("RUST_LOG", "reqwest=debug").stdin(Stdio::null());
    let run = run(&mut script);
    assert_eq!(run.code(), Some(0), "{}", run.stdout);
    let size = NonZero::new(200).unwrap();
    let mut screen = vt100::Parser::new(size, size, 0);
    screen.process(run.stdout.as_bytes());
    // Row by row: bars are as wide as the screen, which continues them in the next row.
    let lines: Vec<String> = screen.screen().rows(0, size.get()).collect();
    let screen = lines.join("\n");
    let logged: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].contains("DEBUG")).collect();
    assert!(logged.len() >= 3, "{screen}");
    for &at in &logged {
        assert!(lines[at].starts_with("20") && lines[at].contains("worker"), "{screen}");
    }
    let bars = |name: &str| (0..lines.len()).filter(|&at| lines[at].starts_with(name)).collect();
    let (lists, details): (Vec<usize>, Vec<usize>) = (bars("lists"), bars("details"));
    assert_eq!((lists.len(), details.len()), (1, 1), "{screen}");
    assert!(logged.iter().all(|&at| at < lists[0]), "{screen}");
}

#[test]
fn a_reader_that_goes_away_is_success() {
    let mut child = scrape("single", "1", &scratch("unread.csv"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = wait(&mut child);
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn site_prints_its_url_first_and_ends_well_at_ctrl_c() {
    let mut site = aiopool(["site", "--latency-ms", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(site.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");

    let out = scratch("other-site.csv");
    let run = run(scrape("single", "2", &out).args(["--base-url", url.trim()]));
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    assert!(rows(&out).iter().eq(Shop::new().books(2)));

    assert!(signal("INT", site.id()));
    assert_eq!(wait(&mut site).code(), Some(0));
}

#[test]
fn site_on_a_taken_port_is_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = run(&mut aiopool(["site", "--port", &port]));
    assert_eq!(run.code(), Some(1));
    assert!(run.stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", run.stderr);
}

#[test]
fn scrape_killed_with_sigkill_leaves_nothing() {
    for engine in ENGINES {
        let mut scrape = scrape(engine, "50", &scratch("killed.csv"))
            .args(["--processes", "3", "--latency-ms", "600000"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = scrape.id();
        let workers = if engine == "pool" { 3 } else { 0 };
        let connected = || {
            // The pages that are asked for never come, so the connections stand.
            let fds = fs::read_dir(format!("/proc/{}/fd", *family::workers(pid).first()?)).ok()?;
            let targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            Some(targets.filter(|to| to.to_string_lossy().starts_with("socket:")).count() >= 16)
        };
        wait_until("the site and the workers run", || {
            family::children(pid).len() == 1 + workers.min(1)
                && family::workers(pid).len() == workers
                && (workers == 0 || connected() == Some(true))
        });
        let family = family::descendants(pid);
        assert_eq!(family.len(), 1 + workers.min(1) + workers, "site, zygote, workers");
        let regions: BTreeSet<_> =
            family.iter().chain([&pid]).flat_map(|&pid| family::regions(pid)).collect();
        assert_eq!(regions.len(), if engine == "pool" { 5 } else { 0 }, "{regions:?}");
        scrape.kill().unwrap();
        scrape.wait().unwrap();
        wait_until("all processes are gone", || !family.iter().any(|&pid| family::runs(pid)));
        wait_until("the memory is gone", || !family::anybody_maps(&regions));
    }
}

#[test]
fn scrape_interrupted_by_a_signal_keeps_what_is_in() {
    let both = |name| ENGINES.into_iter().map(move |engine| (engine, name));
    for (engine, name) in ["INT", "TERM", "HUP"].into_iter().flat_map(both) {
        let out = scratch("interrupted.csv");
        let mut scrape = scrape(engine, "50", &out)
            .args(["--pipelined", "--processes", "1", "--child-concurrency", "1"])
            .args(["--latency-ms", "100"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = scrape.id();
        wait_until("the scrape handles SIGINT", || handles_interrupts(pid));
        let family = family::descendants(pid);
        if name == "INT" {
            assert!(signal(name, pid));
        } else {
            // As a service manager does: to every process, the built-in site included.
            assert!(signal_all(name, &[&family[..], &[pid]].concat()));
        }
        let status = wait(&mut scrape);
        let output = scrape.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&format!("interrupted by SIG{name}")), "{stderr}");
        let books = rows(&out);
        assert!(books.len() < 1_000);
        assert!(books.iter().eq(Shop::new().books(50).take(books.len())));
        let last = String::from_utf8(output.stdout).unwrap();
        assert!(last.starts_with(&format!("{} books", books.len())), "{last}");
        assert!(!family.is_empty());
        assert!(!family.iter().any(|&pid| family::runs(pid)), "nobody outlives an orderly end");
    }
}

#[test]
fn a_scrape_without_nodes_says_so() {
    let server = aiopool_nats::Server::start();
    let mut command = aiopool(["scrape", "--nats", &server.url(), "--pages", "1", "--json"]);
    let command = command.arg("--out").arg(scratch("without.csv"));
    let mut scrape = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    let mut stderr = BufReader::new(scrape.stderr.take().unwrap());
    stderr.read_line(&mut told).unwrap();
    assert!(told.contains("no node of this build") && told.contains("aiopool nodes"), "{told}");
    // It goes on when there is one.
    let mut node = aiopool(["node", "--nats", &server.url(), "--processes", "1"]);
    let mut node = node.stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(wait(&mut scrape).code(), Some(0));
    signal("TERM", node.id());
    wait(&mut node);
}

#[test]
fn a_second_ctrl_c_ends_the_scrape_at_once() {
    // Two seconds after the first one the scrape ends by itself: a slow machine gets another try.
    wait_until("the second one is in time", || {
        let run = interrupted_twice();
        assert_eq!(run.code(), Some(1));
        let on_the_spot = run.stdout.is_empty() && run.stderr.is_empty();
        let by_itself = run.last_line().contains("books") && run.stderr.contains("interrupted by");
        assert!(on_the_spot || by_itself, "{}\n{}", run.stdout, run.stderr);
        on_the_spot
    });
}

/// Interrupts a scrape, and once more where workers that hang keep it from its end.
fn interrupted_twice() -> Run {
    let mut scrape = scrape("pool", "50", &scratch("twice.csv"))
        .args(["--processes", "2", "--latency-ms", "600000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = scrape.id();
    wait_until("the scrape handles SIGINT", || handles_interrupts(pid));
    // For two seconds of grace.
    assert!(signal_all("STOP", &family::workers(pid)));
    let family = family::descendants(pid);
    assert_eq!(family.len(), 4, "site, zygote, workers");
    assert!(signal("INT", pid));
    let heard = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut names = tasks.filter_map(|it| fs::read_to_string(it.path().join("comm")).ok());
        names.any(|name| name.trim() == "ctrl-c")
    };
    wait_until("the first one is heard", || heard() || scrape.try_wait().unwrap().is_some());
    // The thread blocks the default action as soon as there is one; it listens a little later.
    wait_until("it ends", || {
        signal("INT", pid);
        scrape.try_wait().unwrap().is_some()
    });
    let run = watch(scrape);
    wait_until("all processes are gone", || !family.iter().any(|&pid| family::runs(pid)));
    run
}

fn handles_interrupts(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
    // SIGHUP, SIGINT and SIGTERM, which are not handled from the same moment on.
    let all = [1, 2, 15].iter().fold(0, |all, signal| all | 1 << (signal - 1));
    u64::from_str_radix(caught, 16).unwrap() & all == all
}
