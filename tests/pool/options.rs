//! Options and verbs of a pool beyond the everyday ones.

use std::time::Duration;

use aiopool::{Error, LiveError, Pool, TaskError, TaskOptions, WorkerContext};
use aiopool_testing::in_time;

async fn double(x: u64) -> u64 {
    x * 2
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

/// A file of this test alone, for what workers have to tell; lines in order.
struct Notes(String);

impl Notes {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path.to_str().unwrap().to_owned())
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn note(path: &str, line: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn a_full_pool_pushes_back_by_every_verb() {
    let pool = Pool::builder().processes(1).child_concurrency(1).capacity(16).build().unwrap();
    let held: Vec<_> = (0..16).map(|i| pool.apply(sleep_for_ever, i)).collect();
    let full = pool.submit_now(double, &1).unwrap_err();
    assert!(full.is_full(), "{full:?}");
    let full = pool.apply(double, 1).submitted_now().unwrap_err();
    assert!(full.is_full(), "{full:?}");
    // It could not be submitted any more: to drop it silently would be to lose it.
    let full = pool.apply(double, 1).detach().unwrap_err();
    assert!(full.is_full(), "{full:?}");
    let waits = tokio::time::timeout(Duration::from_millis(50), pool.submit(double, 1)).await;
    assert!(waits.is_err(), "submit did not wait");
    let (late, ()) = in_time(async {
        tokio::join!(pool.submit(double, 21), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(held);
        })
    })
    .await;
    assert_eq!(in_time(late.unwrap()).await.unwrap(), 42);
    let now = pool.submit_now(double, &4).unwrap();
    assert_eq!(in_time(now).await.unwrap(), 8);
}

#[tokio::test]
async fn submit_in_a_loop_waits_for_room_and_gives_a_handle_an_item() {
    let pool = Pool::builder().processes(2).capacity(16).build().unwrap();
    let mut tasks = Vec::new();
    for x in 0..200 {
        tasks.push(in_time(pool.submit(double, x)).await.unwrap());
    }
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(in_time(task).await.unwrap(), 2 * i as u64);
    }
    pool.close();
    let refused = in_time(pool.submit(double, 0)).await.unwrap_err();
    assert!(matches!(refused, TaskError::PoolClosed { .. }), "{refused:?}");
}

#[test]
fn a_blocking_caller_waits_for_room() {
    let pool = Pool::builder().processes(1).child_concurrency(1).capacity(16).build().unwrap();
    let held: Vec<_> = (0..16).map(|_| pool.apply(nap, 5)).collect();
    let late = pool.apply(double, 21).submitted_blocking().unwrap();
    assert_eq!(late.wait().unwrap(), 42);
    held.into_iter().for_each(|task| assert_eq!(task.wait().unwrap(), 5));
}

#[tokio::test]
async fn drain_waits_for_what_was_submitted_and_gives_up_at_its_limit() {
    let pool = Pool::builder().processes(1).build().unwrap();
    let quick: Vec<_> = (0..20).map(|_| pool.apply(nap, 10)).collect();
    assert!(in_time(pool.drain(Duration::from_secs(60))).await);
    in_time(pool.join()).await.unwrap();
    for task in quick {
        assert_eq!(in_time(task).await.unwrap(), 10);
    }
    let pool = Pool::builder().processes(1).build().unwrap();
    let stuck = pool.apply(sleep_for_ever, 1);
    assert!(!in_time(pool.drain(Duration::from_millis(30))).await);
    assert!(!pool.drain_blocking(Duration::from_millis(30)));
    assert!(matches!(in_time(pool.apply(double, 1)).await, Err(TaskError::PoolClosed { .. })));
    assert!(matches!(pool.apply(double, 1).detach(), Err(TaskError::PoolClosed { .. })));
    pool.terminate();
    in_time(pool.join()).await.unwrap();
    assert!(matches!(in_time(stuck).await, Err(TaskError::PoolClosed { .. })));
}

#[tokio::test]
async fn drain_sees_the_end_of_tasks_that_nobody_awaits() {
    let pool = Pool::builder().processes(1).build().unwrap();
    (0..5).for_each(|_| pool.apply(nap, 20).detach().unwrap());
    assert!(in_time(pool.drain(Duration::from_secs(60))).await);
    assert_eq!(pool.stats().ok, 5);
}

#[test]
fn times_past_the_end_of_the_clock_are_no_limit() {
    const EVER: Duration = Duration::MAX;
    let pool = Pool::builder().processes(1).grace(EVER).build().unwrap();
    let options = TaskOptions::new().timeout(EVER).queue_ttl(EVER).retries(1).backoff(EVER);
    let mut task = pool.with(options).apply(double, 4);
    assert_eq!(task.wait_timeout(EVER).unwrap().unwrap(), 8);
    let retried = pool.with(options.retry_on_error(true));
    let notes = Notes::new("ever");
    let mut held = retried.try_apply(fail_until, (notes.0.clone(), 9));
    while pool.stats().retries < 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(held.wait_timeout(Duration::ZERO).is_none());
    held.cancel();
    assert!(matches!(held.wait_timeout(EVER), Some(Err(TaskError::Cancelled))));
    assert!(pool.drain_blocking(EVER) && aiopool::block_on(pool.drain(EVER)));
    pool.join_blocking().unwrap();
}

#[tokio::test]
async fn the_runtime_initializer_configures_each_workers_runtime() {
    fn name_the_threads(runtime: &mut tokio::runtime::Builder) {
        runtime.thread_name("from-the-initializer");
    }
    async fn blocking_thread(_: u64) -> String {
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        tokio::task::spawn_blocking(name).await.unwrap()
    }
    let pool = Pool::builder().processes(1).runtime_initializer(name_the_threads).build().unwrap();
    let name = in_time(pool.apply(blocking_thread, 0)).await.unwrap();
    assert_eq!(name, "from-the-initializer");
}

#[derive(Debug)]
struct Refused {
    notes: String,
    code: u32,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused with {}", self.code)
    }
}

async fn refuse((notes, code): (String, u32)) -> Result<(), Refused> {
    Err(Refused { notes, code })
}

#[tokio::test]
async fn the_exception_handler_sees_the_live_error_in_the_worker() {
    fn handler(error: &LiveError<'_>) {
        let refused = error.downcast_ref::<Refused>().expect("a Refused");
        let context = WorkerContext::current().expect("in a worker");
        note(&refused.notes, &format!("{} {error} {}", refused.code, context.worker_id()));
        assert!(error.function().ends_with("refuse"));
    }
    let notes = Notes::new("handler");
    let pool = Pool::builder().processes(1).exception_handler(handler).build().unwrap();
    let error = in_time(pool.try_apply(refuse, (notes.0.clone(), 7))).await.unwrap_err();
    assert_eq!(error.to_string(), "refused with 7");
    assert_eq!(notes.lines(), ["7 refused with 7 0"]);
}

#[tokio::test]
async fn an_exception_handler_that_fails_does_not_hide_the_error() {
    fn handler(error: &LiveError<'_>) {
        panic!("the handler fails, on {error}");
    }
    async fn panics(_: u64) -> u64 {
        panic!("the task's own")
    }
    let pool = Pool::builder().processes(1).exception_handler(handler).build().unwrap();
    let error = in_time(pool.try_apply(refuse, (String::new(), 7))).await.unwrap_err();
    assert_eq!(error.to_string(), "refused with 7");
    let error = in_time(pool.apply(panics, 7)).await.unwrap_err();
    assert!(matches!(&error, TaskError::Panicked(p) if p.message() == "the task's own"));
    assert_eq!(in_time(pool.apply(double, 7)).await.unwrap(), 14);
    assert_eq!(pool.stats().deaths, 0);
}

#[tokio::test]
async fn initializer_and_exit_hook_are_async_and_share_the_workers_state() {
    struct Client(String);
    async fn open(notes: String) -> Result<(), String> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let worker = WorkerContext::current().unwrap();
        worker.set_state(Client(format!("client of {}", std::process::id())));
        note(&notes, "open");
        Ok(())
    }
    async fn use_it(_: u64) -> String {
        WorkerContext::current().unwrap().state::<Client>().unwrap().0.clone()
    }
    async fn close(notes: String) -> Result<(), String> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let client = WorkerContext::current().unwrap().take_state::<Client>().unwrap();
        note(&notes, &format!("closed {}", client.0));
        Ok(())
    }
    let notes = Notes::new("hooks");
    let pool = Pool::builder()
        .processes(1)
        .max_tasks_per_child(3)
        .initializer(open, notes.0.clone())
        .exit_hook(close, notes.0.clone())
        .build()
        .unwrap();
    let mut clients = in_time(pool.map(use_it, 0..6)).await.unwrap();
    pool.close();
    in_time(pool.join()).await.unwrap();
    clients.dedup();
    assert_eq!(clients.len(), 2, "{clients:?}");
    let lines = notes.lines();
    for client in clients {
        assert!(lines.contains(&format!("closed {client}")), "{lines:?}");
    }
    // A third one may have been on its way when the pool closed.
    let opened = lines.iter().filter(|line| *line == "open").count();
    assert!((2..=3).contains(&opened), "{lines:?}");
}

async fn fail_until((notes, tries): (String, usize)) -> Result<usize, String> {
    note(&notes, "try");
    let so_far = std::fs::read_to_string(&notes).unwrap().lines().count();
    if so_far < tries { Err(format!("try {so_far}")) } else { Ok(so_far) }
}

#[tokio::test]
async fn retries_on_error_only_where_the_caller_allowed_them() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let notes = Notes::new("retries-none");
    let error = in_time(
        pool.with(TaskOptions::new().retries(5)).try_apply(fail_until, (notes.0.clone(), 3)),
    )
    .await
    .unwrap_err();
    assert_eq!((error.to_string(), notes.lines().len()), ("try 1".to_owned(), 1));
    let options = TaskOptions::new().retries(5).retry_on_error(true);
    let notes = Notes::new("retries");
    let tries = in_time(pool.with(options).try_apply(fail_until, (notes.0.clone(), 3))).await;
    assert_eq!((tries.unwrap(), notes.lines().len()), (3, 3));
    let notes = Notes::new("retries-all");
    let options = TaskOptions::new().retries(2).retry_on_error(true);
    let error = in_time(pool.with(options).try_apply(fail_until, (notes.0.clone(), 9))).await;
    assert_eq!((error.unwrap_err().to_string(), notes.lines().len()), ("try 3".to_owned(), 3));
    assert_eq!(pool.stats().retries, 4);
}

#[tokio::test]
async fn backoff_holds_a_retry_back_and_cancel_ends_the_wait() {
    let pool = Pool::builder().processes(1).build().unwrap();
    let notes = Notes::new("backoff");
    let options = TaskOptions::new().retries(3).retry_on_error(true);
    let options = options.backoff(Duration::from_millis(50));
    let before = std::time::Instant::now();
    let tries = in_time(pool.with(options).try_apply(fail_until, (notes.0.clone(), 3))).await;
    assert_eq!(tries.unwrap(), 3);
    // 50 ms before the second attempt, 100 before the third; a lower bound only.
    assert!(before.elapsed() >= Duration::from_millis(150));
    let notes = Notes::new("backoff-cancel");
    let options = options.backoff(Duration::from_secs(3600));
    let mut held = pool.with(options).try_apply(fail_until, (notes.0.clone(), 3));
    while notes.lines().is_empty() || pool.stats().retries < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    held.cancel();
    assert!(matches!(in_time(held).await, Err(TaskError::Cancelled)));
    assert_eq!(pool.stats().pending, 0);
}

#[tokio::test]
async fn urgent_tasks_come_first_and_low_ones_are_not_starved() {
    async fn note_class((notes, class): (String, u8)) {
        note(&notes, &class.to_string());
    }
    async fn wait_for(path: String) {
        while !std::path::Path::new(&path).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let notes = Notes::new("classes");
    let gate = Notes::new("gate");
    let pool = Pool::builder().processes(1).child_concurrency(1).priorities(2).build().unwrap();
    let holder = pool.apply(wait_for, gate.0.clone());
    let class = |class: u8| pool.with(TaskOptions::new().priority(class));
    let low: Vec<_> = (0..4).map(|_| class(1).apply(note_class, (notes.0.clone(), 1))).collect();
    let high: Vec<_> = (0..200).map(|_| class(0).apply(note_class, (notes.0.clone(), 0))).collect();
    note(&gate.0, "go");
    in_time(holder).await.unwrap();
    for task in low.into_iter().chain(high) {
        in_time(task).await.unwrap();
    }
    let order = notes.lines();
    let first_low = order.iter().position(|line| line == "1").unwrap();
    // Most of the urgent ones were submitted later and yet came first, but not all.
    assert!((1..=64).contains(&first_low), "the first low one came after {first_low}");
    let last_low = order.iter().rposition(|line| line == "1").unwrap();
    assert!(last_low < 200, "the low ones waited for all urgent ones");
}

#[tokio::test]
async fn workers_ignore_an_interrupt_from_the_terminal() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let before = pool.worker_pids();
    for pid in &before {
        let kill = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status();
        assert!(kill.unwrap().success());
    }
    assert_eq!(in_time(pool.map(double, 0..100)).await.unwrap().len(), 100);
    assert_eq!((pool.worker_pids(), pool.stats().deaths), (before, 0));
}

/// Not a test by itself: the host that the next test interrupts.
#[tokio::test]
#[ignore = "run by ctrl_c_ends_host_and_workers_at_once_and_silently"]
async fn host_to_be_interrupted() {
    let pool = Pool::builder().processes(3).build().unwrap();
    let held: Vec<_> = (0..9).map(|i| pool.apply(sleep_for_ever, i)).collect();
    in_time(pool.map(double, 0..100)).await.unwrap();
    println!("\nPIDS {:?}", pool.worker_pids());
    std::thread::sleep(Duration::from_secs(600));
    drop(held);
}

#[tokio::test]
async fn ctrl_c_ends_host_and_workers_at_once_and_silently() {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Stdio};
    let mut host = Command::new(std::env::current_exe().unwrap());
    host.args(["options::host_to_be_interrupted", "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut host = aiopool_testing::interruptible(&mut host).spawn().unwrap();
    let pids = BufReader::new(host.stdout.as_mut().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("PIDS [").map(str::to_owned))
        .expect("the host tells its workers' pids");
    let pids: Vec<String> = pids.trim_end_matches(']').split(", ").map(str::to_owned).collect();
    // A terminal sends it to the whole group in the foreground.
    let group = format!("-{}", host.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    assert_eq!(host.wait().unwrap().signal(), Some(2));
    in_time(async {
        let runs = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while pids.iter().any(runs) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut said = String::new();
    host.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn errors_are_errors_that_can_be_sent() {
    fn check<E: std::error::Error + Send + Sync + 'static>() {}
    check::<Error>();
    check::<TaskError>();
    check::<aiopool::WorkerLost>();
    fn send<T: Send>() {}
    send::<Pool>();
    send::<aiopool::Task<u64>>();
    send::<aiopool::Process>();
    send::<aiopool::Worker<u64>>();
}
