//! The programs that hold a handle or a node: without a runtime, forked, without a server.
#![allow(unsafe_code)] // A program that forks.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aiopool::TaskError;
use aiopool_cluster::{Cluster, ClusterError, Node, NodeInfo};
use aiopool_nats::Server;

use crate::verbs::{double, sleeps};
use crate::{LEASE, Process, SHORT, Test, connect, in_time, nothing_is_left, until};

pub const TESTS: &[Test] = &[
    ("everything_ends_while_the_server_is_away", everything_ends_while_the_server_is_away),
    ("a_handle_needs_no_runtime", a_handle_needs_no_runtime),
    ("a_connect_that_is_given_up_leaves_nothing", a_connect_that_is_given_up_leaves_nothing),
    ("a_forked_child_is_told_so", a_forked_child_is_told_so),
    ("a_node_has_the_places_that_its_options_say", a_node_has_the_places_that_its_options_say),
];

fn everything_ends_while_the_server_is_away() {
    let mut server = Server::start();
    let mut late = Process::mortal(server.url());
    let mut early = Process::node(server.url());
    let [drained, terminated, left] = [(); 3].map(|()| connect(&server));
    until("both nodes are there", || {
        let seen = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
        seen.nodes.iter().filter(|node| node.places > 0).count() == 2
    });
    let job = left.job_blocking("j").unwrap();
    in_time(left.apply(double, 1)).unwrap();
    server.kill();
    // Its lease holds: it has nothing to wait for.
    drop(early.0.stdin.take());
    assert!(early.end("a node that is told to stop ends").success());
    in_time(drained.drain(Duration::from_secs(1)));
    terminated.terminate();
    in_time(terminated.join());
    let task = left.apply(double, 1);
    left.terminate();
    let closed = in_time(task).unwrap_err();
    assert!(matches!(closed, ClusterError::Task(TaskError::PoolClosed { .. })), "{closed:?}");
    in_time(left.join());
    in_time(job.drain(Duration::from_millis(100)));
    drop(job);
    // The lease of this one is over, and it looks for the server to begin another life.
    std::thread::sleep(SHORT + Duration::from_secs(1));
    drop(late.0.stdin.take());
    assert!(late.end("a node without a lease that is told to stop ends").success());
}

/// Polls as an executor does that is no runtime of tokio's.
fn polled<F: Future>(future: F) -> F::Output {
    let (mut future, mut output) = (pin!(future), None);
    until("it is ready", || {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => output = Some(ready),
            Poll::Pending => {}
        }
        output.is_some()
    });
    output.unwrap()
}

fn a_handle_needs_no_runtime() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = Cluster::builder(server.url()).pool("t").lease(LEASE);
    let cluster = polled(cluster.connect()).unwrap();
    polled(cluster.ready()).unwrap();
    assert_eq!(polled(cluster.apply(double, 4)).unwrap(), 8);
    assert_eq!(
        polled(std::future::IntoFuture::into_future(cluster.map(double, 0..3))).unwrap(),
        [0, 2, 4]
    );
    let job = polled(cluster.job("j")).unwrap();
    assert_eq!(polled(job.apply(double, 5)).unwrap(), 10);
    polled(job.finish());
    let slow = cluster.apply(sleeps, 60_000);
    assert!(!polled(cluster.drain(Duration::from_millis(300))), "one is not over");
    let closed = polled(slow).unwrap_err();
    assert!(matches!(closed, ClusterError::Task(TaskError::PoolClosed { .. })), "{closed:?}");
    polled(cluster.join());
    let cluster = connect(&server);
    let short = cluster.apply(sleeps, 300);
    assert!(polled(cluster.drain(Duration::MAX)));
    assert_eq!(polled(short).unwrap(), 300);
    assert!(polled(cluster.drain(Duration::ZERO)), "it has ended");
}

/// There is no node, and so no janitor.
fn a_connect_that_is_given_up_leaves_nothing() {
    let server = Server::start();
    drop(connect(&server));
    for ms in 0..20 {
        let connect = Cluster::builder(server.url()).pool("t").lease(LEASE).connect();
        in_time(async {
            let _ = tokio::time::timeout(Duration::from_millis(ms), connect).await;
        });
    }
    drop(connect(&server));
    nothing_is_left(&server, "the jobs of handles that nobody has are ended");
}

/// A child has a copy of the handle, and none of its threads.
fn a_forked_child_is_told_so() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    cluster.ready_blocking().unwrap();
    assert_eq!(cluster.apply(double, 3).wait().unwrap(), 6);
    assert_eq!(cluster.outcomes_by_node().len(), 1);
    let theirs = cluster.apply(sleeps, 300);
    // SAFETY: the child uses its copy of the handle, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = |result: Option<Result<u64, ClusterError>>| {
            let told = |error: ClusterError| error.to_string().contains("belongs to process");
            result.is_some_and(|result| result.is_err_and(told))
        };
        let limit = Duration::from_secs(60);
        let (mut theirs, mut own) = (theirs, cluster.apply(double, 1));
        let told = is_told(own.wait_timeout(limit)) && is_told(theirs.wait_timeout(limit));
        let told = told && is_told(polled(cluster.map(double, [1]).next()));
        let told = told && cluster.ready_blocking().is_err();
        let told = told && cluster.outcomes_by_node().is_empty();
        cluster.drain_blocking(limit);
        cluster.terminate();
        cluster.join_blocking();
        drop(cluster);
        // SAFETY: nothing of the parent is run at this end.
        unsafe { libc::_exit(i32::from(!told)) }
    }
    let mut status = -1;
    // SAFETY: the status is this function's own.
    until(
        "the child ends",
        || unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == child,
    );
    assert_eq!(status, 0, "each of its calls ends, and says why");
    in_time(async {
        assert_eq!(theirs.await.unwrap(), 300);
        assert_eq!(cluster.apply(double, 2).await.unwrap(), 4);
    });
}

fn a_node_has_the_places_that_its_options_say() {
    let server = Server::start();
    let node = |name: &str| {
        let options = || aiopool::Pool::builder().processes(1).child_concurrency(3);
        Node::builder(server.url()).pool("t").name(name).pool_options(options)
    };
    let nodes = [
        ("options", node("options"), 3),
        ("both", node("both").child_concurrency(2), 2),
        ("neither", Node::builder(server.url()).pool("t").name("neither").processes(1), 16),
    ];
    for (name, node, places) in nodes {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = std::thread::spawn(move || {
            in_time(node.run_until(async {
                let _ = stopped.await;
            }))
        });
        until("its places are those", || {
            let seen = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
            let said = |seen: &NodeInfo| seen.name == name && seen.places > 0;
            let Some(seen) = seen.nodes.into_iter().find(said) else { return false };
            assert_eq!((seen.places, seen.processes), (places, 1), "{name}");
            true
        });
        stop.send(()).unwrap();
        run.join().unwrap().unwrap();
    }
}
