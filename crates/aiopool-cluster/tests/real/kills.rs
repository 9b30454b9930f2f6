//! Nodes, agents and servers that are killed and stopped.

use std::process::Command;
use std::time::Duration;

use aiopool::{TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError, Error, Node, NodeInfo, observe};
use aiopool_nats::Server;

use crate::book::{Book, long_at_first, work};
use crate::verbs::{double, holds};
use crate::{BRIEFLY, LEASE, Process, SHORT, Test, connect, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("a_killed_node_costs_what_ran_on_it", a_killed_node_costs_what_ran_on_it),
    ("a_stopped_agent_cannot_keep_its_code_alive", a_stopped_agent_cannot_keep_its_code_alive),
    ("a_stopped_zygote_cannot_keep_its_code_alive", a_stopped_zygote_cannot_keep_its_code_alive),
    ("a_stopped_submitter_loses_its_job", a_stopped_submitter_loses_its_job),
    ("a_stopped_worker_is_replaced_at_its_time_out", a_stopped_worker_is_replaced_at_its_time_out),
    ("a_killed_server_loses_and_doubles_nothing", a_killed_server_loses_and_doubles_nothing),
    ("a_restarted_node_frees_its_tasks_at_once", a_restarted_node_frees_its_tasks_at_once),
    ("a_name_is_taken_once", a_name_is_taken_once),
    ("sigterm_drains_a_node_of_a_users_own", sigterm_drains_a_node_of_a_users_own),
    ("node_main_says_what_it_cannot_use", node_main_says_what_it_cannot_use),
    ("a_retry_on_another_node_has_a_greater_fence", a_retry_on_another_node_has_a_greater_fence),
    ("a_node_that_cannot_start_takes_no_task", a_node_that_cannot_start_takes_no_task),
    ("a_node_whose_workers_all_die_stops_pulling", a_node_whose_workers_all_die_stops_pulling),
];

fn a_killed_node_costs_what_ran_on_it() {
    let server = Server::start();
    let first = Process::mortal(server.url());
    let cluster = connect(&server);
    let book = Book::new("killed");
    in_time(async {
        // Without retries: lost or done, and started at most once. The first four run until the kill.
        let items = (0..60).map(|n| (book.text(), n, if n < 4 { 600_000 } else { 150 }));
        let run = cluster.map(work, items).results();
        let killer = async {
            while book.starts() < 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            first.signal("KILL");
            Process::node(server.url())
        };
        let (results, _second) = tokio::join!(run, killer);
        let lost = results.iter().filter(|result| result.is_err()).count();
        assert!((4..=8).contains(&lost), "{lost} of at most 8 that ran there");
        for (n, result) in results.iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(*value, n as u64),
                Err(ClusterError::NodeLost { attempt: 1, .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(book.attempts().values().all(|attempts| attempts.len() == 1));
        // With retries: all done, and no two attempts overlap.
        let third = Process::mortal(server.url());
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
    let first = Process::mortal(server.url());
    let cluster = connect(&server);
    let book = Book::new("stopped");
    in_time(async {
        let options = TaskOptions::new().retries(1);
        // It would end long after the lease.
        let task = cluster.with(options).apply(long_at_first, (book.text(), 1, 600_000));
        let second = async {
            while book.starts() < 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            first.signal("STOP");
            Process::node(server.url())
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

/// For longer than its job's lease: the nodes end the job and its code.
fn a_stopped_submitter_loses_its_job() {
    let server = Server::start();
    let _nodes = [Process::node(server.url()), Process::janitor(server.url())];
    let book = Book::new("stopped-submitter");
    let path = book.text();
    let submitter = Process::start(&[
        ("AIOPOOL_TEST_SUBMITTER", server.url().as_str()),
        ("AIOPOOL_TEST_BOOK", path.as_str()),
        ("AIOPOOL_TEST_ONE", "works"),
    ]);
    until("it runs", || book.starts() == 1);
    submitter.signal("STOP");
    nothing_is_left(&server, "its job is ended");
    let mut submitter = submitter;
    submitter.signal("CONT");
    // Its task ends with an error, and so does it, long before the task would.
    submitter.end("it learns of it");
    assert_eq!(book.starts(), 1);
    let cluster = connect(&server);
    in_time(async { assert_eq!(cluster.apply(double, 1).await.unwrap(), 2) });
}

fn a_stopped_worker_is_replaced_at_its_time_out() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let book = Book::new("stopped-worker");
    let options = TaskOptions::new().timeout(Duration::from_secs(4)).retries(1);
    let options = options.retry_on_timeout(true);
    let task = cluster.with(options).apply(long_at_first, (book.text(), 1, 600_000));
    until("it starts", || book.starts() == 1);
    let worker: u32 = book.notes()[0].split([' ', '-']).nth(1).unwrap().parse().unwrap();
    crate::kill(&worker.to_string(), "STOP");
    in_time(async { assert_eq!(task.await.unwrap(), 1) });
    let attempts = book.attempts()[&1].clone();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].1, None, "the first attempt ran on: {attempts:?}");
    assert!(!lives(worker));
}

/// What the kernel says of a process: its state and its parent; `None` where there is none.
fn state(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process exists and is not dead.
fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| !['Z', 'X'].contains(&state))
}

/// Agent and zygote are stopped, so that nothing in user space is left that would end the code.
fn a_stopped_zygote_cannot_keep_its_code_alive() {
    let server = Server::start();
    let cluster = connect(&server);
    let options = TaskOptions::new().retries(1);
    let first = Process::mortal(server.url());
    let book = Book::new("zygote");
    let task = cluster.with(options).apply(long_at_first, (book.text(), 1, 600_000));
    until("it starts", || book.starts() == 1);
    let worker: u32 = book.notes()[0].split([' ', '-']).nth(1).unwrap().parse().unwrap();
    let (_, zygote) = state(worker).unwrap();
    crate::kill(&zygote.to_string(), "STOP");
    first.signal("STOP");
    let _second = Process::node(server.url());
    in_time(async { assert_eq!(task.await.unwrap(), 1) });
    let attempts = book.attempts()[&1].clone();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].1, None, "the first attempt ran on: {attempts:?}");
    assert!(!lives(zygote) && !lives(worker), "the kernel ends both");
    first.signal("CONT");
}

fn a_killed_server_loses_and_doubles_nothing() {
    let mut server = Server::start();
    let _nodes = [Process::node(server.url()), Process::node(server.url())];
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
    // It is seen to live when it renews its lease, which it does more often the shorter that is.
    let _first = Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_NAME", "one"),
        BRIEFLY,
    ]);
    let cluster = connect(&server);
    cluster.ready_blocking().unwrap();
    let node = Node::builder(server.url()).pool("t").lease(SHORT).processes(1).name("one");
    let error = in_time(node.run_until(std::future::pending())).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { name, .. } if name == "one"), "{error:?}");
    let wrong = Node::builder(server.url()).name("a.b");
    let error = in_time(wrong.run_until(std::future::pending())).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { name: "name", .. }), "{error:?}");
}

fn a_restarted_node_frees_its_tasks_at_once() {
    let server = Server::start();
    let book = Book::new("restarted");
    // Longer than any wait of this test: only the lock tells of the end.
    let start = || {
        Process::start(&[
            ("AIOPOOL_TEST_NODE", server.url().as_str()),
            ("AIOPOOL_TEST_NAME", "again"),
            ("AIOPOOL_TEST_LEASE", "150"),
        ])
    };
    let first = start();
    let cluster = connect(&server);
    let ask = TaskOptions::new().retries(1);
    let again = cluster.with(ask).apply(long_at_first, (book.text(), 1, 600_000));
    let once = cluster.apply(work, (book.text(), 2, 600_000));
    until("both run", || book.starts() == 2);
    // The agent alone: its zygote and workers follow by themselves.
    first.signal("KILL");
    let _second = start();
    in_time(async {
        assert_eq!(again.await.unwrap(), 1);
        let error = once.await.unwrap_err();
        assert!(matches!(error, ClusterError::NodeLost { attempt: 1, .. }), "{error:?}");
    });
    let attempts = &book.attempts()[&1];
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].1, None, "the first attempt ran on: {attempts:?}");
}

fn a_retry_on_another_node_has_a_greater_fence() {
    let server = Server::start();
    let first = Process::mortal(server.url());
    let cluster = connect(&server);
    let book = Book::new("fence");
    let task = cluster.with(TaskOptions::new().retries(1)).apply(holds, (book.text(), 1));
    until("it starts", || !book.notes().is_empty());
    first.signal("KILL");
    let _second = Process::node(server.url());
    let fence = in_time(task).unwrap();
    let before: u64 = book.notes()[0].strip_prefix("start ").unwrap().parse().unwrap();
    assert!(fence > before, "{before}, then {fence}");
}

/// This program as a node of a user's own, with arguments.
fn own_node(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env("AIOPOOL_TEST_OWN_NODE", "");
    // The run of the tests may be a background job, whose children ignore signals.
    aiopool_testing::interruptible(&mut command);
    command
}

fn sigterm_drains_a_node_of_a_users_own() {
    let server = Server::start();
    let url = server.url();
    let start = || {
        let places = ["--processes=1", "--child-concurrency", "2", "--lease", "6"];
        let place = ["--nats", url.as_str(), "--pool", "t", "--name", "own"];
        Process::spawn(own_node(&[&place[..], &places].concat()), &[])
    };
    let cluster = connect(&server);
    let book = Book::new("drained-node");
    let mut node = start();
    let task = cluster.apply(work, (book.text(), 1, 2_000));
    until("it starts", || book.starts() == 1);
    node.signal("TERM");
    assert_eq!(in_time(task).unwrap(), 1);
    assert!(node.end("the node leaves").success());
    // A second signal does not wait for what runs.
    let mut node = start();
    let task = cluster.apply(work, (book.text(), 2, 600_000));
    until("it starts", || book.starts() == 2);
    node.signal("TERM");
    until("it takes no more", || {
        let seen = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
        seen.nodes.iter().any(|node| node.name == "own" && node.draining)
    });
    let mut status = None;
    until("it ends", || {
        node.signal("TERM");
        status = node.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
    let error = in_time(task).unwrap_err();
    assert!(matches!(error, ClusterError::NodeLost { .. }), "{error:?}");
}

fn node_main_says_what_it_cannot_use() {
    let said = |arguments: &[&str]| {
        let output = own_node(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for (arguments, what) in [
        (&["--port", "1"][..], "--port is no option"),
        (&["here"], "here is no option"),
        (&["--lease"], "--lease needs a value"),
        (&["--lease", "long"], "--lease long: invalid digit"),
        (&["--lease", "3"], "lease = 3s: 4 to 150 seconds"),
        (&["--processes=0"], "--processes 0: number would be zero"),
        (&["--child-concurrency", "-1"], "--child-concurrency -1: invalid digit"),
        (&["--name", "a.b"], "name = a.b: 1 to 32"),
        (&["--pool", "a.b"], "pool = a.b: 1 to 32"),
    ] {
        let (status, stdout, stderr) = said(arguments);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(what), "{stderr}");
    }
    let (status, stdout, _) = said(&["--help"]);
    assert!(status == Some(0) && stdout.contains("--child-concurrency N"), "{stdout}");
    let mut gone = Server::start();
    gone.kill();
    let (status, _, stderr) = said(&["--nats", &gone.url()]);
    assert!(status == Some(1) && stderr.contains("cannot connect"), "{status:?}: {stderr}");
}

/// A node whose workers are of a program of their own, and a handle that is of their version.
fn by_name(server: &Server, name: &str, bad: &str) -> Process {
    Process::start(&[
        ("AIOPOOL_TEST_NODE", server.url().as_str()),
        ("AIOPOOL_TEST_NAME", name),
        ("AIOPOOL_TEST_VERSION", "7"),
        ("AIOPOOL_TEST_BAD", bad),
    ])
}

fn of_their_version(server: &Server) -> Cluster {
    let cluster = Cluster::builder(server.url()).pool("t").lease(LEASE).version("7");
    cluster.connect_blocking().unwrap()
}

/// What the node's key says, once there is one.
fn seen(server: &Server, name: &str) -> Option<NodeInfo> {
    let seen = in_time(observe(server.url(), "t")).unwrap();
    seen.nodes.into_iter().find(|node| node.name == name)
}

fn a_node_that_cannot_start_takes_no_task() {
    let server = Server::start();
    let _good = by_name(&server, "good", "");
    let cluster = of_their_version(&server);
    in_time(cluster.ready()).unwrap();
    let mut bad = by_name(&server, "bad", "start");
    until("its lease holds", || seen(&server, "bad").is_some_and(|node| node.revision > 0));
    // Its workers are on their way now, and all fail.
    until("it has failed", || {
        let tasks: Vec<_> = (0..100).map(|_| cluster.apply_named("build", "")).collect();
        in_time(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        bad.0.try_wait().unwrap().is_some()
    });
    assert!(!bad.end("it says that it has failed").success());
    assert_eq!(cluster.outcomes_by_node().into_keys().collect::<Vec<_>>(), ["good"]);
}

fn a_node_whose_workers_all_die_stops_pulling() {
    let server = Server::start();
    let bad = by_name(&server, "bad", "task");
    let cluster = of_their_version(&server);
    in_time(cluster.ready()).unwrap();
    let tasks: Vec<_> = (0..200).map(|_| cluster.apply_named("build", "")).collect();
    until("it takes no more", || seen(&server, "bad").is_some_and(|node| node.broken));
    let _good = by_name(&server, "good", "");
    let lost = in_time(async {
        let mut lost = 0;
        for task in tasks {
            match task.await {
                Ok(_) => {}
                Err(ClusterError::Task(TaskError::WorkerLost(_))) => lost += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        lost
    });
    // Of eight workers, with four places each, and of the two that were there besides.
    assert!((8..=40).contains(&lost), "{lost}");
    drop(bad);
}
