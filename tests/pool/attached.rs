//! Workers that are programs of their own: this binary, executed as a pool's start command.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::AsFd;

use aiopool::{
    AttachedWorker, Completion, Error, Event, Pool, PoolBuilder, StartMethod, TaskError,
    TaskOptions,
};

/// Executed by a pool, it is the worker; run as a test, it shows that only that is one.
#[test]
fn attaching_is_for_workers() {
    match AttachedWorker::attach() {
        Ok(worker) => serve(worker),
        Err(error) => assert!(error.to_string().contains("not started as a worker"), "{error}"),
    }
}

fn serve(mut worker: AttachedWorker) {
    let argument = worker.initializer_argument().unwrap_or_default().to_vec();
    if argument == b"refuse" {
        worker.fail("the argument says no");
        return;
    }
    let mut held = BTreeSet::new();
    // Nothing comes here: this program has no other work.
    let (others, _writer) = std::io::pipe().unwrap();
    loop {
        worker.search(others.as_fd());
        let (task, function, input) = match worker.next_event() {
            Event::Run { task, function, input } => (task, function, input),
            Event::Nothing => {
                worker.wait();
                continue;
            }
            Event::Cancel { task } => {
                assert!(held.remove(&task));
                worker.complete(task, Completion::Cancelled).unwrap();
                continue;
            }
            _ => break,
        };
        if function == "compute" {
            while !worker.is_cancelled(task) {}
            worker.complete(task, Completion::Cancelled).unwrap();
            assert!(worker.is_cancelled(task) && worker.attempt(task).is_none());
            continue;
        }
        let attempt = worker.attempt(task).unwrap();
        if function == "die twice" && attempt <= 2 {
            std::process::abort();
        }
        let attempt = attempt.to_string();
        let seat = worker.worker_id().to_string();
        let pid = std::process::id().to_string();
        let mut answer = |task, completion| worker.complete(task, completion).unwrap();
        match function.as_str() {
            "upper" => answer(task, Completion::Ok(&input.to_ascii_uppercase())),
            "big" => answer(task, Completion::Ok(&vec![b'x'; 5 << 20])),
            "die twice" => answer(task, Completion::Ok(attempt.as_bytes())),
            "seat" => answer(task, Completion::Ok(seat.as_bytes())),
            "pid" => answer(task, Completion::Ok(pid.as_bytes())),
            "argument" => answer(task, Completion::Ok(&argument)),
            "fail" => answer(task, Completion::Failed("it was to fail")),
            "opaque" => answer(task, Completion::Unencodable("nothing to send")),
            "die" => std::process::abort(),
            "hold" => drop(held.insert(task)),
            "held" => answer(task, Completion::Ok(held.len().to_string().as_bytes())),
            "release" => {
                for task in std::mem::take(&mut held) {
                    answer(task, Completion::Ok(b"released"));
                }
                answer(task, Completion::Ok(b""));
            }
            _ => answer(task, Completion::Refused(&format!("no function is called {function}"))),
        }
    }
    worker.leave();
    // The test harness would go on.
    std::process::exit(0);
}

fn builder(processes: usize) -> PoolBuilder {
    let exe = std::env::current_exe().unwrap();
    // What the harness says goes nowhere.
    let script = "exec \"$0\" --exact attached::attaching_is_for_workers --nocapture > /dev/null";
    let words = ["sh".into(), "-c".into(), script.into(), exe.into_os_string()];
    let command = StartMethod::Command(words.into_iter().collect::<Vec<OsString>>());
    Pool::builder().processes(processes).start_method(command)
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn functions_are_called_by_name() {
    let pool = builder(2).build().unwrap();
    let tasks: Vec<_> =
        (0..500).map(|n| pool.apply_named("upper", format!("task {n} of many"))).collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(text(&task.wait().unwrap()), format!("TASK {n} OF MANY"));
    }
    let long = vec![b'y'; 3 << 20];
    assert_eq!(pool.apply_named("upper", long).wait().unwrap(), vec![b'Y'; 3 << 20]);
    assert_eq!(pool.apply_named("upper", "").wait().unwrap(), "");
}

#[test]
fn what_has_no_value_says_why() {
    let pool = builder(1).build().unwrap();
    let end = |name| pool.apply_named(name, "").wait().unwrap_err();
    assert!(matches!(end("fail"), TaskError::Failed(f) if f.message() == "it was to fail"));
    assert!(matches!(end("none"), TaskError::Refused(why) if why == "no function is called none"));
    assert!(matches!(end("opaque"), TaskError::Value(why) if why == "nothing to send"));
    async fn ours(x: u8) -> u8 {
        x
    }
    let refused = pool.apply(ours, 1).wait().unwrap_err();
    assert!(matches!(&refused, TaskError::Refused(why) if why.contains("by name")), "{refused}");
    let name = "n".repeat(1000);
    let refused = pool.apply_named(&name, "").wait().unwrap_err();
    assert!(refused.to_string().contains("1 to 224 bytes"), "{refused}");
}

#[test]
fn a_worker_has_as_many_tasks_as_it_may() {
    let pool = builder(1).child_concurrency(5).build().unwrap();
    let held: Vec<_> = (0..4).map(|_| pool.apply_named("hold", "")).collect();
    assert_eq!(pool.apply_named("held", "").wait().unwrap(), "4");
    pool.apply_named("release", "").wait().unwrap();
    held.into_iter().for_each(|task| assert_eq!(task.wait().unwrap(), "released"));

    let pool = builder(1).child_concurrency(1).build().unwrap();
    let tasks: Vec<_> = (0..200).map(|_| pool.apply_named("held", "")).collect();
    tasks.into_iter().for_each(|task| assert_eq!(task.wait().unwrap(), "0"));
}

#[test]
fn a_cancelled_task_is_told_and_its_place_is_free_again() {
    let pool = builder(1).child_concurrency(3).build().unwrap();
    for _ in 0..3 {
        let mut held: Vec<_> = (0..2).map(|_| pool.apply_named("hold", "")).collect();
        assert_eq!(pool.apply_named("held", "").wait().unwrap(), "2");
        held.iter_mut().for_each(aiopool::Task::cancel);
        for task in held {
            assert!(matches!(task.wait(), Err(TaskError::Cancelled)));
        }
        // With its host's word the worker looks at cancels before it claims.
        assert_eq!(pool.apply_named("held", "").wait().unwrap(), "0");
    }
}

#[test]
fn a_task_that_computes_sees_that_it_is_cancelled() {
    let pool = builder(1).build().unwrap();
    let pid = pool.apply_named("pid", "").wait().unwrap();
    let mut task = pool.apply_named("compute", "");
    while pool.stats().running == 0 {
        std::thread::yield_now();
    }
    task.cancel();
    assert!(matches!(task.wait(), Err(TaskError::Cancelled)));
    assert_eq!(pool.apply_named("pid", "").wait().unwrap(), pid);
}

#[test]
fn attempts_are_counted() {
    let pool = builder(1).build().unwrap();
    let again = TaskOptions::new().retries(3);
    assert_eq!(pool.with(again).apply_named("die twice", "").wait().unwrap(), "3");
}

#[test]
fn outputs_wait_for_room_until_the_host_has_taken_some() {
    let pool = builder(1).max_payload(8 << 20).output_arena(16 << 20).build().unwrap();
    let tasks: Vec<_> = (0..12).map(|_| pool.apply_named("big", "")).collect();
    tasks.into_iter().for_each(|task| assert_eq!(task.wait().unwrap().len(), 5 << 20));
}

#[test]
fn a_worker_that_dies_takes_only_its_own_tasks() {
    let pool = builder(2).child_concurrency(1).build().unwrap();
    let held = pool.apply_named("hold", "");
    let lost = pool.apply_named("die", "").wait().unwrap_err();
    let lost = lost.worker_lost().unwrap();
    assert_eq!((lost.function.as_str(), lost.attempt), ("die", 1));
    assert!(lost.to_string().contains("signal 6"), "{lost}");
    assert_eq!(pool.apply_named("upper", "still here").wait().unwrap(), "STILL HERE");
    drop(held);
}

#[test]
fn recycles_at_exactly_its_limit() {
    let pool = builder(1).max_tasks_per_child(3).build().unwrap();
    let pid = || pool.apply_named("pid", "").wait().unwrap();
    let pids: Vec<_> = (0..9).map(|_| pid()).collect();
    for three in pids.chunks(3) {
        assert!(three.iter().all(|pid| *pid == three[0]), "{pids:?}");
    }
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn leaves_in_order_when_the_pool_is_closed() {
    let pool = builder(2).build().unwrap();
    let held = pool.apply_named("upper", "last");
    pool.close();
    assert_eq!(held.await.unwrap(), "LAST");
    pool.join().await.unwrap();
    assert_eq!(pool.stats().deaths, 0);
}

#[test]
fn is_given_bytes_before_its_first_task() {
    let pool = builder(2).initializer_bytes(*b"\x00 state").build().unwrap();
    assert_eq!(&pool.apply_named("argument", "").wait().unwrap()[..], b"\x00 state");
    let pool = builder(1).initializer_bytes(*b"refuse").build().unwrap();
    let refused = pool.apply_named("upper", "x").wait().unwrap_err();
    assert!(refused.to_string().contains("the argument says no"), "{refused}");
}

#[test]
fn hooks_are_for_the_program_they_are_of() {
    async fn start(_: ()) -> Result<(), String> {
        Ok(())
    }
    let refused = builder(1).initializer(start, ()).build().unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { name: "initializer", .. }));
    fn ignore(_: &aiopool::LiveError<'_>) {}
    let refused = builder(1).exception_handler(ignore).build().unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { name: "exception_handler", .. }));
    let refused = Pool::builder().initializer_bytes(*b"x").build().unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { name: "initializer", .. }));
}
