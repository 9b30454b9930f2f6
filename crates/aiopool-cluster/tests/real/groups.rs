//! Several items under one word: what they give, and what faults make of them.

use std::time::Duration;

use aiopool::{TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError};
use aiopool_nats::Server;
use serde_json::Value;

use crate::book::{Book, note, work};
use crate::verbs::{double, sleeps};
use crate::{BRIEFLY, LEASE, Process, Test, WATCHDOG, connect, in_time, nothing_is_left};

pub const TESTS: &[Test] = &[
    ("short_items_share_a_word", short_items_share_a_word),
    ("what_cannot_share_a_word_does_not", what_cannot_share_a_word_does_not),
    ("items_of_a_group_end_each_for_itself", items_of_a_group_end_each_for_itself),
    ("items_of_a_group_are_tried_again_alone", items_of_a_group_are_tried_again_alone),
    ("a_group_that_is_called_off_is_stopped", a_group_that_is_called_off_is_stopped),
    ("large_values_of_a_group_travel_whole", large_values_of_a_group_travel_whole),
    ("a_killed_node_costs_its_groups", a_killed_node_costs_its_groups),
    ("a_node_dies_at_n3_with_groups", || node_dies_at("N3")),
    ("a_node_dies_at_n4_with_groups", || node_dies_at("N4")),
    ("a_node_dies_at_n5_with_groups", || node_dies_at("N5")),
    ("a_node_dies_at_n6_with_groups", || node_dies_at("N6")),
];

/// Messages that the pool's stream has ever taken: three for each word that one attempt is enough
/// for.
fn stored(server: &Server) -> u64 {
    in_time(stored_now(server))
}

/// What the stream takes while `run` does.
fn taken(server: &Server, run: impl FnOnce()) -> u64 {
    let before = stored(server);
    run();
    stored(server) - before
}

/// Runs a `map` again and again until its items share words: how long runs take while the machine is
/// busy is not for a test to say.
async fn learn(server: &Server, items: u64, map: impl AsyncFn()) {
    for _ in 0..200 {
        let before = stored_now(server).await;
        map().await;
        if stored_now(server).await - before <= items * 3 / 6 {
            return;
        }
    }
    panic!("items never share a word");
}

/// Has the submitter learn that runs of `work` are short; the book has these lines, too.
async fn learn_work(server: &Server, cluster: &Cluster, book: &Book) {
    let map = async || {
        let items = (0..40).map(|n| (book.text(), 1_000_000 + n, 0));
        cluster.map(work, items).await.unwrap();
    };
    learn(server, 40, map).await;
}

fn short_items_share_a_word() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let all: Vec<u64> = (0..640).map(|x| x * 2).collect();
    let maps = std::cell::Cell::new(0);
    in_time(learn(&server, 640, async || {
        assert_eq!(cluster.map(double, 0..640).await.unwrap(), all);
        maps.set(maps.get() + 1);
    }));
    let words = taken(&server, || {
        let mut any: Vec<u64> = cluster
            .map(double, 0..640)
            .as_completed()
            .window(100)
            .into_blocking_iter()
            .map(Result::unwrap)
            .collect();
        any.sort_unstable();
        assert_eq!(any, all);
    });
    assert!(words < 3 * 640, "{words} messages for 640 items");
    assert_eq!(cluster.stats().outstanding, 0);
    let counted: u64 = cluster.outcomes_by_node().values().sum();
    assert_eq!(counted, (maps.get() + 1) * 640, "each item counts");
    // A window and a capacity that are small, and handles side by side.
    in_time(async {
        let two = |x: u64| cluster.map(double, 0..x).window(3);
        let (a, b, c) = tokio::join!(two(50), two(60), cluster.map(double, 0..5_000));
        assert_eq!((a.unwrap().len(), b.unwrap().len(), c.unwrap().len()), (50, 60, 5_000));
    });
    assert!(cluster.drain_blocking(WATCHDOG));
    nothing_is_left(&server, "nothing is left on the server");
}

fn what_cannot_share_a_word_does_not() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(learn(&server, 64, async || drop(cluster.map(double, 0..64).await.unwrap())));
    for options in
        [TaskOptions::new().alone(true), TaskOptions::new().queue_ttl(Duration::from_secs(100))]
    {
        let words = taken(&server, || {
            in_time(async { cluster.with(options).map(double, 0..100).await.unwrap() });
        });
        assert!(words >= 300, "{words} messages for 100 items with {options:?}");
    }
    let words = taken(&server, || {
        in_time(async {
            let job = cluster.job("j").await.unwrap();
            job.map(double, 0..50).await.unwrap();
            job.map(double, 0..50).await.unwrap();
            job.finish().await;
        });
    });
    assert!(words >= 300, "{words} messages for 100 items of a durable job");
    let single = Cluster::builder(server.url()).pool("t").lease(LEASE).items_per_message(1);
    let single = single.connect_blocking().unwrap();
    let words = taken(&server, || {
        in_time(async {
            single.map(double, 0..50).await.unwrap();
            single.map(double, 0..50).await.unwrap();
        });
    });
    assert!(words >= 300, "{words} messages for 100 items one by one");
    let none = Cluster::builder(server.url()).pool("t").items_per_message(0).connect_blocking();
    assert!(none.unwrap_err().to_string().contains("1 to 256"));
}

/// Ends as its number says.
async fn ends_somehow(n: u64) -> Result<u64, String> {
    match n % 16 {
        3 => Err(format!("{n} is refused")),
        5 => panic!("{n} panics"),
        7 if n > 1_000 => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            Ok(n)
        }
        _ => Ok(n),
    }
}

fn items_of_a_group_end_each_for_itself() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        learn(&server, 64, async || drop(cluster.try_map(ends_somehow, 0..64).results().await))
            .await;
        let options = TaskOptions::new().timeout(Duration::from_secs(10)).priority(0);
        let results = cluster.with(options).try_map(ends_somehow, 1_001..1_033).results().await;
        for (n, result) in (1_001..).zip(results) {
            match (n % 16, result) {
                (3, Err(ClusterError::Task(TaskError::Failed(error)))) => {
                    assert!(error.to_string().contains(&format!("{n} is refused")), "{error}");
                }
                (5, Err(ClusterError::Task(TaskError::Panicked(panic)))) => {
                    assert!(panic.to_string().contains(&format!("{n} panics")), "{panic}");
                }
                (7, Err(ClusterError::Task(TaskError::TimedOut { started: true, .. }))) => {}
                (0..=2 | 4 | 6 | 8.., Ok(value)) => assert_eq!(value, n),
                (_, other) => panic!("{n}: {other:?}"),
            }
        }
    });
}

/// Notes its attempts. In the first one an item of a kind fails, and one has its worker die.
async fn fails_first((book, n): (String, u64)) -> Result<u64, String> {
    let attempt = aiopool::TaskContext::current().map_or(0, |task| task.attempt());
    let id = format!("{}-{}", std::process::id(), aiopool::remote::boottime_ns());
    note(&book, n, "start", &id);
    if attempt == 1 && n % 8 == 3 {
        note(&book, n, "end", &id);
        return Err(format!("{n} in attempt 1"));
    }
    if attempt == 1 && n == 20 {
        std::process::abort();
    }
    note(&book, n, "end", &id);
    Ok(n)
}

/// Of 64 items of `fails_first`.
fn what_failed_was_tried_again(book: &Book) {
    for (n, attempts) in book.attempts() {
        let failed = n % 8 == 3;
        // Others may have been in the worker that died.
        let most = if failed || n == 20 { 3 } else { 2 };
        assert!((1 + usize::from(failed)..=most).contains(&attempts.len()), "{n}: {attempts:?}");
        assert!(attempts.last().unwrap().1.is_some(), "{n}: {attempts:?}");
    }
}

fn items_of_a_group_are_tried_again_alone() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let first = Book::new("group-learns");
    in_time(async {
        let map = async || {
            let items = (100..140).map(|n| (first.text(), n));
            cluster.try_map(fails_first, items).results().await;
        };
        // Until the machine is not too busy for groups.
        for round in 0.. {
            assert!(round < 20, "items never share a word");
            learn(&server, 40, map).await;
            let before = stored_now(&server).await;
            let book = Book::new(&format!("group-again-{round}"));
            let options = TaskOptions::new().retries(2).retry_on_error(true);
            let items = (0..64).map(|n| (book.text(), n));
            let values = cluster.with(options).try_map(fails_first, items).await.unwrap();
            assert_eq!(values, (0..64).collect::<Vec<u64>>());
            what_failed_was_tried_again(&book);
            if stored_now(&server).await - before < 64 * 3 {
                break;
            }
        }
        // The caller's own judgement, item by item.
        let book = Book::new("group-judged");
        let options = TaskOptions::new().retries(1).retry_if(
            |error| matches!(error, TaskError::Failed(e) if !e.to_string().contains("11 ")),
        );
        let items = (0..16).map(|n| (book.text(), n));
        let results = cluster.with(options).try_map(fails_first, items).results().await;
        for (n, result) in results.iter().enumerate() {
            assert_eq!(result.is_err(), n == 11, "{n}: {result:?}");
        }
        assert_eq!(book.attempts()[&11].len(), 1);
        assert_eq!(book.attempts()[&3].len(), 2);
        assert_eq!(book.attempts()[&4].len(), 1);
    });
}

async fn stored_now(server: &Server) -> u64 {
    let client = async_nats::connect(server.url()).await.unwrap();
    let answer = client.request("$JS.API.STREAM.INFO.AIOPOOL_t", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&answer.payload).unwrap();
    info["state"]["last_seq"].as_u64().unwrap()
}

fn a_group_that_is_called_off_is_stopped() {
    let server = Server::start();
    let _node = Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_PROCESSES", "1"),
        ("AIOPOOL_TEST_TASKS", "1"),
    ]);
    let cluster = connect(&server);
    in_time(async {
        // Short until now.
        let map = async || drop(cluster.map(sleeps, std::iter::repeat_n(0, 60)).await.unwrap());
        learn(&server, 60, map).await;
        let mut long = cluster.map(sleeps, [600_000; 4]);
        let wait = Duration::from_millis(500);
        assert!(tokio::time::timeout(wait, long.next()).await.is_err(), "the group goes on");
        drop(long);
        // Its only place is free again, and nothing of the group was begun after it.
        assert_eq!(cluster.apply(double, 1).await.unwrap(), 2);
        assert!(cluster.drain(WATCHDOG).await);
    });
}

async fn zeros(len: u64) -> Vec<u8> {
    vec![7; len as usize]
}

fn large_values_of_a_group_travel_whole() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        let map = async || drop(cluster.map(zeros, std::iter::repeat_n(1, 60)).await.unwrap());
        learn(&server, 60, map).await;
        let lengths = (0..40).map(|n| n * 2_000);
        let values = cluster.map(zeros, lengths.clone()).await.unwrap();
        for (length, value) in lengths.zip(values) {
            assert!(value.len() as u64 == length && value.iter().all(|&byte| byte == 7));
        }
        assert!(cluster.drain(WATCHDOG).await);
    });
    nothing_is_left(&server, "nothing is left on the server");
}

/// Starts at most once an attempt, and no two attempts overlap.
fn books_are_right(book: &Book, of: std::ops::Range<u64>, most: usize) {
    for (n, attempts) in book.attempts().into_iter().filter(|(n, _)| of.contains(n)) {
        assert!(attempts.len() <= most, "{n}: {attempts:?}");
        for pair in attempts.windows(2) {
            assert!(pair[0].1.is_none_or(|end| end <= pair[1].0), "{n} overlaps: {attempts:?}");
        }
    }
}

fn a_killed_node_costs_its_groups() {
    let server = Server::start();
    let (first, _second) = (Process::mortal(server.url()), Process::node(server.url()));
    let cluster = connect(&server);
    for (name, retries) in [("group-killed", 0), ("group-retried", 2)] {
        let third = (retries > 0).then(|| Process::mortal(server.url()));
        let victim = third.as_ref().unwrap_or(&first);
        let book = Book::new(name);
        in_time(async {
            learn_work(&server, &cluster, &book).await;
            let options = TaskOptions::new().retries(retries);
            let items = (0..2_000).map(|n| (book.text(), n, 2));
            let run = cluster.with(options).map(work, items).results();
            let killer = async {
                while book.starts() < 400 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                victim.signal("KILL");
            };
            let (results, ()) = tokio::join!(run, killer);
            for (n, result) in results.iter().enumerate() {
                match result {
                    Ok(value) => assert_eq!(*value, n as u64),
                    Err(ClusterError::NodeLost { attempt: 1, .. }) if retries == 0 => {}
                    Err(error) => panic!("{n}: {error:?}"),
                }
            }
            let lost = results.iter().filter(|result| result.is_err()).count();
            assert!(lost < 1_000, "{lost} of 2,000 are lost with one of two nodes");
        });
        books_are_right(&book, 0..2_000, retries as usize + 1);
    }
}

fn node_dies_at(point: &str) {
    let server = Server::start();
    let cluster = connect(&server);
    let book = Book::new(&format!("{point}-group"));
    for retries in [1, 0] {
        let first = 10_000 * u64::from(retries);
        let groups = (0..20).map(|round| first + 100 * round).find(|&base| {
            let messages = dies_at(point, &server, &cluster, &book, base, retries);
            messages < 3 * 40
        });
        groups.expect("items that share words");
    }
}

/// Has a node die at `point` with 40 items, in groups unless the machine is too busy. Returns how many
/// messages the stream took.
fn dies_at(
    point: &str,
    server: &Server,
    cluster: &Cluster,
    book: &Book,
    base: u64,
    retries: u32,
) -> u64 {
    let healthy = Process::node(server.url());
    in_time(learn_work(server, cluster, book));
    drop(healthy);
    let before = stored(server);
    let options = TaskOptions::new().retries(retries);
    // A long one among them, so that the group still runs at N4.
    let items = (base..base + 40)
        .map(|n| (book.text(), n, if point == "N4" && n % 40 == 1 { 6_000 } else { 0 }));
    let results = std::thread::scope(|scope| {
        let run = scope.spawn(|| in_time(cluster.with(options).map(work, items).results()));
        crate::crashes::dies(Process::start(&[
            ("AIOPOOL_TEST_NODE", server.url().as_str()),
            ("AIOPOOL_CLUSTER_CRASH", point),
            BRIEFLY,
        ]));
        let _second = Process::node(server.url());
        run.join().unwrap()
    });
    for (n, result) in (base..).zip(results) {
        match result {
            Ok(value) => assert_eq!(value, n),
            Err(ClusterError::NodeLost { attempt: 1, .. }) if retries == 0 => {}
            Err(error) => panic!("{n}: {error:?}"),
        }
    }
    books_are_right(book, base..base + 40, retries as usize + 1);
    stored(server) - before
}
