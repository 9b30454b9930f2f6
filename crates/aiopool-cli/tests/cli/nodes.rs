//! `aiopool nodes` and `aiopool jobs`: what they say of tasks whose build no node has, and of jobs.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use aiopool::TaskError;
use aiopool_cluster::{Cluster, ClusterError, Node};
use aiopool_nats::Server;
use serde_json::Value;

use crate::rig::{aiopool, run, scratch, signal, wait, wait_until};

async fn double(x: u64) -> u64 {
    x * 2
}

fn said(server: &Server, options: &[&str]) -> String {
    let said = run(aiopool(["nodes", "--nats", &server.url()]).args(options));
    assert_eq!(said.code(), Some(0), "{}", said.stderr);
    said.stdout
}

/// Waits for a line of the text.
fn wait_for_line(server: &Server, is: impl Fn(&str) -> bool) {
    let mut text = String::new();
    wait_until("the queue is told", || {
        text = said(server, &[]);
        text.lines().any(&is)
    });
}

#[test]
fn nodes_says_which_build_no_node_has() {
    let server = Server::start();
    // A node of the command's build, and tasks of this program's, which is another one.
    let mut command = aiopool(["node", "--nats", &server.url(), "--name", "old"]);
    let mut old = command.args(["--processes", "1"]).stdout(Stdio::null()).spawn().unwrap();
    let cluster = Cluster::builder(server.url()).connect_blocking().unwrap();
    let tasks = [1, 2, 3].map(|x| cluster.apply(double, x));
    let own: String = aiopool::remote::build().unwrap().chars().take(16).collect();
    let head = format!("build {own}: 3 queued");
    wait_for_line(&server, |line| {
        line.starts_with(&head) && line.ends_with("; no node has this build")
    });
    wait_for_line(&server, |line| line.starts_with("build ") && line.ends_with(": 0 queued"));
    let json = || -> Value { serde_json::from_str(&said(&server, &["--json"])).unwrap() };
    let all = json();
    let builds = all["builds"].as_array().unwrap();
    let [ours] = &builds.iter().filter(|build| build["build"] == own).collect::<Vec<_>>()[..]
    else {
        panic!("{all}");
    };
    assert_eq!((&ours["queued"], &ours["nodes"]), (&3.into(), &0.into()), "{all}");
    assert!(ours["oldest_seconds"].is_u64(), "{all}");
    let theirs = builds.iter().find(|build| build["build"] == all["nodes"][0]["build"]).unwrap();
    assert_eq!((&theirs["queued"], &theirs["nodes"]), (&0.into(), &1.into()), "{all}");
    // A node that comes has the build, and the tasks are done; one that leaves takes it away.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let node = Node::builder(server.url()).processes(1).name("new");
    let node = std::thread::spawn(move || {
        aiopool::block_on(node.run_until(async {
            let _ = stopped.await;
        }))
    });
    let values: Vec<u64> = tasks.into_iter().map(|task| aiopool::block_on(task).unwrap()).collect();
    assert_eq!(values, [2, 4, 6]);
    let alone = format!("build {own}: 0 queued");
    wait_for_line(&server, |line| line == alone);
    stop.send(()).unwrap();
    node.join().unwrap().unwrap();
    let waits = cluster.apply(double, 4);
    let head = format!("build {own}: 1 queued");
    wait_for_line(&server, |line| {
        line.starts_with(&head) && line.ends_with("; no node has this build")
    });
    drop(waits);
    signal("TERM", old.id());
    wait(&mut old);
}

#[test]
fn jobs_are_watched() {
    let server = Server::start();
    let mut watch = aiopool(["jobs", "--nats", &server.url(), "--json", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), Value::Array(Vec::new()));
    let cluster = Cluster::builder(server.url()).connect_blocking().unwrap();
    let task = cluster.apply(double, 1);
    while next()[0]["queued"] != 1 {}
    assert_eq!(next()[0]["lease_seconds"], 30);
    drop(task);
    drop(cluster);
    while next() != Value::Array(Vec::new()) {}
    watch.kill().unwrap();
    watch.wait().unwrap();
    let both = run(&mut aiopool(["jobs", "--nats", &server.url(), "--watch", "--end", "nightly"]));
    assert_eq!(both.code(), Some(2), "{}", both.stderr);
}

#[test]
fn a_watch_outlives_the_server() {
    let mut server = Server::start();
    drop(Cluster::builder(server.url()).connect_blocking().unwrap());
    let mut watch = aiopool(["nodes", "--nats", &server.url(), "--json", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(watch.stderr.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    server.kill();
    let error = errors.next().expect("it goes on").unwrap();
    assert!(error.starts_with("aiopool: error: "), "{error}");
    server.restart();
    // What was written before the kill is read first; a server that is back shows more.
    for _ in 0..5 {
        lines.next().expect("it goes on").unwrap();
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// Anybody who may publish may write any name.
#[test]
fn nothing_that_a_terminal_acts_on_is_shown() {
    use std::io::{Read, Write};
    let server = Server::start();
    let cluster = Cluster::builder(server.url()).connect_blocking().unwrap();
    let address = server.url().replace("nats://", "");
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let subject = "aiopool.default.q.0.b\x1b[2J\u{9b}2J.0123456789abcdef0123456789abcdef.0.1";
    write!(connection, "CONNECT {{}}\r\nPUB {subject} 1\r\nx\r\nPING\r\n").unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("PONG") {
        let mut some = [0; 4096];
        let length = connection.read(&mut some).unwrap();
        assert!(length > 0, "the server has closed the connection");
        heard.extend_from_slice(&some[..length]);
    }
    wait_for_line(&server, |line| line.contains("b\u{fffd}[2J\u{fffd}2J: 1 queued"));
    for options in [&[][..], &["--json"]] {
        let text = said(&server, options);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    drop(cluster);
}

#[test]
fn a_pool_that_is_not_there_is_said() {
    let server = Server::start();
    for command in ["nodes", "jobs"] {
        let looked = run(&mut aiopool([command, "--nats", &server.url(), "--pool", "typo"]));
        assert_eq!(looked.code(), Some(1), "{}", looked.stdout);
        assert_eq!(looked.stderr, "aiopool: there is no pool `typo` on this server\n");
    }
}

/// What a child has said on stderr so far.
fn heard(child: &mut Child) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let (stderr, text) = (child.stderr.take().unwrap(), Arc::clone(&all));
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            *text.lock().unwrap() += &format!("{line}\n");
        }
    });
    all
}

#[test]
fn a_node_says_that_its_server_has_gone() {
    let mut server = Server::start();
    // The pool is there then, without a node.
    drop(Cluster::builder(server.url()).connect_blocking().unwrap());
    let start = |log: Option<&str>| {
        let mut command = aiopool(["node", "--nats", &server.url(), "--processes", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).env_remove("RUST_LOG");
        command.envs(log.map(|log| ("RUST_LOG", log)));
        let mut node = command.spawn().unwrap();
        let said = heard(&mut node);
        (node, said)
    };
    let (mut plain, usual) = start(None);
    let (mut other, silent) = start(Some("off"));
    wait_until("both are there", || said(&server, &[]).matches("alive").count() == 2);
    server.kill();
    wait_until("it says so", || {
        usual.lock().unwrap().contains("WARN aiopool_cluster::link: there is no connection")
    });
    for node in [&mut plain, &mut other] {
        signal("TERM", node.id());
        wait(node);
    }
    assert_eq!(*silent.lock().unwrap(), "");
}

#[test]
fn a_node_says_what_its_tasks_log() {
    let server = Server::start();
    let mut command = aiopool(["node", "--nats", &server.url(), "--processes", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).env("RUST_LOG", "warn,reqwest=debug");
    let mut node = command.spawn().unwrap();
    let said = heard(&mut node);
    // A scrape that finds no node for seconds says so.
    wait_until("the node is there", || {
        run(&mut aiopool(["nodes", "--nats", &server.url()])).stdout.contains("alive")
    });
    let out = scratch("logged.csv");
    let mut scrape = aiopool(["scrape", "--nats", &server.url(), "--pages", "1"]);
    let ended = run(scrape.arg("--out").arg(&out));
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    // The worker that ran the task is said, too.
    wait_until("it is logged", || {
        let said = said.lock().unwrap();
        said.lines().any(|line| {
            line.contains("DEBUG")
                && line.contains("starting new connection")
                && line.contains("worker")
        })
    });
    signal("TERM", node.id());
    wait(&mut node);
}

/// The library of ffi-examples/tasks, as its README builds it.
fn c_tasks() -> PathBuf {
    let (root, built) = (aiopool_testing::root(), aiopool_testing::library().parent().unwrap());
    let library = scratch("libtasks.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-I"]).arg(root.join("include"));
    cc.arg(root.join("ffi-examples/tasks/tasks.c")).arg("-o").arg(&library);
    cc.arg("-L").arg(built).arg("-laiopool").arg(format!("-Wl,-rpath,{}", built.display()));
    aiopool_testing::run(&mut cc);
    library
}

/// Loaded by the node's own workers, and by a program that the node starts as such.
#[test]
fn a_node_serves_a_c_library() {
    let library = c_tasks();
    let library = library.to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_aiopool");
    let ways: [&[&str]; 2] =
        [&["--load", library], &["--command", program, "worker", "--load", library]];
    let server = Server::start();
    for (version, way) in ["loaded", "started"].into_iter().zip(ways) {
        let mut node = aiopool(["node", "--nats", &server.url(), "--version-name", version]);
        // Cargo's own value has a folder in it where an older library may lie.
        node.env_remove("LD_LIBRARY_PATH").stdout(Stdio::null());
        let mut node = node.args(["--processes", "1"]).args(way).spawn().unwrap();
        let cluster = Cluster::builder(server.url()).version(version).connect_blocking().unwrap();
        let square = |x: u64| cluster.apply_named("square", x.to_ne_bytes().to_vec());
        let all: Vec<_> = (0..100).map(square).collect();
        for (x, task) in (0_u64..).zip(all) {
            assert_eq!(&task.wait().unwrap()[..], (x * x).to_ne_bytes(), "{version}");
        }
        let wrong = cluster.apply_named("square", "no number").wait().unwrap_err().to_string();
        assert!(wrong.contains("a number of 8 bytes is expected"), "{wrong}");
        let unknown = cluster.apply_named("cube", "").wait().unwrap_err().to_string();
        assert!(unknown.contains("cube"), "{unknown}");
        let crash = cluster.apply_named("fragile", 7_u64.to_ne_bytes().to_vec());
        let crash = crash.wait().unwrap_err();
        assert!(matches!(crash, ClusterError::Task(TaskError::WorkerLost(_))), "{crash:?}");
        assert_eq!(&square(3).wait().unwrap()[..], 9_u64.to_ne_bytes());
        signal("TERM", node.id());
        assert!(wait(&mut node).success());
    }
}
