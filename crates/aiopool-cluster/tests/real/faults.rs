//! What is deleted, refused or full under a pool that runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, ClusterError, Connection, Node};
use aiopool_nats::{NEWEST, Server};
use futures_util::future::join_all;
use serde_json::json;

use crate::book::{Book, long_at_first, size, ticks};
use crate::jobs::ask;
use crate::verbs::{double, sleeps};
use crate::{LEASE, Process, SHORT, Test, WATCHDOG, connect, impossible, in_time, leased, until};

pub const TESTS: &[Test] = &[
    ("words_are_purged_under_a_running_task", || words_go("PURGE.AIOPOOL_t")),
    ("the_stream_is_deleted_under_a_running_task", || words_go("DELETE.AIOPOOL_t")),
    ("the_stream_of_large_values_is_deleted", the_stream_of_large_values_is_deleted),
    ("the_bucket_of_nodes_is_deleted", the_bucket_of_nodes_is_deleted),
    ("the_bucket_of_jobs_is_deleted", the_bucket_of_jobs_is_deleted),
    ("a_user_is_removed_at_a_reload", a_user_is_removed_at_a_reload),
    ("the_servers_disk_is_full", the_servers_disk_is_full),
    ("the_server_has_a_limit", the_server_has_a_limit),
    ("ten_thousand_tasks_and_sixteen_places", ten_thousand_tasks_and_sixteen_places),
    ("a_server_with_a_domain", a_server_with_a_domain),
];

async fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

async fn same(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Does something to a stream.
fn to_stream(server: &Server, what: &str) {
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let done = ask(&client, &format!("STREAM.{what}"), json!({})).await;
        assert_eq!(done["success"], true, "{done}");
    });
}

fn until_it_rests(book: &Book) {
    let mut before = 0;
    until("its code is stopped", || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, size(&book.0)) == size(&book.0)
    });
}

/// The task's word has gone: its caller learns that, its code is stopped, and the pool goes on.
fn words_go(how: &str) {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let book = Book::new(&how.replace('.', "-"));
    let task = cluster.apply(ticks, book.text());
    until("it runs", || size(&book.0) > 0);
    to_stream(&server, how);
    // Sent while nothing takes it in.
    let next = cluster.apply(double, 2);
    let error = in_time(task).unwrap_err();
    assert!(matches!(error, ClusterError::Vanished), "{error:?}");
    until_it_rests(&book);
    assert_eq!(in_time(next).unwrap(), 4);
    in_time(async {
        let doubled = cluster.map(double, 0..300).await.unwrap();
        assert_eq!(doubled.last(), Some(&598));
    });
    assert!(cluster.drain_blocking(WATCHDOG));
}

fn the_stream_of_large_values_is_deleted() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    let large = vec![7_u8; 300_000];
    assert_eq!(in_time(cluster.apply(length, large.clone())).unwrap(), 300_000);
    to_stream(&server, "DELETE.AIOPOOL_t_BLOBS");
    assert_eq!(in_time(cluster.apply(same, large.clone())).unwrap(), large);
}

/// The node's lease ends; then it serves again.
fn the_bucket_of_nodes_is_deleted() {
    let server = Server::start();
    let _node = Process::mortal(server.url());
    let cluster = connect(&server);
    let (first, again) = (Book::new("no-nodes"), Book::new("no-nodes-again"));
    let lost = cluster.apply(ticks, first.text());
    let retried = cluster.with(TaskOptions::new().retries(1));
    let retried = retried.apply(long_at_first, (again.text(), 1, 600_000));
    until("they run", || size(&first.0) > 0 && again.starts() == 1);
    to_stream(&server, "DELETE.KV_AIOPOOL_NODES");
    let error = in_time(lost).unwrap_err();
    assert!(matches!(error, ClusterError::NodeLost { .. }), "{error:?}");
    until_it_rests(&first);
    assert_eq!(in_time(retried).unwrap(), 1);
    let attempts = &again.attempts()[&1];
    assert!(attempts.len() == 2 && attempts[0].1.is_none(), "{attempts:?}");
}

/// The job's lease ends, and its code; the next handle has another job.
fn the_bucket_of_jobs_is_deleted() {
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = leased(&server, SHORT);
    let book = Book::new("no-jobs");
    let task = cluster.apply(ticks, book.text());
    until("it runs", || size(&book.0) > 0);
    to_stream(&server, "DELETE.KV_AIOPOOL_JOBS");
    let error = in_time(task).unwrap_err();
    assert!(matches!(error, ClusterError::Ended(_)), "{error:?}");
    let other = connect(&server);
    assert_eq!(in_time(other.apply(double, 2)).unwrap(), 4);
}

/// An operator removes a user by mistake, and puts it back.
fn a_user_is_removed_at_a_reload() {
    let server = Server::with(
        NEWEST,
        true,
        "authorization { users = [ { user: a, password: x }, { user: b, password: y } ] }\n",
    );
    let by = |user: &str, password: &str| Connection::new(server.url()).user(user, password);
    let file = server.dir().join("config");
    let reload = |text: &str| {
        fs::write(&file, text).unwrap();
        server.signal("HUP");
    };
    let before = fs::read_to_string(&file).unwrap();
    let without = before.replace("{ user: a, password: x },", "");
    let other = before.replace("password: x", "password: z");
    assert!(without != before && other != before, "{before}");
    in_time(async {
        let node = Node::builder(by("a", "x")).pool("t").processes(1).lease(SHORT);
        let retries = TaskOptions::new().retries(20);
        let (tell, stop) = tokio::sync::oneshot::channel::<()>();
        let stop = async { drop(stop.await) };
        let work = async {
            for text in [&without, &other] {
                let cluster = Cluster::builder(by("a", "x")).pool("t").lease(SHORT);
                let cluster = cluster.connect().await.unwrap();
                assert_eq!(cluster.with(retries).apply(double, 1).await.unwrap(), 2);
                reload(text);
                let error = cluster.apply(sleeps, 60_000).await.unwrap_err();
                assert!(matches!(error, ClusterError::Ended(_)), "{error:?}");
                let said = error.to_string();
                assert!(said.contains("lease") && said.contains("authorization"), "{said}");
                let late = Cluster::builder(by("a", "x")).pool("t").connect().await.unwrap_err();
                assert!(late.to_string().contains("authorization"), "{late}");
                reload(&before);
                while Cluster::builder(by("a", "x")).pool("t").connect().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            let cluster = Cluster::builder(by("b", "y")).pool("t").lease(LEASE);
            let cluster = cluster.connect().await.unwrap();
            assert_eq!(cluster.with(retries).apply(double, 2).await.unwrap(), 4);
            assert!(cluster.drain(WATCHDOG).await);
            let _ = tell.send(());
        };
        let (report, ()) = tokio::join!(node.run_until(stop), work);
        assert!(report.unwrap().done >= 2);
    });
}

/// A file system of a few megabytes, for a server's store.
struct Small(PathBuf);

impl Small {
    fn mounted(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(&path);
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self(path)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Every task ends, with a value or with an error that says why; when there is room again, the pool
/// goes on.
fn the_servers_disk_is_full() {
    let small = match Small::mounted("disk") {
        Ok(small) => small,
        Err(why) => return impossible("a small file system", &why),
    };
    let store = small.0.join("store");
    let config = format!("jetstream {{ store_dir: \"{}\" }}\n", store.display());
    let mut server = Server::with(NEWEST, false, &config);
    let _node = Process::mortal(server.url());
    let cluster = leased(&server, SHORT);
    let again = TaskOptions::new().retries(20);
    in_time(async {
        assert_eq!(cluster.with(again).apply(double, 1).await.unwrap(), 2);
        let ballast = small.0.join("ballast");
        // Whatever fits in.
        let _ = fs::write(&ballast, vec![1_u8; 32 << 20]);
        let mut full = 0;
        let tasks = (0..40).map(|_| cluster.apply(same, vec![7_u8; 100_000]));
        for result in join_all(tasks).await {
            match result {
                Ok(value) => assert_eq!(value.len(), 100_000),
                Err(error) => {
                    full += 1;
                    println!("disk full: {error}");
                }
            }
        }
        println!("{full} of 40 were refused");
        fs::remove_file(&ballast).unwrap();
    });
    drop(cluster);
    // A server whose disk was full takes nothing more before it is started anew.
    server.kill();
    server.restart();
    let cluster = connect(&server);
    in_time(async {
        assert_eq!(cluster.with(again).map(double, 0..100).await.unwrap().len(), 100);
    });
    assert!(cluster.drain_blocking(WATCHDOG));
    drop(server);
}

/// Every task ends, and says why where it has no value: the server stores no renewals of leases either.
fn the_server_has_a_limit() {
    let server = Server::with(
        NEWEST,
        false,
        "jetstream { store_dir: \"{dir}/store\", max_file_store: 2097152 }\n",
    );
    let _node = Process::mortal(server.url());
    let cluster = leased(&server, SHORT);
    let tasks = (0..40).map(|_| cluster.apply(same, vec![7_u8; 200_000]));
    let results = in_time(join_all(tasks));
    let errors: Vec<String> =
        results.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    assert!(!errors.is_empty(), "40 times 200 kB fit into 2 MB");
    for text in errors {
        assert!(text.contains("(code 100"), "{text}");
    }
    drop(cluster);
    // The server's operator makes room.
    to_stream(&server, "PURGE.AIOPOOL_t_BLOBS");
    until("there is room", || {
        let cluster = Cluster::builder(server.url()).pool("t").lease(LEASE).connect_blocking();
        cluster.is_ok_and(|cluster| in_time(cluster.apply(length, vec![7; 200_000])).is_ok())
    });
}

/// Many submit at once into little room: all end, and none waits for all the others.
fn ten_thousand_tasks_and_sixteen_places() {
    const TASKS: u64 = 10_000;
    let server = Server::start();
    let _node = Process::node(server.url());
    let cluster = Cluster::builder(server.url()).pool("t").lease(LEASE).capacity(16);
    let cluster = cluster.connect_blocking().unwrap();
    in_time(async {
        let order = std::cell::RefCell::new(Vec::new());
        let one = |n: u64| {
            let (cluster, order) = (&cluster, &order);
            async move {
                let task = cluster.apply(double, n).submitted().await.unwrap();
                order.borrow_mut().push(n);
                assert_eq!(task.await.unwrap(), 2 * n);
            }
        };
        let most = async {
            let mut most = 0;
            while order.borrow().len() < TASKS as usize / 2 {
                most = most.max(cluster.stats().outstanding);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        };
        let (_, most) = tokio::join!(join_all((0..TASKS / 2).map(one)), most);
        assert!(most <= 16, "{most} were out at once");
        // First come, first served, but for what waits beside each other.
        for (place, &n) in order.borrow().iter().enumerate() {
            assert!(n.abs_diff(place as u64) < TASKS / 4, "task {n} went as number {place}");
        }
        // A window that no capacity holds.
        let mut results = cluster.map(double, 0..TASKS / 2).window(1 << 20);
        let mut n = 0;
        while let Some(result) = results.next().await {
            assert_eq!(result.unwrap(), 2 * n);
            assert!(cluster.stats().outstanding <= 16);
            n += 1;
        }
        assert_eq!(n, TASKS / 2);
    });
    assert!(cluster.drain_blocking(WATCHDOG));
}

/// What a server with a domain gives out is acknowledged there, too; a leaf of it that has no JetStream
/// answers no requests for it, which is said.
fn a_server_with_a_domain() {
    let leaves = aiopool_nats::free_port();
    let config = format!(
        "jetstream {{ store_dir: \"{{dir}}/store\", domain: hub }}\n\
         leafnodes {{ listen: \"127.0.0.1:{leaves}\" }}\n"
    );
    let hub = Server::with(NEWEST, false, &config);
    let config = format!("leafnodes {{ remotes: [ {{ url: \"nats://127.0.0.1:{leaves}\" }} ] }}\n");
    let leaf = Server::with(NEWEST, false, &config);
    let acknowledged = || {
        in_time(async {
            let client = async_nats::connect(hub.url()).await.unwrap();
            let names = ask(&client, "CONSUMER.NAMES.AIOPOOL_t", json!({})).await;
            let mut open = 0;
            for name in names["consumers"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                let info =
                    ask(&client, &format!("CONSUMER.INFO.AIOPOOL_t.{name}"), json!({})).await;
                open += info["num_ack_pending"].as_u64().unwrap();
            }
            open == 0
        })
    };
    let _node = Process::node(hub.url());
    let cluster = connect(&hub);
    in_time(async {
        let items = cluster.map(double, 0..300).await.unwrap();
        assert_eq!(items.last(), Some(&598));
    });
    until("all is acknowledged", acknowledged);
    let error = Cluster::builder(leaf.url()).pool("t").connect_blocking().unwrap_err();
    assert!(error.to_string().contains("does not answer JetStream's requests"), "{error}");
    assert!(cluster.drain_blocking(WATCHDOG));
}
