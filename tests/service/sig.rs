//! A good citizen of its terminal, service and container.
#![allow(unsafe_code)] // calls into libc

use std::process::{Command, Stdio};
use std::time::Duration;

use aiopool::{Pool, Process, StartMethod};
use tokio::signal::unix::{SignalKind, signal};

use crate::Named;
use crate::host::{Host, run, until};

pub const TESTS: &[Named] = &[
    ("a_signal_to_all_processes_of_a_service_lets_it_drain", drain),
    ("a_host_that_dies_of_a_signal_leaves_nobody", die),
    ("sigterm_has_a_worker_end_its_tasks_and_be_replaced", retire),
    ("a_process_goes_on_at_sigterm_and_ends_when_it_is_terminated", terminate),
    ("programs_that_tasks_start_have_default_signals", dispositions),
    ("what_tasks_leave_behind_is_reaped", orphans),
    ("a_host_that_waits_for_all_its_children_does_not_wait_for_the_fork_server", wait_for_all),
    ("a_stopped_fork_server_is_continued_by_the_next_order", stopped),
];

pub const ROLES: &[Named] = &[
    ("service", || serve(Pool::builder())),
    ("service with init", || {
        aiopool::init().unwrap();
        serve(Pool::builder());
    }),
    ("service that spawns", || serve(Pool::builder().start_method(StartMethod::Spawn))),
    ("default signals", || {
        let pool = Pool::builder().processes(2).build().unwrap();
        let _task = pool.apply(nap, 3_600_000);
        say_who(&pool);
        std::thread::sleep(Duration::from_secs(3600));
    }),
    ("waits", wait),
    ("waits with init", || {
        aiopool::init().unwrap();
        wait();
    }),
];

pub async fn nap(milliseconds: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    std::process::id()
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

/// Writes the pids of workers and zygote.
fn say_who(pool: &Pool) {
    let workers = pool.worker_pids();
    let mut all = workers.clone();
    all.push(parent_of(workers[0]));
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    println!("{}", all.join(" "));
}

pub fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Whether the process runs; one that is dead and not reaped does not.
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with('Z'))
}

pub fn send(signal: i32, pid: u32) {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0, "signal {signal} to {pid}");
}

/// Four tasks, two of which wait for a worker to have room, and an orderly end at `SIGTERM`.
fn serve(builder: aiopool::PoolBuilder) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate()).unwrap();
        let pool = builder.processes(2).child_concurrency(1).build().unwrap();
        let tasks: Vec<_> = (0..4).map(|_| pool.apply(nap, 700)).collect();
        say_who(&pool);
        end.recv().await;
        pool.close();
        for task in tasks {
            println!("{:?}", task.await.map(|_| ()));
        }
        println!("{:?}", pool.join().await);
    });
}

fn drain() {
    for role in ["service", "service with init", "service that spawns"] {
        let mut host = Host::start(role);
        let who = host.line();
        let others = who.split(' ').map(|pid| pid.parse().unwrap());
        for pid in others {
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGINT] {
                send(signal, pid);
            }
        }
        send(libc::SIGTERM, host.child.id());
        host.end().wrote("Ok(())\nOk(())\nOk(())\nOk(())\nOk(())\n");
    }
}

fn die() {
    let mut host = Host::start("default signals");
    let who = host.line();
    send(libc::SIGTERM, host.child.id());
    // The outputs end when nobody has them any more.
    assert!(!host.end().status.success());
    // A process closes its outputs a moment before it is dead.
    let all: Vec<u32> = who.split(' ').map(|pid| pid.parse().unwrap()).collect();
    until("nobody to be left", || all.iter().all(|&pid| !is_running(pid)).then_some(()));
}

fn retire() {
    let pool = pool(1);
    for busy in [false, true] {
        let before = pool.worker_pids()[0];
        let task = busy.then(|| pool.apply(nap, 500));
        // Tasks start in the order in which they came, so the other one runs by then.
        assert_eq!(pool.apply(nap, 0).wait().unwrap(), before);
        send(libc::SIGTERM, before);
        if let Some(task) = task {
            assert_eq!(task.wait().unwrap(), before);
        }
        until("another worker", || pool.worker_pids().iter().find(|&&pid| pid != before).copied());
        assert_ne!(pool.apply(nap, 0).wait().unwrap(), before);
        until("the worker to leave", || (!is_running(before)).then_some(()));
    }
    assert_eq!(pool.stats().deaths, 0);
}

fn terminate() {
    let mut process = Process::new(nap, 700);
    process.start().unwrap();
    send(libc::SIGTERM, process.pid().unwrap());
    process.join_blocking(None).unwrap();
    assert_eq!(process.exit_code(), Some(0));
    for _ in 0..20 {
        let mut process = Process::new(nap, 3_600_000);
        process.start().unwrap();
        // It may not have got as far as its loop.
        process.terminate().unwrap();
        process.join_blocking(Some(crate::host::WATCHDOG)).unwrap();
        assert_eq!(process.exit_code(), Some(-15));
    }
}

async fn masks(_: ()) -> String {
    let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    let lines = status.lines().filter(|l| l.starts_with("SigBlk") || l.starts_with("SigIgn"));
    // Two signals are the C library's own.
    let masks = lines.map(|line| u64::from_str_radix(&line[8..], 16).unwrap() & !(0b11 << 31));
    format!("{:?}", masks.collect::<Vec<_>>())
}

fn dispositions() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(1).start_method(method).build().unwrap();
        assert_eq!(pool.apply(masks, ()).wait().unwrap(), "[0, 0]");
    }
}

/// Leaves a process behind whose parent is gone, and gives its pid.
async fn leave_an_orphan(_: ()) -> u32 {
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", "sleep 0.2 >/dev/null & echo $!"]).stdin(Stdio::null());
    let output = shell.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn orphans() {
    let pool = pool(1);
    let orphan = pool.apply(leave_an_orphan, ()).wait().unwrap();
    until("the orphan to be reaped", || {
        (!std::path::Path::new(&format!("/proc/{orphan}")).exists()).then_some(())
    });
    assert_ne!(pool.apply(nap, 0).wait().unwrap(), 0);
}

/// Does what a shell does at its end: waits for each of its children.
fn wait() {
    let pool = pool(1);
    #[allow(clippy::zombie_processes)] // reaped by the loop
    let child = Command::new("true").spawn().unwrap();
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        let pid = unsafe { libc::wait(&mut status) };
        if pid <= 0 {
            break;
        }
        assert_eq!(pid as u32, child.id());
    }
    println!("{}", pool.apply(nap, 0).wait().is_ok());
}

fn wait_for_all() {
    run("waits").wrote("true\n");
    run("waits with init").wrote("true\n");
}

fn stopped() {
    let pool = pool(1);
    let worker = pool.worker_pids()[0];
    send(libc::SIGSTOP, parent_of(worker));
    send(libc::SIGKILL, worker);
    assert_ne!(pool.apply(nap, 0).wait().unwrap(), worker);
}
