//! Clocks: the time of day jumps by years in a node and a submitter, and machines count the time since
//! their start from different days. Neither changes anything.
//!
//! This program has a `clock_gettime` of its own, which std, tokio and aiopool call in place of the C
//! library's. In processes that are to have a bad clock, each look at the time of day is years away
//! from the one before.
#![allow(unsafe_code)] // stands in for the C library's function

use std::process::Command;
use std::time::{Duration, Instant};

use aiopool::{TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError};
use aiopool_nats::Server;
use aiopool_testing::clock::{self, jumps};

use crate::book::{Book, long_at_first, work};
use crate::verbs::{double, fails};
use crate::{Process, Test, WATCHDOG, connect, impossible, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("the_time_of_day_jumps", the_time_of_day_jumps),
    ("machines_that_started_on_other_days", machines_that_started_on_other_days),
];

/// Whether this process is to have a bad clock.
fn is_bad() -> bool {
    // SAFETY: a text of C; nothing in this program changes its environment.
    unsafe { !libc::getenv(c"AIOPOOL_TEST_CLOCK".as_ptr()).is_null() }
}

/// # Safety
///
/// `time` is NULL or can be written, as for the function it stands in for.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: passed on.
    unsafe { clock::gettime(clock, time, is_bad) }
}

async fn nap(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// What the submitter with the bad clock does: for so long that both sides renew their leases, which
/// they do every five seconds, and look at each other's.
pub async fn submits(cluster: Cluster, book: String) {
    assert!(jumps(0).await, "the clock does not jump in the submitter");
    cluster.ready().await.unwrap();
    assert!(cluster.apply(jumps, 0).await.unwrap(), "the clock does not jump in workers");
    let far = TaskOptions::new().timeout(Duration::from_secs(3600));
    let near = TaskOptions::new().timeout(Duration::from_millis(300));
    let soon = TaskOptions::new().queue_ttl(Duration::from_secs(3600));
    let again = TaskOptions::new().retries(2).backoff(Duration::from_millis(20));
    let again = again.retry_on_error(true);
    let (start, mut n) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(12) {
        let items = |n: u64| (n..n + 10).map(|n| (book.clone(), n, 50)).collect::<Vec<_>>();
        let (timed, waited, late, failed) = tokio::join!(
            cluster.with(far).map(work, items(n)),
            cluster.with(soon).map(work, items(n + 10)),
            cluster.with(near).apply(nap, 60_000),
            cluster.with(again).try_apply(fails, 0),
        );
        assert!(timed.unwrap().into_iter().eq(n..n + 10));
        assert!(waited.unwrap().into_iter().eq(n + 10..n + 20));
        let late = late.unwrap_err();
        let is = matches!(late, ClusterError::Task(TaskError::TimedOut { started: true, .. }));
        assert!(is, "{late:?}");
        assert!(failed.unwrap_err().to_string().contains("attempt 3"));
        n += 20;
    }
    assert!(cluster.drain(WATCHDOG).await);
}

fn the_time_of_day_jumps() {
    let server = Server::start();
    let book = Book::new("day");
    let (url, path) = (server.url(), book.text());
    let (bad, lease) = (("AIOPOOL_TEST_CLOCK", "1"), ("AIOPOOL_TEST_LEASE", "30"));
    let _node = Process::start(&[("AIOPOOL_TEST_NODE", url.as_str()), bad, lease]);
    let mut submitter = Process::start(&[
        ("AIOPOOL_TEST_SUBMITTER", url.as_str()),
        ("AIOPOOL_TEST_BOOK", path.as_str()),
        ("AIOPOOL_TEST_ONE", "clock"),
        bad,
        lease,
    ]);
    assert!(submitter.end("it ends").success());
    let attempts = book.attempts();
    assert!(attempts.len() >= 20, "{attempts:?}");
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "{attempts:?}");
    nothing_is_left(&server, "nothing is left");
}

/// A node whose clocks since the start of the machine are a year ahead of the submitter's keeps its
/// lease for as long as it lives, and is known to be dead when it does not.
fn machines_that_started_on_other_days() {
    let ahead = ["--time", "--boottime", "31536000", "--monotonic", "31536000"];
    let trial = Command::new("unshare").args(ahead).args(["--fork", "true"]).output();
    match trial {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            return impossible("a time namespace", &String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => return impossible("a time namespace", &error.to_string()),
    }
    let server = Server::start();
    let mut command = Command::new("unshare");
    // A kill of `unshare` kills the node.
    command.args(ahead).args(["--fork", "--kill-child", "--"]);
    command.arg(std::env::current_exe().unwrap());
    let lease = ("AIOPOOL_TEST_LEASE", "10");
    let first = Process::spawn(command, &[("AIOPOOL_TEST_NODE", server.url().as_str()), lease]);
    let cluster = connect(&server);
    let own = aiopool::remote::boottime_ns();
    let theirs = in_time(cluster.apply(since_the_start, 0)).unwrap();
    assert!(theirs > own + 31_000_000 * 1_000_000_000, "{theirs} is not ahead of {own}");
    let book = Book::new("other-days");
    // Longer than a lease, in one attempt.
    assert_eq!(in_time(cluster.apply(work, (book.text(), 1, 11_000))).unwrap(), 1);
    let again = cluster.with(TaskOptions::new().retries(1));
    let again = again.apply(long_at_first, (book.text(), 2, 600_000));
    until("it starts", || book.starts() == 2);
    first.signal("KILL");
    let _second = Process::node(server.url());
    assert_eq!(in_time(again).unwrap(), 2);
    let attempts = book.attempts();
    assert_eq!((attempts[&1].len(), attempts[&2].len()), (1, 2), "{attempts:?}");
    assert_eq!(attempts[&2][0].1, None, "the first attempt ran on: {attempts:?}");
    assert_eq!(in_time(cluster.apply(double, 1)).unwrap(), 2);
}

async fn since_the_start(_: u64) -> u64 {
    aiopool::remote::boottime_ns()
}
