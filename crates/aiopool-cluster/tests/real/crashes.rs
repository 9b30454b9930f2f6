//! A node and a submitter that die at each of the crash points that README.md numbers.

use std::collections::HashMap;

use aiopool::TaskOptions;
use aiopool_cluster::ClusterError;
use aiopool_nats::Server;

use crate::book::{Book, long_at_first};
use crate::jobs::{self, resumed};
use crate::verbs::double;
use crate::{BRIEFLY, Process, Test, WATCHDOG, connect, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("a_node_dies_at_n1", || node_dies_at("N1")),
    ("a_node_dies_at_n2", || node_dies_at("N2")),
    ("a_node_dies_at_n3", || node_dies_at("N3")),
    ("a_node_dies_at_n4", || node_dies_at("N4")),
    ("a_node_dies_at_n5", || node_dies_at("N5")),
    ("a_node_dies_at_n6", || node_dies_at("N6")),
    ("a_submitter_dies_at_s1", || submitter_dies_at("S1")),
    ("a_submitter_dies_at_s2", || submitter_dies_at("S2")),
    ("a_submitter_dies_at_s3", || submitter_dies_at("S3")),
    ("a_submitter_dies_at_s4", a_submitter_dies_at_s4),
];

/// A process that is to die at a point, and has to.
pub fn dies(mut process: Process) {
    use std::os::unix::process::ExitStatusExt;
    let status = process.end("it reaches the point");
    assert_eq!(status.signal(), Some(6), "it aborts there, and nowhere else");
}

fn node_dies_at(point: &str) {
    let server = Server::start();
    let cluster = connect(&server);
    let crashing = || {
        Process::start(&[
            ("AIOPOOL_TEST_NODE", server.url().as_str()),
            ("AIOPOOL_CLUSTER_CRASH", point),
            BRIEFLY,
        ])
    };
    // At N4 the code still runs.
    let ms = if point == "N4" { 600_000 } else { 100 };
    // With a retry the task is done, and no two attempts overlap.
    let book = Book::new(&format!("{point}-again"));
    let again =
        cluster.with(TaskOptions::new().retries(1)).apply(long_at_first, (book.text(), 1, ms));
    dies(crashing());
    let second = Process::node(server.url());
    assert_eq!(in_time(again).unwrap(), 1);
    let attempts: HashMap<u64, Vec<_>> = book.attempts();
    let starts = attempts[&1].len();
    match point {
        "N4" => assert_eq!(starts, 2, "{attempts:?}"),
        _ => assert_eq!(starts, 1, "{attempts:?}"),
    }
    if let [first, later] = &attempts[&1][..] {
        assert!(first.1.is_none_or(|end| end <= later.0), "they overlap: {attempts:?}");
    }
    // Without one it is lost or done, and started at most once.
    drop(second);
    let book = Book::new(&format!("{point}-once"));
    let once = cluster.apply(long_at_first, (book.text(), 1, ms));
    dies(crashing());
    let _third = Process::node(server.url());
    let result = in_time(once);
    let starts = book.starts();
    match (point, &result) {
        // Nobody knows it before the word is read: the claim, or the outcome, may be stored.
        ("N1" | "N2" | "N5" | "N6", Ok(1)) => assert_eq!(starts, 1),
        ("N2" | "N3", Err(ClusterError::NodeLost { attempt: 1, .. })) => assert_eq!(starts, 0),
        ("N4" | "N5", Err(ClusterError::NodeLost { attempt: 1, .. })) => assert_eq!(starts, 1),
        _ => panic!("{point}: {result:?}"),
    }
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
    assert!(cluster.drain_blocking(WATCHDOG));
    nothing_is_left(&server, "nothing is left on the server");
}

/// A submitter of one task dies; the nodes end its job, and the task runs at most once an attempt.
fn submitter_dies_at(point: &str) {
    let server = Server::start();
    let book = Book::new(point);
    let path = book.text();
    let node = Process::mortal(server.url());
    let _janitor = Process::janitor(server.url());
    let submitter = Process::start(&[
        ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
        ("AIOPOOL_TEST_BOOK", path.as_str()),
        ("AIOPOOL_TEST_ONE", if point == "S2" { "fails" } else { "works" }),
        ("AIOPOOL_CLUSTER_CRASH", point),
    ]);
    let mut other = None;
    if point == "S3" {
        until("it runs", || book.starts() == 1);
        node.signal("KILL");
        other = Some(Process::node(server.url()));
    }
    dies(submitter);
    nothing_is_left(&server, "nothing is left on the server");
    let attempts = book.attempts();
    let starts = attempts.get(&1).map_or(0, Vec::len);
    // The attempt that it sent just before may still be claimed.
    let most = if point == "S2" { 2 } else { 1 };
    assert!(starts <= most, "{attempts:?}");
    let cluster = connect(&server);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
    drop(other);
}

/// A chunk is marked as over in the job's key, and nobody has purged it: the next holder does.
fn a_submitter_dies_at_s4() {
    let server = Server::start();
    let _nodes = [Process::node(server.url()), Process::janitor(server.url())];
    let (book, list) = (Book::new("S4"), Book::new("S4-list"));
    let (path, taken) = (book.text(), list.text());
    dies(Process::start(&[
        ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
        ("AIOPOOL_TEST_BOOK", path.as_str()),
        ("AIOPOOL_TEST_LIST", taken.as_str()),
        ("AIOPOOL_CLUSTER_CRASH", "S4"),
        // It is to live until then.
        ("AIOPOOL_TEST_LEASE", "10"),
    ]));
    assert!(jobs::lines(&list).len() > 1_000, "a chunk was over");
    resumed(&server, &book, &list);
}
