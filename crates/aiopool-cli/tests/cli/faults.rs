//! Sites that fail: the scrape says so per page, writes the rest, and ends.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::faulty_site::{Answer, detail_page, list_page, start};
use crate::rig::{Run, aiopool, run, scratch};

/// Every engine must behave the same.
const ENGINES: [&str; 2] = ["pool", "single"];

fn scrape(engine: &str, base_url: &str, pages: &str, out: &Path) -> Command {
    let mut command = aiopool(["scrape", "--engine", engine, "--pages", pages]);
    command.args(["--base-url", base_url, "--out"]).arg(out);
    command
}

fn titles(out: &Path) -> Vec<String> {
    let mut rows = csv::Reader::from_path(out).unwrap();
    rows.records().map(|row| row.unwrap()[0].to_owned()).collect()
}

/// Checks that `run` failed and reported exactly the pages at `paths`, each with `reason`.
fn assert_failed(run: &Run, base_url: &str, paths: &[&str], reason: &str) {
    assert_eq!(run.code(), Some(1), "{}", run.stderr);
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.len(), paths.len(), "{}", run.stderr);
    for (line, path) in lines.iter().zip(paths) {
        assert!(line.contains(&format!("failed: {base_url}{path}: ")), "{line}");
        assert!(line.contains(reason), "{line}");
    }
    assert!(run.last_line().contains(&format!("{} failed", paths.len())), "{}", run.stdout);
}

const LISTS: [&str; 2] = ["catalogue/page-1.html", "catalogue/page-2.html"];

#[test]
fn site_that_is_down() {
    for engine in ENGINES {
        let out = scratch("down.csv");
        // A port that the kernel gives to nobody, as it might one that was free a moment ago.
        let base_url = "http://127.0.0.1:1/";
        let run = run(scrape(engine, base_url, "2", &out).args(["--fetch-retries", "1"]));
        assert_failed(&run, base_url, &LISTS, "Connection refused");
        assert_eq!(fs::read_to_string(out).unwrap(), "title,price,description\n");
    }
}

#[test]
fn site_that_answers_500() {
    for engine in ENGINES {
        let base_url = start(|_, _| Answer::Status("500 Internal Server Error"));
        let run = run(&mut scrape(engine, &base_url, "2", &scratch("500.csv")));
        assert_failed(&run, &base_url, &LISTS, "gave up after 4 tries");
        assert_failed(&run, &base_url, &LISTS, "500 Internal Server Error");
    }
}

#[test]
fn site_that_answers_404_is_not_asked_again() {
    for engine in ENGINES {
        let base_url = start(|_, count| match count {
            0 | 1 => Answer::Status("404 Not Found"),
            _ => Answer::Status("500 Internal Server Error"),
        });
        let run = run(&mut scrape(engine, &base_url, "2", &scratch("404.csv")));
        assert_failed(&run, &base_url, &LISTS, "404 Not Found");
    }
}

#[test]
fn site_that_sends_broken_html() {
    for engine in ENGINES {
        let base_url = start(|_, _| Answer::Page("<html><<body <div class=\"\u{1}>".into()));
        let run = run(&mut scrape(engine, &base_url, "2", &scratch("broken.csv")));
        assert_failed(&run, &base_url, &LISTS, "no book on the list page");
    }
}

#[test]
fn site_that_hangs() {
    for engine in ENGINES {
        let base_url = start(|_, _| Answer::Silence);
        let mut command = scrape(engine, &base_url, "2", &scratch("hangs.csv"));
        let run = run(command.args(["--timeout-ms", "200"]));
        assert_failed(&run, &base_url, &LISTS, "did not answer in time");
    }
}

#[test]
fn site_that_cuts_pages_off() {
    for engine in ENGINES {
        let base_url = start(|_, _| Answer::CutOff);
        let mut command = scrape(engine, &base_url, "2", &scratch("cut.csv"));
        let run = run(command.args(["--fetch-retries", "1"]));
        assert_failed(&run, &base_url, &LISTS, "gave up after 2 tries");
    }
}

#[test]
fn site_that_redirects_for_ever() {
    for engine in ENGINES {
        let base_url = start(|path, _| Answer::Redirect(format!("{path}x")));
        let run = run(&mut scrape(engine, &base_url, "2", &scratch("circle.csv")));
        assert_failed(&run, &base_url, &LISTS, "more than 20 redirects");
    }
}

#[test]
fn pages_that_fail_do_not_keep_the_others_from_being_written() {
    for engine in ENGINES {
        for order in [None, Some("--pipelined")] {
            let out = scratch("partly.csv");
            let base_url = start(|path, _| match path {
                "/catalogue/page-1.html" => list_page(&["a/i.html", "b/i.html", "c/i.html"]),
                "/catalogue/page-2.html" => Answer::Status("403 Forbidden"),
                "/catalogue/page-3.html" => list_page(&["d/i.html", "a/i.html"]),
                "/catalogue/b/i.html" => Answer::Page("<h1>not a book</h1>".into()),
                path => detail_page(path),
            });
            let run = run(scrape(engine, &base_url, "3", &out).args(order));
            assert_eq!(run.code(), Some(1));
            assert!(
                run.last_line().starts_with("4 books from 2 pages, 2 failed"),
                "{}",
                run.stdout
            );
            let wanted = |path, why| format!("failed: {base_url}catalogue/{path}: {why}");
            assert!(run.stderr.contains(&wanted("b/i.html", "no title")), "{}", run.stderr);
            assert!(run.stderr.contains(&wanted("page-2.html", "the site answered 403")));
            let paths = ["a", "c", "d", "a"].map(|name| format!("/catalogue/{name}/i.html"));
            assert_eq!(titles(&out), paths);
        }
    }
}

#[test]
fn trouble_that_passes_is_no_failure() {
    for engine in ENGINES {
        let out = scratch("passes.csv");
        // One page after the other, so that each kind of trouble meets a page twice.
        let base_url = start(|path, count| match (count, path) {
            (0, _) => Answer::Status("503 Service Unavailable"),
            (1, _) => Answer::HangUp,
            (2, _) => Answer::CutOff,
            (_, "/catalogue/page-1.html") => Answer::Redirect("/elsewhere/list.html".into()),
            (_, "/elsewhere/list.html") => list_page(&["b.html"]),
            (_, path) => detail_page(path),
        });
        let run = run(&mut scrape(engine, &base_url, "1", &out));
        assert_eq!(run.code(), Some(0), "{}", run.stderr);
        assert_eq!(titles(&out), ["/elsewhere/b.html"], "links start where the page came from");
    }
}
