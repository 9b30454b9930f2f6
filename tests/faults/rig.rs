//! What the fault tests share: a process of its own for each test, a watchdog, and the look
//! afterwards whether anything of it is left.
#![allow(unsafe_code)] // system calls

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aiopool::{Pool, TaskError, WorkerLost};

/// Names the test in the environment of its process, and so in that of every process it makes.
const VARIABLE: &str = "AIOPOOL_FAULT";
/// The modules with tests that run alone.
const MODULES: [&str; 7] =
    ["clock", "isolation", "profiles", "regions", "resources", "signals", "tasks"];
/// Names the case.
const CASE: &str = "AIOPOOL_FAULT_CASE";
/// Far longer than any of these tests takes on a loaded machine.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// Runs `body` in a process of its own, in which it may do to the process what it likes.
///
/// `test` is the name of the calling test. The process must end in time and in order, and
/// whatever it started must be gone soon after.
pub fn alone(test: &str, body: impl FnOnce()) {
    alone_as(test, "", body);
}

/// [`alone`] for one of several cases of a test, each in a process of its own.
pub fn alone_as(test: &str, case: &str, body: impl FnOnce()) {
    if std::env::var_os(VARIABLE).is_some() {
        if std::env::var_os(CASE).is_some_and(|wanted| wanted == *case) {
            body();
        }
        return;
    }
    let mark = format!("{test}-{}", std::process::id());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--test-threads=1", "--exact"])
        // The harness knows a test by its module and name; no two modules have one of the same name.
        .args(MODULES.map(|module| format!("{module}::{test}")))
        .env(VARIABLE, &mark)
        .env(CASE, case)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said: Vec<_> = [drain(child.stdout.take()), drain(child.stderr.take())].into();
    let end = Instant::now() + WATCHDOG;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let left = if status.is_some() { left_after(&mark, WATCHDOG) } else { Vec::new() };
    if status.is_none() || !left.is_empty() {
        marked(&mark).iter().for_each(|process| kill(process.pid, libc::SIGKILL));
    }
    let _ = child.wait();
    let said: String = said.into_iter().map(|said| said.join().unwrap()).collect();
    assert!(status.is_some(), "{test} hangs:\n{said}");
    assert!(left.is_empty(), "{test} left {left:?} behind:\n{said}");
    assert!(status.is_some_and(|status| status.success()), "{test}: {status:?}\n{said}");
    assert!(said.contains("1 passed"), "{test} did not run:\n{said}");
    print!("{said}");
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A process that a test made.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

/// The living processes that have the mark in their environment.
fn marked(mark: &str) -> Vec<Process> {
    let wanted = format!("{VARIABLE}={mark}");
    processes(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
    })
}

fn left_after(mark: &str, patience: Duration) -> Vec<Process> {
    let end = Instant::now() + patience;
    loop {
        let left = marked(mark);
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The living processes for which `wanted` is true; zombies do not count.
pub fn processes(wanted: impl Fn(u32) -> bool) -> Vec<Process> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let dead = field("State:")?.starts_with(['Z', 'X']);
        (!dead && wanted(pid)).then(|| Process { pid, name: field("Name:").unwrap_or("").into() })
    });
    all.collect()
}

/// The processes of this test with that name or beginning of a name: `aiopool-zygote`, `aiopool `.
pub fn own(name: &str) -> Vec<u32> {
    let mark = std::env::var(VARIABLE).expect("called in the test's own process");
    let own = marked(&mark).into_iter().filter(|process| process.name.starts_with(name));
    own.map(|process| process.pid).collect()
}

/// The fork servers of this test.
///
/// A worker has the name of its fork server for a moment after the fork, so processes with that name
/// whose parent has it, too, do not count.
pub fn zygotes() -> Vec<u32> {
    let named = own("aiopool-zygote");
    let is_child = |&pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        // One that ended in the meantime has no parent, and counts as little.
        parent.is_none_or(|parent| named.iter().any(|pid| parent.trim() == pid.to_string()))
    };
    named.iter().copied().filter(|pid| !is_child(pid)).collect()
}

/// Sends a signal; a process that is gone already is fine.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Waits for a condition of which there is no notification.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(90);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub async fn double(x: u64) -> u64 {
    x * 2
}

pub async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

pub async fn pid(_: u64) -> u32 {
    std::process::id()
}

pub async fn length(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// The pool does what a pool does: small and large tasks, each with its own right value.
pub fn works(pool: &Pool) {
    let small: Vec<_> = (0..50).map(|x| pool.apply(double, x)).collect();
    let large = pool.apply(length, vec![7; 300_000]);
    for (x, task) in small.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), 2 * x as u64);
    }
    assert_eq!(large.wait().unwrap(), vec![7; 300_000]);
    settles(pool);
}

/// Every task that was submitted has had its one outcome, and every record is free again.
pub fn settles(pool: &Pool) {
    until("all records to be free", || {
        let stats = pool.stats();
        stats.pending == 0 && stats.free_records == CAPACITY
    });
    let stats = pool.stats();
    let outcomes = stats.outcomes();
    assert_eq!(stats.submitted, outcomes, "{stats:?}");
}

/// Records of a pool of one queue, unless an option sets them.
pub const CAPACITY: u64 = 4096;

/// What is said of a worker that was lost.
pub fn lost<T: std::fmt::Debug>(outcome: Result<T, TaskError>) -> WorkerLost {
    match outcome {
        Err(TaskError::WorkerLost(lost)) => *lost,
        other => panic!("expected a lost worker, got {other:?}"),
    }
}

/// Says loudly that something cannot be done here; where it was to be possible, that is a failure.
///
/// CI runs as root on a machine with all of it, and sets `AIOPOOL_CI`.
pub fn impossible(what: &str, why: impl std::fmt::Display) {
    assert!(
        std::env::var_os("AIOPOOL_CI").is_none(),
        "{what} is not possible here ({why}), and on CI nothing may be skipped"
    );
    eprintln!("NOT TESTED: {what}: {why}");
}

/// From now on these system calls answer `errno`, in every thread and child of this process.
///
/// # Errors
///
/// What the kernel says where it has no such filters.
pub fn answer(calls: &[i64], errno: i32) -> Result<(), seccompiler::Error> {
    let rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into()?;
    let action = seccompiler::SeccompAction::Errno(errno as u32);
    let allow = seccompiler::SeccompAction::Allow;
    let filter: seccompiler::BpfProgram =
        seccompiler::SeccompFilter::new(rules, allow, action, arch)?.try_into()?;
    seccompiler::apply_filter_all_threads(&filter)
}

/// From now on this system call answers `errno` where its argument has one of the bits of `mask`,
/// as [`answer`] has it.
///
/// # Errors
///
/// As [`answer`].
pub fn answer_where(
    call: i64,
    argument: u8,
    mask: u64,
    errno: i32,
) -> Result<(), seccompiler::Error> {
    use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
    // A rule for each bit: any of them is enough.
    let bits = (0..32).map(|bit| 1_u64 << bit).filter(|bit| mask & bit != 0);
    let rules: Result<Vec<_>, seccompiler::BackendError> = bits
        .map(|bit| {
            let length = SeccompCmpArgLen::Dword;
            let has = SeccompCmpOp::MaskedEq(bit);
            let condition = SeccompCondition::new(argument, length, has, bit)?;
            seccompiler::SeccompRule::new(vec![condition])
        })
        .collect();
    let arch = std::env::consts::ARCH.try_into()?;
    let (action, allow) = (SeccompAction::Errno(errno as u32), SeccompAction::Allow);
    let rules = [(call, rules?)].into();
    let filter: seccompiler::BpfProgram =
        seccompiler::SeccompFilter::new(rules, allow, action, arch)?.try_into()?;
    seccompiler::apply_filter_all_threads(&filter)
}
