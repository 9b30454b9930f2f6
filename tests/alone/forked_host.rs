//! A child that the host forks cannot disturb the pool.

#![allow(unsafe_code)] // it forks

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use aiopool::{
    AbortHandle, Broadcast, Error, NamedFunction, PolledPool, Pool, Process, Task, TaskError,
    TaskSet,
};

/// Far above what any of this takes.
const WATCHDOG: Duration = Duration::from_secs(60);

async fn double(x: u64) -> u64 {
    x * 2
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    ms
}

#[test]
fn a_forked_child_cannot_disturb_the_pool() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(2).build().unwrap();
    let task = pool.apply(nap, 300);
    let queued: Vec<_> = (0..100).map(|x| pool.apply(double, x)).collect();
    // SAFETY: the child only touches memory of its own and leaves by `_exit`; no thread holds the
    // locks it takes at this moment, since the host's other threads are idle.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = pool.apply(double, 1).wait();
        let told = matches!(&refused, Err(TaskError::NotSubmitted(e)) if matches!(**e, Error::Forked { .. }));
        let own = matches!(task.wait(), Err(TaskError::NotSubmitted(_)));
        drop(queued);
        pool.terminate();
        let join = matches!(pool.join_blocking(), Err(Error::Forked { .. }));
        drop(pool);
        // SAFETY: takes a number and does not come back.
        unsafe { libc::_exit(if told && own && join { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a writable int of our own.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was not refused");
    assert_eq!(task.wait().unwrap(), 300);
    for (x, task) in queued.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), 2 * x as u64);
    }
}

#[test]
fn a_forked_child_has_a_pool_of_its_own() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).build().unwrap();
    assert_eq!(pool.apply(double, 1).wait().unwrap(), 2);
    // SAFETY: as for the first child: the host's other threads are idle.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let works = Pool::builder().processes(1).build().is_ok_and(|own| {
            let works = own.apply(double, 20).wait().is_ok_and(|value| value == 40);
            own.close();
            works && own.join_blocking().is_ok()
        });
        // SAFETY: takes a number and does not come back.
        unsafe { libc::_exit(if works { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a writable int of our own.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child's own pool does not work");
    assert_eq!(pool.apply(double, 21).wait().unwrap(), 42);
}

#[test]
fn a_pool_ends_while_a_forked_child_has_copies_of_its_descriptors() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(2).build().unwrap();
    let pids = pool.worker_pids();
    // SAFETY: the child does nothing but wait.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || {
        pool.close();
        let ended = pool.join_blocking();
        drop(pool);
        say.send(ended)
    });
    let ended = hear.recv_timeout(WATCHDOG);
    // SAFETY: the child is ours, and not reaped.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: no status is asked for.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    ended.expect("the pool waits for a child of its host").unwrap();
    assert!(!pids.is_empty());
    for pid in pids {
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "worker {pid} is left");
    }
}

#[test]
fn an_executed_child_has_no_descriptor_of_the_pool() {
    let _alone = crate::one_at_a_time();
    let open = || -> Vec<i32> {
        let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    };
    let before = open();
    let pool = Pool::builder().processes(2).build().unwrap();
    let task = pool.apply(nap, 300);
    let of_pool: Vec<i32> = open().into_iter().filter(|fd| !before.contains(fd)).collect();
    assert!(of_pool.len() > 5, "{of_pool:?}");
    for fd in of_pool {
        // The directory that was read is closed by now.
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        assert!(flags & libc::O_CLOEXEC != 0, "descriptor {fd} stays open over exec");
    }
    // What the child sees: its own three, and the directory that it reads.
    let seen = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    assert!(seen.contains("/proc/"), "{seen}");
    for ours in ["memfd:", "eventfd", "pidfd", "socket:", "eventpoll"] {
        assert!(!seen.contains(ours), "{seen}");
    }
    assert_eq!(task.wait().unwrap(), 300);
}

/// What a child calls, none of which may wait for a lock that a thread of its parent holds.
#[allow(clippy::too_many_arguments, reason = "one of each handle")]
fn call_everything(
    pool: &Pool,
    (polled, function): (&PolledPool, NamedFunction),
    process: &Process,
    waits: Task<u64>,
    kept: Task<u64>,
    map: aiopool::Map<impl aiopool::Source<Item = u64>, u64>,
    (mut set, unread): (TaskSet<u64>, TaskSet<u64>),
    (broadcast, silent): (Broadcast<u64>, Broadcast<u64>),
    abort: &AbortHandle,
) -> Result<(), &'static str> {
    let check = |what, right| if right { Ok(()) } else { Err(what) };
    fn forked<T>(refused: &Result<T, TaskError>) -> bool {
        matches!(refused, Err(TaskError::NotSubmitted(e)) if matches!(**e, Error::Forked { .. }))
    }
    check("apply", forked(&pool.apply(double, 1).wait()))?;
    check("wait", forked(&kept.wait()))?;
    let mut results = map.into_blocking_iter();
    check("map", results.next().is_some_and(|result| forked(&result)))?;
    check("the end of a map", results.next().is_none())?;
    drop(results);
    drop(waits);
    let told = set.join_next_blocking();
    check("task_set", told.is_some_and(|(_, result)| forked(&result)))?;
    check("the end of a task_set", set.join_next_blocking().is_none())?;
    set.abort_all();
    drop((set, unread));
    let told = broadcast.wait();
    check("broadcast", told.len() == 1 && told.iter().all(forked))?;
    drop(silent);
    check("a broadcast of the child's", pool.broadcast(double, 1).wait().iter().all(forked))?;
    abort.abort();
    abort.abort_within(Duration::ZERO);
    check("is_finished", abort.is_finished())?;
    check("stats", pool.stats() == aiopool::Stats::default())?;
    check("worker_pids", pool.worker_pids().is_empty())?;
    check("drain", !pool.drain_blocking(Duration::MAX))?;
    check("join", matches!(pool.join_blocking(), Err(Error::Forked { .. })))?;
    check("deadline", matches!(pool.extend_deadline(1), Err(Error::Forked { .. })))?;
    pool.close();
    pool.terminate();
    let mut outcomes = Vec::new();
    polled.receive(1, &mut outcomes);
    check("receive", outcomes.is_empty())?;
    let submitted = polled.submit(function, &[], aiopool::TaskOptions::new(), None, 1);
    check("submit", forked(&submitted))?;
    check("ended", matches!(polled.ended(), Some(Err(Error::Forked { .. }))))?;
    polled.close();
    polled.terminate();
    check("is_alive", !process.is_alive() && process.pid().is_none())?;
    check("exit_code", process.exit_code().is_none() && process.exit().is_none())?;
    check("kill", matches!(process.kill(), Err(Error::Forked { .. })))?;
    check("terminate", matches!(process.terminate(), Err(Error::Forked { .. })))?;
    let joined = process.join_blocking(None);
    check("join of a process", matches!(joined, Err(Error::Forked { .. })))?;
    Ok(())
}

#[test]
fn a_forked_child_waits_for_no_lock_that_another_thread_holds() {
    let _alone = crate::one_at_a_time();
    let small = || Pool::builder().processes(1).capacity(16);
    let pool = small().deadline(u64::MAX).build().unwrap();
    let polled = PolledPool::new(small().build().unwrap()).unwrap();
    let function = polled.function("x").unwrap();
    let mut process = Process::new(nap, 1_000_000);
    process.start().unwrap();
    let over = AtomicBool::new(false);
    let (pool, polled, process) = (&pool, &polled, &process);
    let holds: [&(dyn Fn() + Sync); 6] = [
        &|| assert_eq!(pool.broadcast(double, 1).wait().len(), 1),
        &|| drop(pool.apply(double, 1).wait()),
        &|| drop((pool.stats(), pool.worker_pids(), process.pid())),
        // Fills the pool, so that submitters wait for room.
        &|| drop((0..40).map(|_| pool.apply(nap, 1)).collect::<Vec<_>>()),
        &|| assert_eq!(pool.map(double, 0..30).into_blocking_iter().count(), 30),
        &|| {
            let _ = polled.submit(function, &[], aiopool::TaskOptions::new(), None, 1);
            polled.receive(4, &mut Vec::new());
        },
    ];
    std::thread::scope(|scope| {
        for hold in holds {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    hold();
                }
            });
        }
        for _ in 0..200 {
            let (mut waits, kept) = (pool.apply(nap, 1000), pool.apply(nap, 1000));
            let abort = waits.abort_handle();
            let mut map = pool.map(nap, [1000, 1]);
            let _ = aiopool::block_on(async {
                tokio::select! { biased; one = map.next() => one, () = std::future::ready(()) => None }
            });
            let sets = (pool.apply_many(nap, [1000, 1]), pool.apply_many(nap, [1000, 1]));
            let broadcasts = (pool.broadcast(nap, 1000), pool.broadcast(nap, 1000));
            // SAFETY: the child waits for no lock of another thread, which is what is tested, and
            // leaves by `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: takes a number. Far longer than this takes on a loaded machine.
                unsafe { libc::alarm(60) };
                let named = (polled, function);
                let called = call_everything(
                    pool, named, process, waits, kept, map, sets, broadcasts, &abort,
                );
                if let Err(what) = &called {
                    eprintln!("{what} is wrong in a child");
                }
                // SAFETY: takes a number and does not come back.
                unsafe { libc::_exit(i32::from(called.is_err())) };
            }
            let mut status = 0;
            // SAFETY: `status` is a writable int of our own.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            if status != 0 {
                over.store(true, Ordering::Relaxed);
            }
            assert_eq!(status, 0, "a call in the child is wrong, or waits");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(pool.apply(double, 4).wait().unwrap(), 8);
}
