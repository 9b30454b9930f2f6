//! A submitter, nodes and real servers, which are killed and stopped. Each attempt keeps a book: a
//! line when it starts and one when it ends.
//!
//! The program is node and submitter in one, because both have to be the same build.

mod access;
mod book;
mod builds;
mod clocks;
mod crashes;
mod faults;
mod groups;
mod hosts;
mod jobs;
mod jwt;
mod kills;
mod lies;
mod links;
mod network;
mod payloads;
mod said;
mod servers;
mod settings;
mod verbs;

use std::any::Any;
use std::io::Read;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aiopool_cluster::{Cluster, Connection, Node};
use aiopool_nats::{Machine, Server};

/// The lease of nodes and submitters that stay: no machine is so busy that it runs out.
const LEASE: Duration = Duration::from_secs(120);

/// The lease of those for whose end a test waits.
const SHORT: Duration = Duration::from_secs(6);

/// How long anything may take before a test says that it hangs.
const WATCHDOG: Duration = Duration::from_secs(300);

/// Tests that run at once: most of their time they wait for leases.
const AT_ONCE: usize = 6;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    if std::env::var_os("AIOPOOL_TEST_WORKER").is_some() {
        return builds::worker();
    }
    if let Ok(url) = std::env::var("AIOPOOL_TEST_BUILD") {
        return builds::submitter(&url);
    }
    if let Ok(url) = std::env::var("AIOPOOL_TEST_NODE") {
        return node(&url);
    }
    if std::env::var_os("AIOPOOL_TEST_OWN_NODE").is_some() {
        return aiopool_cluster::node_main();
    }
    if let Ok(url) = std::env::var("AIOPOOL_TEST_SUBMITTER") {
        return jobs::submitter(&url);
    }
    if let Ok(name) = std::env::var("AIOPOOL_TEST_NETWORK") {
        return network::run(&name);
    }
    said::listen();
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| name.contains(only));
    let all = [
        crashes::TESTS,
        groups::TESTS,
        hosts::TESTS,
        lies::TESTS,
        verbs::TESTS,
        kills::TESTS,
        links::TESTS,
        network::TESTS,
        clocks::TESTS,
        payloads::TESTS,
        jobs::TESTS,
        servers::TESTS,
        settings::TESTS,
        faults::TESTS,
        access::TESTS,
        builds::TESTS,
        jwt::TESTS,
    ];
    let tests: Vec<Test> = all.concat().into_iter().filter(|(name, _)| wanted(name)).collect();
    let start = Instant::now();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(name, test)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let test = move || match network::is_one(name) {
                        true => network::as_hub(name),
                        false => test(),
                    };
                    // By its name a panic says in which test it came.
                    let thread = std::thread::Builder::new().name(name.into());
                    let ended = thread.spawn(test).unwrap().join();
                    let verdict = if ended.is_ok() { "ok" } else { "FAILED" };
                    println!("test {name} ... {verdict} ({:?})", begun.elapsed());
                    if let Err(panic) = ended {
                        failed.lock().unwrap().push((name, text_of(&*panic)));
                    }
                }
            });
        }
    });
    let failures = failed.into_inner().unwrap();
    if !failures.is_empty() {
        println!("\nfailures:");
        failures.iter().for_each(|(name, text)| println!("{name}: {text}"));
    }
    let failed = failures.len();
    let passed = tests.len() - failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 \
         filtered out; finished in {:.2}s",
        start.elapsed().as_secs_f32()
    );
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads what a panic was given, if that is text.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()
}

/// Returns the lease that the environment gives this process.
fn lease() -> Option<Duration> {
    let text = std::env::var("AIOPOOL_TEST_LEASE").ok()?;
    Some(Duration::from_secs(text.parse().expect("a number of seconds")))
}

/// Serves until standard input ends.
fn node(url: &str) -> ExitCode {
    let places = |name: &str, usual| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let (processes, tasks) = (places("AIOPOOL_TEST_PROCESSES", 2), places("AIOPOOL_TEST_TASKS", 4));
    let lease = lease().unwrap_or(LEASE);
    let mut node =
        Node::builder(url).pool("t").lease(lease).processes(processes).child_concurrency(tasks);
    if let Ok(name) = std::env::var("AIOPOOL_TEST_NAME") {
        node = node.name(name);
    }
    if let Ok(version) = std::env::var("AIOPOOL_TEST_VERSION") {
        node = builds::by_name(node, version);
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

/// What the environment says of a [`SHORT`] lease.
const BRIEFLY: (&str, &str) = ("AIOPOOL_TEST_LEASE", "6");

/// This program in another process; dropping it lets it end in order, at most half a minute.
struct Process(Child);

impl Process {
    /// Starts a node that outlives its test.
    fn node(url: impl AsRef<str>) -> Self {
        Self::start(&[("AIOPOOL_TEST_NODE", url.as_ref())])
    }

    /// Starts a node for whose end the test waits.
    fn mortal(url: impl AsRef<str>) -> Self {
        Self::start(&[("AIOPOOL_TEST_NODE", url.as_ref()), BRIEFLY])
    }

    /// Starts a node that soon ends the jobs of dead submitters and takes none of the tests' tasks: it
    /// is of another version.
    fn janitor(url: impl AsRef<str>) -> Self {
        Self::start(&[
            ("AIOPOOL_TEST_NODE", url.as_ref()),
            ("AIOPOOL_TEST_VERSION", "janitor"),
            ("AIOPOOL_TEST_PROCESSES", "1"),
            ("AIOPOOL_TEST_LEASE", "4"),
        ])
    }

    fn named(url: impl AsRef<str>, name: &str) -> Self {
        Self::start(&[("AIOPOOL_TEST_NODE", url.as_ref()), ("AIOPOOL_TEST_NAME", name)])
    }

    fn start(environment: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), environment)
    }

    /// On a machine with a network of its own.
    fn on(machine: &Machine, environment: &[(&str, &str)]) -> Self {
        Self::spawn(machine.command(std::env::current_exe().unwrap()), environment)
    }

    fn spawn(mut command: Command, environment: &[(&str, &str)]) -> Self {
        command.envs(environment.iter().copied()).stdin(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits until it has ended by itself, which `what` stands for.
    fn end(&mut self, what: &str) -> ExitStatus {
        let mut status = None;
        until(what, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn signal(&self, signal: &str) {
        kill(&self.0.id().to_string(), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            if self.0.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has the streams of the pool of these tests made, and the buckets.
async fn make(server: impl Into<Connection>) {
    let cluster = Cluster::builder(server).pool("t").lease(LEASE).connect().await.unwrap();
    cluster.close();
    cluster.join().await;
}

/// Waits until the pool of these tests has neither jobs nor messages on the server, which `what`
/// stands for.
fn nothing_is_left(server: &Server, what: &str) {
    until(what, || {
        let left = in_time(aiopool_cluster::observe(server.url(), "t")).unwrap();
        left.jobs.is_empty() && left.messages + left.pieces == 0
    });
}

fn kill(pid: &str, signal: &str) {
    let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
}

/// Says loudly that something cannot be done here; on CI that is a failure.
fn impossible(what: &str, why: &str) {
    assert!(
        std::env::var_os("AIOPOOL_CI").is_none(),
        "{what} is not possible here, and on CI nothing may be skipped: {why}"
    );
    eprintln!("NOT TESTED: {what} is not possible here: {why}");
}

fn connect(server: &Server) -> Cluster {
    leased(server, LEASE)
}

fn leased(server: &Server, lease: Duration) -> Cluster {
    Cluster::builder(server.url()).pool("t").lease(lease).connect_blocking().unwrap()
}

/// Fails the test if `future` hangs.
fn in_time<F: Future>(future: F) -> F::Output {
    aiopool::block_on(async { tokio::time::timeout(WATCHDOG, future).await.expect("it hangs") })
}

/// Waits until `is` says so; fails the test if that does not come.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
