//! Deadlines in two steps, and who else is touched by them; whose code runs again, and whose not.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aiopool::{LossCause, Pool, Task, TaskError, TaskOptions};
use aiopool_testing::{Folder, in_time, until};

/// Which tasks ran, a file each with a line a run.
struct Runs(Folder);

impl Runs {
    fn new(name: &str) -> Self {
        Self(Folder::new(name))
    }

    fn call(&self, name: &str) -> (String, String) {
        (self.0.text(), name.to_owned())
    }

    fn of(&self, name: &str) -> usize {
        runs(self.0.path(), name)
    }
}

fn runs(directory: &Path, name: &str) -> usize {
    std::fs::read_to_string(directory.join(name)).unwrap_or_default().lines().count()
}

/// Notes that the task runs, and says for which time.
fn note((directory, name): &(String, String)) -> usize {
    use std::io::Write;
    let path = Path::new(directory).join(name);
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(b"ran\n").unwrap();
    runs(Path::new(directory), name)
}

async fn run_once(call: (String, String)) -> usize {
    note(&call)
}

async fn wait_for_ever(call: (String, String)) -> usize {
    note(&call);
    std::future::pending().await
}

/// Waits the first time, kills its worker the second, and then gives a value.
async fn wait_then_die(call: (String, String)) -> usize {
    match note(&call) {
        1 => std::future::pending().await,
        2 => std::process::abort(),
        run => run,
    }
}

async fn die(call: (String, String)) -> usize {
    note(&call);
    std::process::abort()
}

/// Holds its worker's only thread until it is killed.
async fn block(call: (String, String)) -> usize {
    note(&call);
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Returns when it is cancelled: it lets itself be dropped.
async fn nap(call: (String, String)) -> usize {
    let run = note(&call);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    run
}

#[tokio::test]
async fn neighbours_of_a_task_that_ignores_its_deadline_keep_their_attempts() {
    let runs = Runs::new("neighbours");
    let grace = Duration::from_millis(50);
    let pool = Pool::builder().processes(1).child_concurrency(3).grace(grace).build().unwrap();
    let retried = pool.with(TaskOptions::new().retries(1));
    let (once, twice) = (
        pool.apply(wait_for_ever, runs.call("once")),
        retried.apply(wait_then_die, runs.call("twice")),
    );
    until(|| runs.of("once") == 1 && runs.of("twice") == 1).await;
    // Time enough to begin in, however busy the machine is.
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(500)));
    let culprit = limited.apply(block, runs.call("culprit"));
    let queued: Vec<Task<usize>> =
        (0..3).map(|i| pool.apply(run_once, runs.call(&format!("queued-{i}")))).collect();
    let error = in_time(culprit).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    // It ran and may not run again: lost, with the reason.
    let error = in_time(once).await.unwrap_err();
    let lost = error.worker_lost().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(lost.cause, LossCause::NeighbourTimedOut);
    assert!(error.to_string().contains("another task in it did not obey its deadline"), "{error}");
    // It ran and may run again. That costs it no attempt: it still has its one retry when it then
    // kills a worker by itself.
    assert_eq!(in_time(twice).await.unwrap(), 3);
    // They had not started: queued again, without a word.
    for task in queued {
        assert_eq!(in_time(task).await.unwrap(), 1);
    }
    assert_eq!((runs.of("culprit"), runs.of("once"), runs.of("twice")), (1, 1, 3));
    assert_eq!((pool.stats().killed_for_deadline, pool.stats().deaths), (1, 2));
}

#[tokio::test]
async fn a_task_that_obeys_its_deadline_costs_no_worker() {
    let runs = Runs::new("obeys");
    let pool = Pool::builder().processes(1).build().unwrap();
    let neighbour = pool.apply(wait_for_ever, runs.call("neighbour"));
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(500)).retries(5));
    let error = in_time(limited.apply(nap, runs.call("nap"))).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    // A deadline is no loss and no error of the function's: it is not tried again.
    assert_eq!((runs.of("nap"), pool.stats().retries), (1, 0));
    drop(neighbour);
    assert_eq!(in_time(pool.apply(run_once, runs.call("after"))).await.unwrap(), 1);
    assert_eq!(pool.stats().deaths, 0);
}

#[tokio::test]
async fn a_task_that_is_not_started_in_time_never_runs() {
    let runs = Runs::new("ttl");
    let pool = Pool::builder().processes(1).child_concurrency(1).build().unwrap();
    let holder = pool.apply(wait_for_ever, runs.call("holder"));
    until(|| runs.of("holder") == 1).await;
    let short = TaskOptions::new().queue_ttl(Duration::from_millis(20));
    let long = TaskOptions::new().queue_ttl(Duration::from_secs(3600));
    let (late, patient) = (
        pool.with(short).apply(run_once, runs.call("late")),
        pool.with(long).apply(run_once, runs.call("patient")),
    );
    let error = in_time(late).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: false, .. }), "{error:?}");
    drop(holder);
    assert_eq!(in_time(patient).await.unwrap(), 1);
    assert_eq!(runs.of("late"), 0);
}

#[tokio::test]
async fn nothing_runs_twice_that_its_caller_did_not_allow_to() {
    let runs = Runs::new("twice");
    let pool = Pool::builder().processes(2).build().unwrap();
    let error = in_time(pool.apply(die, runs.call("default"))).await.unwrap_err();
    assert!(error.worker_lost().is_some(), "{error:?}");
    assert_eq!(runs.of("default"), 1);
    let retried = pool.with(TaskOptions::new().retries(2));
    let error = in_time(retried.apply(die, runs.call("poison"))).await.unwrap_err();
    assert_eq!(runs.of("poison"), 3);
    // The story of its attempts, and all that there is to say about the last.
    let lost = error.worker_lost().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!((lost.attempt, lost.attempts_allowed, lost.earlier.len()), (3, 3, 2));
    assert_eq!((lost.exit.signal(), lost.cause), (Some(6), LossCause::Death));
    assert!(lost.function.ends_with("::die") && lost.worker < 2 && lost.pid > 1, "{lost:?}");
    let text = error.to_string();
    for part in [
        format!("task {} ({})", lost.task, lost.function),
        format!("worker {} (pid {})", lost.worker, lost.pid),
        "was killed by signal 6".to_owned(),
        "on attempt 3 of 3".to_owned(),
        format!("{:?} after its start", lost.running),
        format!("attempt 1: {}", lost.earlier[0]),
        format!("attempt 2: {}", lost.earlier[1]),
    ] {
        assert!(text.contains(&part), "{part} is not in: {text}");
    }
}

/// How many of the crowd did not end with the value of their first and only run.
async fn runs_of_crowd(crowd: Vec<Task<usize>>) -> usize {
    let mut lost = 0;
    for task in crowd {
        match in_time(task).await {
            Ok(run) => assert_eq!(run, 1),
            Err(TaskError::WorkerLost(_)) => lost += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    lost
}

#[tokio::test]
async fn a_suspect_runs_alone_and_an_innocent_one_goes_free() {
    /// Tasks of the crowd that are in flight in this worker.
    static CROWD: AtomicUsize = AtomicUsize::new(0);

    async fn join_the_crowd(call: (String, String)) -> usize {
        CROWD.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
        CROWD.fetch_sub(1, Relaxed);
        note(&call)
    }

    /// Waits the first time, and is none the worse for it the second.
    async fn wait_once(call: (String, String)) -> usize {
        match note(&call) {
            1 => std::future::pending().await,
            run => run,
        }
    }

    /// Kills its worker the first time, and says how many of them it has met the second.
    async fn die_then_look_around(call: (String, String)) -> usize {
        if note(&call) == 1 {
            std::process::abort();
        }
        let mut most = 0;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            most = most.max(CROWD.load(Relaxed));
        }
        most
    }

    let runs = Runs::new("suspect");
    let pool = Pool::builder().processes(1).child_concurrency(4).build().unwrap();
    let retried = pool.with(TaskOptions::new().retries(1));
    let innocent = retried.apply(wait_once, runs.call("innocent"));
    until(|| runs.of("innocent") == 1).await;
    let suspect = retried.apply(die_then_look_around, runs.call("suspect"));
    let culprit = retried.apply(die, runs.call("culprit"));
    let crowd: Vec<Task<usize>> =
        (0..60).map(|i| pool.apply(join_the_crowd, runs.call(&format!("crowd-{i}")))).collect();
    assert_eq!(in_time(innocent).await.unwrap(), 2);
    assert_eq!(in_time(suspect).await.unwrap(), 0, "it ran beside others");
    let error = in_time(culprit).await.unwrap_err();
    // One beside others that does not count, perhaps, and two alone.
    let lost = error.worker_lost().unwrap();
    assert_eq!((lost.attempt, lost.suspect), (lost.attempts_allowed, true), "{error}");
    // Only tasks that were in flight beside the culprit, and may not run again, were lost with it.
    let lost = runs_of_crowd(crowd).await;
    assert!(lost <= 3 * 3, "{lost} of the crowd were lost");
}

async fn compute_then_wait(ms: u64) -> u64 {
    let end = std::time::Instant::now() + Duration::from_millis(ms);
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    ms
}

#[test]
fn the_time_that_a_neighbour_computed_is_not_a_tasks_own() {
    let pool = Pool::builder().processes(1).child_concurrency(2).build().unwrap();
    // Claimed when the first one has computed: its limit begins then, not before that.
    let first = pool.apply(compute_then_wait, 2000);
    let options = TaskOptions::new().timeout(Duration::from_millis(2500));
    let second = pool.with(options).apply(compute_then_wait, 700);
    assert_eq!(first.wait().unwrap(), 2000);
    assert_eq!(second.wait().unwrap(), 700);
}
