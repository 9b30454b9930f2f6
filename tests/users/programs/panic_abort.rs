//! A program built with `panic = "abort"`, run by `tests/users/panic_abort.rs`: a panic is its task's
//! outcome, and costs what the death of a worker costs.

use std::time::Duration;

use aiopool::{LiveError, Pool, StartMethod, TaskError, TaskOptions, TaskPanic};

const _: () = assert!(cfg!(panic = "abort"), "built with another panic strategy");

async fn double(x: u64) -> u64 {
    x * 2
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn at_once(x: u64) -> u64 {
    panic!("no {x}")
}

async fn later(x: u64) -> u64 {
    nap(20).await;
    let nothing: Option<u64> = None;
    nothing.unwrap_or_else(|| panic!("not {x} either"))
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{} goes off", self.0)
    }
}

async fn when_dropped(x: u64) -> u64 {
    let _bomb = Bomb("the value's");
    x
}

async fn when_called_off(_: u64) -> u64 {
    let _bomb = Bomb("the cancelled one");
    std::future::pending().await
}

async fn with_a_long_text(len: u64) -> u64 {
    panic!("{}", "ü".repeat(len as usize))
}

async fn elsewhere(_: u64) -> u64 {
    tokio::task::spawn_blocking(|| panic!("on a thread of its own")).await.unwrap()
}

async fn by_a_subtask(_: u64) -> u64 {
    tokio::spawn(async { panic!("in a task of tokio's") });
    std::future::pending().await
}

async fn start(text: String) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { panic!("{text}") }
}

async fn leave(_: u8) -> Result<(), String> {
    panic!("on the way out")
}

fn handle(error: &LiveError<'_>) {
    // Reported, since its panic would otherwise be an outcome of its own.
    if error.to_string().contains("handler") {
        panic!("the handler, too");
    }
}

async fn for_the_handler(_: u64) -> u64 {
    panic!("for the handler")
}

fn panicked<T: std::fmt::Debug>(outcome: Result<T, TaskError>) -> TaskPanic {
    match outcome {
        Err(TaskError::Panicked(panic)) => panic,
        other => panic!("expected a panic, got {other:?}"),
    }
}

fn run(method: StartMethod, rounds: u32) {
    let builder = Pool::builder().processes(2).child_concurrency(4).start_method(method.clone());
    let pool = builder.exception_handler(handle).build().unwrap();
    let patient = TaskOptions::new().retries(100);
    let naps: Vec<_> = (0..4).map(|_| pool.with(patient).apply(nap, 50)).collect();
    for _ in 0..rounds {
        let panic = panicked(pool.apply(at_once, 7).wait());
        assert_eq!(panic.message(), "no 7");
        assert!(panic.location().contains("panic_abort.rs:"), "{}", panic.location());
        assert!(panic.backtrace().contains("at_once"), "{}", panic.backtrace());
        assert_eq!(panicked(pool.apply(later, 8).wait()).message(), "not 8 either");
        let panic = panicked(pool.apply(when_dropped, 9).wait());
        assert_eq!(panic.message(), "the value's goes off");
        assert_eq!(panicked(pool.apply(for_the_handler, 0).wait()).message(), "for the handler");
        assert_eq!(pool.with(patient).apply(double, 21).wait().unwrap(), 42);
    }
    let long = panicked(pool.apply(with_a_long_text, 1 << 20).wait());
    assert!(long.message().len() > 1000 && long.message().chars().all(|c| c == 'ü'));
    naps.into_iter().for_each(|task| assert_eq!(task.wait().unwrap(), 50));

    // With retries for errors it is an error like any other.
    let again = TaskOptions::new().retries(2).retry_on_error(true);
    let before = pool.stats().deaths;
    assert_eq!(panicked(pool.with(again).apply(at_once, 1).wait()).message(), "no 1");
    // The death that an earlier outcome came ahead of may be counted here, too; the last one, not yet.
    let deaths = pool.stats().deaths - before;
    assert!((2..=4).contains(&deaths), "{deaths} deaths for three attempts");

    // What is no task's own code names the worker's end.
    for outcome in [pool.apply(elsewhere, 0).wait(), pool.apply(by_a_subtask, 0).wait()] {
        let lost = outcome.unwrap_err();
        let signal = lost.worker_lost().and_then(|lost| lost.exit.signal());
        assert_eq!(signal, Some(6), "{lost}");
    }

    // Its outcome is delivered when it is cancelled; what its drop does is the worker's end.
    let mut called_off = pool.apply(when_called_off, 0);
    while pool.stats().running == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    called_off.cancel();
    assert!(matches!(called_off.wait(), Err(TaskError::Cancelled)));
    for x in 0..100 {
        assert_eq!(pool.with(patient).apply(double, x).wait().unwrap(), 2 * x);
    }
    // Delivered is not freed: the record of the cancelled one is free when its worker is dead.
    while pool.stats().free_records < 4096 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pool.stats().pending, 0);
    drop(pool);

    let failing = Pool::builder().processes(2).start_method(method.clone());
    let failing = failing.initializer(start, "not today".to_owned()).build().unwrap();
    let ended = failing.apply(double, 1).wait().unwrap_err().to_string();
    assert!(ended.contains("initializer failed") && ended.contains("not today"), "{ended}");

    let leaving =
        Pool::builder().processes(1).start_method(method).initializer(start, String::new());
    let leaving = leaving.exit_hook(leave, 0_u8).max_tasks_per_child(1).build().unwrap();
    for x in 0..5 {
        assert_eq!(leaving.apply(double, x).wait().unwrap(), 2 * x);
    }
}

fn main() {
    aiopool::init().unwrap();
    run(StartMethod::Fork, 2);
    run(StartMethod::Spawn, 1);
    println!("every panic had its outcome");
}
