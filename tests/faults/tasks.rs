//! Tasks that do to their worker whatever a process can do to itself. Every task has one right
//! outcome, the neighbours by the rules, the pool goes on, and no process is left.
#![allow(unsafe_code)] // they misbehave by system calls

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::rig::{alone, alone_as, double, lost, nap, own, pid, settles, until, works};
use aiopool::{LossCause, Pool, PoolBuilder, Task, TaskError, TaskOptions};

fn builder() -> PoolBuilder {
    Pool::builder().processes(2).child_concurrency(4)
}

/// Has `death` kill a worker in which two naps are running, next to a worker with two others.
///
/// Those beside it are lost with it, or run again where they may; the others never notice.
fn kills_only_its_worker<T: std::fmt::Debug + serde::de::DeserializeOwned + 'static>(
    death: impl Fn(&Pool) -> Task<T>,
    exit: impl Fn(&aiopool::WorkerExit) -> bool,
) {
    let pool = builder().build().unwrap();
    let patient = TaskOptions::new().retries(10);
    for _ in 0..3 {
        let naps: Vec<_> = (0..4).map(|_| pool.apply(nap, 100)).collect();
        let again: Vec<_> = (0..4).map(|_| pool.with(patient).apply(nap, 100)).collect();
        let queued: Vec<_> = (0..100).map(|x| pool.with(patient).apply(double, x)).collect();
        let lost = lost(death(&pool).wait());
        assert!(exit(&lost.exit), "{lost}");
        assert_eq!(lost.cause, LossCause::Death);
        for nap in naps {
            let ended = nap.wait();
            assert!(matches!(ended, Ok(100) | Err(TaskError::WorkerLost(_))), "{ended:?}");
        }
        again.into_iter().for_each(|nap| assert_eq!(nap.wait().unwrap(), 100));
        for (x, task) in queued.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), 2 * x as u64);
        }
        works(&pool);
    }
    assert!(pool.stats().deaths >= 3);
}

async fn exit(status: i32) {
    std::process::exit(status);
}

async fn abort(_: i32) {
    std::process::abort();
}

#[allow(clippy::manual_dangling_ptr)] // it is to fault
async fn fault(_: i32) {
    // SAFETY: none: nothing is mapped at 8, and the worker is to die of it.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(8).write_volatile(1) };
}

async fn overflow(depth: u64) -> u64 {
    #[inline(never)]
    fn deeper(depth: u64) -> u64 {
        let here = std::hint::black_box([depth; 512]);
        if depth == 0 { 0 } else { deeper(depth + 1) + std::hint::black_box(here)[7] }
    }
    deeper(depth + 1)
}

#[test]
fn exit_by_a_task() {
    alone("exit_by_a_task", || {
        let status = |exit: &_| matches!(exit, aiopool::WorkerExit::Exited(7));
        kills_only_its_worker(|pool| pool.apply(exit, 7), status);
        // The status of an orderly end makes no difference: the worker had not said goodbye.
        let status = |exit: &_| matches!(exit, aiopool::WorkerExit::Exited(0));
        kills_only_its_worker(|pool| pool.apply(exit, 0), status);
    });
}

#[test]
fn abort_by_a_task() {
    alone("abort_by_a_task", || {
        let by = |exit: &aiopool::WorkerExit| exit.signal() == Some(libc::SIGABRT);
        kills_only_its_worker(|pool| pool.apply(abort, 0), by);
    });
}

#[test]
fn a_segmentation_fault_in_a_task() {
    alone("a_segmentation_fault_in_a_task", || {
        let by = |exit: &aiopool::WorkerExit| exit.signal() == Some(libc::SIGSEGV);
        kills_only_its_worker(|pool| pool.apply(fault, 0), by);
    });
}

#[test]
fn a_stack_overflow_in_a_task() {
    alone("a_stack_overflow_in_a_task", || {
        // Rust's handler says so and aborts, where it is in place; the kernel's answer is SIGSEGV.
        let by = |exit: &aiopool::WorkerExit| {
            matches!(exit.signal(), Some(libc::SIGABRT | libc::SIGSEGV))
        };
        kills_only_its_worker(|pool| pool.apply(overflow, 0), by);
    });
}

/// Never comes back, and never looks whether it should.
async fn block(_: u64) {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_task_that_blocks_the_executor_for_ever() {
    alone("a_task_that_blocks_the_executor_for_ever", || {
        let grace = Duration::from_millis(100);
        let pool = builder().processes(1).grace(grace).build().unwrap();
        let victim = pool.apply(pid, 0).wait().unwrap();
        let neighbour = pool.apply(nap, 3_600_000);
        let patient = pool.with(TaskOptions::new().retries(1)).apply(nap, 1500);
        // Time enough to begin in, however busy the machine is.
        let limit = Duration::from_millis(500);
        let blocking = pool.with(TaskOptions::new().timeout(limit)).apply(block, 0);
        let queued: Vec<_> = (0..10).map(|x| pool.apply(double, x)).collect();
        let ended = blocking.wait().unwrap_err();
        assert!(matches!(ended, TaskError::TimedOut { started: true, .. }), "{ended:?}");
        // Tasks that ran beside it are lost, with the reason, or run again; tasks that waited never
        // notice.
        let neighbour = lost(neighbour.wait());
        assert_eq!((neighbour.cause, neighbour.pid), (LossCause::NeighbourTimedOut, victim));
        assert_eq!(neighbour.exit.signal(), Some(libc::SIGKILL));
        assert_eq!(patient.wait().unwrap(), 1500);
        for (x, task) in queued.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), 2 * x as u64);
        }
        assert_ne!(pool.apply(pid, 0).wait().unwrap(), victim);
        assert_eq!(pool.stats().killed_for_deadline, 1);
        works(&pool);
    });
}

/// Closes what is open, the worker's own descriptors included.
async fn close_all(_: u64) -> u64 {
    for fd in 0..1024 {
        // SAFETY: none: the worker's owners of these descriptors are still there, and it is to
        // get into trouble for that.
        unsafe { libc::close(fd) };
    }
    1024
}

#[test]
fn a_task_that_closes_all_descriptors() {
    alone("a_task_that_closes_all_descriptors", || {
        let pool = builder().build().unwrap();
        for _ in 0..3 {
            let queued: Vec<_> = (0..100)
                .map(|x| pool.with(TaskOptions::new().retries(5)).apply(double, x))
                .collect();
            // Its value is in shared memory, which needs no descriptor, or the worker died first.
            let ended = pool.apply(close_all, 0).wait();
            assert!(matches!(ended, Ok(1024) | Err(TaskError::WorkerLost(_))), "{ended:?}");
            for (x, task) in queued.into_iter().enumerate() {
                assert_eq!(task.wait().unwrap(), 2 * x as u64);
            }
            let patient = TaskOptions::new().retries(5);
            (0..20).for_each(|_| assert_eq!(pool.with(patient).apply(nap, 5).wait().unwrap(), 5));
        }
        settles(&pool);
    });
}

/// Becomes a program that ends in a quarter of an hour.
async fn execute(program: String) {
    let failed = Command::new(&program).arg("1000").exec();
    panic!("cannot execute {program}: {failed}");
}

#[test]
fn a_task_that_executes_another_program_is_lost_and_its_worker_replaced() {
    alone("a_task_that_executes_another_program_is_lost_and_its_worker_replaced", || {
        let pool = builder().processes(1).build().unwrap();
        let patient = TaskOptions::new().retries(5);
        for round in 0..2 {
            let neighbour = pool.with(patient).apply(nap, 300);
            let lost = lost(pool.apply(execute, "sleep".to_owned()).wait());
            assert_eq!((lost.cause, lost.suspect), (LossCause::Replaced, true), "{lost}");
            assert!(lost.to_string().contains("another program (exec)"), "{lost}");
            assert_eq!(neighbour.wait().unwrap(), 300, "round {round}");
            works(&pool);
        }
        settles(&pool);
    });
}

/// A second look at the same worker finds what the first did not.
#[test]
fn a_worker_that_stays_what_it_is_lives_through_many_looks() {
    alone("a_worker_that_stays_what_it_is_lives_through_many_looks", || {
        let pool = builder().processes(1).build().unwrap();
        let before = pool.worker_pids();
        assert_eq!(pool.apply(nap, 3500).wait().unwrap(), 3500);
        assert_eq!(pool.worker_pids(), before);
        let lost = lost(pool.apply(execute, "sleep".to_owned()).wait());
        assert_eq!(lost.cause, LossCause::Replaced, "{lost}");
        settles(&pool);
    });
}

/// The same, and then a panic, which may as well be the runtime's own in another task.
async fn close_all_and_panic(_: u64) {
    close_all(0).await;
    panic!("on purpose");
}

#[test]
fn a_panic_in_a_worker_without_descriptors_is_its_death() {
    alone("a_panic_in_a_worker_without_descriptors_is_its_death", || {
        let pool = builder().build().unwrap();
        for _ in 0..2 {
            // Whose turn comes after that of who closed them was promised another attempt.
            lost(pool.apply(close_all_and_panic, 0).wait());
            works(&pool);
        }
    });
}

/// The same, and then an output that needs new memory, as another task's may.
async fn close_all_and_fill(_: u64) -> Vec<u64> {
    close_all(0).await;
    vec![u64::MAX; 100_000]
}

#[test]
fn an_output_in_a_worker_without_descriptors_is_its_death() {
    alone("an_output_in_a_worker_without_descriptors_is_its_death", || {
        let pool = builder().build().unwrap();
        for _ in 0..2 {
            lost(pool.apply(close_all_and_fill, 0).wait());
            works(&pool);
        }
    });
}

/// Does to every eventfd that this worker has what any who shares one can do, and dies.
async fn spoil_bells((fill, block): (bool, bool)) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.to_string_lossy().contains("[eventfd]") {
            continue;
        }
        let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let mut count = 0_u64;
        let full = u64::MAX - 1;
        // SAFETY: the buffers are eight bytes; whose the descriptor is, is the point.
        unsafe {
            if fill {
                libc::read(fd, (&raw mut count).cast(), 8);
                libc::write(fd, (&raw const full).cast(), 8);
            }
            if block {
                libc::fcntl(fd, libc::F_SETFL, 0);
            }
        }
    }
    std::process::exit(7);
}

#[test]
fn a_task_that_fills_the_bells_and_has_them_block() {
    for (case, what) in [("fill", (true, false)), ("block", (false, true)), ("both", (true, true))]
    {
        alone_as("a_task_that_fills_the_bells_and_has_them_block", case, || {
            let pool = builder().build().unwrap();
            for _ in 0..3 {
                lost(pool.apply(spoil_bells, what).wait());
                for _ in 0..5 {
                    // The workers lie down, so that only a ring wakes them.
                    std::thread::sleep(Duration::from_millis(30));
                    works(&pool);
                }
            }
        });
    }
}

async fn leak_threads(count: u64) -> u64 {
    for _ in 0..count {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        });
    }
    count
}

/// Starts processes that ignore every polite request, with children of their own.
#[allow(clippy::zombie_processes)] // that is the point
async fn leak_children(count: u64) -> u64 {
    for _ in 0..count {
        std::process::Command::new("sh")
            .args(["-c", "trap '' TERM HUP INT; sleep 3600 & while :; do sleep 3600; done"])
            .spawn()
            .unwrap();
    }
    count
}

#[test]
fn a_worker_that_leaks_threads_and_children() {
    alone("a_worker_that_leaks_threads_and_children", || {
        // Recycled in order, killed, and left to the end of the pool.
        let pool = builder().processes(1).max_tasks_per_child(2).build().unwrap();
        assert_eq!(pool.apply(leak_threads, 20).wait().unwrap(), 20);
        assert_eq!(pool.apply(leak_children, 3).wait().unwrap(), 3);
        assert_ne!(pool.apply(pid, 0).wait().unwrap(), 0);
        until("the children of a recycled worker to be gone", || own("s").is_empty());
        until("the recycling to be counted", || pool.stats().recycles == 1);
        drop(pool);

        let pool = builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(leak_children, 3).wait().unwrap(), 3);
        until("the children to have their names", || !own("s").is_empty());
        assert!(lost(pool.apply(exit, 3).wait()).exit == aiopool::WorkerExit::Exited(3));
        until("the children of a dead worker to be gone", || own("s").is_empty());
        works(&pool);
        assert_eq!(pool.apply(leak_threads, 20).wait().unwrap(), 20);
        assert_eq!(pool.apply(leak_children, 3).wait().unwrap(), 3);
        drop(pool);
        until("the children of a dropped pool to be gone", || own("s").is_empty());
    });
}

/// Keeps the workers of one queue from starting.
async fn not_on_seat_1(_: ()) -> Result<(), String> {
    let seat = aiopool::WorkerContext::current().map(|worker| worker.worker_id());
    if seat == Some(1) { std::process::abort() } else { Ok(()) }
}

#[test]
fn a_queue_whose_workers_cannot_start_hangs_nobody() {
    alone("a_queue_whose_workers_cannot_start_hangs_nobody", || {
        let pool = builder().queues(2).initializer(not_on_seat_1, ()).build().unwrap();
        let tasks: Vec<_> = (0..100).map(|x| pool.apply(double, x)).collect();
        let mut ended = [0, 0];
        for (x, task) in tasks.into_iter().enumerate() {
            match task.wait() {
                Ok(value) => {
                    assert_eq!(value, 2 * x as u64);
                    ended[0] += 1;
                }
                Err(error @ TaskError::PoolClosed { .. }) => {
                    assert!(error.to_string().contains("signal 6"), "{error}");
                    ended[1] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(ended[0] > 0 && ended[1] > 0, "{ended:?}");
    });
}

#[test]
fn a_cancelled_task_that_never_yields_holds_up_nobody_but_its_worker() {
    alone("a_cancelled_task_that_never_yields_holds_up_nobody_but_its_worker", || {
        let pool = builder().grace(Duration::from_millis(200)).build().unwrap();
        let mut blocking = pool.apply(block, 0);
        until("it to run", || pool.stats().running == 1);
        blocking.cancel();
        // Its outcome comes at once; no kill follows, since no time was set.
        assert!(matches!(blocking.wait(), Err(TaskError::Cancelled)));
        let tasks: Vec<_> = (0..200).map(|x| pool.apply(double, x)).collect();
        for (x, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), 2 * x as u64);
        }
        let stats = pool.stats();
        assert_eq!((stats.deaths, stats.cancelled, stats.pending), (0, 1, 0));
        // The end of the pool does not wait for it: the grace period counts there, too.
        pool.close();
        pool.join_blocking().unwrap();
        assert_eq!(pool.stats().workers, 0);
    });
}

/// Stops its worker, as a debugger or a job control would.
async fn stop(_: u64) -> u64 {
    // SAFETY: takes a number only.
    unsafe { libc::raise(libc::SIGSTOP) };
    nap(60_000).await
}

#[test]
fn a_stopped_worker_holds_up_its_own_tasks_until_their_time_is_up() {
    alone("a_stopped_worker_holds_up_its_own_tasks_until_their_time_is_up", || {
        let grace = Duration::from_millis(100);
        let pool = builder().child_concurrency(1).grace(grace).build().unwrap();
        let timed = TaskOptions::new().timeout(Duration::from_millis(300));
        let victims = pool.worker_pids();
        // It stops its own worker at once, or its time might be up before that.
        let held = pool.with(timed).apply(stop, 0);
        // Its time may be up before anybody has seen it run.
        until("it to be taken", || pool.stats().queued == 0);
        victims.iter().for_each(|&pid| crate::rig::kill(pid, libc::SIGSTOP));
        let ended = held.wait().unwrap_err();
        assert!(matches!(ended, TaskError::TimedOut { started: true, .. }), "{ended:?}");
        // Its worker is killed for that; with the replacement the pool goes on.
        until("the stopped worker to be killed", || pool.stats().killed_for_deadline == 1);
        works(&pool);
        // The other is stopped still, and the end of the pool does not wait for it.
        pool.close();
        pool.join_blocking().unwrap();
    });
}
