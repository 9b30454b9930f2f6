//! This binary as a host that is a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The first argument of a host; the second is the name of its role.
pub const ROLE: &str = "role";

/// When a test gives up: far beyond what a loaded machine needs.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// The command that starts this binary in a role.
pub fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([ROLE, role]).stdin(Stdio::null());
    command
}

/// A host, and what it writes.
pub struct Host {
    pub child: Child,
    output: BufReader<ChildStdout>,
}

/// What a host left.
#[derive(Debug)]
pub struct End {
    pub status: std::process::ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Host {
    /// Starts this binary in a role.
    pub fn start(role: &str) -> Self {
        Self::spawn(&mut command(role))
    }

    /// Starts a command whose output is read here.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until no writer of its outputs is left, at most [`WATCHDOG`].
    pub fn end(mut self) -> End {
        let pid = self.child.id();
        let (done, wait) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if wait.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Its zygote and workers go with it, and the reads below end.
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
        });
        let mut errors = self.child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let mut stdout = String::new();
        self.output.read_to_string(&mut stdout).unwrap();
        let stderr = errors.join().unwrap();
        let status = self.child.wait().unwrap();
        drop(done);
        watchdog.join().unwrap();
        End { status, stdout, stderr }
    }
}

impl End {
    /// Checks that the host ended well and wrote this to its output.
    pub fn wrote(&self, stdout: &str) {
        assert!(self.status.success(), "{self:#?}");
        assert_eq!(self.stdout, stdout, "{self:#?}");
    }
}

/// Runs a role to its end.
pub fn run(role: &str) -> End {
    Host::start(role).end()
}

/// Waits until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WATCHDOG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {WATCHDOG:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
