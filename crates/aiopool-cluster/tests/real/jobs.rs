//! Submitters that are killed: what they leave, and durable jobs that others resume.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, ClusterError, Error};
use aiopool_nats::{BEFORE, NEWEST, OLDEST, Server};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_core::Stream;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::book::{Book, note, size, ticks, work};
use crate::verbs::{by_threes, double, even_parts};
use crate::{
    Process, SHORT, Test, WATCHDOG, clocks, connect, in_time, leased, nothing_is_left, until,
};

pub const TESTS: &[Test] = &[
    ("a_killed_submitter_leaves_nothing", a_killed_submitter_leaves_nothing),
    ("a_late_copy_of_a_known_job_starts_nothing", a_late_copy_of_a_known_job_starts_nothing),
    ("a_known_job_is_not_read_again", a_known_job_is_not_read_again),
    ("a_durable_job_is_resumed", a_durable_job_is_resumed),
    ("a_durable_job_has_one_holder_and_its_items", a_durable_job_has_one_holder_and_its_items),
    ("a_refused_item_takes_no_others_outcome", a_refused_item_takes_no_others_outcome),
    ("a_map_takes_nothing_of_a_job_that_is_left", a_map_takes_nothing_of_a_job_that_is_left),
    ("a_drain_in_vain_leaves_the_job", a_drain_in_vain_leaves_the_job),
    ("a_job_that_is_terminated_and_dropped_ends", a_job_that_is_terminated_and_dropped_ends),
    ("parts_are_refused_in_a_durable_job", parts_are_refused_in_a_durable_job),
];

/// Items of the durable job.
const ITEMS: u64 = 1500;

/// The other process: it submits what its environment says, until it is killed.
pub fn submitter(url: &str) -> ExitCode {
    let book = std::env::var("AIOPOOL_TEST_BOOK").unwrap();
    let lease = crate::lease().unwrap_or(SHORT);
    let cluster = Cluster::builder(url).pool("t").lease(lease).connect_blocking().unwrap();
    in_time(async {
        if let Ok(what) = std::env::var("AIOPOOL_TEST_ONE") {
            let options = TaskOptions::new().retries(1).retry_on_error(true);
            let _ = match what.as_str() {
                "fails" => cluster.with(options).try_apply(starts_and_fails, book).await,
                "maps" => return maps(cluster, book).await,
                "clock" => return clocks::submits(cluster, book).await,
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

/// Maps until standard input ends.
async fn maps(cluster: Cluster, book: String) {
    let over = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Relaxed);
    });
    let items = (0..).take_while(|_| !over.load(Ordering::Relaxed));
    let items = items.map(|n| (book.clone(), n, 50));
    let values = cluster.map(work, items).window(32).await.unwrap();
    assert!((0..values.len() as u64).eq(values));
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
    let _nodes = [Process::node(server.url()), Process::janitor(server.url())];
    let book = Book::new("orphan");
    let second = Book::new("orphan.2");
    let path = book.text();
    let other = Process::start(&[
        ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
        ("AIOPOOL_TEST_BOOK", path.as_str()),
    ]);
    until("it starts", || size(&book.0) > 0);
    other.signal("KILL");
    nothing_is_left(&server, "its job is ended");
    let mut before = 0;
    until("its code is stopped", || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, size(&book.0)) == size(&book.0)
    });
    drop(second);
    let cluster = connect(&server);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
}

/// Asks the server for something of JetStream's.
pub async fn ask(client: &async_nats::Client, what: &str, payload: Value) -> Value {
    let answer = client.request(format!("$JS.API.{what}"), payload.to_string().into()).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

/// The node has read the job's key, and nobody tells it that the job has ended since.
fn a_late_copy_of_a_known_job_starts_nothing() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let book = Book::new("late");
    in_time(async {
        for n in 0..3 {
            assert_eq!(cluster.apply(work, (book.text(), n, 1)).await.unwrap(), n);
        }
        let client = async_nats::connect(server.url()).await.unwrap();
        let newest = json!({"last_by_subj": "aiopool.t.q.>"});
        let sent = ask(&client, "STREAM.MSG.GET.AIOPOOL_t", newest).await;
        assert!(cluster.drain(WATCHDOG).await);
        let bytes = BASE64.decode(sent["message"]["data"].as_str().unwrap()).unwrap();
        let subject = sent["message"]["subject"].as_str().unwrap().to_owned();
        let stored = client.request(subject, bytes.into()).await.unwrap();
        assert!(String::from_utf8_lossy(&stored.payload).contains("seq"), "{stored:?}");
    });
    nothing_is_left(&server, "the node purges what is not wanted any more");
    assert_eq!(book.starts(), 3);
}

/// Servers of all versions say which revision of a key is the newest where they refuse to replace it.
fn a_known_job_is_not_read_again() {
    for version in [OLDEST, BEFORE, NEWEST] {
        let server = Server::of(version);
        let _node = Process::node(server.url());
        let cluster = connect(&server);
        in_time(async {
            assert_eq!(cluster.apply(double, 1).await.unwrap(), 2);
            let client = async_nats::connect(server.url()).await.unwrap();
            let asked = async || {
                let info = ask(&client, "INFO", json!({})).await;
                info["api"]["total"].as_u64().unwrap()
            };
            let (before, begun) = (asked().await, std::time::Instant::now());
            for n in 0..200 {
                assert_eq!(cluster.apply(double, n).await.unwrap(), 2 * n);
            }
            let requests = asked().await - before;
            // What nodes, keeper and janitor ask in each second, tasks or not.
            let beside = 5 * (begun.elapsed().as_secs() + 1);
            assert!(requests < 100 + beside, "{requests} requests for 200 tasks");
        });
    }
}

fn a_durable_job_is_resumed() {
    let server = Server::start();
    let _nodes = [Process::node(server.url()), Process::node(server.url())];
    let _janitor = Process::janitor(server.url());
    let (book, list) = (Book::new("durable"), Book::new("durable-list"));
    let (path, taken) = (book.text(), list.text());
    for part in [300, 900] {
        let other = Process::start(&[
            ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
            ("AIOPOOL_TEST_BOOK", path.as_str()),
            ("AIOPOOL_TEST_LIST", taken.as_str()),
            // It is to live until it is killed.
            ("AIOPOOL_TEST_LEASE", "10"),
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
    nothing_is_left(server, "nothing is left");
}

fn a_durable_job_has_one_holder_and_its_items() {
    let server = Server::start();
    let _node = Process::node(server.url());
    // A holder is seen when it renews its lease, which it does more often the shorter that is.
    let cluster = leased(&server, 2 * SHORT);
    in_time(async {
        let job = cluster.job("once").await.unwrap();
        assert_eq!(job.taken(), 0);
        let first = job.map(double, [1, 2, 3]).await.unwrap();
        assert_eq!(first, [2, 4, 6]);
        let error = cluster.job("once").await.unwrap_err();
        assert!(matches!(error, Error::JobHeld { .. }), "{error:?}");
        let error = aiopool_cluster::end_job(server.url(), "t", "once").await.unwrap_err();
        assert!(matches!(error, Error::JobHeld { .. }), "{error:?}");
        let error = aiopool_cluster::end_job(server.url(), "t", "*").await.unwrap_err();
        assert!(matches!(error, Error::InvalidOption { name: "job", .. }), "{error:?}");
        // Of those that come at once one has it, and the others are told its name.
        let all = futures_util::future::join_all((0..4).map(|_| cluster.job("many"))).await;
        let held = |error: &Error| matches!(error, Error::JobHeld { job, .. } if job == "many");
        assert_eq!(all.iter().filter(|job| job.is_ok()).count(), 1, "{all:?}");
        assert_eq!(all.iter().filter_map(|job| job.as_ref().err()).filter(|e| held(e)).count(), 3);
        drop(all);
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

/// A number that is not encoded where it is 0.
#[derive(Deserialize)]
struct NotZero(u64);

impl Serialize for NotZero {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => Err(S::Error::custom("it is zero")),
            n => serializer.serialize_newtype_struct("NotZero", &n),
        }
    }
}

async fn same(number: NotZero) -> u64 {
    number.0
}

/// The item that is refused has no number: the next one has it.
fn a_refused_item_takes_no_others_outcome() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        let job = cluster.job("refused").await.unwrap();
        let mut results = job.map(same, [1, 0, 2].map(NotZero));
        assert_eq!(results.next().await.unwrap().unwrap(), 1);
        let refused = results.next().await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("it is zero"), "{refused}");
        assert_eq!(results.next().await.unwrap().unwrap(), 2);
        // The last one was given, and nothing says that it has arrived.
        drop((results, job));
        let job = cluster.job("refused").await.unwrap();
        assert_eq!(job.taken(), 1);
        let again = job.map(same, [1, 0, 2].map(NotZero)).results().await;
        assert!(again[0].is_err() && matches!(again[1], Ok(2)), "{again:?}");
        // Of a list everything is given again after a crash, with keys as without.
        let keyed = job.map_keyed(same, [("a", NotZero(3)), ("b", NotZero(4))]).results().await;
        assert!(matches!(keyed[..], [("a", Ok(3)), ("b", Ok(4))]), "{keyed:?}");
        drop(job);
        assert_eq!(cluster.job("refused").await.unwrap().taken(), 1);
    });
}

type Results = Pin<Box<dyn Stream<Item = Result<u64, ClusterError>> + Send>>;

/// A map that is asked for its next results by whatever wakes it.
struct Eager(Mutex<Results>);

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        let Ok(mut map) = self.0.try_lock() else { return };
        while let Poll::Ready(Some(_)) = map.as_mut().poll_next(&mut context) {}
    }
}

/// The handle's thread gives the map an error for each item, and says then what was taken.
fn a_map_takes_nothing_of_a_job_that_is_left() {
    let server = Server::start();
    let cluster = connect(&server);
    let job = cluster.job_blocking("left").unwrap();
    let map = Arc::new(Eager(Mutex::new(Box::pin(job.map(double, [1, 2, 3])))));
    Arc::clone(&map).wake();
    drop(job);
    let next = map.0.lock().unwrap().as_mut().poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(next, Poll::Ready(None)), "all were given: {next:?}");
    assert_eq!(cluster.job_blocking("left").unwrap().taken(), 0);
}

fn a_drain_in_vain_leaves_the_job() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let book = Book::new("drained");
    let second = (book.text(), 2, 60_000);
    in_time(async {
        let job = cluster.job("drained").await.unwrap();
        assert_eq!(job.apply(work, (book.text(), 1, 1)).await.unwrap(), 1);
        let slow = job.apply(work, second.clone());
        assert!(!job.drain(Duration::from_millis(1)).await);
        let left = slow.await.unwrap_err();
        assert!(matches!(left, ClusterError::Ended(Error::JobLost(_))), "{left:?}");
        drop(job);
        let job = cluster.job("drained").await.unwrap();
        assert_eq!(job.apply(work, (book.text(), 1, 1)).await.unwrap(), 1);
        job.apply(work, second.clone()).detach().unwrap();
        assert!(!job.drain_blocking(Duration::from_millis(1)));
        drop(job);
        let job = cluster.job("drained").await.unwrap();
        assert_eq!(job.apply(work, (book.text(), 1, 1)).await.unwrap(), 1);
        job.terminate();
    });
    assert_eq!(book.attempts()[&1].len(), 1, "its outcome was there each time");
}

fn a_job_that_is_terminated_and_dropped_ends() {
    let server = Server::start();
    let cluster = connect(&server);
    for name in ["a", "b", "c", "d", "e", "f"] {
        let job = cluster.job_blocking(name).unwrap();
        job.terminate();
        drop(job);
        let left = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap().jobs;
        assert!(!left.iter().any(|job| job.job == name), "{left:?}");
    }
}

/// Which part is the next one differs from run to run, so that a resumed job has other items.
fn parts_are_refused_in_a_durable_job() {
    let server = Server::start();
    let cluster = connect(&server);
    in_time(async {
        let job = cluster.job("parts").await.unwrap();
        let mut parts = job.map_parts(by_threes, [0, 5]);
        let error = parts.next().await.unwrap().unwrap_err();
        let ClusterError::Ended(Error::InvalidOption { name: "map_parts", .. }) = error else {
            panic!("{error:?}");
        };
        assert!(parts.next().await.is_none());
        let tried = job.try_map_parts(even_parts, [2]).into_blocking_iter().next().unwrap();
        assert!(tried.unwrap_err().to_string().contains("durable"));
        assert_eq!(job.stats().submitted, 0);
    });
}
