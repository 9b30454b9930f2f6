//! The verbs of a pool, from every kind of caller.

use std::time::Duration;

use aiopool::{Error, Pool, TaskError, TaskOptions};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn add(a: u64, b: u64) -> u64 {
    a + b
}

async fn nap_and_tell(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn fail_on_three(x: u64) -> anyhow::Result<u64> {
    use anyhow::Context;
    if x == 3 { "three".parse::<u64>().context("cannot take 3").map(|_| 0) } else { Ok(x) }
}

async fn panic_on_three(x: u64) -> u64 {
    assert_ne!(x, 3, "three is too many");
    x
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

async fn echo(text: String) -> String {
    text
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

#[test]
fn works_in_an_ordinary_test() {
    let pool = pool(2);
    assert_eq!(pool.apply(double, 21).wait().unwrap(), 42);
    let doubled: Vec<u64> =
        pool.map(double, 0..100).into_blocking_iter().map(Result::unwrap).collect();
    assert_eq!(doubled, (0..100).map(|x| x * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn works_in_a_tokio_test() {
    let pool = pool(2);
    assert_eq!(pool.apply(double, 21).await.unwrap(), 42);
    let doubled = pool.map(double, 0..1000).await.unwrap();
    assert_eq!(doubled, (0..1000).map(|x| x * 2).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_in_a_multi_thread_runtime() {
    let pool = std::sync::Arc::new(pool(2));
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let sums = pool.starmap(add, (0..200).map(|x| (x, i))).await.unwrap();
                assert_eq!(sums, (0..200).map(|x| x + i).collect::<Vec<_>>());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn works_under_block_on_and_join() {
    let pool = pool(2);
    aiopool::block_on(async {
        assert_eq!(pool.apply(double, 2).await.unwrap(), 4);
        assert!(matches!(pool.join().await, Err(Error::Misuse(_))));
        pool.close();
        let refused = pool.apply(double, 3).await;
        assert!(matches!(refused, Err(TaskError::PoolClosed { .. })), "{refused:?}");
        pool.join().await.unwrap();
    });
}

#[tokio::test]
async fn order_is_kept_or_not_as_asked() {
    /// Item 0 waits until there is a file.
    async fn wait_if_first((item, gate): (u64, String)) -> u64 {
        while item == 0 && !std::path::Path::new(&gate).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        item
    }
    let gate = std::env::temp_dir().join(format!("aiopool-order-{}", std::process::id()));
    let pool = pool(2);
    let items = (0..9).map(|item| (item, gate.to_str().unwrap().to_owned()));
    let mut completed = pool.map(wait_if_first, items.clone()).as_completed();
    for _ in 0..8 {
        assert_ne!(completed.next().await.unwrap().unwrap(), 0);
    }
    // In order, the others wait behind the first.
    let mut ordered = pool.map(wait_if_first, items);
    let early = tokio::time::timeout(Duration::from_millis(50), ordered.next()).await;
    assert!(early.is_err(), "{early:?}");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(completed.next().await.unwrap().unwrap(), 0);
    assert!(completed.next().await.is_none());
    assert_eq!(ordered.await.unwrap(), (0..9).collect::<Vec<_>>());
    std::fs::remove_file(&gate).unwrap();
}

#[tokio::test]
async fn errors_carry_text_and_chain() {
    let pool = pool(1);
    let results = pool.try_map(fail_on_three, 1..=4).results().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    let error = results[2].as_ref().unwrap_err();
    assert_eq!(error.to_string(), "cannot take 3: invalid digit found in string");
    let first = pool.try_map(fail_on_three, 1..=4).await.unwrap_err();
    assert!(matches!(first, TaskError::Failed(_)));
}

#[tokio::test]
async fn panics_carry_message_and_backtrace() {
    let pool = pool(1);
    let results = pool.map(panic_on_three, 1..=4).results().await;
    let Err(TaskError::Panicked(panic)) = &results[2] else { panic!("{results:?}") };
    assert!(panic.message().contains("three is too many"), "{panic}");
    assert!(panic.location().contains("pool/basics.rs"), "{panic:?}");
    assert!(panic.backtrace().contains("panic_on_three"), "{}", panic.backtrace());
    assert_eq!(*results[3].as_ref().unwrap(), 4);
}

#[tokio::test]
async fn a_death_costs_its_task_and_not_the_pool() {
    let pool = pool(2);
    let error = pool.apply(die, 1).await.unwrap_err();
    let lost = error.worker_lost().expect("the worker died");
    assert_eq!(lost.exit, aiopool::WorkerExit::Signalled { signal: 6, core_dumped: false });
    assert!(error.to_string().contains("die"), "{error}");
    assert_eq!(pool.map(double, 0..100).await.unwrap().len(), 100);
    let retried = pool.with(TaskOptions::new().retries(2)).apply(die, 1).await.unwrap_err();
    let lost = retried.worker_lost().expect("the worker died");
    assert_eq!((lost.attempt, lost.attempts_allowed, lost.earlier.len()), (3, 3, 2), "{lost}");
}

#[tokio::test]
async fn payloads_of_every_size_come_back() {
    let pool = Pool::builder().processes(2).max_payload(1 << 22).build().unwrap();
    let texts: Vec<String> = (0..22)
        .flat_map(|bits| [(1 << bits) - 1, 1 << bits])
        .map(|n: usize| "£".repeat(n / 2))
        .collect();
    assert_eq!(pool.map(echo, texts.clone()).await.unwrap(), texts);
    let raw = bytes::Bytes::from(vec![7; 3 << 20]);
    async fn raw_echo(raw: bytes::Bytes) -> bytes::Bytes {
        raw
    }
    assert_eq!(pool.apply(raw_echo, raw.clone()).await.unwrap(), raw);
    let too_large = pool.apply(echo, "x".repeat(5 << 20)).await.unwrap_err();
    let said = "the input is 5242884 bytes, the pool takes at most 4194304";
    assert!(too_large.to_string().contains(said), "{too_large}");
    assert_eq!((pool.stats().pending, pool.stats().input_bytes), (0, 0), "nothing is kept of it");
}

#[tokio::test]
async fn timeouts_and_cancels_end_tasks_and_keep_the_pool() {
    let pool = Pool::builder().processes(1).child_concurrency(2).build().unwrap();
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(50)));
    let error = limited.apply(nap_and_tell, 60_000).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    let (mut one, two) = (pool.apply(nap_and_tell, 60_000), pool.apply(nap_and_tell, 60_000));
    let queued = pool.with(TaskOptions::new().queue_ttl(Duration::from_millis(50)));
    let error = queued.apply(nap_and_tell, 1).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: false, .. }), "{error:?}");
    one.cancel();
    assert!(matches!(one.await, Err(TaskError::Cancelled)));
    drop(two);
    assert_eq!(pool.apply(double, 4).await.unwrap(), 8);
}

async fn block_for_ever(_: u64) -> u64 {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_task_that_ignores_its_deadline_is_killed_with_its_worker() {
    let pool = Pool::builder().processes(1).grace(Duration::from_millis(50)).build().unwrap();
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(500)));
    let error = limited.apply(block_for_ever, 1).await.unwrap_err();
    assert!(matches!(error, TaskError::TimedOut { started: true, .. }), "{error:?}");
    assert_eq!(pool.apply(double, 4).await.unwrap(), 8);
}

#[tokio::test]
async fn recycling_is_exact_and_loses_nothing() {
    async fn pid(_: u64) -> u32 {
        std::process::id()
    }
    let pool = Pool::builder().processes(2).max_tasks_per_child(5).build().unwrap();
    let pids = pool.map(pid, 0..100).await.unwrap();
    let mut counts = std::collections::HashMap::new();
    pids.iter().for_each(|pid| *counts.entry(*pid).or_insert(0) += 1);
    assert!(counts.values().all(|&n| n <= 5), "{counts:?}");
    assert!(counts.values().filter(|&&n| n == 5).count() >= 18, "{counts:?}");
}

#[test]
fn bad_options_are_refused_with_value_and_range() {
    let error = Pool::builder().processes(2).queues(3).build().unwrap_err();
    assert!(error.to_string().contains("queue count must be <= process count"), "{error}");
    let two = || Pool::builder().processes(2);
    for (builder, said) in [
        (Pool::builder().processes(0), "processes = 0 is not possible: 1 to 65536"),
        (Pool::builder().processes(70_000), "processes = 70000 is not possible: 1 to 65536"),
        (Pool::builder().processes(3000), "at most 2047 for each of the 1 queues"),
        (two().queues(0), "queues = 0 is not possible: 1 to 65536"),
        (two().child_concurrency(0), "child_concurrency = 0 is not possible: 1 to 65536"),
        (two().capacity(0), "capacity = 0 is not possible: 16 to 1048576"),
        (two().capacity(17), "capacity = 17 is not possible: a power of two from 16 to 1048576"),
        (two().capacity(1 << 21), "capacity = 2097152 is not possible: 16 to 1048576"),
        (two().priorities(0), "priorities = 0 is not possible: 1 to 4"),
        (two().priorities(5), "priorities = 5 is not possible: 1 to 4"),
        (two().max_payload(0), "max_payload = 0 is not possible: 1 to 1073741824"),
        (two().max_payload(1 << 31), "max_payload = 2147483648 is not possible: 1 to 1073741824"),
        (two().input_arena(1 << 20), "input_arena = 1048576 is not possible: 134217728 to "),
        (two().output_arena(0), "output_arena = 0 is not possible: 134217728 to "),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error} does not say {said}");
    }
    let pool = two().build().unwrap();
    let refused = pool.with(TaskOptions::new().priority(1)).apply(double, 1).wait().unwrap_err();
    assert!(refused.to_string().contains("priority = 1 is not possible"), "{refused}");
}

#[tokio::test]
async fn a_failing_initializer_fails_the_pool_with_its_error() {
    async fn refuse(reason: String) -> Result<(), String> {
        Err(reason)
    }
    let pool =
        Pool::builder().processes(2).initializer(refuse, "no licence".to_owned()).build().unwrap();
    let error = pool.apply(double, 1).await.unwrap_err();
    assert!(error.to_string().contains("no licence"), "{error}");
}

#[tokio::test]
async fn a_full_pool_pushes_back_and_loses_nothing() {
    let pool = Pool::builder()
        .processes(2)
        .capacity(16)
        .max_payload(1 << 20)
        .input_arena(4 << 20)
        .output_arena(2 << 20)
        .build()
        .unwrap();
    let large: Vec<_> = (0..40).map(|_| pool.apply(echo, "x".repeat((1 << 20) - 8))).collect();
    let small: Vec<_> = (0..200).map(|x| pool.apply(double, x)).collect();
    for (x, task) in small.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), 2 * x as u64);
    }
    for task in large {
        assert_eq!(task.await.unwrap().len(), (1 << 20) - 8);
    }
    let stats = pool.stats();
    assert_eq!((stats.free_records, stats.input_bytes, stats.pending), (16, 0, 0), "{stats:?}");
}

#[test]
fn an_iterator_that_takes_its_time_holds_back_an_eighth_of_a_burst_at_most() {
    let pool = pool(1);
    let burst = 800;
    let items = (0..=burst).inspect(|&x| {
        if x == burst {
            // Whatever this iterator waits for now may be done by the tasks before.
            let submitted = pool.stats().submitted;
            assert!(submitted >= burst * 7 / 8, "{submitted} of {burst} are submitted");
        }
    });
    let mut sum = 0;
    for result in pool.map(double, items).window(2 * burst as usize).into_blocking_iter() {
        sum += result.unwrap();
    }
    assert_eq!(sum, burst * (burst + 1));
}

/// What a thread does last, when the thread-locals that came after this one are gone.
struct Last(std::sync::Arc<Pool>, std::sync::mpsc::Sender<Vec<u64>>);

impl Drop for Last {
    fn drop(&mut self) {
        let Self(pool, values) = self;
        let one = pool.apply(double, 3).wait().unwrap();
        let mut all: Vec<u64> =
            pool.map(double, 0..100).into_blocking_iter().map(Result::unwrap).collect();
        drop(pool.apply(double, 4));
        assert!(aiopool::WorkerContext::current().is_none());
        all.push(one);
        values.send(all).unwrap();
    }
}

#[test]
fn a_pool_can_be_used_while_its_caller_s_thread_ends() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let pool = std::sync::Arc::new(pool(1));
    let (sender, values) = std::sync::mpsc::channel();
    let caller = std::thread::spawn(move || {
        // Before the pool's own: what is made first goes last.
        LAST.set(Some(Last(pool.clone(), sender)));
        pool.apply(double, 1).wait().unwrap();
    });
    caller.join().unwrap();
    let expected: Vec<u64> = (0..100).map(|x| 2 * x).chain([6]).collect();
    assert_eq!(values.recv_timeout(std::time::Duration::from_secs(60)), Ok(expected));
}

#[tokio::test]
async fn a_map_that_is_awaited_gives_what_was_not_taken_from_it() {
    let pool = pool(2);
    for (as_completed, taken) in [(false, 0), (false, 3), (true, 3), (false, 20)] {
        let mut map = pool.map(double, 0..20);
        if as_completed {
            map = map.as_completed();
        }
        let mut all = Vec::new();
        for _ in 0..taken {
            all.push(map.next().await.unwrap().unwrap());
        }
        all.extend(map.await.unwrap());
        if as_completed {
            all.sort_unstable();
        }
        assert!(all.iter().copied().eq((0..20).map(|x| 2 * x)), "{as_completed} {taken}: {all:?}");
    }
}
