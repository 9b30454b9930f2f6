//! Links that delay, are slow, and let nothing through for a while, in one direction or both.

use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, ClusterError};
use aiopool_nats::{Proxy, Server};

use crate::book::{Book, long_at_first, work};
use crate::verbs::double;
use crate::{LEASE, Process, SHORT, Test, connect, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("a_node_cut_off_is_followed", || a_node_cut_off_is_followed(true, true)),
    ("a_node_that_is_not_heard_is_followed", || a_node_cut_off_is_followed(true, false)),
    ("a_node_that_hears_nothing_is_followed", || a_node_cut_off_is_followed(false, true)),
    ("a_short_cut_costs_nothing", a_short_cut_costs_nothing),
    ("a_submitter_cut_off_loses_its_job", a_submitter_cut_off_loses_its_job),
    ("a_call_after_the_loss_says_why", a_call_after_the_loss_says_why),
    ("a_long_way_and_a_slow_one", a_long_way_and_a_slow_one),
];

/// A node behind a link that is cut for longer than its lease: its task is done elsewhere, never
/// twice at once, and it serves again when the link is healed.
fn a_node_cut_off_is_followed(up: bool, down: bool) {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let cluster = connect(&server);
    let first = Process::mortal(proxy.url());
    let book = Book::new(&format!("cut-{up}-{down}"));
    let again = cluster.with(TaskOptions::new().retries(1));
    let task = again.apply(long_at_first, (book.text(), 1, 600_000));
    until("it starts", || book.starts() == 1);
    proxy.cut(up, down);
    let second = Process::node(server.url());
    in_time(async { assert_eq!(task.await.unwrap(), 1) });
    let attempts = book.attempts()[&1].clone();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].1, None, "the first attempt ran on: {attempts:?}");
    proxy.heal();
    drop(second);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
    assert_eq!(book.starts(), 2, "what was held back starts nothing");
    drop(first);
}

/// Shorter than the lease: whatever was on its way arrives late, and nothing is lost or doubled.
fn a_short_cut_costs_nothing() {
    let server = Server::start();
    let (to_node, to_submitter) = (Proxy::before(&server), Proxy::before(&server));
    let _node = Process::node(to_node.url());
    let cluster = Cluster::builder(to_submitter.url()).pool("t").lease(LEASE);
    let cluster = cluster.connect_blocking().unwrap();
    let book = Book::new("short");
    in_time(async {
        let items = (0..300).map(|n| (book.text(), n, 10));
        let run = cluster.map(work, items).window(32).results();
        let cutter = async {
            let cuts = [(&to_node, true, true), (&to_node, true, false), (&to_node, false, true)];
            let more = [(&to_submitter, true, true), (&to_submitter, false, true)];
            for (i, (proxy, up, down)) in cuts.into_iter().chain(more).enumerate() {
                while book.starts() < 50 * (i + 1) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                proxy.cut(up, down);
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                proxy.heal();
            }
        };
        let (results, ()) = tokio::join!(run, cutter);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
    });
    assert!(book.attempts().values().all(|attempts| attempts.len() == 1));
}

/// For longer than its job's lease: it learns that, and a node ends the job and its code.
fn a_submitter_cut_off_loses_its_job() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let _nodes = [Process::node(server.url()), Process::janitor(server.url())];
    let cluster = Cluster::builder(proxy.url()).pool("t").lease(SHORT).connect_blocking().unwrap();
    let book = Book::new("cut-submitter");
    let task = cluster.apply(work, (book.text(), 1, 600_000));
    until("it starts", || book.starts() == 1);
    proxy.cut(true, true);
    let error = in_time(task).unwrap_err();
    assert!(matches!(error, ClusterError::Ended(_)), "{error:?}");
    nothing_is_left(&server, "the node ends the job");
    proxy.heal();
    let late = in_time(cluster.apply(double, 1)).unwrap_err();
    assert!(late.to_string().len() > 10, "{late}");
    let other = connect(&server);
    in_time(async { assert_eq!(other.apply(double, 1).await.unwrap(), 2) });
    assert_eq!(book.starts(), 1);
}

fn a_call_after_the_loss_says_why() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let cluster = Cluster::builder(proxy.url()).pool("t").lease(SHORT).connect_blocking().unwrap();
    let task = cluster.apply(double, 1);
    proxy.cut(true, true);
    let why = in_time(task).unwrap_err().to_string();
    assert!(why.contains("its lease ran out"), "{why}");
    let refused = |error: ClusterError| assert_eq!(error.to_string(), why);
    refused(cluster.apply(double, 2).submitted_now().unwrap_err());
    refused(in_time(cluster.map(double, 0..9).into_future()).unwrap_err());
    refused(cluster.apply_named("named", "").wait().unwrap_err());
    assert_eq!(cluster.ready_blocking().unwrap_err().to_string(), why);
    assert_eq!(cluster.stats().outstanding, 0);
}

fn a_long_way_and_a_slow_one() {
    let server = Server::start();
    let (to_node, to_submitter) = (Proxy::before(&server), Proxy::before(&server));
    for proxy in [&to_node, &to_submitter] {
        proxy.delay(Duration::from_millis(200));
    }
    let _node = Process::node(to_node.url());
    let cluster = Cluster::builder(to_submitter.url()).pool("t").lease(LEASE);
    let cluster = cluster.connect_blocking().unwrap();
    let book = Book::new("long-way");
    in_time(async {
        let items = (0..100).map(|n| (book.text(), n, 5));
        for (n, result) in cluster.map(work, items).results().await.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
    });
    assert!(book.attempts().values().all(|attempts| attempts.len() == 1));
    // Half a megabyte each way at a quarter of one a second; the leases are renewed beside it.
    for proxy in [&to_node, &to_submitter] {
        proxy.delay(Duration::ZERO);
    }
    for proxy in [&to_node, &to_submitter] {
        proxy.rate(256 * 1024);
    }
    let large = vec![7_u8; 1 << 19];
    in_time(async { assert_eq!(cluster.apply(same, large.clone()).await.unwrap(), large) });
}

async fn same(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}
