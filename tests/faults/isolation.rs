//! What a user can forbid workers, and that it costs only the worker that exceeds it.
#![cfg(feature = "sandbox")]
#![allow(unsafe_code)] // looks at limits and sends signals, in its own workers

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::rig::{alone, double, impossible, length, lost, works};
use aiopool::{
    Error, Limits, Pool, PoolBuilder, Process, Sandbox, StartMethod, TaskError, TaskOptions,
};

const METHODS: [StartMethod; 2] = [StartMethod::Fork, StartMethod::Spawn];

/// With small arenas, so that a limit on address space can be small.
fn builder() -> PoolBuilder {
    Pool::builder().processes(1).max_payload(4 << 20).child_concurrency(4)
}

/// Allocates, or dies of it.
async fn allocate(bytes: u64) -> u64 {
    let block = vec![1_u8; bytes as usize];
    std::hint::black_box(&block).len() as u64
}

/// Allocates, or says that it cannot.
async fn try_allocate(bytes: u64) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes as usize).is_ok()
}

/// Computes for ever.
async fn burn(_: u64) {
    let mut x = 1_u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(3));
    }
}

/// Opens descriptors until there are no more; the number of the refusal.
async fn open_all(_: u64) -> Option<i32> {
    let mut files = Vec::new();
    for _ in 0..10_000 {
        match std::fs::File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => return error.raw_os_error(),
        }
    }
    None
}

async fn status_field(name: String) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("none").trim().to_owned()
}

#[test]
fn an_allocation_over_the_limit_costs_its_own_worker() {
    for method in METHODS {
        let limits = Limits::new().address_space(2 << 30);
        let pool = builder().processes(2).limits(limits).start_method(method).build().unwrap();
        let neighbour = pool.apply(crate::rig::nap, 300);
        assert!(pool.apply(try_allocate, 64 << 20).wait().unwrap());
        assert!(!pool.apply(try_allocate, 4 << 30).wait().unwrap());
        let lost = lost(pool.apply(allocate, 4 << 30).wait());
        assert_eq!(lost.exit.signal(), Some(libc::SIGABRT), "{lost}");
        // In the other worker, or queued again: no task ran beside the one that died.
        let neighbour = neighbour.wait();
        assert!(matches!(neighbour, Ok(300) | Err(TaskError::WorkerLost(_))), "{neighbour:?}");
        works(&pool);
    }
}

#[test]
fn processor_time_over_the_limit_is_named() {
    let limits = Limits::new().cpu_seconds(1);
    let pool = builder().limits(limits).build().unwrap();
    let watchdog = TaskOptions::new().timeout(crate::rig::WATCHDOG);
    let lost = lost(pool.with(watchdog).apply(burn, 0).wait());
    assert_eq!(lost.exit.signal(), Some(libc::SIGXCPU), "{lost}");
    works(&pool);
}

#[test]
fn descriptors_over_the_limit_are_refused() {
    for method in METHODS {
        let limits = Limits::new().open_files(64);
        let pool = builder().limits(limits).start_method(method).build().unwrap();
        assert_eq!(pool.apply(open_all, 0).wait().unwrap(), Some(libc::EMFILE));
        works(&pool);
    }
}

#[test]
fn limits_and_rules_hold_in_the_initializer() {
    async fn look(dir: PathBuf) -> Result<(), String> {
        let denied = std::fs::read_dir("/").is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
        let limited = open_all(0).await == Some(libc::EMFILE);
        std::fs::write(dir.join("seen"), format!("{denied} {limited}")).map_err(|e| e.to_string())
    }
    for method in METHODS {
        let dir = scratch(&format!("initializer-{method:?}"));
        let sandbox = Sandbox::new().read_only(["/dev"]).read_write([&dir]);
        let limits = Limits::new().open_files(64);
        let pool = builder().limits(limits).sandbox(sandbox).start_method(method);
        let pool = pool.initializer(look, dir.clone()).build().unwrap();
        assert_eq!(pool.apply(double, 2).wait().unwrap(), 4);
        assert_eq!(std::fs::read_to_string(dir.join("seen")).unwrap(), "true true");
    }
}

#[test]
fn no_new_privs_is_what_it_says() {
    for method in METHODS {
        let pool = builder().no_new_privs(true).start_method(method).build().unwrap();
        let field = pool.apply(status_field, "NoNewPrivs:".to_owned()).wait().unwrap();
        assert_eq!(field, "1");
    }
    let pool = builder().build().unwrap();
    assert_eq!(pool.apply(status_field, "NoNewPrivs:".to_owned()).wait().unwrap(), "0");
}

/// A fresh directory of this test.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("isolation-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// What comes of reading, of writing and of making files: for each path an error's kind, or none.
async fn try_files(paths: Vec<PathBuf>) -> Vec<[String; 3]> {
    let said = |result: std::io::Result<()>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    let each = paths.into_iter().map(|dir| {
        let file = dir.join("file");
        let write = std::fs::File::options().write(true).truncate(true).open(&file);
        [
            said(std::fs::read(&file).map(drop)),
            said(write.map(drop)),
            said(std::fs::write(dir.join("new"), "x")),
        ]
    });
    each.collect()
}

#[test]
fn only_the_named_files_are_there() {
    let dirs = ["none", "read", "write"].map(scratch);
    dirs.iter().for_each(|dir| std::fs::write(dir.join("file"), "x").unwrap());
    for method in METHODS {
        let sandbox = Sandbox::new().read_only([&dirs[1]]).read_write([&dirs[2]]);
        assert_eq!(sandbox.unsupported(), [""; 0]);
        let pool = builder().sandbox(sandbox).start_method(method).build().unwrap();
        let said = pool.apply(try_files, dirs.to_vec()).wait().unwrap();
        let no = "PermissionDenied";
        assert_eq!(said, [[no, no, no], ["done", no, no], ["done", "done", "done"]]);
        works(&pool);
    }
    assert!(dirs[2].join("new").is_file() && !dirs[1].join("new").exists());
}

#[test]
fn a_panic_in_a_sandbox_still_says_what_and_where() {
    async fn fail(x: u64) -> u64 {
        panic!("no {x} in here")
    }
    let none: [&str; 0] = [];
    let pool = builder().sandbox(Sandbox::new().read_only(none)).build().unwrap();
    match pool.apply(fail, 7).wait() {
        Err(TaskError::Panicked(panic)) => {
            assert_eq!(panic.message(), "no 7 in here");
            assert!(panic.location().contains("isolation.rs"), "{panic}");
        }
        other => panic!("{other:?}"),
    }
    // Outputs take memory, for which a worker looks into /proc where it can.
    let large = vec![3; 3 << 20];
    assert_eq!(pool.apply(length, large.clone()).wait().unwrap(), large);
}

async fn kinds(_: u64) -> Vec<String> {
    let denied = |result: std::io::Result<()>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error.raw_os_error().unwrap_or(0).to_string(),
    };
    let status = std::process::Command::new("/bin/true").status();
    vec![
        denied(std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
        denied(std::net::UdpSocket::bind("127.0.0.1:0").map(drop)),
        denied(std::os::unix::net::UnixDatagram::unbound().map(drop)),
        denied(std::os::unix::net::UnixStream::pair().map(drop)),
        denied(status.map(drop)),
        denied(tokio::net::TcpListener::bind("127.0.0.1:0").await.map(drop)),
    ]
}

#[test]
fn neither_network_nor_programs() {
    let eperm = libc::EPERM.to_string();
    let eperm = eperm.as_str();
    for method in METHODS {
        let pool = builder().start_method(method.clone());
        let pool = pool.sandbox(Sandbox::new().no_network().no_exec()).build().unwrap();
        let said = pool.apply(kinds, 0).wait().unwrap();
        assert_eq!(said, [eperm, eperm, eperm, "done", eperm, eperm], "{method:?}");
        works(&pool);
    }
    let pool = builder().build().unwrap();
    assert_eq!(pool.apply(kinds, 0).wait().unwrap(), ["done"; 6]);
}

/// Sends signal 0, which only asks, to these processes; each error's number.
async fn ask(pids: Vec<u32>) -> Vec<i32> {
    let ask = |&pid: &u32| {
        // SAFETY: takes two numbers.
        let answer = unsafe { libc::kill(pid as libc::pid_t, 0) };
        if answer == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
    };
    pids.iter().map(ask).collect()
}

#[test]
fn signals_reach_nobody_outside() {
    for method in METHODS {
        let pool = builder().start_method(method);
        let pool = pool.sandbox(Sandbox::new().no_signals()).build().unwrap();
        let worker = pool.apply(crate::rig::pid, 0).wait().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let zygote = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        let pids = vec![std::process::id(), zygote.trim().parse().unwrap(), worker];
        assert_eq!(pool.apply(ask, pids).wait().unwrap(), [libc::EPERM, libc::EPERM, 0]);
    }
}

#[test]
fn any_call_can_be_denied() {
    async fn host_name(_: u64) -> i32 {
        // SAFETY: all-zero is a valid `utsname`, a struct of bytes.
        let mut name: libc::utsname = unsafe { std::mem::zeroed() };
        // SAFETY: `name` is writable.
        if unsafe { libc::uname(&mut name) } == 0 { 0 } else { libc::EPERM }
    }
    let sandbox = Sandbox::new().deny_system_calls([libc::SYS_uname]);
    let pool = builder().sandbox(sandbox).build().unwrap();
    assert_eq!(pool.apply(host_name, 0).wait().unwrap(), libc::EPERM);
    // One without which no worker can be: the pool says so, and does not hang.
    let sandbox = Sandbox::new().deny_system_calls([libc::SYS_mmap]);
    let pool = builder().sandbox(sandbox).build().unwrap();
    let ended = pool.apply(double, 1).wait().unwrap_err();
    assert!(matches!(ended, TaskError::PoolClosed { reason: Some(_) }), "{ended:?}");
}

#[test]
fn a_single_process_can_be_confined_too() {
    let options = |builder: PoolBuilder| {
        let sandbox = Sandbox::new().no_network();
        builder.max_payload(4 << 20).limits(Limits::new().open_files(64)).sandbox(sandbox)
    };
    let mut worker = aiopool::Worker::new(kinds, 0).configure(options);
    worker.start().unwrap();
    assert_eq!(worker.wait().unwrap()[0], libc::EPERM.to_string());
    let burning = |builder: PoolBuilder| builder.limits(Limits::new().cpu_seconds(1));
    let mut process = Process::new(burn, 0).configure(burning);
    process.start().unwrap();
    process.join_blocking(Some(crate::rig::WATCHDOG)).unwrap();
    assert_eq!(process.exit_code(), Some(-libc::SIGXCPU));
}

#[test]
fn a_command_is_confined_before_it_is_executed() {
    let words = |script: &str| -> Vec<OsString> { vec!["sh".into(), "-c".into(), script.into()] };
    let dir = scratch("command");
    let seen = dir.join("seen");
    let script = format!(
        "echo \"$(ls / > /dev/null 2>&1 && echo open || echo closed) $(ulimit -n)\" > {}",
        seen.display()
    );
    let system = ["/bin", "/lib", "/lib64", "/usr", "/etc"].map(Path::new);
    let system = system.into_iter().filter(|path| path.exists());
    let sandbox = Sandbox::new().read_only(system).read_write(["/dev", dir.to_str().unwrap()]);
    let pool = builder().limits(Limits::new().open_files(99)).sandbox(sandbox);
    let pool = pool.start_method(StartMethod::Command(words(&script))).build().unwrap();
    // A program that never attaches: the pool gives up and says so.
    let ended = pool.apply_named("anything", "").wait().unwrap_err();
    assert!(ended.to_string().contains("before it attached"), "{ended}");
    assert_eq!(std::fs::read_to_string(seen).unwrap(), "closed 99\n");
    let no_exec = builder().start_method(StartMethod::Command(words("true")));
    refused(no_exec.sandbox(Sandbox::new().no_exec()), "sandbox", "have to execute it");
}

fn refused(builder: PoolBuilder, option: &str, text: &str) {
    match builder.build() {
        Err(error @ Error::InvalidOption { name, .. }) if name == option => {
            assert!(error.to_string().contains(text), "{error}");
        }
        other => panic!("{option}: {other:?}"),
    }
}

#[test]
fn what_is_out_of_range_is_refused_at_build() {
    let limited = |limits| builder().limits(limits);
    refused(limited(Limits::new().address_space(1 << 20)), "limits.address_space", "input_arena");
    refused(limited(Limits::new().cpu_seconds(0)), "limits.cpu_seconds", "at least 1");
    refused(limited(Limits::new().open_files(3)), "limits.open_files", "at least 22");
    let confined = |sandbox| builder().sandbox(sandbox);
    refused(confined(Sandbox::new().read_only(["/no/such/path"])), "sandbox", "a path that exists");
    for number in [-1, 1 << 40] {
        let sandbox = Sandbox::new().deny_system_calls([number]);
        refused(confined(sandbox), "sandbox", "SYS_");
    }
}

#[test]
fn the_smallest_limits_that_are_taken_are_enough() {
    let arenas = 2 * (16 << 20);
    let limits = Limits::new().address_space(arenas + (64 << 20)).open_files(22).cpu_seconds(1);
    let pool = builder().child_concurrency(16).limits(limits).build().unwrap();
    works(&pool);
}

#[test]
fn a_kernel_without_landlock_is_an_error_unless_told_otherwise() {
    alone("a_kernel_without_landlock_is_an_error_unless_told_otherwise", || {
        let calls = [libc::SYS_landlock_create_ruleset];
        if let Err(error) = crate::rig::answer(&calls, libc::ENOSYS) {
            return impossible("a kernel without Landlock", error);
        }
        let sandbox = || Sandbox::new().read_only(["/usr"]).no_signals().no_network();
        let missing = sandbox().unsupported();
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing.iter().all(|rule| rule.contains("Landlock")), "{missing:?}");
        refused(builder().sandbox(sandbox()), "sandbox", "no Landlock");
        let pool = builder().sandbox(sandbox().best_effort()).build().unwrap();
        // What can be enforced is.
        assert_eq!(pool.apply(kinds, 0).wait().unwrap()[0], libc::EPERM.to_string());
        works(&pool);
    });
}
