//! Large inputs and values, and streams that are full.

use std::sync::Barrier;
use std::time::Duration;

use aiopool::{TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError, Error, observe};
use aiopool_nats::{NEWEST, OLDEST, Server, Version};
use serde_json::json;

use crate::verbs::double;
use crate::{LEASE, Process, SHORT, Test, WATCHDOG, connect, in_time, leased, nothing_is_left};

pub const TESTS: &[Test] = &[
    ("large_inputs_and_values_travel_whole", large_inputs_and_values_travel_whole),
    ("large_errors_travel_whole", large_errors_travel_whole),
    ("a_server_that_takes_little_takes_all_of_it", a_server_that_takes_little_takes_all_of_it),
    ("a_full_stream_is_no_deadlock", a_full_stream_is_no_deadlock),
    ("what_waits_for_a_full_stream_ends_in_time", what_waits_for_a_full_stream_ends_in_time),
    ("an_operator_takes_a_streams_limit_away", an_operator_takes_a_streams_limit_away),
    ("several_submitters_fill_no_stream_for_good", several_submitters_fill_no_stream_for_good),
];

/// Turns bytes round.
async fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

async fn zeros(len: u64) -> Vec<u8> {
    vec![0; len as usize]
}

fn large_inputs_and_values_travel_whole() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        for len in [64 << 10, 65 << 10, 900_000, 5_000_000] {
            let bytes: Vec<u8> = (0..len).map(|i: u32| (i % 251) as u8).collect();
            let mut back = cluster.apply(reversed, bytes.clone()).await.unwrap();
            back.reverse();
            assert!(back == bytes, "{len} bytes came back as others");
        }
        let error = cluster.apply(reversed, vec![0; (64 << 20) + 1]).await.unwrap_err();
        assert!(
            matches!(error, ClusterError::Ended(Error::InvalidOption { name: "input", .. })),
            "{error:?}"
        );
        let error = cluster.apply(zeros, (64 << 20) + 1).await.unwrap_err();
        assert!(error.to_string().contains("67108864 are allowed"), "{error}");
        // A piece that is lost is an error, and neither another value nor a wait without end.
        let client = async_nats::connect(server.url()).await.unwrap();
        let waiting = Cluster::builder(server.url()).pool("lost").lease(LEASE).connect().await;
        let waiting = waiting.unwrap();
        let task = waiting.apply(reversed, vec![7; 1 << 20]);
        // Until all four pieces and the task itself are there.
        while aiopool_cluster::observe(server.url(), "lost").await.unwrap().messages == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let purge = "$JS.API.STREAM.PURGE.AIOPOOL_lost_BLOBS";
        client.request(purge, "".into()).await.unwrap();
        let node = aiopool_cluster::Node::builder(server.url()).pool("lost").processes(1);
        let served = node.run_until(std::future::pending());
        let error = tokio::select! {
            result = task => result.unwrap_err(),
            ended = served => panic!("{ended:?}"),
        };
        assert!(error.to_string().contains("missing"), "{error}");
    });
    assert!(cluster.drain_blocking(WATCHDOG));
    drop(cluster);
    nothing_is_left(&server, "nothing is left");
}

async fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

/// Fails with a text of this length, which ends with the attempt.
async fn explains(len: u64) -> Result<u64, String> {
    let attempt = aiopool::TaskContext::current().map_or(0, |task| task.attempt());
    Err(format!("{}{attempt}", "x".repeat(len as usize)))
}

/// The text counts, and the attempts that may follow it.
fn large_errors_travel_whole() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let text = |error: ClusterError| match error {
        ClusterError::Task(TaskError::Failed(failure)) => failure.message().to_owned(),
        other => panic!("{:.300}", other.to_string()),
    };
    in_time(async {
        for len in [70_000, 3_000_000] {
            let again = TaskOptions::new().retries(1).retry_on_error(true);
            let error = text(cluster.with(again).try_apply(explains, len).await.unwrap_err());
            assert!(error.len() as u64 == len + 1 && error.ends_with("x2"), "{len}");
            let asked = TaskOptions::new().retries(3);
            let asked = asked.retry_if(|error| error.to_string().ends_with("x1"));
            let error = text(cluster.with(asked).try_apply(explains, len).await.unwrap_err());
            assert!(error.ends_with("x2"), "the predicate has seen the first one");
        }
    });
    assert!(cluster.drain_blocking(WATCHDOG));
    nothing_is_left(&server, "nothing is left");
}

/// Whatever goes into one message, the server takes it.
fn a_server_that_takes_little_takes_all_of_it() {
    let server = Server::with(NEWEST, true, "max_payload: 4KB\n");
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        // Short runs, so that items would go together.
        cluster.map(length, vec![vec![1; 10]; 300]).await.unwrap();
        let lengths = cluster.map(length, vec![vec![1; 1000]; 300]).await.unwrap();
        assert!(lengths.iter().all(|&length| length == 1000));
        assert_eq!(cluster.apply(zeros, 100_000).await.unwrap().len(), 100_000);
        let error = cluster.try_apply(explains, 30_000).await.unwrap_err();
        assert!(error.to_string().contains("xx1"), "{error}");
    });
}

/// A server whose stream of the pool `t` takes a megabyte.
fn small(version: Version) -> Server {
    limited(version, 1 << 20)
}

/// A server whose stream of the pool `t` takes `max_bytes`.
fn limited(version: Version, max_bytes: u64) -> Server {
    let server = Server::of(version);
    ask_for_stream(&server, "CREATE", max_bytes as i64);
    server
}

/// Makes or updates the stream of the pool `t`; -1 bytes are no limit.
fn ask_for_stream(server: &Server, what: &str, max_bytes: i64) {
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let config = json!({
            "name": "AIOPOOL_t", "subjects": ["aiopool.t.q.>", "aiopool.t.w.>"],
            "retention": "limits", "storage": "file", "discard": "new",
            "max_msgs_per_subject": 1, "max_bytes": max_bytes, "num_replicas": 1,
        });
        let subject = format!("$JS.API.STREAM.{what}.AIOPOOL_t");
        let answer = client.request(subject, config.to_string().into()).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{answer:?}");
    });
}

fn a_full_stream_is_no_deadlock() {
    for version in [NEWEST, OLDEST] {
        let server = small(version);
        let _nodes = [Process::node(server.url()), Process::node(server.url())];
        // A renewal of the lease says what may be purged: the shorter it is, the more often.
        let cluster = leased(&server, 2 * SHORT);
        in_time(async {
            // Four megabytes of inputs, and as many of values.
            let items = (0..100).map(|i: u8| vec![i; 40_000]);
            let back = cluster.map(reversed, items).window(100).await.unwrap();
            assert!(back.iter().enumerate().all(|(i, bytes)| bytes[..] == [i as u8; 40_000]));
            // Values that are larger than what is left.
            let back = cluster.map(zeros, vec![60_000; 60]).window(60).await.unwrap();
            assert!(back.iter().all(|bytes| bytes.len() == 60_000));
            assert_eq!(cluster.apply(double, 4).await.unwrap(), 8);
        });
    }
}

/// No node makes room here.
fn what_waits_for_a_full_stream_ends_in_time() {
    let server = small(NEWEST);
    let cluster = connect(&server);
    let first: Vec<_> = (0..40).map(|i: u8| cluster.apply(reversed, vec![i; 40_000])).collect();
    in_time(async {
        let soon = TaskOptions::new().queue_ttl(Duration::from_millis(300));
        let late = cluster.with(soon).apply(reversed, vec![1; 40_000]).await.unwrap_err();
        let is_late =
            matches!(late, ClusterError::Task(TaskError::TimedOut { started: false, .. }));
        assert!(is_late, "{late:?}");
        let mut off = cluster.apply(reversed, vec![2; 40_000]);
        off.cancel();
        let error = off.await.unwrap_err();
        assert!(matches!(error, ClusterError::Task(TaskError::Cancelled)), "{error:?}");
    });
    let _node = Process::node(server.url());
    in_time(async {
        for (i, task) in first.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), vec![i as u8; 40_000]);
        }
    });
}

/// While tasks wait for room: what is held back then has no other way out.
fn an_operator_takes_a_streams_limit_away() {
    let server = small(NEWEST);
    let cluster = connect(&server);
    let first: Vec<_> = (0..60).map(|i: u8| cluster.apply(reversed, vec![i; 40_000])).collect();
    let are_sent = |messages: u64| {
        in_time(async {
            while observe(server.url(), "t").await.unwrap().messages < messages {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    };
    are_sent(4);
    ask_for_stream(&server, "UPDATE", -1);
    are_sent(60);
    let _node = Process::node(server.url());
    in_time(async {
        for (i, task) in first.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), vec![i as u8; 40_000]);
        }
    });
}

/// They begin at the same moment, and none knows of the others: what is left has to take claims.
fn several_submitters_fill_no_stream_for_good() {
    let server = limited(NEWEST, 4 << 20);
    let submitters: Vec<_> = (0..6).map(|_| connect(&server)).collect();
    let start = Barrier::new(submitters.len());
    let submit = |cluster: &Cluster| {
        start.wait();
        let submit = |i: u32| cluster.apply(reversed, vec![i as u8; 1000]);
        (0..600).map(submit).collect::<Vec<_>>()
    };
    let tasks: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            submitters.iter().map(|cluster| scope.spawn(|| submit(cluster))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // More than the stream takes wants to go in; it is as full as it gets by then.
    std::thread::sleep(Duration::from_secs(2));
    let _node = Process::node(server.url());
    in_time(async {
        for task in tasks {
            assert_eq!(task.await.unwrap().len(), 1000);
        }
    });
}
