//! A worker is what its host is when the pool is built; what it is not is said.
#![allow(unsafe_code)] // calls into libc

use std::sync::atomic::{AtomicU64, Ordering};

use aiopool::Pool;

use crate::Named;
use crate::host::run;

pub const TESTS: &[Named] = &[
    ("a_hook_after_the_fork_gives_each_worker_numbers_of_its_own", hooks),
    ("what_tasks_log_reaches_the_hosts_logger_or_the_workers_own", loggers),
    ("a_warm_generator_of_the_c_library_is_spoken_of", warmth),
    ("workers_are_in_the_namespaces_that_their_host_is_in_by_then", namespaces),
    ("workers_have_the_root_that_their_host_has_by_then", root),
    ("workers_have_the_seccomp_filters_of_their_host_or_are_refused", filters),
];

pub const ROLES: &[Named] = &[
    ("generator with a hook", || {
        aiopool::after_fork(|| GENERATOR.store(std::process::id().into(), Ordering::Relaxed));
        draw();
    }),
    ("generator without a hook", draw),
    ("logger in the host", || log(false, false)),
    ("logger in the initializer", || log(true, false)),
    ("logger before init", || log(false, true)),
    ("warm generator", || {
        // SAFETY: takes a number only; this program has one thread.
        unsafe { libc::srand(4711) };
        aiopool::init().unwrap();
    }),
    ("cold generator", || aiopool::init().unwrap()),
    ("other namespaces", || move_away(true, enter_namespaces)),
    ("other namespaces without init", || move_away(false, enter_namespaces)),
    ("another root", || move_away(true, change_root)),
    ("filters before init", || {
        add_filter();
        aiopool::init().unwrap();
        filtered();
    }),
    ("filters after init", || {
        aiopool::init().unwrap();
        add_filter();
        filtered();
    }),
    ("filters without init", || {
        add_filter();
        filtered();
    }),
    ("filters after a pool", || {
        drop(Pool::builder().processes(1).build().unwrap());
        add_filter();
        filtered();
    }),
];

static GENERATOR: AtomicU64 = AtomicU64::new(0);

async fn next(_: ()) -> u64 {
    GENERATOR.fetch_add(1, Ordering::Relaxed)
}

/// Draws the first number of two workers.
fn draw() {
    GENERATOR.store(7, Ordering::Relaxed);
    aiopool::init().unwrap();
    let pool = || Pool::builder().processes(1).build().unwrap();
    let (one, two) = (pool(), pool());
    let numbers = [one.apply(next, ()).wait().unwrap(), two.apply(next, ()).wait().unwrap()];
    println!("{}", if numbers[0] == numbers[1] { "the same" } else { "different" });
}

fn hooks() {
    run("generator with a hook").wrote("different\n");
    run("generator without a hook").wrote("the same\n");
}

struct Silent;

impl log::Log for Silent {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        println!("{}", record.args());
    }
    fn flush(&self) {}
}

fn set_logger() {
    log::set_logger(&Silent).unwrap();
    log::set_max_level(log::LevelFilter::Info);
}

async fn set_logger_here(_: ()) -> Result<(), String> {
    set_logger();
    Ok(())
}

async fn write_a_line(_: ()) {
    log::info!("from a task");
}

fn log(initializer: bool, init: bool) {
    set_logger();
    if init {
        aiopool::init().unwrap();
    }
    let builder = Pool::builder().processes(2);
    let builder = if initializer { builder.initializer(set_logger_here, ()) } else { builder };
    let pool = builder.build().unwrap();
    for _ in 0..2 {
        pool.apply(write_a_line, ()).wait().unwrap();
    }
    pool.close();
    aiopool::block_on(pool.join()).unwrap();
}

fn loggers() {
    let said = run("logger in the host");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|l| l.starts_with("from a task worker=")),
        "{said:#?}"
    );
    for role in ["logger in the initializer", "logger before init"] {
        let end = run(role);
        end.wrote("from a task\nfrom a task\n");
        assert_eq!(end.stderr, "", "{role}");
    }
}

fn warmth() {
    // Other C libraries do not show it.
    if cfg!(target_env = "gnu") {
        let said = run("warm generator").stderr;
        assert!(said.contains("aiopool::after_fork"), "{said}");
    }
    assert_eq!(run("cold generator").stderr, "");
}

/// What a process sees of its namespaces of host names, mounts and System V objects, and its root.
async fn whereabouts(_: ()) -> [String; 4] {
    let namespace = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}"));
        link.map_or_else(|error| error.to_string(), |link| link.display().to_string())
    };
    let mut names: Vec<_> =
        std::fs::read_dir("/").unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    [namespace("uts"), namespace("mnt"), namespace("ipc"), format!("{names:?}")]
}

/// Builds a pool, has this process move to another place, and compares where workers of the pools
/// before and after it are.
fn move_away(init: bool, go: fn()) {
    if init {
        aiopool::init().unwrap();
    }
    let pool = || Pool::builder().processes(1).build().unwrap();
    let before = pool();
    let first = before.apply(whereabouts, ()).wait().unwrap();
    go();
    let after = pool();
    let second = after.apply(whereabouts, ()).wait().unwrap();
    let here = aiopool::block_on(whereabouts(()));
    assert_ne!(first, second);
    assert_eq!(second, here);
    // A replacement of the first pool's worker is where the pool was built.
    // SAFETY: takes numbers only.
    unsafe { libc::kill(before.worker_pids()[0] as i32, libc::SIGKILL) };
    loop {
        match before.apply(whereabouts, ()).wait() {
            Ok(replacement) => break assert_eq!(replacement, first),
            Err(error) => assert!(error.worker_lost().is_some(), "{error}"),
        }
    }
    println!("right");
}

fn enter_namespaces() {
    // SAFETY: takes a number only; the flags ask for no new user or process namespace.
    let done =
        unsafe { libc::unshare(libc::CLONE_NEWUTS | libc::CLONE_NEWNS | libc::CLONE_NEWIPC) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn change_root() {
    let folder = std::env::temp_dir().join("aiopool-root");
    std::fs::create_dir_all(folder.join("proc")).unwrap();
    enter_namespaces();
    let mount = |from: &str, to: &str, flags| {
        let [from, to] = [from, to].map(|path| std::ffi::CString::new(path).unwrap());
        let (kind, data) = (std::ptr::null(), std::ptr::null());
        // SAFETY: both paths live until the call returns.
        let done = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind, flags, data) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    };
    // No other process is to see what is mounted below.
    mount("none", "/", libc::MS_REC | libc::MS_PRIVATE);
    mount("/proc", folder.join("proc").to_str().unwrap(), libc::MS_BIND | libc::MS_REC);
    std::os::unix::fs::chroot(&folder).unwrap();
    std::env::set_current_dir("/").unwrap();
}

/// Returns whether this process may change its root; CI runs as root.
fn may_move() -> bool {
    // SAFETY: takes nothing.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root || std::env::var_os("AIOPOOL_CI").is_none(), "this test wants to be root");
    root
}

fn namespaces() {
    if may_move() {
        run("other namespaces").wrote("right\n");
        run("other namespaces without init").wrote("right\n");
    }
}

fn root() {
    if may_move() {
        run("another root").wrote("right\n");
    }
}

/// Has the kernel pass each system call of this process through a filter, which allows it.
fn add_filter() {
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const allow).cast_mut() };
    // SAFETY: takes numbers, or a program that lives until the call returns.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Counts the filters of a worker, as the kernel lists them.
async fn count_filters(_: ()) -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    count.unwrap().trim().parse().unwrap()
}

/// Tells whether the workers of a new pool have the filters of this process, or why there are none.
fn filtered() {
    match Pool::builder().processes(1).build() {
        Ok(pool) => {
            let here = aiopool::block_on(count_filters(()));
            assert_eq!(pool.apply(count_filters, ()).wait().unwrap(), here);
            println!("the same");
        }
        Err(error) => println!("{error}"),
    }
}

fn filters() {
    run("filters before init").wrote("the same\n");
    run("filters without init").wrote("the same\n");
    for late in ["filters after init", "filters after a pool"] {
        let said = run(late).stdout;
        let why = "have the 1 seccomp filters of its host, having 0: set filters before";
        assert!(said.contains(why), "{said}");
    }
}
