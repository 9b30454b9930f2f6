//! Runs the `aiopool` command under a watchdog.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that a test waits: on a busy machine everything is done long before.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// What a command left behind.
pub struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The exit status; a death by signal is none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}

/// The command with `args`, not yet started. It logs nothing, since what is worth a warning depends
/// on how busy the machine is; tests that look at that set `RUST_LOG` anew.
pub fn aiopool<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aiopool"));
    command.env("RUST_LOG", "off");
    aiopool_testing::interruptible(command.args(args).stdin(Stdio::null()));
    command
}

/// Starts `command` and waits for its end.
pub fn run(command: &mut Command) -> Run {
    watch(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for the end of `child`, whose output is piped.
pub fn watch(mut child: Child) -> Run {
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let stdout = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let status = wait(&mut child);
    let text = |pipe: thread::JoinHandle<std::io::Result<String>>| pipe.join().unwrap().unwrap();
    Run { status, stdout: text(stdout), stderr: text(stderr) }
}

/// Waits for the end of `child`, not for ever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + WATCHDOG;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the command hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `done` holds, not for ever.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A file name that no other call gets, whatever name it gives: tests run side by side.
pub fn scratch(name: &str) -> PathBuf {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{call}-{name}", std::process::id()))
}

/// Sends a signal by the shell's own `kill`; false if there is no such process.
pub fn signal(name: &str, pid: u32) -> bool {
    signal_all(name, &[pid])
}

/// Sends a signal to each of these, one right after the other; false if one of them is not there.
pub fn signal_all(name: &str, pids: &[u32]) -> bool {
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    let kill = format!("kill -{name} {} 2>/dev/null", pids.join(" "));
    Command::new("sh").arg("-c").arg(kill).status().unwrap().success()
}
