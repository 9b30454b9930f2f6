//! Machines with a network of their own, which are cut off from the others as by a broken cable, in
//! both directions or in one.
//!
//! A machine is a network namespace with one cable (`veth`) to a hub, and the hub is the namespace of
//! the process that plugs it in, which hands on what machines send to each other. Namespaces have no
//! names: they are gone with their last process, whatever becomes of a test.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Returns a command that starts `program` in a network namespace of its own, as a hub to be.
///
/// # Errors
///
/// Why this machine has none to give.
pub fn in_a_network(program: impl AsRef<OsStr>) -> Result<Command, String> {
    // Root has them by itself, others where users may be root of a namespace.
    let ways: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];
    let mut why = String::new();
    for way in ways {
        // All that a machine is made of: a namespace, a cable, an address of hardware, a router.
        let trial = "ip link add name near address 02:00:00:00:00:01 type veth peer name far && \
            echo 1 > /proc/sys/net/ipv4/ip_forward && nsenter --version";
        let mut command = Command::new("unshare");
        match command.args(way).args(["sh", "-c", trial]).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => {
                let mut command = Command::new("unshare");
                command.args(way).arg("--").arg(program);
                return Ok(command);
            }
            Ok(output) => why += &String::from_utf8_lossy(&output.stderr),
            Err(error) => why += &format!("unshare: {error}\n"),
        }
    }
    Err(why.trim_end().to_owned())
}

/// A machine of a network, at the end of a cable.
#[derive(Debug)]
pub struct Machine {
    /// The process for whose sake the namespace is there.
    keeper: Child,
    number: u8,
}

impl Machine {
    /// Plugs a machine into this process's own network, which has to be one of
    /// [`in_a_network`].
    ///
    /// # Panics
    ///
    /// When that is not possible.
    #[must_use]
    pub fn plugged() -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Bounded: a test that is killed leaves no namespace behind for longer than this.
        let mut keeper = Command::new("unshare");
        let keeper = keeper.args(["--net", "sleep", "600"]).stdin(Stdio::null());
        let machine = Self { keeper: keeper.spawn().expect("start unshare"), number };
        let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let (pid, start) = (machine.keeper.id().to_string(), Instant::now());
        while own(&pid).is_none_or(|namespace| Some(namespace) == own("self")) {
            assert!(start.elapsed() < Duration::from_secs(60), "no namespace is made");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a hub that hands on");
        let cable = format!("m{number}");
        let (hub, its) = (machine.hardware(1), machine.hardware(2));
        ip("link set lo up");
        ip(&format!(
            "link add name {cable} address {hub} type veth peer name eth0 address {its} netns {pid}"
        ));
        let (near, far) = (machine.gateway(), machine.address());
        ip(&format!("address add {near}/24 dev {cable}"));
        ip(&format!("link set {cable} up"));
        machine.ip("link set lo up");
        machine.ip(&format!("address add {far}/24 dev eth0"));
        machine.ip("link set eth0 up");
        machine.ip(&format!("route add default via {near}"));
        machine.heal();
        machine
    }

    /// Returns its address in the network.
    #[must_use]
    pub fn address(&self) -> String {
        format!("10.0.{}.2", self.number)
    }

    /// Returns a command that starts `program` on it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.keeper.id())).arg("--").arg(program);
        command
    }

    /// Lets nothing through that it sends, or that is sent to it, or both. No sender is told.
    ///
    /// # Panics
    ///
    /// When the system does not do it.
    pub fn cut(&self, from_it: bool, to_it: bool) {
        // What has the address of other hardware is dropped at the end of the cable.
        let hub = self.hardware(if from_it { 255 } else { 1 });
        let its = self.hardware(if to_it { 255 } else { 2 });
        let (near, far, cable) = (self.gateway(), self.address(), format!("m{}", self.number));
        self.ip(&format!("neigh replace {near} lladdr {hub} dev eth0 nud permanent"));
        ip(&format!("neigh replace {far} lladdr {its} dev {cable} nud permanent"));
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.cut(false, false);
    }

    /// The hub's address, as it sees it.
    fn gateway(&self) -> String {
        format!("10.0.{}.1", self.number)
    }

    fn hardware(&self, end: u8) -> String {
        format!("02:00:00:00:{:02x}:{end:02x}", self.number)
    }

    fn ip(&self, text: &str) {
        run(self.command("ip").args(text.split(' ')));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn ip(text: &str) {
    run(Command::new("ip").args(text.split(' ')));
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} fails");
}
