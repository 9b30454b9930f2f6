//! `cluster`: nodes, a server and submitters that are killed and stopped at random, and the books
//! that every attempt keeps in a file.
//!
//! A node's lease is six seconds, so that a stop outlives it. The file's order is the order of the
//! writes: a line of an attempt behind the start of a later one is an overlap.

mod groups;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, ClusterError, Node, observe};
use aiopool_nats::Server;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::Ask;
use crate::figures::Figures;
use crate::processes::within;
use crate::random::Random;

const POOL: &str = "chaos";
const LEASE: Duration = Duration::from_secs(6);
const NODES: usize = 3;
const OUT: usize = 48;
const RETRIES: u32 = 8;
/// Longer than any task here can take, with the retries that it has.
const WATCHDOG: Duration = Duration::from_secs(240);

/// Writes a line for its start, one every 10 ms, and one for its end.
async fn attempt((book, n, ms): (String, u64, u64)) -> u64 {
    let id = format!("{}.{}", std::process::id(), aiopool::remote::monotonic_ns());
    let mut file = fs::OpenOptions::new().append(true).open(book).expect("the book");
    let mut note = |what: &str| {
        // One write: appended as a whole or not at all.
        file.write_all(format!("{n} {what} {id}\n").as_bytes()).expect("write to the book");
    };
    note("start");
    for _ in 0..ms / 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        note("tick");
    }
    note("end");
    n
}

/// A node, until its standard input ends.
pub fn node(url: &str, name: &str) -> ExitCode {
    let node = Node::builder(url).pool(POOL).name(name).lease(LEASE).processes(2);
    let (gone, stop) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    let stop = async {
        let _ = stop.await;
    };
    match aiopool::block_on(node.child_concurrency(8).run_until(stop)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: node {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A submitter that is killed some time.
pub fn submitter(url: &str, book: &str) -> ExitCode {
    let cluster = Cluster::builder(url).pool(POOL).lease(LEASE).connect_blocking();
    let Ok(cluster) = cluster else { return ExitCode::FAILURE };
    let base = u64::from(std::process::id()) << 32;
    let items = (0..1_000_000).map(|n| (book.to_owned(), base + n, 50));
    let _ = aiopool::block_on(cluster.map(attempt, items).window(16).results());
    ExitCode::SUCCESS
}

fn start(words: &[&str], node: Option<&str>) -> Child {
    let program = std::env::current_exe().expect("this program's file");
    let mut command = Command::new(program);
    command
        .envs(node.map(|name| (MARK, name)))
        .args(words)
        .stdin(Stdio::piped())
        .spawn()
        .expect("start another process")
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

/// What marks every process of a node: it is in their environment.
const MARK: &str = "AIOPOOL_CHAOS_NODE";

/// The processes of a node besides its agent. They are not the agent's children, so that the
/// environment tells whose they are.
#[derive(Default)]
struct Family {
    zygote: Option<u32>,
    workers: Vec<u32>,
}

impl Family {
    fn of(name: &str) -> Self {
        let mark = format!("{MARK}={name}");
        let mut family = Self::default();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if !environment.split(|&byte| byte == 0).any(|line| line == mark.as_bytes()) {
                continue;
            }
            match fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim() {
                "aiopool-zygote" => family.zygote = Some(pid),
                comm if comm.starts_with("aiopool ") => family.workers.push(pid),
                _ => {}
            }
        }
        family
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        self.workers.iter().copied().chain(self.zygote)
    }
}

/// What is killed and stopped.
struct Victims {
    url: String,
    server: Server,
    nodes: Vec<Child>,
    submitter: Child,
    book: String,
    random: Random,
    kills: u64,
    stops: u64,
}

impl Victims {
    fn node(url: &str, i: usize) -> Child {
        let name = format!("n{i}");
        start(&["cluster-node", url, &name], Some(&name))
    }

    /// Harms one of them, and sees to it that all run again.
    fn harm(&mut self) {
        let i = self.random.below(NODES as u64) as usize;
        let agent = self.nodes[i].id();
        let family = Family::of(&format!("n{i}"));
        let (zygote, workers) = (family.zygote, &family.workers);
        let worker = workers.get(self.random.below(workers.len() as u64) as usize).copied();
        match (self.random.below(40), zygote, worker) {
            (0..4, ..) => self.kill(agent),
            (4..7, Some(zygote), _) => self.kill(zygote),
            (7..18, _, Some(worker)) => self.kill(worker),
            (18..21, Some(_), _) => family.all().chain([agent]).for_each(|pid| self.kill(pid)),
            // Longer than the lease: its tasks are retried elsewhere meanwhile.
            (21, ..) => self.stop(agent, LEASE * 3 / 2),
            (22, Some(zygote), _) => self.stop(zygote, LEASE * 3 / 2),
            // Nothing in user space is left that would end what runs there.
            (23, Some(zygote), _) => {
                self.stops += 1;
                signal(zygote, "STOP");
                self.stop(agent, LEASE * 3 / 2);
                signal(zygote, "CONT");
            }
            (24..29, _, Some(worker)) => self.stop(worker, Duration::from_secs(1)),
            (29..33, ..) => {
                self.server.kill();
                self.kills += 1;
                std::thread::sleep(Duration::from_millis(self.random.below(500)));
                self.server.restart();
            }
            (33..37, ..) => {
                self.kills += 1;
                let _ = self.submitter.kill();
                let _ = self.submitter.wait();
                self.submitter = start(&["cluster-submitter", &self.url, &self.book], None);
            }
            (37..40, ..) => {
                self.stops += 1;
                self.server.signal("STOP");
                std::thread::sleep(Duration::from_millis(1500));
                self.server.signal("CONT");
            }
            _ => {}
        }
        for i in 0..NODES {
            if self.nodes[i].try_wait().is_ok_and(|status| status.is_some()) {
                self.nodes[i] = Self::node(&self.url, i);
            }
        }
    }

    fn kill(&mut self, pid: u32) {
        self.kills += 1;
        signal(pid, "KILL");
    }

    fn stop(&mut self, pid: u32, time: Duration) {
        self.stops += 1;
        signal(pid, "STOP");
        std::thread::sleep(time);
        signal(pid, "CONT");
    }
}

/// Runs it.
pub fn run(ask: Ask) -> Figures {
    let seconds = ask.seconds.unwrap_or(if ask.quick { 40 } else { 600 });
    let mut figures = Figures::default();
    for name in ["overlapped", "failed", "done"] {
        figures.count(name, 0);
    }
    let server = Server::start();
    let url = server.url();
    let book = std::env::temp_dir().join(format!("aiopool-chaos-{}", std::process::id()));
    fs::write(&book, "").expect("make the book");
    let text = book.to_str().expect("a path of Unicode").to_owned();
    let victims = Victims {
        server,
        nodes: (0..NODES).map(|i| Victims::node(&url, i)).collect(),
        submitter: start(&["cluster-submitter", &url, &text], None),
        book: text.clone(),
        random: Random(0x9e37_79b9_7f4a_7c15),
        kills: 0,
        stops: 0,
        url: url.clone(),
    };
    let stopping = AtomicBool::new(false);
    let cluster = Cluster::builder(url.as_str()).pool(POOL).connect_blocking();
    let cluster = cluster.expect("the server was started just now");
    let (outcomes, mut victims) = std::thread::scope(|scope| {
        let harm = scope.spawn(|| {
            let mut victims = victims;
            while !stopping.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(200 + victims.random.below(800)));
                victims.harm();
            }
            victims
        });
        let outcomes = aiopool::block_on(async {
            let single = submit(&cluster, &text, seconds, &stopping, &mut figures);
            let (mut outcomes, (of_groups, more)) =
                tokio::join!(single, groups::submit(&cluster, &text, &stopping));
            outcomes.extend(of_groups);
            figures.add(more);
            outcomes
        });
        (outcomes, harm.join().expect("no test of its own fails there"))
    });
    figures.kills += victims.kills;
    figures.stops += victims.stops;
    // The killed ones leave what the nodes clean up; the last one is killed, too.
    let _ = victims.submitter.kill();
    let _ = victims.submitter.wait();
    drop(cluster);
    let empty = within(Duration::from_secs(90), || {
        std::thread::sleep(Duration::from_millis(300));
        let left = aiopool::block_on(observe(url.as_str(), POOL));
        left.is_ok_and(|left| left.jobs.is_empty() && left.messages + left.pieces == 0)
    });
    if !empty {
        figures.leaked += 1;
        let left = aiopool::block_on(observe(url.as_str(), POOL));
        figures.complain(format!("left on the server: {left:?}"));
    }
    for (i, node) in victims.nodes.iter_mut().enumerate() {
        let pids: Vec<u32> = Family::of(&format!("n{i}")).all().collect();
        drop(node.stdin.take());
        let ended = within(WATCHDOG, || node.try_wait().is_ok_and(|status| status.is_some()));
        let gone = within(WATCHDOG, || {
            pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        });
        if !ended || !gone {
            figures.leaked += 1;
            figures.complain("a node, or a process of it, does not end");
            let _ = node.kill();
        }
    }
    audit(&book, &outcomes, &mut figures);
    let _ = fs::remove_file(&book);
    figures
}

/// Submits until the time is over, and waits for every outcome.
async fn submit(
    cluster: &Cluster,
    book: &str,
    seconds: u64,
    stopping: &AtomicBool,
    figures: &mut Figures,
) -> HashMap<u64, bool> {
    let (start, mut random) = (Instant::now(), Random(7));
    let mut outcomes = HashMap::new();
    let mut out = FuturesUnordered::new();
    let mut next = 0;
    loop {
        let over = start.elapsed() > Duration::from_secs(seconds);
        if over {
            stopping.store(true, Relaxed);
        }
        while !over && out.len() < OUT {
            let n = next;
            next += 1;
            let item = (book.to_owned(), n, 10 + random.below(290));
            let options = TaskOptions::new().retries(if is_retried(n) { RETRIES } else { 0 });
            let task = cluster.with(options).apply(attempt, item);
            out.push(async move { (n, task.await) });
        }
        let came = match tokio::time::timeout(WATCHDOG, out.next()).await {
            Ok(Some(came)) => came,
            Ok(None) => break,
            Err(_) => {
                figures.wedged += out.len() as u64;
                figures.complain(format!("{} tasks have no outcome", out.len()));
                break;
            }
        };
        let (n, outcome) = came;
        let done = judge(n, outcome, figures);
        outcomes.insert(n, done);
    }
    figures.tasks += next;
    outcomes
}

/// Takes an outcome into account: whether it is a value.
fn judge(n: u64, outcome: Result<u64, ClusterError>, figures: &mut Figures) -> bool {
    let done = match outcome {
        Ok(value) => {
            figures.wrong += u64::from(value != n);
            true
        }
        Err(ClusterError::NodeLost { .. } | ClusterError::NotStarted(_)) => false,
        Err(ClusterError::Task(error)) if error.worker_lost().is_some() => false,
        Err(error) => {
            figures.lost += 1;
            figures.complain(format!("task {n}: {error}"));
            false
        }
    };
    figures.count(if done { "done" } else { "failed" }, 1);
    done
}

/// Whether a task of the main submitter has retries; the killed submitters' have none.
fn is_retried(n: u64) -> bool {
    groups::is_retried(n).unwrap_or(n < 1 << 32 && n.is_multiple_of(2))
}

/// Compares what attempts wrote with what the submitter was told.
fn audit(book: &PathBuf, outcomes: &HashMap<u64, bool>, figures: &mut Figures) {
    #[derive(Default)]
    struct Seen {
        starts: u64,
        ends: u64,
        newest: String,
    }
    let text = fs::read_to_string(book).expect("the book");
    let mut all: HashMap<u64, Seen> = HashMap::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let (Some(n), [_, what, id]) = (parts[0].parse().ok(), &parts[..]) else {
            figures.wrong += 1;
            figures.complain(format!("a torn line in the book: {line}"));
            continue;
        };
        let seen = all.entry(n).or_default();
        let (what, id) = (*what, *id);
        match what {
            "start" => {
                seen.starts += 1;
                seen.newest = id.to_owned();
            }
            _ if seen.newest != id => {
                figures.count("overlapped", 1);
                figures.wrong += 1;
                figures.complain(format!("task {n}: attempt {id} ran beside a later one"));
            }
            "end" => seen.ends += 1,
            _ => {}
        }
    }
    for (n, seen) in &all {
        let allowed = if is_retried(*n) { u64::from(RETRIES) + 1 } else { 1 };
        if seen.starts > allowed {
            figures.doubled += 1;
            figures.complain(format!("task {n} was started {} times", seen.starts));
        }
    }
    for (n, _) in outcomes.iter().filter(|(_, done)| **done) {
        if all.get(n).is_none_or(|seen| seen.ends == 0) {
            figures.wrong += 1;
            figures.complain(format!("task {n} has a value, and no attempt of it ended"));
        }
    }
}
