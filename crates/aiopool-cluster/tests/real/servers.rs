//! Servers of several versions, three of them together, and servers that cannot be used.

use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, ClusterError, Connection, Error, Node};
use aiopool_nats::{BEFORE, NEWEST, OLDEST, Server, TOO_OLD, Three};
use serde_json::{Value, json};

use crate::book::{Book, work};
use crate::jobs::ask;
use crate::said::warnings;
use crate::verbs::double;
use crate::{LEASE, Process, SHORT, Test, WATCHDOG, connect, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("older_servers_that_can_be_used", older_servers_that_can_be_used),
    ("servers_that_cannot_be_used_say_why", servers_that_cannot_be_used_say_why),
    ("a_queue_that_was_removed_is_made_again", a_queue_that_was_removed_is_made_again),
    ("a_server_that_became_older_is_refused", a_server_that_became_older_is_refused),
    ("twenty_kills_of_the_server", twenty_kills_of_the_server),
    (
        "a_server_that_is_stopped_for_longer_than_the_lease",
        a_server_that_is_stopped_for_longer_than_the_lease,
    ),
    ("three_servers_lose_one", three_servers_lose_one),
    ("three_servers_lose_two", three_servers_lose_two),
];

fn older_servers_that_can_be_used() {
    for version in [OLDEST, BEFORE] {
        let server = Server::of(version);
        let _node = Process::node(server.url());
        let cluster = connect(&server);
        in_time(async {
            let doubled = cluster.map(double, 0..500).await.unwrap();
            assert_eq!(doubled.last(), Some(&998));
        });
        assert!(cluster.drain_blocking(WATCHDOG));
        drop(cluster);
        nothing_is_left(&server, "nothing is left");
    }
}

fn servers_that_cannot_be_used_say_why() {
    let complaint = |connection: Connection| {
        let submitter = in_time(Cluster::builder(connection.clone()).connect()).unwrap_err();
        let node = Node::builder(connection).processes(1);
        let node = in_time(node.run_until(std::future::pending())).unwrap_err();
        assert_eq!(submitter.to_string(), node.to_string());
        submitter.to_string()
    };
    let old = Server::of(TOO_OLD);
    let text = complaint(old.url().into());
    assert!(text.contains("2.11.11") && text.contains("2.12.8"), "{text}");
    let plain = Server::with(NEWEST, false, "");
    let text = complaint(plain.url().into());
    assert!(text.contains("JetStream"), "{text}");
    let mut gone = Server::start();
    gone.kill();
    let text = complaint(gone.url().into());
    assert!(text.contains("cannot connect") && text.contains(&gone.url()), "{text}");
    let error = in_time(Cluster::builder(old.url()).pool("a.b").connect()).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { name: "pool", .. }), "{error:?}");
    let text = complaint(Connection::new(old.url()).replicas(2));
    assert!(text.contains("1, 3 or 5"), "{text}");
    for prefix in ["", "a b", "*", "a.>", "a.", ".a", "x\r\n"] {
        let text = complaint(Connection::new(old.url()).inbox_prefix(prefix));
        assert!(text.contains("inbox_prefix"), "{prefix:?}: {text}");
    }
    for nothing in ["", " , "] {
        let text = complaint(Connection::new(nothing));
        assert!(text.contains("nats://host:port"), "{nothing:?}: {text}");
    }
    let text = complaint(Connection::new(format!("{},", gone.url())));
    assert!(text.contains("refused"), "{text}");
    let limits = "jetstream: { max_consumers: 2 }, users: [ { user: u, password: x } ]";
    let limits = format!("accounts {{ A {{ {limits} }} }}\nno_auth_user: u\n");
    let small = Server::with(NEWEST, true, &limits);
    let node = Node::builder(small.url()).processes(1);
    let error = in_time(node.run_until(std::future::pending())).unwrap_err();
    assert!(error.to_string().contains("consumers limit"), "{error}");
    let error = in_time(Cluster::connect(small.url())).unwrap_err();
    assert!(error.to_string().contains("consumers limit"), "{error}");
    let text = complaint(Connection::new("no address at all"));
    assert!(text.contains("no address at all"), "{text}");
}

fn a_queue_that_was_removed_is_made_again() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        assert_eq!(cluster.apply(double, 1).await.unwrap(), 2);
        let client = async_nats::connect(server.url()).await.unwrap();
        let names = ask(&client, "CONSUMER.NAMES.AIOPOOL_t", json!({})).await;
        let names = names["consumers"].as_array().unwrap().iter();
        let queues: Vec<&str> = names.filter_map(Value::as_str).filter(is_queue).collect();
        assert_eq!(queues.len(), 4, "{queues:?}");
        for queue in queues {
            let what = format!("CONSUMER.DELETE.AIOPOOL_t.{queue}");
            assert_eq!(ask(&client, &what, json!({})).await["success"], true);
        }
        assert_eq!(cluster.apply(double, 2).await.unwrap(), 4);
    });
}

fn a_server_that_became_older_is_refused() {
    let mut server = Server::start();
    let mut node = Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_LEASE", "60"),
    ]);
    let cluster = Cluster::builder(server.url()).pool("t").lease(Duration::from_secs(60));
    let cluster = cluster.connect_blocking().unwrap();
    let book = Book::new("older");
    let task = cluster.apply(work, (book.text(), 1, 60_000));
    until("it runs", || book.starts() == 1);
    server.kill();
    server.restart_as(TOO_OLD);
    let error = in_time(task).unwrap_err();
    assert!(matches!(error, ClusterError::Ended(Error::JobLost(_))), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("2.11.11") && text.contains("2.12.8"), "{text}");
    assert!(!node.end("the node ends").success());
    assert!(book.attempts()[&1][0].1.is_none(), "its code is stopped");
}

/// Whether a consumer is one from which nodes pull; the submitters' have names that the server made.
fn is_queue(name: &&str) -> bool {
    name.starts_with("v2-")
}

fn twenty_kills_of_the_server() {
    let mut server = Server::start();
    let _nodes = [Process::node(server.url()), Process::node(server.url())];
    let cluster = connect(&server);
    let book = Book::new("twenty");
    in_time(async {
        let items = (0..2000).map(|n| (book.text(), n, 20));
        let run = cluster.map(work, items).window(128).results();
        let killer = async {
            for round in 1..=20 {
                while book.starts() < round * 90 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                server.kill();
                tokio::time::sleep(Duration::from_millis(100)).await;
                server.restart();
            }
        };
        let (results, ()) = tokio::join!(run, killer);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
        assert!(book.attempts().values().all(|attempts| attempts.len() == 1));
    });
}

/// No lease can be renewed meanwhile: what ran is killed, and follows without an overlap.
fn a_server_that_is_stopped_for_longer_than_the_lease() {
    let server = Server::start();
    let _nodes = [Process::node(server.url()), Process::node(server.url())];
    // Its own job outlives it.
    let lease = Duration::from_secs(60);
    let cluster = Cluster::builder(server.url()).pool("t").lease(lease);
    let cluster = cluster.connect_blocking().unwrap();
    let book = Book::new("server-stopped");
    in_time(async {
        let items = (0..60).map(|n| (book.text(), n, 500));
        let run = cluster.with(TaskOptions::new().retries(3)).map(work, items).results();
        let stopper = async {
            while book.starts() < 12 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            server.signal("STOP");
            tokio::time::sleep(Duration::from_secs(10)).await;
            server.signal("CONT");
        };
        let (results, ()) = tokio::join!(run, stopper);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
    });
    for (n, attempts) in book.attempts() {
        for pair in attempts.windows(2) {
            assert!(pair[0].1.is_none_or(|end| end <= pair[1].0), "{n} overlaps: {attempts:?}");
        }
    }
}

fn three_servers_lose_one() {
    let mut three = Three::of([NEWEST, BEFORE, NEWEST]);
    let url = three.url();
    let connection = || Connection::new(url.clone()).replicas(3);
    let mut made = None;
    // The three have a leader, and answer some time after that.
    until("they answer", || {
        made = Cluster::builder(connection()).pool("t").lease(LEASE).connect_blocking().ok();
        made.is_some()
    });
    let made = made.unwrap();
    let _nodes = [Process::mortal(&url), Process::mortal(&url)];
    let book = Book::new("three");
    in_time(async {
        let items = (0..600).map(|n| (book.text(), n, 20));
        let run = made.with(TaskOptions::new().retries(50)).map(work, items).window(64).results();
        let killer = async {
            for i in 0..3 {
                while book.starts() < (i + 1) * 120 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // One after the other: among them are the leaders of the stream and the buckets.
                three.servers[i].kill();
                tokio::time::sleep(Duration::from_millis(300)).await;
                three.servers[i].restart();
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        };
        let (results, ()) = tokio::join!(run, killer);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
    });
    // With a lease of six seconds an election may cost the nodes their lives: retries, no overlap.
    for (n, attempts) in book.attempts() {
        for pair in attempts.windows(2) {
            assert!(pair[0].1.is_none_or(|end| end <= pair[1].0), "{n} overlaps: {attempts:?}");
        }
    }
    // The one that was killed last answers some time after its restart.
    until("they answer again", || {
        Cluster::builder(url.clone()).pool("t").lease(SHORT).connect_blocking().is_ok()
    });
    let of_the_lease = |text: &String| text.contains("the lease is 6s");
    assert!(warnings().iter().any(of_the_lease), "{:?}", warnings());
}

/// Two of three are away for a while: nothing can be stored meanwhile, and nothing is lost or doubled.
fn three_servers_lose_two() {
    let mut three = Three::of([NEWEST; 3]);
    let url = three.url();
    let connection = || Connection::new(url.clone()).replicas(3);
    let mut made = None;
    until("they answer", || {
        made = Cluster::builder(connection()).pool("t").lease(LEASE).connect_blocking().ok();
        made.is_some()
    });
    let made = made.unwrap();
    let _node = Process::node(&url);
    let book = Book::new("two");
    in_time(async {
        let items = (0..200).map(|n| (book.text(), n, 20));
        let run = made.map(work, items).window(32).results();
        let killer = async {
            while book.starts() < 60 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            three.servers[..2].iter_mut().for_each(aiopool_nats::Server::kill);
            tokio::time::sleep(Duration::from_secs(2)).await;
            three.servers[..2].iter_mut().for_each(aiopool_nats::Server::restart);
        };
        let (results, ()) = tokio::join!(run, killer);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
    });
    assert!(book.attempts().values().all(|attempts| attempts.len() == 1));
}
