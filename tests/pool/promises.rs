//! The complaints of users of the pools we replace: a test named after each, which fails on the
//! behaviour complained of.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aiopool::{Error, Pool, TaskError};
use aiopool_testing::{in_time, until};

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

fn kill_9(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whether the process runs; one that is dead and not reaped yet does not.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

async fn pid(_: u64) -> u32 {
    std::process::id()
}

async fn double(x: u64) -> u64 {
    x * 2
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

/// Says that it runs.
async fn mark_and_sleep(mark: String) -> u64 {
    std::fs::write(mark, "").unwrap();
    std::future::pending().await
}

#[tokio::test]
async fn a_killed_worker_does_not_hang_its_caller() {
    let pool = pool(1);
    let victim = in_time(pool.apply(pid, 0)).await.unwrap();
    let mark = std::env::temp_dir().join(format!("aiopool-victim-{}", std::process::id()));
    let task = pool.apply(mark_and_sleep, mark.to_str().unwrap().to_owned());
    // Only once it runs is it lost; before that it would be queued again.
    until(|| mark.exists()).await;
    std::fs::remove_file(&mark).unwrap();
    kill_9(victim);
    let error = in_time(task).await.unwrap_err();
    let lost = error.worker_lost().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(lost.pid, victim);
    assert!(error.to_string().contains("signal 9"), "{error}");
    assert_ne!(in_time(pool.apply(pid, 0)).await.unwrap(), victim);
}

/// Refuses to be encoded when it is odd.
#[derive(serde::Deserialize)]
struct EvenOnly(u64);

impl serde::Serialize for EvenOnly {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 2 == 1 {
            return Err(serde::ser::Error::custom("odd numbers are not possible"));
        }
        serializer.serialize_u64(self.0)
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_encoded_is_an_error() {
    async fn even_only(x: u64) -> EvenOnly {
        EvenOnly(x)
    }
    async fn take_even(x: EvenOnly) -> u64 {
        x.0
    }
    let pool = pool(1);
    let Err(error) = in_time(pool.apply(even_only, 3)).await else { panic!("3 was encoded") };
    assert!(matches!(error, TaskError::Value(_)), "{error:?}");
    // What the type itself says, and which it is.
    assert!(error.to_string().contains("EvenOnly: odd numbers are not possible"), "{error}");
    let error = in_time(pool.apply(take_even, EvenOnly(5))).await.unwrap_err();
    assert!(matches!(error, TaskError::NotSubmitted(_)), "{error:?}");
    assert!(error.to_string().contains("EvenOnly: odd numbers are not possible"), "{error}");
    assert_eq!(in_time(pool.apply(even_only, 4)).await.unwrap().0, 4);
}

#[tokio::test]
async fn terminate_ends_every_await() {
    let pool = pool(2);
    let mut handles: Vec<_> = (0..40).map(|i| pool.apply(sleep_for_ever, i)).collect();
    let later = handles.split_off(20);
    let waiting = tokio::spawn(async move {
        let mut errors = Vec::new();
        for handle in handles {
            errors.push(handle.await.unwrap_err());
        }
        errors
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    pool.terminate();
    let mut errors = in_time(waiting).await.unwrap();
    in_time(pool.join()).await.unwrap();
    for handle in later {
        errors.push(in_time(handle).await.unwrap_err());
    }
    assert_eq!(errors.len(), 40);
    assert!(errors.iter().all(|e| matches!(e, TaskError::PoolClosed { .. })), "{errors:?}");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Close,
    Drain,
    Terminate,
    Join,
}

/// All orders of all the steps.
fn orders(steps: &[Step]) -> Vec<Vec<Step>> {
    if steps.is_empty() {
        return vec![vec![]];
    }
    let all = steps.iter().flat_map(|&first| {
        let rest: Vec<Step> = steps.iter().copied().filter(|&step| step != first).collect();
        orders(&rest).into_iter().map(move |rest| [vec![first], rest].concat())
    });
    all.collect()
}

#[tokio::test]
async fn every_order_of_close_drain_terminate_and_join_resolves_every_handle() {
    use Step::{Close, Drain, Join, Terminate};
    let moment = Duration::from_millis(10);
    let mut all = orders(&[Close, Drain, Terminate, Join]);
    assert_eq!(all.len(), 24);
    // Less, more, and nothing but the drop of the pool.
    all.extend([vec![], vec![Close], vec![Drain], vec![Terminate, Terminate, Close, Close]]);
    for order in all {
        let pool = Pool::builder().processes(1).capacity(16).build().unwrap();
        let quick: Vec<_> = (0..3).map(|i| pool.apply(double, i)).collect();
        let early: Vec<_> = (0..4).map(|i| pool.apply(sleep_for_ever, i)).collect();
        let early = tokio::spawn(async move {
            for handle in early {
                let error = handle.await.unwrap_err();
                assert!(matches!(error, TaskError::PoolClosed { .. }), "{error:?}");
            }
        });
        // More than there is room for: some of them wait to be submitted.
        let late: Vec<_> = (0..20).map(|i| pool.apply(sleep_for_ever, i)).collect();
        let mut stream = pool.map(sleep_for_ever, 0..40);
        assert!(tokio::time::timeout(moment, stream.next()).await.is_err());
        let (mut closed, mut terminated) = (false, false);
        for step in &order {
            match step {
                Close => pool.close(),
                // Some never end.
                Drain => assert_eq!(in_time(pool.drain(moment)).await, terminated),
                Terminate => pool.terminate(),
                Join if terminated => in_time(pool.join()).await.unwrap(),
                // It waits for those that never end.
                Join if closed => assert!(tokio::time::timeout(moment, pool.join()).await.is_err()),
                Join => assert!(matches!(pool.join().await, Err(Error::Misuse(_)))),
            }
            closed |= *step != Join;
            terminated |= *step == Terminate;
        }
        drop(pool);
        in_time(early).await.unwrap();
        for handle in quick {
            let ended = in_time(handle).await;
            let well = matches!(ended, Ok(_) | Err(TaskError::PoolClosed { .. }));
            assert!(well, "{order:?}: {ended:?}");
        }
        for handle in late {
            let error = in_time(handle).await.unwrap_err();
            assert!(matches!(error, TaskError::PoolClosed { .. }), "{order:?}: {error:?}");
        }
        let mut streamed = 0;
        while let Some(result) = in_time(stream.next()).await {
            assert!(matches!(result, Err(TaskError::PoolClosed { .. })), "{order:?}: {result:?}");
            streamed += 1;
        }
        assert!(streamed > 0, "{order:?}: a stream that was cut off must say so");
    }
}

#[tokio::test]
async fn a_failing_initializer_ends_the_pool_with_its_error() {
    async fn note_and_refuse(path: String) -> Result<(), String> {
        use std::io::Write;
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{}", std::process::id()).unwrap();
        Err("no licence".to_owned())
    }
    let path = std::env::temp_dir().join(format!("aiopool-init-{}", std::process::id()));
    let path = path.to_str().unwrap().to_owned();
    let pool =
        Pool::builder().processes(2).initializer(note_and_refuse, path.clone()).build().unwrap();
    let error = in_time(pool.apply(double, 1)).await.unwrap_err();
    assert!(error.to_string().contains("no licence"), "{error}");
    let ended = in_time(pool.join()).await.unwrap_err();
    assert!(matches!(&ended, Error::Failed(reason) if matches!(**reason, Error::Initializer(_))));
    // Ended means that no thread is left that could start another.
    let tries = std::fs::read_to_string(&path).unwrap().lines().count();
    std::fs::remove_file(&path).unwrap();
    assert!((1..=8).contains(&tries), "{tries} tries");
}

#[tokio::test]
async fn max_tasks_per_child_is_exact() {
    let pool = Pool::builder().processes(2).max_tasks_per_child(1).build().unwrap();
    let pids = in_time(pool.map(pid, 0..32)).await.unwrap();
    let mut counts = HashMap::new();
    pids.iter().for_each(|pid| *counts.entry(*pid).or_insert(0) += 1);
    assert!(counts.values().all(|&n| n == 1), "{counts:?}");
    until(|| pool.stats().recycles == 32).await;
    assert_eq!(pool.stats().deaths, 0);
}

#[tokio::test]
async fn an_error_leaves_no_siblings_result_behind() {
    async fn fail_on_three(x: (u64, String)) -> Result<String, String> {
        if x.0 == 3 { Err("three".to_owned()) } else { Ok(x.1) }
    }
    let pool = pool(2);
    let items = || (0..64).map(|i| (i, "x".repeat(10_000)));
    for _ in 0..20 {
        let error = in_time(pool.try_map(fail_on_three, items())).await.unwrap_err();
        assert_eq!(error.to_string(), "three");
    }
    until(|| pool.stats().free_records == 4096).await;
    let stats = pool.stats();
    assert_eq!((stats.pending, stats.input_bytes), (0, 0), "{stats:?}");
    // Nor are they poisoned, where the caller wants them.
    let results = in_time(pool.try_map(fail_on_three, items()).results()).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 63);
    assert!(results[3].is_err());
}

#[tokio::test]
async fn computing_tasks_spread_over_the_workers() {
    /// Computes for 50 ms, and on until as many processes as there are compute, too: they all
    /// must, however late the machine lets them start.
    async fn compute((directory, processes): (String, usize)) -> u32 {
        let directory = std::path::Path::new(&directory);
        std::fs::write(directory.join(std::process::id().to_string()), "").unwrap();
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end || std::fs::read_dir(directory).unwrap().count() < processes {
            std::hint::spin_loop();
        }
        std::process::id()
    }
    for processes in [2, 4] {
        let name = format!("aiopool-cpu-{}-{processes}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let pool = pool(processes);
        let item = || (directory.to_str().unwrap().to_owned(), processes);
        let pids = in_time(pool.map(compute, (0..16).map(|_| item()))).await.unwrap();
        let mut counts = HashMap::new();
        pids.iter().for_each(|pid| *counts.entry(*pid).or_insert(0) += 1);
        assert_eq!(counts.len(), processes, "{counts:?}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

#[tokio::test]
async fn short_tasks_do_not_wait_behind_a_long_one() {
    async fn hold_the_worker(path: String) -> u32 {
        // Blocks its whole worker, until the others are through.
        while !std::path::Path::new(&path).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::process::id()
    }
    let path = std::env::temp_dir().join(format!("aiopool-held-{}", std::process::id()));
    let pool = pool(2);
    let long = pool.apply(hold_the_worker, path.to_str().unwrap().to_owned());
    let pids = in_time(pool.map(pid, 0..200)).await.unwrap();
    std::fs::write(&path, "").unwrap();
    let holder = in_time(long).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(pids.iter().filter(|&&pid| pid == holder).count() < 200);
}

#[tokio::test]
async fn a_finished_map_ends_again_at_once() {
    let pool = pool(1);
    let mut task = pool.apply(double, 2);
    assert_eq!(in_time(&mut task).await.unwrap(), 4);
    // A value can be had once; asking again is a bug of the caller's, and reported at once.
    #[allow(clippy::redundant_async_block)] // it moves the handle in, so that it outlives the wait
    let again = tokio::spawn(async move { (&mut task).await });
    let panic = in_time(again).await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<&str>().unwrap();
    assert!(text.contains("asked for twice"), "{text}");
    let mut stream = pool.map(double, 0..3);
    while in_time(stream.next()).await.is_some() {}
    assert!(in_time(stream.next()).await.is_none());
    pool.close();
    in_time(pool.join()).await.unwrap();
    in_time(pool.join()).await.unwrap();
}

/// Not a test by itself: the host that `no_worker_survives_its_host` kills.
#[tokio::test]
#[ignore = "run by no_worker_survives_its_host"]
async fn host_with_workers() {
    let pool = pool(3);
    let busy: Vec<_> = (0..6).map(|i| pool.apply(sleep_for_ever, i)).collect();
    in_time(pool.map(double, 0..100)).await.unwrap();
    println!("\nPIDS {:?}", pool.worker_pids());
    std::thread::sleep(Duration::from_secs(600));
    drop(busy);
}

#[tokio::test]
async fn no_worker_survives_its_host() {
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["promises::host_with_workers", "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pids: Vec<u32> = BufReader::new(host.stdout.as_mut().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("PIDS ").map(str::to_owned))
        .expect("the host tells its workers' pids")
        .trim_matches(['[', ']'])
        .split(", ")
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|&pid| is_running(pid)));
    host.kill().unwrap();
    host.wait().unwrap();
    until(|| !pids.iter().any(|&pid| is_running(pid))).await;
}

#[tokio::test]
async fn results_can_come_as_they_are_ready() {
    async fn nap(ms: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        ms
    }
    let pool = pool(1);
    let mut stream = pool.map(nap, [3_600_000, 1, 2]).as_completed();
    let mut quick = vec![in_time(stream.next()).await.unwrap().unwrap()];
    quick.push(in_time(stream.next()).await.unwrap().unwrap());
    quick.sort_unstable();
    assert_eq!(quick, [1, 2]);
}
