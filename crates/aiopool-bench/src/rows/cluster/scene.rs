//! A server with nodes, each a process of its own.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aiopool_cluster::{Cluster, Node};
use aiopool_nats::Server;

const POOL: &str = "bench";

/// What marks the processes of a node: it is in their environment.
const MARK: &str = "AIOPOOL_BENCH_NODE";

/// The lease of nodes and jobs where a row says nothing else, in seconds.
pub const LEASE: u64 = 30;

pub struct Scene {
    pub url: String,
    pub server: Option<Server>,
    nodes: Vec<Other>,
}

impl Scene {
    /// A server with one node that has this number of workers, and of tasks in each.
    pub fn of_node(processes: usize, tasks: usize) -> anyhow::Result<Self> {
        let server = Server::start();
        let mut scene = Self { url: server.url(), server: Some(server), nodes: Vec::new() };
        scene.add_node(processes, tasks)?;
        Ok(scene)
    }

    /// Servers that the caller keeps.
    pub fn elsewhere(url: String) -> Self {
        Self { url, server: None, nodes: Vec::new() }
    }

    pub fn add_node(&mut self, processes: usize, tasks: usize) -> anyhow::Result<()> {
        let name = format!("n{}", self.nodes.len());
        self.add_named(processes, tasks, &name, LEASE)
    }

    pub fn add_named(
        &mut self,
        processes: usize,
        tasks: usize,
        name: &str,
        lease: u64,
    ) -> anyhow::Result<()> {
        let [processes, tasks, lease] =
            [processes as u64, tasks as u64, lease].map(|number| number.to_string());
        let words = ["cluster-node", &self.url, &processes, &tasks, name, &lease];
        self.nodes.push(Other::start(&words, Some(name))?);
        Ok(())
    }

    /// The processes of the node that was added last: agent, zygote and workers.
    pub fn family(&self) -> Vec<u32> {
        let mark = self.nodes.last().and_then(|node| node.mark.clone());
        let Some(mark) = mark.map(|mark| format!("{MARK}={mark}")) else { return Vec::new() };
        let marked = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|line| line == mark.as_bytes())
        };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(marked).collect()
    }

    /// The agent of the node that was added last.
    pub fn agent(&self) -> Option<u32> {
        self.nodes.last().map(|node| node.child.id())
    }

    /// Takes the end of a node's agent into account that this process has killed.
    pub fn forget_killed(&mut self) {
        if let Some(mut node) = self.nodes.pop() {
            let _ = node.child.wait();
        }
    }

    /// A handle, once a node has taken tasks of its.
    pub fn cluster(&self, group: usize) -> anyhow::Result<Cluster> {
        let cluster = Cluster::builder(self.url.as_str())
            .pool(POOL)
            .lease(Duration::from_secs(LEASE))
            .items_per_message(group)
            .connect_blocking()?;
        anyhow::ensure!(cluster.apply(super::same, 1).wait()? == 1, "a wrong result");
        Ok(cluster)
    }
}

/// The other side of [`Scene::add_named`]: a node, until its standard input ends.
pub fn serve(
    url: &str,
    processes: &str,
    tasks: &str,
    name: &str,
    lease: &str,
) -> anyhow::Result<()> {
    aiopool::init()?;
    let node = Node::builder(url)
        .pool(POOL)
        .name(name)
        .lease(Duration::from_secs(lease.parse()?))
        .processes(processes.parse()?)
        .child_concurrency(tasks.parse()?);
    let (gone, stop) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    let stop = async {
        let _ = stop.await;
    };
    aiopool::block_on(node.run_until(stop))?;
    Ok(())
}

/// Another process of this program; dropping it lets it end in order, at most ten seconds.
pub struct Other {
    child: Child,
    mark: Option<String>,
}

impl Other {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn start(words: &[&str], mark: Option<&str>) -> anyhow::Result<Self> {
        let mark = mark.map(|name| format!("{name}-{}", std::process::id()));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--partner"]).args(words).stdin(Stdio::piped());
        let child = command.envs(mark.iter().map(|mark| (MARK, mark))).spawn()?;
        Ok(Self { child, mark })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
