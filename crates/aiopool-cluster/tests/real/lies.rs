//! What can be read and is not true: words of nobody, keys that were written over, numbers at their
//! limits.

use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{ClusterError, observe};
use aiopool_nats::Server;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::book::{Book, size, ticks};
use crate::jobs::ask;
use crate::verbs::double;
use crate::{BRIEFLY, Process, SHORT, Test, connect, in_time, kill, make, until};

pub const TESTS: &[Test] = &[
    ("a_claim_of_no_node_ends_its_task", a_claim_of_no_node_ends_its_task),
    ("a_claim_that_a_live_node_never_made", a_claim_that_a_live_node_never_made),
    ("an_unreadable_job_key_costs_its_own_job", an_unreadable_job_key_costs_its_own_job),
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

/// A submitter waits for nodes that live, too: a node that is asked gives back what it never claimed, and
/// a life that is none of its own was never there, or is over.
fn a_claim_that_a_live_node_never_made() {
    let server = Server::start();
    // Of another build: it takes none of the tasks by itself.
    let _other = Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_NAME", "n"),
        ("AIOPOOL_TEST_VERSION", "other"),
        // What its second renewal says of it is waited for.
        BRIEFLY,
    ]);
    let cluster = connect(&server);
    let submit = cluster.with(TaskOptions::new().retries(1));
    let mut tasks: Vec<_> = (0..4).map(|n| submit.apply(double, n)).collect();
    let mut key = Bytes::new();
    until("all are there", || {
        let seen = in_time(observe(server.url(), "t")).unwrap();
        seen.messages == 4 && seen.nodes.iter().any(|node| node.alive && node.places > 0)
    });
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let asked = json!({"last_by_subj": "$KV.AIOPOOL_NODES.t.n"});
        let stored = ask(&client, "STREAM.MSG.GET.KV_AIOPOOL_NODES", asked).await;
        key = BASE64.decode(stored["message"]["data"].as_str().unwrap()).unwrap().into();
    });
    let (((id, created), _, _), _): (((u128, u64), u64, bool), _) =
        postcard::take_from_bytes(&key).unwrap();
    assert!(created > 0, "the first renewal says it");
    let job = in_time(observe(server.url(), "t")).unwrap().jobs.remove(0).job;
    let build: String = aiopool::remote::build().unwrap().chars().take(16).collect();
    let class = aiopool::remote::limits(&TaskOptions::new()).priority;
    let lives = [(id, created), (7, created - 1), (7, created), (7, u64::MAX)];
    let lies = lives.into_iter().enumerate().map(|(n, (id, created))| {
        let life = Life { id, created };
        let (node, lease) = ("n", SHORT.as_nanos() as u64);
        let (nonce, attempt, item, room) = (1 << 40, 1, 0, &[0; 512][..]);
        let claim = Written::Claim { node, life, lease, nonce, attempt, item, room };
        (format!("aiopool.t.w.{class}.{build}.{job}.0.{n}"), encoded(&claim))
    });
    in_time(publish(&server, lies));
    let _node = Process::node(server.url());
    in_time(async {
        for (n, task) in tasks.drain(..).enumerate() {
            assert_eq!(task.await.unwrap(), 2 * n as u64);
        }
        let seen = observe(server.url(), "t").await.unwrap();
        let n = seen.nodes.iter().find(|node| node.name == "n").unwrap();
        assert!(n.alive, "nobody called the node dead: {n:?}");
    });
}

/// Nodes clean up for ever: what is of no job goes, whatever stands in the keys of others, and what may
/// be of the job of an unreadable key stays.
fn an_unreadable_job_key_costs_its_own_job() {
    #[derive(Serialize)]
    struct Queued<'t> {
        attempt: u32,
        job: &'t str,
        function: (u8, u64),
        timeout: Option<Duration>,
        again_after_timeout: bool,
        alone: bool,
        item: u128,
        group: bool,
        input: (u8, &'t [u8]),
    }
    let server = Server::start();
    let _nodes = [Process::node(server.url()), Process::janitor(server.url())];
    let queued = |job: u128, key: &str| {
        let job_is = format!("{job:032x}");
        let named = if key.is_empty() { &job_is } else { key };
        let (function, input) = ((0, 1), (0, &[][..]));
        let payload = encoded(&Queued {
            attempt: 1,
            job: named,
            function,
            timeout: None,
            again_after_timeout: false,
            alone: false,
            item: 0,
            group: false,
            input,
        });
        // No node has this build.
        (format!("aiopool.t.q.1.nobodys.{job_is}.0.0"), payload)
    };
    let key = |name: &str, bytes: &'static [u8]| {
        (format!("$KV.AIOPOOL_JOBS.t.{name}"), Bytes::from_static(bytes))
    };
    in_time(async {
        make(server.url()).await;
        let numbered = format!("{:032x}", 2);
        let all = [
            key("d-durable", b"\xff"),
            key("d-deleted", b""),
            key(&numbered, b"garbage"),
            key("no.key.at.all", b"\xff\xff"),
            queued(1, "d-durable"),
            queued(2, ""),
            queued(3, ""),
            queued(4, "d-deleted"),
        ];
        publish(&server, all).await;
        let client = async_nats::connect(server.url()).await.unwrap();
        let words = |job: u128| {
            let subject = format!("aiopool.t.q.1.nobodys.{job:032x}.0.0");
            let asked = json!({"last_by_subj": subject});
            let client = client.clone();
            async move {
                let stored = ask(&client, "STREAM.MSG.GET.AIOPOOL_t", asked).await;
                stored["error"].is_null()
            }
        };
        while words(3).await || words(4).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(words(1).await && words(2).await, "the jobs of unreadable keys stay");
        // What the error says of the key has the job begin anew.
        let cluster = connect(&server);
        let error = cluster.job("durable").await.unwrap_err().to_string();
        assert!(error.contains("nats kv del AIOPOOL_JOBS t.d-durable"), "{error}");
        publish(&server, [key("d-durable", b"")]).await;
        let job = cluster.job("durable").await.unwrap();
        assert_eq!(job.apply(double, 4).await.unwrap(), 8);
        job.finish().await;
    });
}

/// No renewal is stored over what is no key, so a node whose key was written over is dead in the end.
fn a_dead_nodes_key_may_be_written_over() {
    let server = Server::start();
    let node = Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_NAME", "n"),
        BRIEFLY,
    ]);
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
        make(server.url()).await;
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
        make(server.url()).await;
        let job = "0123456789abcdef0123456789abcdef";
        let word = |n: u64| (format!("aiopool.t.q.0.b.{job}.{}.{n}", n / 1024), Bytes::new());
        publish(&server, (0..WORDS).map(word)).await;
        let mut seen = observe(server.url(), "t").await.unwrap();
        // Without answers a publisher does not know when all are stored.
        while seen.messages < WORDS {
            tokio::time::sleep(Duration::from_millis(200)).await;
            seen = observe(server.url(), "t").await.unwrap();
        }
        assert_eq!((seen.messages, seen.builds[0].queued), (WORDS, WORDS));
    });
}
