//! Submitters that are killed: what they leave, and durable jobs that others resume.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, ClusterError, Error};
use aiopool_nats::Server;

use crate::book::{Book, note, size, ticks, work};
use crate::verbs::double;
use crate::{LEASE, Process, Test, connect, in_time, until};

pub const TESTS: &[Test] = &[
    ("a_killed_submitter_leaves_nothing", a_killed_submitter_leaves_nothing),
    ("a_durable_job_is_resumed", a_durable_job_is_resumed),
    ("a_durable_job_has_one_holder_and_its_items", a_durable_job_has_one_holder_and_its_items),
];

/// Items of the durable job.
const ITEMS: u64 = 1500;

/// The other process: it submits what its environment says, until it is killed.
pub fn submitter(url: &str) -> ExitCode {
    let book = std::env::var("AIOPOOL_TEST_BOOK").unwrap();
    let cluster = Cluster::builder(url).pool("t").lease(LEASE).connect_blocking().unwrap();
    in_time(async {
        if let Ok(what) = std::env::var("AIOPOOL_TEST_ONE") {
            let options = TaskOptions::new().retries(1).retry_on_error(true);
            let _ = match what.as_str() {
                "fails" => cluster.with(options).try_apply(starts_and_fails, book).await,
                _ => cluster.with(options).apply(work, (book, 1, 60_000)).await,
            };
            return;
        }
        let Ok(list) = std::env::var("AIOPOOL_TEST_LIST") else {
            let _one = cluster.apply(ticks, book.clone());
            cluster.map(work, (0..20).map(|n| (format!("{book}.2"), n, 60_000))).results().await;
            return;
        };
        let job = cluster.job("nightly").await.unwrap();
        let mut results = job.map(work, (0..ITEMS).map(|n| (book.clone(), n, 1)));
        while let Some(result) = results.next().await {
            add(Path::new(&list), result.unwrap());
        }
    });
    ExitCode::SUCCESS
}

/// Starts, and fails.
async fn starts_and_fails(book: String) -> Result<u64, String> {
    let id = format!("{}-{}", std::process::id(), aiopool::remote::boottime_ns());
    note(&book, 1, "start", &id);
    Err("as it is to".to_owned())
}

fn add(list: &Path, n: u64) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
    file.write_all(format!("{n}\n").as_bytes()).unwrap();
}

fn a_killed_submitter_leaves_nothing() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let book = Book::new("orphan");
    let second = Book::new("orphan.2");
    let path = book.text();
    let other = Process::start(&[
        ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
        ("AIOPOOL_TEST_BOOK", path.as_str()),
    ]);
    until("it starts", || size(&book.0) > 0);
    other.signal("KILL");
    until("its job is ended", || {
        let left = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
        left.jobs.is_empty() && left.messages == 0
    });
    let mut before = 0;
    until("its code is stopped", || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, size(&book.0)) == size(&book.0)
    });
    drop(second);
    let cluster = connect(&server);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
}

fn a_durable_job_is_resumed() {
    let server = Server::start();
    let _nodes = [Process::node(server.url()), Process::node(server.url())];
    let (book, list) = (Book::new("durable"), Book::new("durable-list"));
    let (path, taken) = (book.text(), list.text());
    for part in [300, 900] {
        let other = Process::start(&[
            ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
            ("AIOPOOL_TEST_BOOK", path.as_str()),
            ("AIOPOOL_TEST_LIST", taken.as_str()),
        ]);
        until("some are taken", || lines(&list).len() > part);
        other.signal("KILL");
    }
    resumed(&server, &book, &list);
}

/// The outcomes that were taken.
pub fn lines(list: &Book) -> Vec<u64> {
    let text = fs::read_to_string(&list.0).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// The job is resumed and goes through; each item ran once and was taken.
pub fn resumed(server: &Server, book: &Book, list: &Book) {
    let cluster = connect(server);
    in_time(async {
        let job = cluster.job("nightly").await.unwrap();
        let skipped = job.taken();
        assert!(skipped <= lines(list).len() as u64);
        let mut results = job.map(work, (0..ITEMS).map(|n| (book.text(), n, 1)));
        let mut next = skipped;
        while let Some(result) = results.next().await {
            assert_eq!(result.unwrap(), next);
            add(&list.0, next);
            next += 1;
        }
        assert_eq!(next, ITEMS);
        drop(results);
        job.finish().await;
    });
    let mut all = lines(list);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..ITEMS).collect::<Vec<u64>>());
    let attempts = book.attempts();
    assert_eq!(attempts.len(), ITEMS as usize);
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "something ran twice");
    drop(cluster);
    until("nothing is left", || {
        let left = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
        left.jobs.is_empty() && left.messages == 0
    });
}

fn a_durable_job_has_one_holder_and_its_items() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        let job = cluster.job("once").await.unwrap();
        assert_eq!(job.taken(), 0);
        let first = job.map(double, [1, 2, 3]).await.unwrap();
        assert_eq!(first, [2, 4, 6]);
        let error = cluster.job("once").await.unwrap_err();
        assert!(matches!(error, Error::JobHeld { .. }), "{error:?}");
        let error = aiopool_cluster::end_job(server.url(), "t", "once").await.unwrap_err();
        assert!(matches!(error, Error::JobHeld { .. }), "{error:?}");
        drop(job);
        // Left: its outcomes are there, and were not taken.
        let job = cluster.job("once").await.unwrap();
        assert_eq!(job.taken(), 0);
        let again = job.map(double, [1, 5, 3]).results().await;
        assert!(matches!(again[1], Err(ClusterError::ItemsChanged { n: 1 })), "{again:?}");
        assert_eq!((again[0].as_ref().unwrap(), again[2].as_ref().unwrap()), (&2, &6));
        drop(job);
        let seen = aiopool_cluster::observe(server.url(), "t").await.unwrap();
        let seen = seen.jobs.iter().find(|job| job.job == "once").unwrap();
        assert!(seen.durable && !seen.held, "{seen:?}");
        assert!(aiopool_cluster::end_job(server.url(), "t", "once").await.unwrap());
        assert!(!aiopool_cluster::end_job(server.url(), "t", "once").await.unwrap());
        for wrong in ["", "a.b", "*", &"x".repeat(31)] {
            let error = cluster.job(wrong).await.unwrap_err();
            assert!(matches!(error, Error::InvalidOption { name: "job", .. }), "{error:?}");
        }
    });
}
