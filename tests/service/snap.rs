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
