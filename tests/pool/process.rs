//! `Process` and `Worker`: one function in a process of its own.

use std::time::Duration;

use aiopool::{Error, Process, TaskError, Worker, WorkerContext, WorkerExit};
use aiopool_testing::in_time;

async fn double(x: u64) -> u64 {
    x * 2
}

async fn pid(_: ()) -> u32 {
    std::process::id()
}

async fn sleep_for_ever(_: ()) {
    std::future::pending().await
}

async fn fail(text: String) -> Result<(), String> {
    Err(text)
}

async fn exit_with(status: i32) {
    std::process::exit(status)
}

async fn panic_with(text: String) {
    panic!("{text}")
}

#[tokio::test]
async fn a_worker_gives_the_value_and_an_error_as_an_error() {
    assert_eq!(in_time(Worker::new(double, 21)).await.unwrap(), 42);
    let mut worker = Worker::try_new(fail, "no licence".to_owned());
    let error = in_time(worker.value()).await.unwrap_err();
    assert!(matches!(&error, TaskError::Failed(f) if f.message() == "no licence"), "{error:?}");
    assert_eq!(worker.exit_code(), Some(1));
    let error = in_time(Worker::new(panic_with, "too bad".to_owned())).await.unwrap_err();
    assert!(matches!(&error, TaskError::Panicked(p) if p.message() == "too bad"), "{error:?}");
    let again = in_time(worker.value()).await.unwrap_err();
    assert!(again.to_string().contains("taken before"), "{again}");
}

#[test]
fn a_worker_works_without_a_runtime() {
    let mut worker = Worker::new(pid, ());
    assert_eq!((worker.pid(), worker.is_alive(), worker.exit_code()), (None, false, None));
    worker.start().unwrap();
    let pid = worker.pid().unwrap();
    assert_ne!(pid, std::process::id());
    assert_eq!(worker.wait().unwrap(), pid);
    assert_eq!((worker.pid(), worker.is_alive(), worker.exit_code()), (Some(pid), false, Some(0)));
}

#[tokio::test]
async fn joining_before_starting_is_an_error() {
    let process = Process::new(double, 1);
    for error in [process.join(None).await, process.join_blocking(None), process.kill()] {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error:?}");
        assert!(error.to_string().contains("must start process"), "{error}");
    }
}

#[tokio::test]
async fn starting_twice_is_an_error() {
    let mut process = Process::new(double, 1);
    process.start().unwrap();
    assert!(matches!(process.start(), Err(Error::Misuse(_))));
    in_time(process.join(None)).await.unwrap();
    assert_eq!(process.exit_code(), Some(0));
}

#[tokio::test]
async fn join_with_a_limit_gives_up_and_the_process_goes_on() {
    let mut process = Process::new(sleep_for_ever, ());
    process.start().unwrap();
    let error = process.join(Some(Duration::from_millis(30))).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(matches!(
        process.join_blocking(Some(Duration::from_millis(30))),
        Err(Error::TimedOut { .. })
    ));
    assert!(process.is_alive());
    assert_eq!(process.exit_code(), None);
    process.kill().unwrap();
    in_time(process.join(None)).await.unwrap();
    assert_eq!(process.exit_code(), Some(-9));
}

#[tokio::test]
async fn exit_codes_are_those_of_the_process_and_negative_for_signals() {
    let ended = |mut process: Process| async move {
        process.start().unwrap();
        in_time(process.join(None)).await.unwrap();
        assert!(!process.is_alive());
        process
    };
    assert_eq!(ended(Process::new(double, 4)).await.exit_code(), Some(0));
    assert_eq!(ended(Process::new(exit_with, 3)).await.exit_code(), Some(3));
    let mut failed = ended(Process::try_new(fail, "no".to_owned())).await;
    assert_eq!(failed.exit_code(), Some(1));
    assert_eq!(failed.take_error().unwrap().to_string(), "no");
    assert!(failed.take_error().is_none());
    let mut process = Process::new(sleep_for_ever, ());
    process.start().unwrap();
    process.terminate().unwrap();
    in_time(process.join(None)).await.unwrap();
    assert_eq!(process.exit_code(), Some(-15));
    assert!(matches!(process.exit(), Some(WorkerExit::Signalled { signal: 15, .. })));
    let error = process.take_error().unwrap();
    assert_eq!(error.worker_lost().unwrap().exit.signal(), Some(15), "{error}");
    // It is gone, so the signal hits no process.
    process.kill().unwrap();
}

async fn become_a_shell(text: String) {
    use std::os::unix::process::CommandExt;
    panic!("{}", std::process::Command::new("sh").args(["-c", &text]).exec());
}

/// A pool would take it for a worker that was lost.
#[tokio::test]
async fn a_process_may_become_another_program() {
    let mut process = Process::new(become_a_shell, "sleep 2.5; exit 7".to_owned());
    process.start().unwrap();
    in_time(process.join(None)).await.unwrap();
    assert_eq!(process.exit_code(), Some(7));
}

#[tokio::test]
async fn a_killed_worker_is_an_error_for_who_awaits_it() {
    let mut worker = Worker::new(sleep_for_ever, ());
    worker.start().unwrap();
    worker.kill().unwrap();
    let error = in_time(worker.value()).await.unwrap_err();
    assert!(error.worker_lost().is_some(), "{error:?}");
    assert_eq!(worker.exit_code(), Some(-9));
}

#[test]
fn names_are_given_or_made() {
    let process = Process::new(double, 1);
    assert!(process.name().starts_with("Process-"), "{}", process.name());
    assert!(Worker::new(double, 1).name().starts_with("Worker-"));
    assert_eq!(Process::new(double, 1).with_name("doubler").name(), "doubler");
}

#[tokio::test]
async fn options_of_the_pool_hold_for_a_worker() {
    async fn open(state: u64) -> Result<(), String> {
        WorkerContext::current().unwrap().set_state(state);
        if state == 0 { Err("no state".to_owned()) } else { Ok(()) }
    }
    async fn state(_: ()) -> u64 {
        *WorkerContext::current().unwrap().state::<u64>().unwrap()
    }
    let worker = Worker::new(state, ()).configure(|pool| pool.initializer(open, 7));
    assert_eq!(in_time(worker).await.unwrap(), 7);
    let mut worker = Worker::new(state, ()).configure(|pool| pool.initializer(open, 0));
    let error = in_time(worker.value()).await.unwrap_err();
    assert!(error.to_string().contains("no state"), "{error}");
    let error = worker.join(None).await.unwrap_err();
    assert!(error.to_string().contains("no state"), "{error}");
}

#[tokio::test]
async fn dropping_a_process_kills_it() {
    let mut process = Process::new(sleep_for_ever, ());
    process.start().unwrap();
    let pid = process.pid().unwrap();
    drop(process);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[tokio::test]
async fn joining_what_could_not_be_started_says_why() {
    let mut process = Process::new(double, 1).configure(|pool| pool.max_payload(0));
    let refused = process.start().unwrap_err();
    let error = process.join(None).await.unwrap_err();
    assert!(error.to_string().contains(&refused.to_string()), "{error}");
}
