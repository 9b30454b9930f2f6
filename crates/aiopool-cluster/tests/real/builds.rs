//! A rolling deploy: two builds of this program side by side. The other one is a copy whose build id
//! has another first byte, which is all that tells one build from another.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use aiopool::{AttachedWorker, Completion, Event, StartMethod, remote};
use aiopool_cluster::{Cluster, Node, observe};
use aiopool_nats::Server;

use crate::said::warnings;
use crate::{LEASE, Process, Test, WATCHDOG, connect, in_time, until};

pub const TESTS: &[Test] = &[
    ("each_task_runs_on_its_own_build", each_task_runs_on_its_own_build),
    ("named_functions_run_across_builds", named_functions_run_across_builds),
    ("a_build_without_a_node_is_said", a_build_without_a_node_is_said),
];

/// A program of another build; its file goes with the value.
struct OtherBuild(PathBuf);

impl OtherBuild {
    fn new(name: &str) -> Self {
        let id = remote::build().unwrap();
        let id: Vec<u8> = (0..id.len() / 2)
            .map(|i| u8::from_str_radix(&id[i * 2..i * 2 + 2], 16).unwrap())
            .collect();
        let mut program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let places: Vec<usize> =
            program.windows(id.len()).enumerate().filter(|w| w.1 == id).map(|w| w.0).collect();
        assert!(!places.is_empty(), "the build id is in the program's file");
        places.into_iter().for_each(|at| program[at] ^= 0xff);
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{}", std::process::id()));
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn start(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(&self.0);
        command.envs(environment.iter().copied()).stdin(Stdio::piped());
        Process(command.spawn().unwrap())
    }

    fn node(&self, server: &Server, name: &str) -> Process {
        let url = server.url();
        self.start(&[("AIOPOOL_TEST_NODE", url.as_str()), ("AIOPOOL_TEST_NAME", name)])
    }
}

impl Drop for OtherBuild {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn build(_: u64) -> String {
    remote::build().unwrap_or_default()
}

/// The other process of a test: maps, and fails unless its own build ran every item.
pub fn submitter(url: &str) -> ExitCode {
    let cluster = Cluster::builder(url).pool("t").lease(LEASE).connect_blocking().unwrap();
    let builds = in_time(async { cluster.map(build, 0..200).await.unwrap() });
    let own = remote::build().unwrap();
    let nodes: Vec<String> = cluster.outcomes_by_node().into_keys().collect();
    if builds.iter().all(|build| *build == own) && nodes == ["new"] {
        return ExitCode::SUCCESS;
    }
    eprintln!("{own}: {nodes:?}, {builds:?}");
    ExitCode::FAILURE
}

fn each_task_runs_on_its_own_build() {
    let server = Server::start();
    let other = OtherBuild::new("other-build");
    let (_old, new) = (Process::named(server.url(), "old"), other.node(&server, "new"));
    let url = server.url();
    let mut their = other.start(&[("AIOPOOL_TEST_BUILD", url.as_str())]);
    let cluster = connect(&server);
    let builds: BTreeSet<String> =
        in_time(async { cluster.map(build, 0..200).await.unwrap() }).into_iter().collect();
    assert_eq!(builds, BTreeSet::from([remote::build().unwrap()]));
    assert_eq!(cluster.outcomes_by_node().into_keys().collect::<Vec<_>>(), ["old"]);
    let status = their.end("the other submitter ends");
    assert!(status.success(), "it met another build than its own");
    // The last node of the new build leaves: its tasks wait, and it is said that no node has them.
    drop(new);
    let mut their = other.start(&[("AIOPOOL_TEST_BUILD", url.as_str())]);
    let own: String = remote::build().unwrap().chars().take(16).collect();
    until("tasks wait that no node has the build of", || {
        let seen = in_time(observe(server.url(), "t")).unwrap();
        let waits = |info: &aiopool_cluster::BuildInfo| {
            info.build != own && info.queued > 0 && info.nodes == 0
        };
        seen.builds.iter().any(waits)
    });
    assert!(their.0.try_wait().unwrap().is_none(), "no node of the old build runs them");
    let _again = other.node(&server, "new");
    assert!(their.end("they run when there is one").success());
    assert!(cluster.drain_blocking(WATCHDOG));
}

/// Its nodes are of another build, and its tasks wait for one of its own.
fn a_build_without_a_node_is_said() {
    let server = Server::start();
    let other = OtherBuild::new("other-said");
    let _node = other.node(&server, "new");
    let own: String = remote::build().unwrap().chars().take(16).collect();
    let cluster = connect(&server);
    let tasks: Vec<_> = (0..3).map(|n| cluster.apply(build, n)).collect();
    // Other tests are warned of the same build.
    let is_it = |text: &String| text.contains(&own) && text.contains("tasks wait");
    let told = || warnings().into_iter().filter(is_it).collect::<Vec<_>>();
    until("it is said that no node has the build", || !told().is_empty());
    let text = &told()[0];
    assert!(text.contains("3 tasks wait") && text.contains("aiopool nodes"), "{text}");
    let again = Process::node(server.url());
    in_time(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(told().len(), 1, "{:?}", told());
    drop(again);
}

/// A worker that knows one function, by its name.
///
/// `AIOPOOL_TEST_BAD` says whether it ends at its start, or with its first task.
pub fn worker() -> ExitCode {
    let bad = std::env::var("AIOPOOL_TEST_BAD").unwrap_or_default();
    if bad == "start" {
        std::thread::sleep(Duration::from_secs(10));
        return ExitCode::FAILURE;
    }
    let mut worker = AttachedWorker::attach().unwrap();
    loop {
        match worker.next_event() {
            Event::Run { .. } if bad == "task" => std::process::exit(1),
            Event::Run { task, function, .. } => {
                let build = remote::build().unwrap();
                let completion = match function.as_str() {
                    "build" => Completion::Ok(build.as_bytes()),
                    _ => Completion::Refused("there is no such function"),
                };
                worker.complete(task, completion).unwrap();
            }
            Event::Nothing => {
                worker.wait();
            }
            Event::Cancel { task } => worker.complete(task, Completion::Cancelled).unwrap(),
            _ => break,
        }
    }
    worker.leave();
    ExitCode::SUCCESS
}

/// What a node runs whose functions have names.
pub fn by_name(node: Node, version: String) -> Node {
    let program = std::env::current_exe().unwrap();
    let script = "AIOPOOL_TEST_WORKER=1 exec \"$0\"";
    let words = ["sh".into(), "-c".into(), script.into(), program.into_os_string()];
    node.version(version).start_method(StartMethod::Command(words.to_vec()))
}

fn named_functions_run_across_builds() {
    let server = Server::start();
    let (other, url) = (OtherBuild::new("other-named"), server.url());
    let words = |name| {
        [
            ("AIOPOOL_TEST_NODE", url.as_str()),
            ("AIOPOOL_TEST_NAME", name),
            ("AIOPOOL_TEST_VERSION", "7"),
        ]
    };
    let _nodes = [Process::start(&words("old")), other.start(&words("new"))];
    let cluster = Cluster::builder(server.url()).pool("t").lease(LEASE).version("7");
    let cluster = cluster.connect_blocking().unwrap();
    let mut builds = BTreeSet::new();
    until("both builds have run some", || {
        let tasks: Vec<_> = (0..40).map(|_| cluster.apply_named("build", "")).collect();
        for task in tasks {
            builds.insert(String::from_utf8(in_time(task).unwrap().to_vec()).unwrap());
        }
        builds.len() == 2
    });
    let error = in_time(cluster.apply_named("other", "")).unwrap_err();
    assert!(error.to_string().contains("no such function"), "{error}");
}
