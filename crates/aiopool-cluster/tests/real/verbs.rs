//! Every verb, every outcome, and what is left afterwards.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aiopool::{Part, TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError};
use aiopool_nats::Server;
use futures_util::StreamExt;

use crate::book::{Book, note, size, ticks, work};
use crate::{LEASE, Process, Test, WATCHDOG, connect, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("every_verb_gives_what_the_pool_gives", every_verb_gives_what_the_pool_gives),
    ("an_awaited_map_gives_the_first_error_at_once", an_awaited_map_gives_the_first_error_at_once),
    ("as_completed_after_next_loses_nothing", as_completed_after_next_loses_nothing),
    ("options_mean_what_they_mean_on_one_machine", options_mean_what_they_mean_on_one_machine),
    ("errors_come_back_as_they_are", errors_come_back_as_they_are),
    ("a_dropped_task_ends_and_nothing_is_left", a_dropped_task_ends_and_nothing_is_left),
    ("a_cancelled_task_is_stopped_on_its_node", a_cancelled_task_is_stopped_on_its_node),
    (
        "a_detached_task_has_its_place_until_it_is_over",
        a_detached_task_has_its_place_until_it_is_over,
    ),
    ("what_is_counted_is_what_came", what_is_counted_is_what_came),
    ("urgent_tasks_go_first", urgent_tasks_go_first),
    ("garbage_harms_nobody", garbage_harms_nobody),
];

pub async fn double(x: u64) -> u64 {
    x * 2
}

pub async fn add(a: u64, b: u64) -> u64 {
    a + b
}

pub async fn half(x: u64) -> Result<u64, String> {
    if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

pub async fn share(a: u64, b: u64) -> Result<u64, String> {
    a.checked_div(b).ok_or_else(|| "by nothing".to_owned())
}

pub async fn below(x: u64) -> Vec<u64> {
    (0..x).collect()
}

/// The numbers from `from` to 9, three at a time.
pub async fn by_threes(from: u64) -> Part<u64, u64> {
    let end = (from + 3).min(10);
    let values = (from..end).collect();
    if end == 10 { Part::last(values) } else { Part::more(values, end) }
}

/// Yields its number twice, if that is not odd.
pub async fn even_parts(x: u64) -> Result<Part<u64, u64>, String> {
    half(x).await.map(|_| Part::last(vec![x, x]))
}

pub async fn even_below(x: u64) -> Result<Vec<u64>, String> {
    if x.is_multiple_of(2) { Ok((0..x).collect()) } else { Err(format!("{x} is odd")) }
}

/// Writes its attempt and its fence into the book, and holds its worker past any time-out, so that
/// nothing but a kill ends it, as often as is asked for.
pub async fn holds((book, times): (String, u64)) -> u64 {
    let task = aiopool::TaskContext::current().unwrap();
    note(&book, 1, "start", &task.fence().to_string());
    if u64::from(task.attempt()) <= times {
        std::thread::sleep(Duration::from_secs(600));
    }
    note(&book, 1, "end", &task.fence().to_string());
    task.fence()
}

/// Fails in each attempt, with its number.
pub async fn fails(_: u64) -> Result<u64, String> {
    let attempt = aiopool::TaskContext::current().map_or(0, |task| task.attempt());
    Err(format!("attempt {attempt}"))
}

/// Runs in a worker that has no other task, or says which one it met.
pub async fn meets((folder, ms): (String, u64)) -> u64 {
    let mark = Path::new(&folder).join(std::process::id().to_string());
    let beside = fs::File::create_new(&mark).is_err();
    tokio::time::sleep(Duration::from_millis(ms)).await;
    if !beside {
        let _ = fs::remove_file(&mark);
    }
    u64::from(beside)
}

pub async fn panics(x: u64) -> u64 {
    assert!(x == 0, "not zero");
    x
}

pub async fn dies(_: u64) -> u64 {
    std::process::abort()
}

/// Fails as long as the file is not there, and makes it.
pub async fn fails_once(path: String) -> Result<u64, String> {
    if Path::new(&path).exists() {
        return Ok(7);
    }
    fs::write(&path, "").map_err(|e| e.to_string())?;
    Err("not yet".to_owned())
}

pub async fn sleeps(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

fn every_verb_gives_what_the_pool_gives() {
    let server = Server::start();
    let cluster = connect(&server);
    let early = in_time(async {
        let wait = Duration::from_millis(500);
        tokio::time::timeout(wait, cluster.ready()).await
    });
    assert!(early.is_err(), "there is no node: {early:?}");
    let _nodes = [Process::node(server.url()), Process::node(server.url())];
    cluster.ready_blocking().unwrap();
    in_time(async {
        assert_eq!(cluster.apply(double, 21).await.unwrap(), 42);
        assert_eq!(cluster.try_apply(half, 8).await.unwrap(), 4);
        let doubled = cluster.map(double, 0..3000).await.unwrap();
        assert!(doubled.iter().enumerate().all(|(i, &x)| x == 2 * i as u64));
        assert_eq!(cluster.try_map(half, [2, 4]).await.unwrap(), [1, 2]);
        assert_eq!(cluster.starmap(add, [(1, 2), (3, 4)]).await.unwrap(), [3, 7]);
        let items = futures_util::stream::iter([1_u64, 2]);
        assert_eq!(cluster.map_stream(double, items).await.unwrap(), [2, 4]);
        let mut any: Vec<u64> =
            cluster.map(double, 0..50).as_completed().window(7).map(Result::unwrap).collect().await;
        any.sort_unstable();
        assert_eq!(any, (0..100).step_by(2).collect::<Vec<u64>>());
        let mixed = cluster.try_map(half, [2, 3]).results().await;
        assert!(mixed[0].is_ok() && mixed[1].is_err());
        assert_eq!(cluster.apply_star(add, (20, 1)).await.unwrap(), 21);
        assert_eq!(cluster.try_apply_star(share, (9, 3)).await.unwrap(), 3);
        let flat: Vec<u64> = cluster.map_flat(below, 0..5).map(Result::unwrap).collect().await;
        assert_eq!(flat, [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]);
        let mut tried = cluster.try_map_flat(even_below, [2, 3, 1]).as_completed().window(1);
        assert_eq!(tried.next().await.unwrap().unwrap(), 0);
        assert_eq!(tried.next().await.unwrap().unwrap(), 1);
        assert!(tried.next().await.unwrap().is_err() && tried.next().await.unwrap().is_err());
        assert!(tried.next().await.is_none());
        let mut parts: Vec<u64> =
            cluster.map_parts(by_threes, [0, 5]).window(1).map(Result::unwrap).collect().await;
        assert_eq!(parts[..10], (0..10).collect::<Vec<u64>>());
        parts.drain(..10);
        assert_eq!(parts, (5..10).collect::<Vec<u64>>());
        let tried: Vec<_> = cluster.try_map_parts(even_parts, [2, 3]).collect().await;
        assert_eq!(tried.iter().filter(|value| matches!(value, Ok(2))).count(), 2);
        assert_eq!(tried.len(), 3);
        let (says, heard) = std::sync::mpsc::channel();
        let told = cluster.map(double, 0..100).progress(move |now| says.send(now).unwrap());
        told.await.unwrap();
        let heard: Vec<_> = heard.iter().map(|now| (now.done, now.total)).collect();
        assert!(heard.is_sorted() && heard.iter().all(|now| now.1 == Some(100)), "{heard:?}");
        assert_eq!(heard.last(), Some(&(100, Some(100))));
        let many = cluster.apply_many(double, [3, 4, 5]).join_all().await;
        assert_eq!(many.into_iter().map(Result::unwrap).collect::<Vec<u64>>(), [6, 8, 10]);
        let mut set = cluster.task_set();
        assert_eq!((set.apply(double, 4), set.try_apply(half, 14)), (0, 1));
        while let Some((number, result)) = set.join_next().await {
            assert_eq!(result.unwrap(), [8, 7][number]);
        }
        assert!(set.is_empty());
        // More than there is room for, and called off: each has its outcome.
        let mut set = cluster.apply_many(sleeps, vec![60_000; 5000]);
        set.abort_all();
        assert_eq!(set.len(), 5000);
        let off = set.join_all().await;
        let cancelled =
            |r: &Result<u64, _>| matches!(r, Err(ClusterError::Task(TaskError::Cancelled)));
        assert!(off.len() == 5000 && off.iter().all(cancelled));
    });
    assert_eq!(cluster.apply(double, 4).wait().unwrap(), 8);
    let blocking: Vec<u64> =
        cluster.map(double, [5, 6]).into_blocking_iter().map(Result::unwrap).collect();
    assert_eq!(blocking, [10, 12]);
    assert!(cluster.drain_blocking(WATCHDOG));
    let late = cluster.apply(double, 1).wait().unwrap_err();
    assert!(matches!(late, ClusterError::Task(TaskError::PoolClosed { .. })), "{late:?}");
}

/// Never ends for 0, and is [`half`] for the rest.
async fn half_or_never(x: u64) -> Result<u64, String> {
    if x == 0 { std::future::pending().await } else { half(x).await }
}

fn an_awaited_map_gives_the_first_error_at_once() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let error = in_time(async { cluster.try_map(half_or_never, [0, 3, 2]).await }).unwrap_err();
    assert!(error.to_string().contains("3 is odd"), "{error}");
    until("the rest is called off", || cluster.stats().outstanding == 0);
}

fn as_completed_after_next_loses_nothing() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        let mut map = cluster.map(double, 0..50).window(8);
        assert_eq!(map.next().await.unwrap().unwrap(), 0);
        let mut rest: Vec<u64> = map.as_completed().map(Result::unwrap).collect().await;
        rest.sort_unstable();
        assert_eq!(rest, (2..100).step_by(2).collect::<Vec<u64>>());
        // A list has what was not given, in the order of the items.
        let mut map = cluster.map(double, 0..50).window(8);
        assert_eq!(map.next().await.unwrap().unwrap(), 0);
        assert_eq!(map.await.unwrap(), (2..100).step_by(2).collect::<Vec<u64>>());
    });
}

fn options_mean_what_they_mean_on_one_machine() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let book = Book::new("options");
    in_time(async {
        // The worker has to be killed, and only then comes the next attempt.
        let late = TaskOptions::new().timeout(Duration::from_secs(2)).retries(2);
        let again = cluster.with(late.retry_on_timeout(true)).apply(holds, (book.text(), 2)).await;
        assert_eq!(again.unwrap(), 3, "the fence of the third attempt");
        let starts: Vec<String> = book.notes();
        assert_eq!(starts, ["start 1", "start 2", "start 3", "end 3"]);
        let once = cluster.with(late).apply(holds, (book.text(), 9)).await.unwrap_err();
        assert!(
            matches!(once, ClusterError::Task(TaskError::TimedOut { started: true, .. })),
            "{once:?}"
        );
        assert_eq!(book.notes().len(), 5, "a retry was not asked for");
        // A predicate decides, about errors and about time-outs.
        let twice = TaskOptions::new().retries(5).jitter(true).backoff(Duration::from_millis(20));
        let twice = twice
            .retry_if(|error| matches!(error, TaskError::Failed(f) if f.message() == "attempt 1"));
        let error = cluster.with(twice).try_apply(fails, 0).await.unwrap_err();
        let message = |error: &ClusterError| match error {
            ClusterError::Task(TaskError::Failed(failure)) => failure.message().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(message(&error), "attempt 2");
        let late = late.retry_if(|error| matches!(error, TaskError::TimedOut { .. }));
        assert_eq!(cluster.with(late).apply(holds, (book.text(), 1)).await.unwrap(), 2);
        let error = cluster.with(late).try_apply(fails, 0).await.unwrap_err();
        assert_eq!(message(&error), "attempt 1");
        let panics = TaskOptions::new().retries(3).retry_if(|_| panic!("a predicate of a test"));
        let error = cluster.with(panics).try_apply(fails, 0).await.unwrap_err();
        assert_eq!(message(&error), "attempt 1");
        let lost = TaskOptions::new().retries(1);
        let error = cluster.with(lost).apply(dies, 0).await.unwrap_err();
        let ClusterError::Task(TaskError::WorkerLost(lost)) = &error else { panic!("{error:?}") };
        assert_eq!((lost.attempt, lost.attempts_allowed), (2, 2), "{error}");
    });
    let folder = std::env::temp_dir().join(format!("aiopool-alone-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let item = (folder.to_str().unwrap().to_owned(), 30);
    in_time(async {
        let alone = cluster.with(TaskOptions::new().alone(true));
        let beside = alone.map(meets, vec![item.clone(); 16]).await.unwrap();
        assert_eq!(beside, vec![0; 16]);
        // And without it three of them meet in two workers.
        let long = (item.0.clone(), 4_000);
        let beside: u64 = cluster.map(meets, vec![long; 3]).await.unwrap().iter().sum();
        assert!(beside > 0);
    });
    fs::remove_dir_all(&folder).unwrap();
}

fn errors_come_back_as_they_are() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let task = |error: ClusterError| match error {
        ClusterError::Task(error) => error,
        other => panic!("{other:?}"),
    };
    in_time(async {
        let error = task(cluster.try_apply(half, 3).await.unwrap_err());
        assert!(matches!(&error, TaskError::Failed(f) if f.message() == "3 is odd"), "{error:?}");
        let error = task(cluster.apply(panics, 1).await.unwrap_err());
        assert!(matches!(&error, TaskError::Panicked(p) if p.message() == "not zero"), "{error:?}");
        let error = task(cluster.apply(dies, 1).await.unwrap_err());
        assert!(error.worker_lost().is_some(), "{error:?}");
        let short = TaskOptions::new().timeout(Duration::from_millis(50));
        let error = task(cluster.with(short).apply(sleeps, 60_000).await.unwrap_err());
        assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
        let error = cluster.apply_named("", "").await.unwrap_err();
        assert!(error.to_string().contains("1 to 224 bytes"), "{error}");
        let flag = std::env::temp_dir().join(format!("aiopool-once-{}", std::process::id()));
        let again = TaskOptions::new().retries(1).retry_on_error(true);
        let path = flag.to_str().unwrap().to_owned();
        assert_eq!(cluster.with(again).try_apply(fails_once, path).await.unwrap(), 7);
        fs::remove_file(flag).unwrap();
    });
}

fn a_dropped_task_ends_and_nothing_is_left() {
    let server = Server::start();
    let cluster = connect(&server);
    let book = Book::new("dropped");
    // No node: the tasks wait.
    let tasks: Vec<_> = (0..10).map(|n| cluster.apply(work, (book.text(), n, 1))).collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(tasks);
    let expired = TaskOptions::new().queue_ttl(Duration::from_millis(200));
    let error = cluster.with(expired).apply(double, 1).wait().unwrap_err();
    assert!(
        matches!(error, ClusterError::Task(TaskError::TimedOut { started: false, .. })),
        "{error:?}"
    );
    let _node = Process::node(server.url());
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
    assert_eq!(book.starts(), 0, "a cancelled task that nobody had claimed never runs");
    assert!(cluster.drain_blocking(WATCHDOG));
    drop(cluster);
    nothing_is_left(&server, "nothing is left");
    let left = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
    assert_eq!(left.nodes.iter().filter(|node| node.alive).count(), 1, "{left:?}");
}

fn a_cancelled_task_is_stopped_on_its_node() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    // Dropped alone, and with its whole cluster.
    for name in ["cancelled", "terminated"] {
        let book = Book::new(name);
        let cluster = connect(&server);
        let task = cluster.apply(ticks, book.text());
        until("it starts", || size(&book.0) > 0);
        if name == "cancelled" {
            drop(task);
        } else {
            drop(cluster);
        }
        let mut before = 0;
        until("it is stopped", || {
            std::thread::sleep(Duration::from_millis(500));
            std::mem::replace(&mut before, size(&book.0)) == size(&book.0)
        });
    }
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
}

fn a_detached_task_has_its_place_until_it_is_over() {
    let server = Server::start();
    let cluster = Cluster::builder(server.url()).pool("t").lease(LEASE).capacity(4);
    let cluster = cluster.connect_blocking().unwrap();
    for x in 0..4 {
        cluster.submit_now(double, &x).unwrap().detach().unwrap();
    }
    assert_eq!(cluster.stats().outstanding, 4);
    // No node is there, so that none of them can be over.
    let full = cluster.submit_now(double, &4).unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    let _node = Process::node(server.url());
    assert_eq!(in_time(cluster.apply(double, 4)).unwrap(), 8);
    until("all are over", || cluster.stats().outstanding == 0);
}

fn what_is_counted_is_what_came() {
    let server = Server::start();
    let cluster = connect(&server);
    let queued = cluster.apply(sleeps, 600_000);
    until("one is queued", || cluster.stats().queued == 1);
    let node = Process::named(server.url(), "counted");
    until("it runs", || cluster.stats().running == 1 && cluster.stats().queued == 0);
    in_time(async {
        cluster.map(double, 0..300).await.unwrap();
        cluster.try_apply(half, 3).await.unwrap_err();
        cluster.apply(panics, 1).await.unwrap_err();
        let short = TaskOptions::new().timeout(Duration::from_millis(50));
        cluster.with(short).apply(sleeps, 600_000).await.unwrap_err();
        let again = TaskOptions::new().retries(2).retry_on_error(true);
        cluster.with(again).try_map(fails, [1, 2]).results().await;
        let mut off = cluster.apply(sleeps, 600_000);
        off.cancel();
        off.await.unwrap_err();
    });
    node.signal("KILL");
    // One of its name tells at once that the other has gone.
    let _next = Process::named(server.url(), "counted");
    in_time(queued).unwrap_err();
    cluster.terminate();
    in_time(cluster.join());
    let came = cluster.stats();
    assert_eq!((came.ok, came.failed, came.panicked, came.timed_out), (300, 3, 1, 1), "{came:?}");
    assert_eq!((came.cancelled, came.node_lost, came.worker_lost), (1, 1, 0), "{came:?}");
    assert_eq!((came.other, came.pool_closed, came.retries), (0, 0, 4), "{came:?}");
    assert_eq!((came.queued, came.running, came.outstanding), (0, 0, 0), "{came:?}");
    assert_eq!(came.submitted, 307, "{came:?}");
}

fn urgent_tasks_go_first() {
    let server = Server::start();
    let cluster = connect(&server);
    let book = Book::new("urgent");
    let with = |priority| cluster.with(TaskOptions::new().priority(priority));
    let mut tasks: Vec<_> = (0..30).map(|n| with(3).apply(work, (book.text(), n, 20))).collect();
    tasks.extend((30..40).map(|n| with(0).apply(work, (book.text(), n, 20))));
    let refused = with(4).apply(double, 1).wait().unwrap_err();
    assert!(refused.to_string().contains("0 to 3"), "{refused}");
    // All are there before the node is, so that it finds both queues full.
    until("all are there", || {
        in_time(aiopool_cluster::observe(server.url(), "t")).unwrap().messages == 40
    });
    let _node = Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_PROCESSES", "1"),
        ("AIOPOOL_TEST_TASKS", "2"),
    ]);
    in_time(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    let mut starts: Vec<(u64, u64)> =
        book.attempts().into_iter().map(|(n, attempts)| (attempts[0].0, n)).collect();
    starts.sort_unstable();
    let last_urgent = starts.iter().rposition(|&(_, n)| n >= 30).unwrap();
    let before = starts[..last_urgent].iter().filter(|&&(_, n)| n < 30).count();
    assert!(before <= 8, "{before} of 30 ran before the urgent ones were through: {starts:?}");
}

fn garbage_harms_nobody() {
    let server = Server::start();
    let _node = Process::named(server.url(), "n");
    let cluster = connect(&server);
    in_time(async {
        assert_eq!(cluster.apply(double, 1).await.unwrap(), 2);
        let client = async_nats::connect(server.url()).await.unwrap();
        let build: String = aiopool::remote::build().unwrap().chars().take(16).collect();
        let job = "0123456789abcdef0123456789abcdef";
        let subjects = [
            format!("aiopool.t.q.0.{build}.{job}.0.1"),
            format!("aiopool.t.q.9.{build}.{job}.0.1"),
            format!("aiopool.t.q.0.{build}.nobody.0.1"),
            format!("aiopool.t.q.0.{build}.{job}.7.1"),
            format!("aiopool.t.q.0.{build}.x"),
            format!("aiopool.t.w.0.{build}.{job}.0.1"),
            format!("aiopool.t.b.{job}.0.1.i.0"),
            "aiopool.t.x.n".to_owned(),
            "$KV.AIOPOOL_NODES.t.n2".to_owned(),
            "$KV.AIOPOOL_JOBS.t.nothing".to_owned(),
            format!("$KV.AIOPOOL_JOBS.t.{job}"),
        ];
        for payload in [&b""[..], b"garbage", &[0xff; 3000], &[0; 40], &[1; 40]] {
            for subject in &subjects {
                client.publish(subject.clone(), payload.to_vec().into()).await.unwrap();
            }
            client.flush().await.unwrap();
            assert_eq!(cluster.apply(double, 2).await.unwrap(), 4);
        }
        // A node and a job that were there before.
        let doubled = cluster.map(double, 0..200).await.unwrap();
        assert_eq!(doubled.len(), 200);
        aiopool_cluster::observe(server.url(), "t").await.unwrap();
    });
}
