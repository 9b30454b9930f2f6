//! Which ends of an attempt are tried again, what decides over that, and which attempts count.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aiopool::{LossCause, Pool, Task, TaskContext, TaskError, TaskOptions, typed};
use aiopool_testing::in_time;

/// A limit within which an attempt that is to be quick is over, however busy the machine is.
const SHORT: Duration = Duration::from_millis(500);

/// The number of this attempt.
fn attempt() -> u32 {
    TaskContext::current().expect("a task").attempt()
}

/// Waits for ever in its first attempts, as many as `slow`.
async fn slow_at_first(slow: u32) -> u32 {
    if attempt() <= slow {
        std::future::pending::<()>().await;
    }
    attempt()
}

/// Holds its worker's only thread in its first attempts, as many as `slow`.
async fn block_at_first(slow: u32) -> u32 {
    if attempt() <= slow {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    attempt()
}

/// Comes back at once where nothing holds the worker.
async fn doze(ms: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    attempt()
}

async fn die(_: u64) -> u32 {
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::process::abort()
}

async fn fail_at_first(failures: u32) -> Result<u32, String> {
    match attempt() {
        number if number <= failures => Err(format!("attempt {number}: busy")),
        number => Ok(number),
    }
}

fn one_worker() -> Pool {
    Pool::builder().processes(1).grace(Duration::from_secs(60)).build().unwrap()
}

/// Whose tasks hold their worker until it is killed.
fn one_worker_soon_killed() -> Pool {
    Pool::builder().processes(1).grace(Duration::from_millis(100)).build().unwrap()
}

#[tokio::test]
async fn a_time_out_is_tried_again_where_its_caller_wants_that() {
    let pool = one_worker();
    let limited = TaskOptions::new().timeout(SHORT).retries(2);
    let again = limited.retry_on_timeout(true);
    assert_eq!(in_time(pool.with(again).apply(slow_at_first, 2)).await.unwrap(), 3);
    // The worker was asked to drop the attempt, and had no reason to die.
    assert_eq!((pool.stats().deaths, pool.stats().retries), (0, 2));
    let error = in_time(pool.with(again).apply(slow_at_first, 9)).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    let error = in_time(pool.with(limited).apply(slow_at_first, 1)).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    assert_eq!((pool.stats().retries, pool.stats().timed_out), (4, 2));
}

#[tokio::test]
async fn an_attempt_that_holds_its_worker_is_over_before_the_next_one_begins() {
    let pool = one_worker_soon_killed();
    let options = TaskOptions::new().timeout(SHORT).retries(1).retry_on_timeout(true);
    assert_eq!(in_time(pool.with(options).apply(block_at_first, 1)).await.unwrap(), 2);
    assert_eq!(pool.stats().killed_for_deadline, 1);
}

#[tokio::test]
async fn a_task_that_waits_for_its_next_attempt_can_be_cancelled() {
    let pool = one_worker_soon_killed();
    let options = TaskOptions::new().retries(1).retry_on_error(true);
    let paused = options.backoff(Duration::from_secs(3600));
    let mut task = pool.with(paused).try_apply(fail_at_first, 1);
    aiopool_testing::until(|| pool.stats().retries == 1).await;
    task.cancel();
    assert!(matches!(in_time(task).await, Err(TaskError::Cancelled)));
    // Called off by its deadline, and not dropped by its worker yet.
    let blocked = options.timeout(SHORT).retry_on_timeout(true);
    let mut task = pool.with(blocked).apply(block_at_first, 1);
    aiopool_testing::until(|| pool.stats().retries == 2).await;
    task.cancel();
    assert!(matches!(in_time(task).await, Err(TaskError::Cancelled)));
    assert_eq!(in_time(pool.apply(doze, 0)).await.unwrap(), 1);
    assert_eq!(pool.stats().pending, 0);
}

#[tokio::test]
async fn the_neighbours_of_a_task_that_blocks_are_not_charged() {
    let pool = Pool::builder().processes(1).grace(Duration::from_millis(300)).build().unwrap();
    // They are not over when the last one begins, and the second time well before their limit.
    let limit = TaskOptions::new().timeout(Duration::from_secs(4));
    let once: Vec<Task<u32>> = (0..3).map(|_| pool.with(limit).apply(doze, 1500)).collect();
    // One retry, and it is not used up: the second attempt is the one of two that counts.
    let again = limit.retries(1);
    let spared: Vec<Task<u32>> = (0..3).map(|_| pool.with(again).apply(doze, 1500)).collect();
    let culprit = pool.with(limit).apply(block_at_first, 1);
    let id = culprit.id().unwrap();
    assert!(matches!(in_time(culprit).await, Err(TaskError::TimedOut { started: true, .. })));
    for task in once {
        let error = in_time(task).await.unwrap_err();
        let TaskError::NeighbourBlocked(blocked) = &error else { panic!("{error:?}") };
        assert_eq!((blocked.by, error.is_bystander()), (id, true));
        assert!(blocked.function.ends_with("block_at_first"), "{blocked:?}");
        assert!(error.to_string().contains("held its worker"), "{error}");
    }
    for task in spared {
        assert_eq!(in_time(task).await.unwrap(), 2);
    }
    assert_eq!((pool.stats().timed_out, pool.stats().killed_for_deadline), (1, 1));
}

#[tokio::test]
async fn a_task_whose_own_time_is_up_is_no_ones_victim_while_the_loop_turns() {
    let pool = one_worker();
    // Always ready: some other future is polled whenever the host looks.
    async fn spin(_: u64) {
        loop {
            tokio::task::yield_now().await;
        }
    }
    let _spinning: Vec<Task<()>> = (0..4).map(|n| pool.apply(spin, n)).collect();
    let limited = pool.with(TaskOptions::new().timeout(SHORT));
    let error = in_time(limited.apply(slow_at_first, 1)).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    assert_eq!(pool.stats().deaths, 0);
}

#[tokio::test]
async fn a_predicate_decides_for_every_kind_of_end() {
    let pool = one_worker();
    let asks =
        |predicate: fn(&TaskError) -> bool| TaskOptions::new().retries(2).retry_if(predicate);
    // Only of what is to run out of time: a death, too, takes a while on a busy machine.
    let limited = |options: TaskOptions| pool.with(options.timeout(SHORT));
    let is_busy = asks(|error| error.to_string().contains("busy"));
    let busy = pool.with(is_busy);
    assert_eq!(in_time(busy.try_apply(fail_at_first, 2)).await.unwrap(), 3);
    let error = in_time(busy.try_apply(fail_at_first, 3)).await.unwrap_err();
    assert!(error.to_string().contains("attempt 3"), "retries are the limit: {error}");
    let error = in_time(limited(is_busy).apply(slow_at_first, 1)).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { .. }), "{error:?}");
    async fn die_at_once(_: u64) -> u32 {
        std::process::abort()
    }
    let lost = in_time(busy.apply(die_at_once, 0)).await.unwrap_err();
    assert_eq!(lost.worker_lost().map(|lost| lost.attempt), Some(1), "{lost:?}");
    let is_late = asks(|error| matches!(error, TaskError::TimedOut { .. }));
    assert_eq!(in_time(limited(is_late).apply(slow_at_first, 1)).await.unwrap(), 2);
    assert!(in_time(pool.with(is_late).try_apply(fail_at_first, 1)).await.is_err());
    let panics = pool.with(asks(|_| panic!("a predicate of a user")));
    let error = in_time(panics.try_apply(fail_at_first, 1)).await.unwrap_err();
    assert!(matches!(error, TaskError::Failed(_)), "{error:?}");
    assert_eq!(in_time(pool.apply(doze, 0)).await.unwrap(), 1);
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum HttpError {
    NotFound(String),
    Busy { seconds: u32 },
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "{what} is not found"),
            Self::Busy { seconds } => write!(f, "come back in {seconds} s"),
        }
    }
}

async fn get(name: String) -> Result<u32, HttpError> {
    match name.as_str() {
        "busy" if attempt() < 3 => Err(HttpError::Busy { seconds: 7 }),
        "busy" => Ok(attempt()),
        _ => Err(HttpError::NotFound(name)),
    }
}

fn as_http(error: &TaskError) -> Option<HttpError> {
    match error {
        TaskError::Failed(failure) => failure.downcast(),
        _ => None,
    }
}

#[tokio::test]
async fn an_error_of_ones_own_type_comes_back_as_itself_and_decides_over_retries() {
    let pool = one_worker();
    let busy = |error: &TaskError| matches!(as_http(error), Some(HttpError::Busy { .. }));
    let patient = pool.with(TaskOptions::new().retries(5).retry_if(busy));
    assert_eq!(in_time(patient.try_apply(typed(get), "busy".into())).await.unwrap(), 3);
    let error = in_time(patient.try_apply(typed(get), "page".into())).await.unwrap_err();
    assert_eq!(as_http(&error), Some(HttpError::NotFound("page".into())));
    assert_eq!(error.to_string(), "page is not found");
    let TaskError::Failed(failure) = &error else { panic!("{error:?}") };
    assert!(failure.type_name().ends_with("HttpError"));
    assert_eq!(failure.downcast::<String>(), None, "another type");
    // Without `typed` there is the text, as before.
    let error = in_time(pool.try_apply(get, "page".into())).await.unwrap_err();
    assert_eq!((as_http(&error), error.to_string().as_str()), (None, "page is not found"));
    // In a map, ordered or not.
    let names = ["page", "busy"].map(String::from);
    let results = in_time(pool.try_map(typed(get), names).results()).await;
    let errors: Vec<_> = results.iter().map(|r| as_http(r.as_ref().unwrap_err())).collect();
    assert_eq!(errors[1], Some(HttpError::Busy { seconds: 7 }));
    assert_eq!(errors[0], Some(HttpError::NotFound("page".into())));
}

#[tokio::test]
async fn a_question_mark_makes_a_typed_error_too() {
    async fn by_hand(_: u64) -> Result<u32, aiopool::TypedError> {
        Err(HttpError::Busy { seconds: 1 })?
    }
    let pool = one_worker();
    let error = in_time(pool.try_apply(by_hand, 0)).await.unwrap_err();
    assert_eq!(as_http(&error), Some(HttpError::Busy { seconds: 1 }));
}

#[tokio::test]
async fn a_death_tells_the_suspect_from_the_bystanders() {
    let pool = one_worker();
    let neighbours: Vec<Task<u32>> = (0..5).map(|_| pool.apply(doze, 3_600_000)).collect();
    let progressing = pool.apply(
        |_: u64| async {
            assert!(aiopool::progress(17));
            std::future::pending::<u32>().await
        },
        0,
    );
    aiopool_testing::until(|| progressing.progress() == Some(17)).await;
    let error = in_time(pool.apply(die, 0)).await.unwrap_err();
    let lost = error.worker_lost().unwrap();
    assert!(lost.suspect && !error.is_bystander(), "{lost:?}");
    for task in neighbours {
        let error = in_time(task).await.unwrap_err();
        let lost = error.worker_lost().unwrap();
        assert_eq!((lost.suspect, lost.cause), (false, LossCause::Death), "{lost:?}");
        assert!(error.is_bystander() && error.to_string().contains("bystander"), "{error}");
    }
    let error = in_time(progressing).await.unwrap_err();
    assert_eq!(error.worker_lost().unwrap().progress, Some(17));
}

#[tokio::test]
async fn bystanders_that_may_run_again_do_so_side_by_side() {
    let pool = one_worker();
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let again = TaskOptions::new().retries(1).retry_if(|error| {
        ASKED.fetch_add(1, Relaxed);
        error.is_bystander()
    });
    let neighbours: Vec<Task<u32>> = (0..5).map(|_| pool.with(again).apply(doze, 2000)).collect();
    assert!(in_time(pool.apply(die, 0)).await.is_err());
    for task in neighbours {
        assert_eq!(in_time(task).await.unwrap(), 2);
    }
    assert_eq!((ASKED.load(Relaxed), pool.stats().deaths), (5, 1));
}
