//! Machines with a network of their own, whose cables break in both directions or in one: a node, the
//! submitter, one server of three. The kernel's own TCP is on both sides, and tells nobody.
//!
//! Each test runs in a process of its own, whose network is the hub.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, Connection};
use aiopool_nats::{Machine, NEWEST, Server, Three, in_a_network};
use serde_json::{Value, json};

use crate::book::{Book, long_at_first, work};
use crate::verbs::double;
use crate::{BRIEFLY, LEASE, Process, Test, connect, impossible, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    // The longest comes first.
    ("one_server_of_three_is_cut_off", one_server_of_three_is_cut_off),
    ("each_leader_is_cut_off", each_leader_is_cut_off),
    ("a_node_without_network_is_followed", || node_without_network(true, true)),
    ("a_node_that_cannot_send_is_followed", || node_without_network(true, false)),
    ("a_node_that_cannot_receive_is_followed", || node_without_network(false, true)),
    ("a_submitter_without_network_loses_its_job", || submitter_without_network(true, true)),
    ("a_submitter_that_cannot_send_loses_its_job", || submitter_without_network(true, false)),
    ("a_submitter_that_cannot_receive_loses_its_job", || submitter_without_network(false, true)),
    ("a_network_that_is_soon_healed_costs_nothing", soon_healed),
];

/// Whether a test is to run as the hub of a network.
pub fn is_one(name: &str) -> bool {
    TESTS.iter().any(|test| test.0 == name)
}

/// The other process of a test: the hub.
pub fn run(name: &str) -> ExitCode {
    let test = TESTS.iter().find(|test| test.0 == name).unwrap();
    test.1();
    ExitCode::SUCCESS
}

/// Runs a test in a process of its own, as the hub of a network.
pub fn as_hub(name: &str) {
    // Nothing can be fetched from there.
    let _ = NEWEST.program();
    let mut hub = match in_a_network(std::env::current_exe().unwrap()) {
        Ok(command) => command,
        Err(why) => return impossible(&format!("{name}: a network namespace"), &why),
    };
    let status = hub.env("AIOPOOL_TEST_NETWORK", name).status().unwrap();
    assert!(status.success(), "{name}: {status}");
}

/// All three ways in which a cable breaks: whether what is sent is lost, and what is to be received.
const WAYS: [(bool, bool); 3] = [(true, true), (true, false), (false, true)];

/// For longer than its lease: its task is done elsewhere, never twice at once. It serves again when the
/// network is back.
fn node_without_network(from_it: bool, to_it: bool) {
    let (centre, far) = (Machine::plugged(), Machine::plugged());
    let server = Server::on(&centre);
    let first = Process::on(&far, &[("AIOPOOL_TEST_NODE", server.url().as_str()), BRIEFLY]);
    let cluster = connect(&server);
    let book = Book::new(&format!("far-node-{from_it}-{to_it}"));
    let options = TaskOptions::new().retries(1);
    let task = cluster.with(options).apply(long_at_first, (book.text(), 1, 600_000));
    until("it starts", || book.starts() == 1);
    far.cut(from_it, to_it);
    let second = Process::node(server.url());
    assert_eq!(in_time(task).unwrap(), 1);
    let attempts = book.attempts()[&1].clone();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].1, None, "the first attempt ran on: {attempts:?}");
    far.heal();
    drop(second);
    assert_eq!(in_time(cluster.apply(double, 1)).unwrap(), 2);
    assert_eq!(book.starts(), 2, "what was lost on its way starts nothing");
    drop(first);
}

/// For longer than its job's lease: it learns that, and a node ends the job and its code.
fn submitter_without_network(from_it: bool, to_it: bool) {
    let (centre, far) = (Machine::plugged(), Machine::plugged());
    let server = Server::on(&centre);
    let _nodes = [Process::node(server.url()), Process::janitor(server.url())];
    let book = Book::new(&format!("far-submitter-{from_it}-{to_it}"));
    let (url, path) = (server.url(), book.text());
    let mut submitter = Process::on(
        &far,
        &[
            ("AIOPOOL_TEST_SUBMITTER", url.as_str()),
            ("AIOPOOL_TEST_BOOK", path.as_str()),
            ("AIOPOOL_TEST_ONE", "works"),
        ],
    );
    until("it runs", || book.starts() == 1);
    far.cut(from_it, to_it);
    // Its task ends with an error, and so does it, long before the task would.
    submitter.end("it learns of it");
    nothing_is_left(&server, "the node ends the job");
    far.heal();
    let attempts = book.attempts()[&1].clone();
    assert_eq!((attempts.len(), attempts[0].1), (1, None), "its code is ended: {attempts:?}");
    let cluster = connect(&server);
    assert_eq!(in_time(cluster.apply(double, 1)).unwrap(), 2);
}

/// Within the lease: what was on its way is sent again by TCP, or by the protocol on another
/// connection; nothing is lost, and nothing runs twice.
fn soon_healed() {
    let machines = [(); 3].map(|()| Machine::plugged());
    let [centre, node, submitter] = &machines;
    let server = Server::on(centre);
    let (book, url) = (Book::new("soon-healed"), server.url());
    let path = book.text();
    let _node = Process::on(node, &[("AIOPOOL_TEST_NODE", url.as_str())]);
    let mut other = Process::on(
        submitter,
        &[
            ("AIOPOOL_TEST_SUBMITTER", url.as_str()),
            ("AIOPOOL_TEST_BOOK", path.as_str()),
            ("AIOPOOL_TEST_ONE", "maps"),
            ("AIOPOOL_TEST_LEASE", "120"),
        ],
    );
    let cuts = [node, submitter].into_iter().flat_map(|machine| WAYS.map(|way| (machine, way)));
    for (machine, (from_it, to_it)) in cuts {
        let before = book.starts();
        until("it goes on", || book.starts() > before + 20);
        machine.cut(from_it, to_it);
        std::thread::sleep(Duration::from_secs(2));
        machine.heal();
    }
    drop(other.0.stdin.take());
    // It ends with success where each item has its own value.
    assert!(other.end("all items are there").success());
    let attempts = book.attempts();
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "{attempts:?}");
}

/// Each of them once, the leaders among them, and each in another way; healed late and early. The two
/// others go on, and the processes that were connected to it go to them.
fn one_server_of_three_is_cut_off() {
    let machines = [(); 3].map(|()| Machine::plugged());
    let three = Three::on(&machines);
    let url = three.url();
    let made = of_three(&url);
    let _nodes = [Process::node(&url), Process::node(&url)];
    let book = Book::new("cut-server");
    in_time(async {
        let healed = Cell::new(false);
        let items = (0..).take_while(|_| !healed.get()).map(|n| (book.text(), n, 400));
        let run = made.map(work, items).window(32).results();
        let cutter = async {
            let times = [6_000, 3_000, 1_000].map(Duration::from_millis);
            for ((machine, way), time) in machines.iter().zip(WAYS).zip(times) {
                let before = book.starts();
                while book.starts() < before + 40 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                machine.cut(way.0, way.1);
                tokio::time::sleep(time).await;
                machine.heal();
                // It has what it missed before the next one is cut off.
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            healed.set(true);
        };
        let (results, ()) = tokio::join!(run, cutter);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
        assert_eq!(book.attempts().len(), results.len());
    });
    let attempts = book.attempts();
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "{attempts:?}");
}

/// The streams of the pool and the buckets.
const STREAMS: [&str; 4] = ["AIOPOOL_t", "AIOPOOL_t_BLOBS", "KV_AIOPOOL_NODES", "KV_AIOPOOL_JOBS"];

/// Whether a task hangs may hang on which server leads what. So one leads nothing but one stream and
/// its queues, and is cut off; in the end the one that sends the submitter its outcomes is.
fn each_leader_is_cut_off() {
    let machines = [(); 3].map(|()| Machine::plugged());
    let three = Three::on(&machines);
    let (url, names) = (three.url(), three.servers.each_ref().map(Server::name));
    let made = of_three(&url);
    let _nodes = [Process::node(&url), Process::node(&url)];
    let book = Book::new("cut-leader");
    in_time(async {
        let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await.unwrap();
        let healed = Cell::new(false);
        let items = (0..).take_while(|_| !healed.get()).map(|n| (book.text(), n, 400));
        let run = made.map(work, items).window(32).results();
        let cutter = async {
            let each = STREAMS.into_iter().map(Some).chain([None]);
            for (i, (led, way)) in each.zip(WAYS.into_iter().cycle()).enumerate() {
                let mut cut_off = i % 3;
                for stream in STREAMS {
                    let leader = if led == Some(stream) { cut_off } else { (cut_off + 1) % 3 };
                    lead(&client, stream, &names[leader]).await;
                }
                let before = book.starts();
                while book.starts() < before + 40 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                if led.is_none() {
                    let of_collector = |consumer: &Value| !is_queue(consumer);
                    let consumers = consumers(&client, STREAMS[0]).await;
                    let collector = consumers.iter().find(|consumer| of_collector(consumer));
                    let at = &collector.expect("the submitter's")["cluster"]["leader"];
                    cut_off = names.iter().position(|name| at == name).unwrap();
                }
                machines[cut_off].cut(way.0, way.1);
                tokio::time::sleep(Duration::from_secs(4)).await;
                machines[cut_off].heal();
                // It has what it missed before the next one is cut off.
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            healed.set(true);
        };
        let (results, ()) = tokio::join!(run, cutter);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(*result.as_ref().unwrap(), n as u64);
        }
        assert_eq!(book.attempts().len(), results.len());
    });
    let attempts = book.attempts();
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "{attempts:?}");
}

/// The submitter that makes the streams on three servers, which answer some time after they have a
/// leader.
fn of_three(url: &str) -> Cluster {
    let mut made = None;
    until("they answer", || {
        let connection = Connection::new(url).replicas(3);
        made = Cluster::builder(connection).pool("t").lease(LEASE).connect_blocking().ok();
        made.is_some()
    });
    made.unwrap()
}

/// Has one of three servers lead a stream, and the queues in it.
async fn lead(client: &async_nats::Client, stream: &str, server: &str) {
    let to = || json!({"placement": {"preferred": server}});
    loop {
        let info = tell(client, &format!("STREAM.INFO.{stream}"), Value::Null).await;
        if info["cluster"]["leader"] == server {
            break;
        }
        tell(client, &format!("STREAM.LEADER.STEPDOWN.{stream}"), to()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let queues = consumers(client, stream).await.into_iter().filter(is_queue);
    for queue in queues.filter(|queue| queue["cluster"]["leader"] != server) {
        let name = queue["name"].as_str().unwrap();
        tell(client, &format!("CONSUMER.LEADER.STEPDOWN.{stream}.{name}"), to()).await;
    }
}

async fn consumers(client: &async_nats::Client, stream: &str) -> Vec<Value> {
    let mut list = tell(client, &format!("CONSUMER.LIST.{stream}"), json!({"offset": 0})).await;
    list["consumers"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// Whether a consumer is one from which nodes pull.
fn is_queue(consumer: &Value) -> bool {
    consumer["name"].as_str().is_some_and(|name| name.starts_with("v2-"))
}

/// Asks the servers, of which nobody may answer for the moment.
async fn tell(client: &async_nats::Client, what: &str, payload: Value) -> Value {
    let payload = if payload.is_null() { String::new() } else { payload.to_string() };
    let answer = client.request(format!("$JS.API.{what}"), payload.into()).await;
    answer.map_or(Value::Null, |answer| serde_json::from_slice(&answer.payload).unwrap())
}
