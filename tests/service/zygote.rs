//! The fork server is watched: it ignores what it can, answers or is killed, and another one takes
//! over where that is possible.
#![allow(unsafe_code)] // calls into libc

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aiopool::view::Kind;
use aiopool::{LossCause, Pool, PoolBuilder, Process, StartMethod, TaskError, TaskOptions};
use aiopool_testing::Folder;

use crate::Named;
use crate::host::{End, WATCHDOG, run, until};
use crate::sig::{is_running, nap, parent_of, send};

pub const TESTS: &[Named] = &[
    ("no_signal_but_kill_has_an_effect_on_the_fork_server", signals),
    ("a_killed_fork_server_is_made_anew_and_costs_what_its_workers_ran", killed),
    ("tasks_that_signal_their_fork_server_end_no_pool", tasks_that_signal),
    ("a_fork_server_killed_again_and_again_loses_no_task", killed_under_load),
    ("a_fork_server_with_the_memory_of_init_is_not_made_anew_and_says_so", forked),
    ("a_fork_server_that_does_not_answer_is_replaced", || run("traced").wrote("")),
    ("a_pool_whose_fork_server_does_not_answer_is_built", || run("traced at a build").wrote("")),
    ("a_worker_that_moves_away_and_turns_its_death_signal_off_is_killed", moved),
    ("a_process_of_its_own_ends_with_its_fork_server", process),
];

pub const ROLES: &[Named] = &[
    ("forked zygote killed", forked_and_killed),
    ("traced", traced),
    ("traced at a build", traced_at_a_build),
];

fn builder() -> PoolBuilder {
    Pool::builder().processes(2).child_concurrency(1)
}

/// Of a task that may have begun in a worker whose fork server is about to be replaced: such a
/// worker ends with its fork server.
fn patient() -> TaskOptions {
    TaskOptions::new().retries(10)
}

/// The events of the pool that are about its fork server.
fn said_of_it(pool: &Pool) -> Vec<String> {
    let events = pool.snapshot().events.into_iter();
    events.filter(|event| event.kind == Kind::ForkServer).map(|event| event.text).collect()
}

fn zygote_of(pool: &Pool) -> u32 {
    until("a worker", || pool.worker_pids().first().map(|&worker| parent_of(worker)))
}

fn signals() {
    let pool = builder().build().unwrap();
    let zygote = zygote_of(&pool);
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // Two are the C library's own.
        if ![32, 33].contains(&signal) {
            send(signal, zygote);
        }
    }
    for _ in 0..10 {
        let victim = pool.worker_pids()[0];
        send(libc::SIGKILL, victim);
        until("a replacement", || {
            let pids = pool.worker_pids();
            (pids.len() == 2 && !pids.contains(&victim)).then_some(())
        });
        pool.apply(nap, 0).wait().unwrap();
    }
    assert_eq!(zygote_of(&pool), zygote);
}

fn killed() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let (pool, other) = (builder().start_method(method).build().unwrap(), builder().build());
        let other = other.unwrap();
        let running: Vec<_> = (0..2).map(|_| pool.apply(nap, 3_600_000)).collect();
        let again = TaskOptions::new().retries(3);
        let retried = other.with(again).apply(nap, 3000);
        until("the tasks to run", || (pool.stats().queued == 0).then_some(()));
        until("the task to run", || (other.stats().queued == 0).then_some(()));
        let queued: Vec<_> = (0..20).map(|_| pool.apply(nap, 0)).collect();
        let workers = [pool.worker_pids(), other.worker_pids()].concat();
        let zygote = zygote_of(&pool);
        assert_eq!(zygote, zygote_of(&other));
        send(libc::SIGKILL, zygote);
        for task in running {
            match task.wait() {
                Err(TaskError::WorkerLost(lost)) => assert_eq!(lost.exit.signal(), Some(9)),
                other => panic!("{other:?}"),
            }
        }
        for task in queued {
            assert!(!workers.contains(&task.wait().unwrap()));
        }
        assert!(!workers.contains(&retried.wait().unwrap()));
        assert_ne!(zygote_of(&pool), zygote);
        assert_eq!(zygote_of(&pool), zygote_of(&other));
        for pool in [&pool, &other] {
            let said = said_of_it(pool);
            assert!(said.len() == 1 && said[0].contains("another fork server"), "{said:?}");
        }
        assert!(workers.iter().all(|&worker| !is_running(worker)));
        pool.close();
        pool.join_blocking().unwrap();
    }
}

async fn signals_its_parent(signal: i32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(libc::getppid(), signal) };
    if signal == libc::SIGKILL {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

fn tasks_that_signal() {
    let pool = builder().build().unwrap();
    for signal in [libc::SIGSTOP, libc::SIGTERM, libc::SIGUSR1, libc::SIGKILL, libc::SIGSTOP] {
        let outcome = pool.apply(signals_its_parent, signal).wait();
        assert_eq!(outcome.is_ok(), signal != libc::SIGKILL, "{signal}: {outcome:?}");
        // A worker that ends is replaced all the same, and a pool can be built.
        let nap_somewhere = |pool: &Pool| pool.with(patient()).apply(nap, 0).wait().unwrap();
        let worker = nap_somewhere(&pool);
        send(libc::SIGKILL, worker);
        until("another worker", || (nap_somewhere(&pool) != worker).then_some(()));
        nap_somewhere(&builder().build().unwrap());
    }
}

fn killed_under_load() {
    let pool = builder().max_tasks_per_child(3).build().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for kill in 0..25 {
                // Each moment of a worker's start has its turn.
                std::thread::sleep(Duration::from_micros(20_000 + kill * 331));
                for &worker in pool.worker_pids().first().into_iter() {
                    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat"));
                    let parent = stat
                        .ok()
                        .and_then(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok());
                    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
                    if let Some(zygote) = parent
                        && name(zygote).is_ok_and(|name| name == "aiopool-zygote\n")
                    {
                        // SAFETY: takes numbers only.
                        unsafe { libc::kill(zygote, libc::SIGKILL) };
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let patient = patient().retries(100);
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            let tasks: Vec<_> = (0..20).map(|_| pool.with(patient).apply(nap, n % 3)).collect();
            for mut task in tasks {
                let outcome = task.wait_timeout(WATCHDOG).expect("an outcome");
                outcome.unwrap();
                n += 1;
            }
        }
    });
    assert_eq!(pool.stats().damages, 0);
    pool.close();
    pool.join_blocking().unwrap();
}

fn forked_and_killed() {
    aiopool::init().unwrap();
    let pool = builder().build().unwrap();
    let task = pool.apply(nap, 3_600_000);
    send(libc::SIGKILL, zygote_of(&pool));
    println!("{}", task.wait().unwrap_err());
    // The next one says that it lacks what the first one had.
    let pool = builder().build().unwrap();
    pool.apply(nap, 0).wait().unwrap();
    // A pool of executed workers lacks nothing.
    let spawning = builder().start_method(StartMethod::Spawn).build().unwrap();
    send(libc::SIGKILL, zygote_of(&pool));
    spawning.with(patient()).apply(nap, 0).wait().unwrap();
}

fn forked() {
    let End { status, stdout, stderr } = run("forked zygote killed");
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    for needle in ["was killed by signal 9", "init()", "cannot be made again"] {
        assert!(stdout.contains(needle), "{needle:?} is not in {stdout}\n{stderr}");
    }
}

fn process() {
    let mut process = Process::new(nap, 3_600_000);
    process.start().unwrap();
    send(libc::SIGKILL, parent_of(process.pid().unwrap()));
    // It cannot be started once more, since by default no code runs twice.
    match process.join_blocking(Some(WATCHDOG)) {
        Err(aiopool::Error::Failed(why)) => assert!(why.to_string().contains("zygote"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Stops a process as a debugger does, which no signal continues, until this process ends.
fn trace(pid: u32) {
    let pid = pid as libc::pid_t;
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: takes numbers only, and a place for the status.
    unsafe {
        let seized = libc::ptrace(libc::PTRACE_SEIZE, pid, null, null);
        assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, pid, null, null), 0);
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, libc::__WALL), pid);
        assert!(libc::WIFSTOPPED(status));
    }
}

/// Makes orphans children of this process, which then may trace its zygote.
fn adopt() {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
}

fn traced() {
    adopt();
    let pool = builder().build().unwrap();
    let zygote = zygote_of(&pool);
    trace(zygote);
    let worker = pool.apply(nap, 0).wait().unwrap();
    send(libc::SIGKILL, worker);
    // The other worker ends with its zygote, which is killed: both are replaced.
    let pids = until("another fork server", || {
        let pids = pool.worker_pids();
        let new = |&pid: &u32| is_running(pid) && parent_of(pid) != zygote;
        (pids.len() == 2 && pids.iter().all(new)).then_some(pids)
    });
    assert!(!pids.contains(&worker));
    let said = said_of_it(&pool);
    let told = ["for a second and is stopped", "is stopped: it is killed", "another fork server"];
    assert_eq!(said.len(), told.len(), "{said:?}");
    assert!(said.iter().zip(told).all(|(said, told)| said.contains(told)), "{said:?}");
    pool.with(patient()).apply(nap, 0).wait().unwrap();
    // A deadline is kept by a zygote that does not answer, too.
    trace(zygote_of(&pool));
    let limit = TaskOptions::new().timeout(Duration::from_millis(50));
    async fn computes(_: ()) {
        loop {
            std::hint::spin_loop();
        }
    }
    match pool.with(limit).apply(computes, ()).wait_timeout(WATCHDOG).unwrap() {
        Err(TaskError::TimedOut { .. }) => {}
        Err(TaskError::WorkerLost(lost)) => assert_eq!(lost.cause, LossCause::NeighbourTimedOut),
        other => panic!("{other:?}"),
    }
    pool.with(patient()).apply(nap, 0).wait().unwrap();
}

fn traced_at_a_build() {
    adopt();
    let pool = builder().build().unwrap();
    trace(zygote_of(&pool));
    let other = builder().build().unwrap();
    other.with(patient()).apply(nap, 0).wait().unwrap();
    pool.with(patient()).apply(nap, 0).wait().unwrap();
}

/// Does what it can to be nobody's child and in nobody's group, says so, and computes.
async fn moves_away(mark: String) {
    // SAFETY: takes numbers only.
    unsafe {
        libc::setpgid(0, libc::getppid());
        // No leader of a group any more, it may lead a session.
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
    }
    std::fs::write(mark, "").unwrap();
    loop {
        std::hint::spin_loop();
    }
}

fn moved() {
    let limit = TaskOptions::new().timeout(Duration::from_millis(500));
    let folder = Folder::new("moves-away");
    let mark = |name: &str| folder.path().join(name);
    let text = |name: &str| mark(name).to_str().unwrap().to_owned();
    let pool = builder().grace(Duration::from_millis(100)).build().unwrap();
    let before = pool.worker_pids();
    // A deadline, the loss of the fork server and the end of the pool, each with such workers.
    match pool.with(limit).apply(moves_away, text("first")).wait() {
        Err(TaskError::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    until("the worker to be killed", || before.iter().any(|&pid| !is_running(pid)).then_some(()));
    let task = pool.apply(moves_away, text("second"));
    until("the worker to have moved", || mark("second").exists().then_some(()));
    let workers = pool.worker_pids();
    send(libc::SIGKILL, zygote_of(&pool));
    assert!(matches!(task.wait(), Err(TaskError::WorkerLost(_))));
    assert!(workers.iter().all(|&pid| !is_running(pid)), "{workers:?}");
    let _task = pool.apply(moves_away, text("third"));
    until("the worker to have moved", || mark("third").exists().then_some(()));
    let workers = pool.worker_pids();
    drop(pool);
    assert!(workers.iter().all(|&pid| !is_running(pid)), "{workers:?}");
}
