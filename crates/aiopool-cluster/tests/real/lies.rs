//! What can be read and is not true: words of nobody, keys that were written over, numbers at their
//! limits.

use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{ClusterError, observe};
use aiopool_nats::Server;
use bytes::Bytes;
use serde::Serialize;

use crate::book::{Book, size, ticks};
use crate::verbs::double;
use crate::{Process, Test, connect, in_time, kill, until};

pub const TESTS: &[Test] = &[
    ("a_claim_of_no_node_ends_its_task", a_claim_of_no_node_ends_its_task),
    ("a_dead_nodes_key_may_be_written_over", a_dead_nodes_key_may_be_written_over),
    ("numbers_at_their_limits_are_shown", numbers_at_their_limits_are_shown),
    ("more_words_than_one_answer_lists_are_counted", more_words_than_one_answer_lists_are_counted),
];

// As they are on the wire; `src/wire.rs` has them.

#[derive(Clone, Copy, Serialize)]
struct Life {
    id: u128,
    created: u64,
}

#[derive(Serialize)]
enum Written<'t> {
    Claim {
        node: &'t str,
        life: Life,
        lease: u64,
        nonce: u64,
        attempt: u32,
        item: u128,
        room: &'t [u8],
    },
}

#[derive(Default, Serialize)]
struct NodeKey {
    key: ((u128, u64), u64, bool),
    lease: u64,
    host: String,
    pid: u32,
    build: String,
    processes: u32,
    places: u32,
    taken: u32,
    done: u64,
    failed: u64,
    lost: u64,
    pull_seconds: u64,
    draining: bool,
    lock: Option<()>,
}

fn encoded(value: &impl Serialize) -> Bytes {
    postcard::to_stdvec(value).unwrap().into()
}

async fn publish(server: &Server, messages: impl IntoIterator<Item = (String, Bytes)>) {
    let client = async_nats::connect(server.url()).await.unwrap();
    for (subject, payload) in messages {
        client.publish(subject, payload).await.unwrap();
    }
    client.flush().await.unwrap();
}

/// A submitter waits for nodes that die: one that cannot be, or for whose lease nobody could wait, is
/// none.
fn a_claim_of_no_node_ends_its_task() {
    let server = Server::start();
    let cluster = connect(&server);
    let six = 6_000_000_000;
    let lies = [("a b", six), ("*", six), ("", six), ("a.b", six), ("n", u64::MAX), ("n", 0)];
    let tasks = lies.map(|_| cluster.apply(double, 1));
    until("they are there", || in_time(observe(server.url(), "t")).unwrap().messages == 6);
    let job = in_time(observe(server.url(), "t")).unwrap().jobs.remove(0).job;
    let build: String = aiopool::remote::build().unwrap().chars().take(16).collect();
    let messages = lies.iter().enumerate().map(|(n, &(node, lease))| {
        let life = Life { id: 7, created: 1 };
        let (nonce, attempt, item, room) = (u64::MAX, 1, 0, &[0; 512][..]);
        let claim = Written::Claim { node, life, lease, nonce, attempt, item, room };
        let class = aiopool::remote::limits(&TaskOptions::new()).priority;
        (format!("aiopool.t.w.{class}.{build}.{job}.0.{n}"), encoded(&claim))
    });
    in_time(publish(&server, messages));
    // A word of another class is none of the task's.
    let task = cluster.with(TaskOptions::new().priority(0)).apply(double, 4);
    let life = Life { id: 8, created: 1 };
    let (nonce, attempt, item, room) = (1, 1, 0, &[0; 512][..]);
    let claim = Written::Claim { node: "n", life, lease: six, nonce, attempt, item, room };
    let subject = format!("aiopool.t.w.3.{build}.{job}.0.6");
    in_time(publish(&server, [(subject, encoded(&claim))]));
    let _node = Process::node(server.url());
    assert_eq!(in_time(task).unwrap(), 8);
    in_time(async {
        for (task, lie) in tasks.into_iter().zip(lies) {
            let error = task.await.unwrap_err();
            assert!(error.to_string().contains("cannot be read"), "{lie:?}: {error}");
        }
    });
}

/// No renewal is stored over what is no key, so a node whose key was written over is dead in the end.
fn a_dead_nodes_key_may_be_written_over() {
    let server = Server::start();
    let node = Process::named(server.url(), "n");
    let cluster = connect(&server);
    let book = Book::new("overwritten");
    let task = cluster.apply(ticks, book.text());
    until("it runs", || size(&book.0) > 0);
    kill(&node.0.id().to_string(), "KILL");
    let garbage = ("$KV.AIOPOOL_NODES.t.n".to_owned(), Bytes::from_static(b"\xff"));
    in_time(publish(&server, [garbage]));
    let error = in_time(task).unwrap_err();
    assert!(matches!(&error, ClusterError::NodeLost { node, .. } if node == "n"), "{error:?}");
}

fn numbers_at_their_limits_are_shown() {
    let server = Server::start();
    in_time(async {
        observe(server.url(), "t").await.unwrap();
        let key = NodeKey {
            key: ((1, u64::MAX), u64::MAX, true),
            lease: u64::MAX,
            pull_seconds: u64::MAX,
            ..NodeKey::default()
        };
        publish(&server, [("$KV.AIOPOOL_NODES.t.n".to_owned(), encoded(&key))]).await;
        let seen = observe(server.url(), "t").await.unwrap();
        assert_eq!(seen.nodes[0].pull_seconds, u64::MAX);
    });
}

/// The server lists 100,000 subjects at a time.
fn more_words_than_one_answer_lists_are_counted() {
    const WORDS: u64 = 100_100;
    let server = Server::start();
    in_time(async {
        observe(server.url(), "t").await.unwrap();
        let job = "0123456789abcdef0123456789abcdef";
        let word = |n: u64| (format!("aiopool.t.q.0.b.{job}.{}.{n}", n / 1024), Bytes::new());
        publish(&server, (0..WORDS).map(word)).await;
        let mut seen = observe(server.url(), "t").await.unwrap();
        // Without answers a publisher does not know when all are stored.
        let start = std::time::Instant::now();
        while seen.messages < WORDS && start.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            seen = observe(server.url(), "t").await.unwrap();
        }
        assert_eq!((seen.messages, seen.builds[0].queued), (WORDS, WORDS));
    });
}
