//! A submitter, nodes and a real server, which are killed and stopped. Each attempt keeps a book: a
//! line when it starts and one when it ends.
//!
//! The program is node and submitter in one, because both have to be the same build.

mod server;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use aiopool::{TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError, Error, Node};
use futures_util::StreamExt;

use server::Server;

const LEASE: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    if let Ok(url) = std::env::var("AIOPOOL_TEST_NODE") {
        return node(&url);
    }
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let tests: [(&str, fn()); 7] = [
        ("every_verb_gives_what_the_pool_gives", every_verb_gives_what_the_pool_gives),
        ("errors_come_back_as_they_are", errors_come_back_as_they_are),
        ("a_killed_node_costs_what_ran_on_it", a_killed_node_costs_what_ran_on_it),
        ("a_stopped_agent_cannot_keep_its_code_alive", a_stopped_agent_cannot_keep_its_code_alive),
        ("a_killed_server_loses_and_doubles_nothing", a_killed_server_loses_and_doubles_nothing),
        ("a_name_is_taken_once", a_name_is_taken_once),
        ("a_dropped_task_ends_and_nothing_is_left", a_dropped_task_ends_and_nothing_is_left),
    ];
    let start = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        if !only.is_empty() && !only.iter().any(|only| name.contains(only.as_str())) {
            continue;
        }
        let begun = Instant::now();
        let ok = std::thread::spawn(test).join().is_ok();
        println!("test {name} ... {} ({:?})", if ok { "ok" } else { "FAILED" }, begun.elapsed());
        if ok { passed += 1 } else { failed += 1 }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 \
         filtered out; finished in {:.2}s",
        start.elapsed().as_secs_f32()
    );
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Serves until standard input ends.
fn node(url: &str) -> ExitCode {
    let mut node = Node::builder(url).pool("t").lease(LEASE).processes(2).child_concurrency(4);
    if let Ok(name) = std::env::var("AIOPOOL_TEST_NAME") {
        node = node.name(name);
    }
    let (gone, stop) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    let stop = async {
        let _ = stop.await;
    };
    match aiopool::block_on(node.run_until(stop)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A node in a process of its own; dropping it lets it drain, at most ten seconds.
struct Process(Child);

impl Process {
    fn node(server: &Server) -> Self {
        Self::spawn(server, None)
    }

    fn spawn(server: &Server, name: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env("AIOPOOL_TEST_NODE", server.url()).stdin(Stdio::piped());
        if let Some(name) = name {
            command.env("AIOPOOL_TEST_NAME", name).stderr(Stdio::piped());
        }
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        kill(&self.0.id().to_string(), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if self.0.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill(pid: &str, signal: &str) {
    let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
}

fn connect(server: &Server) -> Cluster {
    Cluster::builder(server.url()).pool("t").lease(LEASE).connect_blocking().unwrap()
}

/// Fails the test if `future` takes longer than two minutes.
fn in_time<F: Future>(future: F) -> F::Output {
    aiopool::block_on(async {
        tokio::time::timeout(Duration::from_secs(120), future).await.expect("it hangs")
    })
}

/// The file in which attempts keep their book.
struct Book(PathBuf);

impl Book {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiopool-book-{name}-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        Self(path)
    }

    fn text(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }

    /// By task: when each attempt started and, if it came to that, ended, in nanoseconds.
    fn attempts(&self) -> HashMap<u64, Vec<(u64, Option<u64>)>> {
        let mut all: HashMap<u64, Vec<(u64, Option<u64>)>> = HashMap::new();
        let mut open: HashMap<(u64, String), usize> = HashMap::new();
        for line in fs::read_to_string(&self.0).unwrap().lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [n, what, id, at] = parts[..] else { panic!("a torn line: {line}") };
            let (n, at): (u64, u64) = (n.parse().unwrap(), at.parse().unwrap());
            let attempts = all.entry(n).or_default();
            if what == "start" {
                open.insert((n, id.to_owned()), attempts.len());
                attempts.push((at, None));
            } else {
                attempts[open[&(n, id.to_owned())]].1 = Some(at);
            }
        }
        all
    }

    fn starts(&self) -> usize {
        self.attempts().values().map(Vec::len).sum()
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn note(book: &str, n: u64, what: &str, id: &str) {
    let now = aiopool::remote::boottime_ns();
    let mut file = fs::OpenOptions::new().append(true).open(Path::new(book)).unwrap();
    // One write: appended as a whole or not at all.
    file.write_all(format!("{n} {what} {id} {now}\n").as_bytes()).unwrap();
}

/// Starts, waits, ends.
async fn work((book, n, ms): (String, u64, u64)) -> u64 {
    let id = format!("{}-{}", std::process::id(), aiopool::remote::boottime_ns());
    note(&book, n, "start", &id);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    note(&book, n, "end", &id);
    n
}

async fn double(x: u64) -> u64 {
    x * 2
}

async fn add(a: u64, b: u64) -> u64 {
    a + b
}

async fn half(x: u64) -> Result<u64, String> {
    if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

async fn panics(x: u64) -> u64 {
    assert!(x == 0, "not zero");
    x
}

async fn dies(_: u64) -> u64 {
    std::process::abort()
}

/// Fails as long as the file is not there, and makes it.
async fn fails_once(path: String) -> Result<u64, String> {
    if Path::new(&path).exists() {
        return Ok(7);
    }
    fs::write(&path, "").map_err(|e| e.to_string())?;
    Err("not yet".to_owned())
}

async fn sleeps(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

fn every_verb_gives_what_the_pool_gives() {
    let server = Server::start();
    let _nodes = [Process::node(&server), Process::node(&server)];
    let cluster = connect(&server);
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
    });
    assert_eq!(cluster.apply(double, 4).wait().unwrap(), 8);
    let blocking: Vec<u64> =
        cluster.map(double, [5, 6]).into_blocking_iter().map(Result::unwrap).collect();
    assert_eq!(blocking, [10, 12]);
    assert!(cluster.drain_blocking(Duration::from_secs(20)));
    let late = cluster.apply(double, 1).wait().unwrap_err();
    assert!(matches!(late, ClusterError::Task(TaskError::PoolClosed { .. })), "{late:?}");
}

fn errors_come_back_as_they_are() {
    let server = Server::start();
    let _node = Process::node(&server);
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
        let flag = std::env::temp_dir().join(format!("aiopool-once-{}", std::process::id()));
        let again = TaskOptions::new().retries(1).retry_on_error(true);
        let path = flag.to_str().unwrap().to_owned();
        assert_eq!(cluster.with(again).try_apply(fails_once, path).await.unwrap(), 7);
        fs::remove_file(flag).unwrap();
    });
}

fn a_killed_node_costs_what_ran_on_it() {
    let server = Server::start();
    let (first, _second) = (Process::node(&server), Process::node(&server));
    let cluster = connect(&server);
    let book = Book::new("killed");
    in_time(async {
        // Without retries: lost or done, and started at most once.
        let items = (0..60).map(|n| (book.text(), n, 150));
        let run = cluster.map(work, items).results();
        let killer = async {
            while book.starts() < 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            first.signal("KILL");
        };
        let (results, ()) = tokio::join!(run, killer);
        let lost = results.iter().filter(|result| result.is_err()).count();
        assert!((1..=8).contains(&lost), "{lost} of at most 8 that ran there");
        for (n, result) in results.iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(*value, n as u64),
                Err(ClusterError::NodeLost { attempt: 1, .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(book.attempts().values().all(|attempts| attempts.len() == 1));
        // With retries: all done, and no two attempts overlap.
        let third = Process::node(&server);
        let book = Book::new("retried");
        let items = (0..60).map(|n| (book.text(), n, 150));
        let run = cluster.with(TaskOptions::new().retries(2)).map(work, items).results();
        let killer = async {
            while book.starts() < 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            third.signal("KILL");
        };
        let (results, ()) = tokio::join!(run, killer);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        for (n, attempts) in book.attempts() {
            assert!(attempts.len() <= 3, "{n}: {attempts:?}");
            assert!(attempts.last().unwrap().1.is_some(), "{n}: {attempts:?}");
        }
    });
}

fn a_stopped_agent_cannot_keep_its_code_alive() {
    let server = Server::start();
    let first = Process::node(&server);
    let cluster = connect(&server);
    let book = Book::new("stopped");
    in_time(async {
        let options = TaskOptions::new().retries(1);
        // It would end long after the lease.
        let task = cluster.with(options).apply(work, (book.text(), 1, 12_000));
        let second = async {
            while book.starts() < 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            first.signal("STOP");
            Process::node(&server)
        };
        let (result, _second) = tokio::join!(task, second);
        assert_eq!(result.unwrap(), 1);
        let attempts = book.attempts()[&1].clone();
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        assert_eq!(attempts[0].1, None, "the first attempt ran on: {attempts:?}");
        first.signal("CONT");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(book.starts(), 2, "the agent that was stopped starts nothing of its past");
        // It has begun a new life and takes tasks.
        assert_eq!(cluster.apply(double, 1).await.unwrap(), 2);
    });
}

fn a_killed_server_loses_and_doubles_nothing() {
    let mut server = Server::start();
    let _nodes = [Process::node(&server), Process::node(&server)];
    let cluster = connect(&server);
    let book = Book::new("server");
    in_time(async {
        let items = (0..400).map(|n| (book.text(), n, 20));
        let run = cluster.map(work, items).window(64).results();
        let killer = async {
            for round in 1..=3 {
                while book.starts() < round * 90 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                server.kill();
                tokio::time::sleep(Duration::from_millis(200)).await;
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

fn a_name_is_taken_once() {
    let server = Server::start();
    let _first = Process::spawn(&server, Some("one"));
    let cluster = connect(&server);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
    let node = Node::builder(server.url()).pool("t").lease(LEASE).processes(1).name("one");
    let error = in_time(node.run_until(std::future::pending())).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { name, .. } if name == "one"), "{error:?}");
    let wrong = Node::builder(server.url()).name("a.b");
    let error = in_time(wrong.run_until(std::future::pending())).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { name: "name", .. }), "{error:?}");
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
    let _node = Process::node(&server);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
    assert_eq!(book.starts(), 0, "a cancelled task that nobody had claimed never runs");
    assert!(cluster.drain_blocking(Duration::from_secs(20)));
    drop(cluster);
    let left = in_time(aiopool_cluster::observe(&server.url(), "t")).unwrap();
    assert_eq!((left.messages, left.jobs.len()), (0, 0), "{left:?}");
    assert_eq!(left.nodes.iter().filter(|node| node.alive).count(), 1, "{left:?}");
}
