//! What hosts do beside their pools, and what must not come of it.
#![allow(unsafe_code)] // system calls

use std::cell::RefCell;
use std::time::{Duration, Instant};

use aiopool::Pool;

use crate::alone;

/// Far longer than any of these tests takes on a loaded machine.
const WATCHDOG: Duration = Duration::from_secs(60);

async fn square(x: u32) -> u32 {
    x * x
}

async fn never(_: ()) {
    std::future::pending::<()>().await;
}

/// Forks a child that ends at once, and waits for it.
fn fork_and_wait() {
    // SAFETY: the child only ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes a number only.
        unsafe { libc::_exit(0) };
    }
    let mut status = -1;
    // SAFETY: the pointer is to a number that lives during the call.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "how the child ended");
}

#[test]
fn a_host_that_forks_while_a_map_runs_gets_every_value_once() {
    alone("hosts::a_host_that_forks_while_a_map_runs_gets_every_value_once", || {
        let pool = Pool::builder().processes(2).build().unwrap();
        let forks = std::thread::spawn(|| (0..10).for_each(|_| fork_and_wait()));
        let mapped = aiopool::block_on(async { pool.map(square, 0..20_000_u32).await }).unwrap();
        forks.join().unwrap();
        assert!(mapped.into_iter().eq((0..20_000).map(|x| x * x)));
    });
}

/// A pool and a task of it, as a thread keeps them in a variable of its own.
type Kept = (aiopool::Task<()>, Pool);

#[test]
fn a_pool_that_a_thread_keeps_ends_with_the_thread() {
    thread_local! {
        static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
    }
    let (gone, is_gone) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let thread = std::thread::spawn(|| {
            let pool = Pool::builder().processes(1).build().unwrap();
            let task = pool.apply(never, ());
            assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
            let workers = pool.worker_pids();
            KEPT.with(|kept| *kept.borrow_mut() = Some((task, pool)));
            workers
        });
        gone.send(thread.join().unwrap()).unwrap();
    });
    let workers = is_gone.recv_timeout(WATCHDOG).expect("the thread hangs in its destructors");
    let end = Instant::now() + WATCHDOG;
    while workers.iter().any(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap()) {
        assert!(Instant::now() < end, "a worker is left");
        std::thread::yield_now();
    }
}

#[test]
fn a_host_that_ignores_its_children_and_blocks_all_signals_has_workers() {
    let test = "hosts::a_host_that_ignores_its_children_and_blocks_all_signals_has_workers";
    // The kernel reaps the program that makes the fork server, before its host looks at it or after.
    for _ in 0..20 {
        alone(test, ignores_its_children);
    }
}

fn ignores_its_children() {
    // SAFETY: sets a disposition, fills a set that lives during the calls, and blocks it.
    unsafe {
        assert_ne!(libc::signal(libc::SIGCHLD, libc::SIG_IGN), libc::SIG_ERR);
        let mut all = std::mem::zeroed();
        assert_eq!(libc::sigfillset(&mut all), 0);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut()), 0);
    }
    let pool = Pool::builder().processes(1).build().unwrap();
    assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
    let worker = pool.worker_pids()[0];
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(worker as libc::pid_t, libc::SIGKILL) }, 0);
    // Also by the worker that is there instead.
    let retried = aiopool::TaskOptions::new().retries(3);
    assert_eq!(pool.with(retried).apply(square, 4).wait().unwrap(), 16);
}

#[test]
fn a_pool_that_is_dropped_within_a_runtime_of_one_thread_ends_its_tasks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..5 {
            let pool = Pool::builder().processes(1).build().unwrap();
            let task = pool.apply(never, ());
            assert_eq!(pool.apply(square, 5).await.unwrap(), 25);
            drop(pool);
            let ended = tokio::time::timeout(WATCHDOG, task).await.expect("the task hangs");
            assert!(matches!(ended, Err(aiopool::TaskError::PoolClosed { .. })), "{ended:?}");
        }
    });
}
