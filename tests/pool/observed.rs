//! What a pool shows to observers, and that they cannot hurt it.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use aiopool::view::{Address, Kind, State, pools};
use aiopool::{Pool, Snapshot, TaskOptions};
use aiopool_testing::{Folder, in_time, until};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn block(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Holds up its worker until there is a file at `end`.
async fn block_until(end: String) {
    while !std::fs::exists(&end).unwrap() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn fail(_: u64) -> Result<u64, String> {
    Err("no".to_owned())
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

fn named(name: &str) -> Option<Address> {
    let own = std::process::id();
    pools().into_iter().find(|found| found.name() == name && found.host_pid() == own)
}

fn ask(name: &str) -> Snapshot {
    serde_json::from_str(&named(name).unwrap().ask().unwrap()).unwrap()
}

fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if PathBuf::from(&dir).join("aiopool").exists() => {
            PathBuf::from(dir).join("aiopool")
        }
        _ => PathBuf::from(format!(
            "/tmp/aiopool-{}",
            std::fs::metadata("/proc/self").unwrap().uid()
        )),
    }
}

fn socket_of(name: &str) -> PathBuf {
    let own = format!("{}.", std::process::id());
    let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap());
    let mut of_name = entries.filter(|entry| {
        let file = entry.file_name().into_string().unwrap();
        file.starts_with(&own) && file.ends_with(&format!(".{name}.sock"))
    });
    of_name.next().unwrap_or_else(|| panic!("no socket of {name}")).path()
}

#[tokio::test]
async fn an_observer_reads_the_numbers_that_the_owner_has() {
    let pool = Pool::builder().name("numbers").processes(2).queues(2).priorities(2);
    let pool = pool.child_concurrency(1).capacity(64).build().unwrap();
    in_time(pool.map(double, 0..100)).await.unwrap();
    in_time(pool.try_apply(fail, 1)).await.unwrap_err();
    in_time(pool.apply(die, 1)).await.unwrap_err();
    let limited = pool.with(TaskOptions::new().timeout(Duration::from_millis(10)));
    in_time(limited.apply(sleep_for_ever, 1)).await.unwrap_err();
    until(|| pool.stats().deaths == 1 && pool.stats().workers == 2).await;
    let held: Vec<_> = (0..6).map(|i| pool.apply(sleep_for_ever, i)).collect();
    until(|| pool.stats().running == 2).await;
    let (text, own) = (ask("numbers"), pool.stats());
    let seen = &text.pool.stats;
    assert_eq!((text.pool.name.as_str(), text.pool.host_pid), ("numbers", std::process::id()));
    assert_eq!((seen.submitted, seen.ok, seen.failed), (own.submitted, 100, 1), "{seen:?}");
    assert_eq!((seen.worker_lost, seen.timed_out, seen.deaths), (1, 1, 1), "{seen:?}");
    assert_eq!((seen.queued, seen.running, seen.workers), (4, 2, 2), "{seen:?}");
    let function = |name: &str| {
        let mut all = text.functions.iter();
        all.find(|f| f.name.ends_with(name)).unwrap_or_else(|| panic!("{name}: {text:?}"))
    };
    assert_eq!((function("double").ok, function("double").ran.count()), (100, 100));
    assert_eq!((function("fail").failed, function("fail").errors()), (1, 1));
    assert_eq!((function("die").worker_lost, function("sleep_for_ever").timed_out), (1, 1));
    assert!(function("double").ran.max() >= function("double").ran.quantile(0.5));
    let kinds: Vec<Kind> = text.events.iter().map(|event| event.kind).collect();
    for kind in [Kind::Death, Kind::PoisonTask, Kind::Timeout] {
        assert!(kinds.contains(&kind), "{kind:?} is not in {:?}", text.events);
    }
    assert_eq!(text.workers.len(), 2);
    for worker in &text.workers {
        assert!(pool.worker_pids().contains(&worker.pid));
        assert_eq!((worker.in_flight, worker.tasks.len()), (1, 1), "{worker:?}");
        assert!(worker.tasks[0].function.ends_with("sleep_for_ever"), "{worker:?}");
        assert!(worker.tasks[0].task > 100 && worker.rss_bytes > Some(0), "{worker:?}");
    }
    assert_eq!(text.workers.iter().map(|worker| worker.restarts).sum::<u64>(), 1);
    assert_eq!(text.queues.len(), 2);
    assert_eq!(text.queues.iter().map(|queue| queue.output_bytes).sum::<u64>(), 0);
    for queue in &text.queues {
        assert_eq!((queue.depth.iter().sum::<u64>(), queue.records), (2, 64), "{queue:?}");
        assert!(queue.oldest_ns > Some(0) && queue.workers == 1, "{queue:?}");
    }
    drop(held);
}

async fn bytes_of(size: usize) -> Vec<u8> {
    vec![7; size]
}

#[tokio::test]
async fn the_memory_of_outputs_is_told_by_queue() {
    let pool = Pool::builder().name("outputs").processes(1).build().unwrap();
    in_time(pool.apply(double, 1)).await.unwrap();
    assert_eq!(ask("outputs").queues[0].output_bytes, 0);
    in_time(pool.apply(bytes_of, 1 << 20)).await.unwrap();
    let taken = ask("outputs").queues[0].output_bytes;
    assert!((1 << 20..=16 << 20).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_worker_shows_what_it_does() {
    let pool = Pool::builder().name("states").processes(1).build().unwrap();
    let state = || ask("states").workers[0].state;
    in_time(pool.apply(double, 1)).await.unwrap();
    until(|| state() == State::Idle).await;
    let waiting = pool.apply(sleep_for_ever, 1);
    until(|| state() == State::Waiting).await;
    let folder = Folder::new("states");
    let end = folder.path().join("end");
    let blocked = pool.apply(block_until, end.to_str().unwrap().to_owned());
    until(|| state() == State::Blocked).await;
    let worker = &ask("states").workers[0];
    assert_eq!(worker.in_flight, 2, "{worker:?}");
    assert!(worker.polling_ns > Some(100_000_000), "{worker:?}");
    let polled: Vec<_> = worker.tasks.iter().filter(|task| task.polled).collect();
    assert!(polled.len() == 1 && polled[0].function.ends_with("block_until"), "{worker:?}");
    std::fs::write(end, "").unwrap();
    in_time(blocked).await.unwrap();
    drop(waiting);
    until(|| state() == State::Idle).await;
    let pid = pool.worker_pids()[0];
    let signal = |name: &str| {
        let pid = pid.to_string();
        std::process::Command::new("kill").args([name, &pid]).status().unwrap();
    };
    signal("-STOP");
    until(|| state() == State::Stopped).await;
    signal("-CONT");
    until(|| state() != State::Stopped).await;
}

#[tokio::test]
async fn the_socket_is_the_users_alone_and_goes_with_the_pool() {
    let pool = Pool::builder().name("alone").processes(1).build().unwrap();
    let path = socket_of("alone");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(pool);
    assert!(!path.exists() && named("alone").is_none());
    let hidden = Pool::builder().name("hidden").processes(1).observable(false).build().unwrap();
    assert!(named("hidden").is_none());
    drop(hidden);
    for name in ["", "a/b", "a b", "ä", &"x".repeat(33)] {
        let refused = Pool::builder().processes(1).name(name).build().unwrap_err();
        assert!(refused.to_string().contains("1 to 32 letters"), "{refused}");
    }
}

#[tokio::test]
async fn two_pools_of_one_name_are_told_apart() {
    let own = std::process::id();
    let is_twin = |found: &Address| found.name() == "twins" && found.host_pid() == own;
    let pools_of = || pools().iter().filter(|found| is_twin(found)).count();
    let first = Pool::builder().name("twins").processes(1).build().unwrap();
    let second = Pool::builder().name("twins").processes(1).build().unwrap();
    assert_eq!(pools_of(), 2);
    drop(first);
    assert_eq!(pools_of(), 1);
    drop(second);
}

/// Numbers that look random, the same ones in each run.
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// One observer that does not behave; some of them stay connected to keep their places.
fn misbehave(path: &PathBuf, choices: &mut Choices, kept: &mut Vec<UnixStream>) {
    let Ok(mut stream) = UnixStream::connect(path) else { return };
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    match choices.below(7) {
        // Bytes without a meaning.
        0 => {
            let bytes: Vec<u8> =
                (0..choices.below(4096)).map(|_| choices.below(256) as u8).collect();
            let _ = stream.write_all(&bytes);
        }
        // Half a request.
        1 => drop(stream.write_all(b"snap")),
        // Requests without a pause, and no reading.
        2 => drop(stream.write_all(&b"snapshot\n".repeat(1 + choices.below(2000) as usize))),
        // A line without an end.
        3 => drop(stream.write_all(&vec![b's'; 1 + choices.below(100_000) as usize])),
        // Nothing at all.
        4 => {}
        // A trace, and perhaps another one on top of it.
        5 => {
            let line = format!("trace {} {}\n", choices.below(50), 1 + choices.below(3));
            let _ = stream.write_all(line.repeat(1 + choices.below(2) as usize).as_bytes());
            let _ = stream.read(&mut [0; 64]);
        }
        // Half an answer read, then gone.
        _ => {
            let _ = stream.write_all(b"snapshot\n");
            let _ = stream.read(&mut [0; 64]);
        }
    }
    if choices.below(3) == 0 {
        kept.push(stream);
    }
    if kept.len() > 40 {
        kept.clear();
    }
}

#[tokio::test]
async fn observers_that_misbehave_cost_no_task_and_no_other_observer() {
    let pool = Pool::builder().name("fuzzed").processes(2).build().unwrap();
    let path = socket_of("fuzzed");
    let fuzzers: Vec<_> = (0..3)
        .map(|seed| {
            let path = path.clone();
            std::thread::spawn(move || {
                let (mut choices, mut kept) = (Choices(seed), Vec::new());
                (0..400).for_each(|_| misbehave(&path, &mut choices, &mut kept));
            })
        })
        .collect();
    let mut sum = 0;
    while fuzzers.iter().any(|fuzzer| !fuzzer.is_finished()) {
        sum += in_time(pool.map(double, 0..1000)).await.unwrap().len() as u64;
    }
    fuzzers.into_iter().for_each(|fuzzer| fuzzer.join().unwrap());
    // All places are free again, and a good observer gets its answer.
    let mut stats = aiopool::Stats::default();
    until(|| {
        // Those that are gone may have the places for a moment.
        let Ok(text) = named("fuzzed").unwrap().ask() else { return false };
        stats = serde_json::from_str::<Snapshot>(&text).unwrap().pool.stats;
        stats.ok == sum
    })
    .await;
    assert_eq!((stats.ok, stats.deaths, stats.pending), (sum, 0, 0), "{stats:?}");
    assert!(sum > 0);
}

#[tokio::test]
async fn a_poll_that_lasts_too_long_is_an_event_once() {
    let after = Duration::from_millis(200);
    let pool = Pool::builder().name("blocked").processes(1).blocked_after(after).build().unwrap();
    in_time(pool.map(double, 0..100)).await.unwrap();
    let folder = Folder::new("blocked");
    let end = folder.path().join("end");
    let blocked = pool.apply(block_until, end.to_str().unwrap().to_owned());
    let told = |snapshot: Snapshot| {
        // A machine that has much to do may hold up any poll.
        let is_it = |event: &aiopool::view::EventView| {
            event.kind == Kind::Blocked && event.text.contains("::block_until)")
        };
        snapshot.events.into_iter().filter(is_it).collect::<Vec<_>>()
    };
    until(|| !told(pool.snapshot()).is_empty()).await;
    std::fs::write(end, "").unwrap();
    in_time(blocked).await.unwrap();
    in_time(pool.apply(block, 1)).await.unwrap();
    let events = told(pool.snapshot());
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.worker, event.pid), (Some(0), Some(pool.worker_pids()[0])));
    drop(pool);
    // A pool that was not asked tells nothing.
    let pool = Pool::builder().processes(1).build().unwrap();
    in_time(pool.apply(block, 300)).await.unwrap();
    let is_blocked = |event: &aiopool::view::EventView| event.kind == Kind::Blocked;
    assert!(!pool.snapshot().events.iter().any(is_blocked));
}

#[tokio::test]
async fn an_observer_that_reads_nothing_holds_up_neither_the_pool_nor_its_end() {
    let pool = Pool::builder().name("stalled").processes(2).build().unwrap();
    let address = named("stalled").unwrap();
    let mut observers: Vec<_> = (0..16).map(|_| address.connect().unwrap()).collect();
    observers.iter_mut().for_each(|observer| drop(observer.ask().unwrap()));
    let refused = address.ask().unwrap_err().to_string();
    assert!(refused.contains("as many observers as it takes"), "{refused}");
    let path = socket_of("stalled");
    drop(observers.pop());
    let stalled = UnixStream::connect(path).unwrap();
    (&stalled).write_all(&b"snapshot\n".repeat(100)).unwrap();
    in_time(pool.map(double, 0..1000)).await.unwrap();
    drop(pool);
    assert!(observers[0].ask().is_err());
}

#[tokio::test]
async fn observers_that_come_again_are_answered() {
    let built = |n| Pool::builder().name(format!("again-{n}")).processes(1).build().unwrap();
    let pools: Vec<Pool> = (0..16).map(built).collect();
    let answers = |n| named(&format!("again-{n}")).unwrap().ask().is_ok();
    for _ in 0..3 {
        // At once, so that the threads that answered end at once, each when it is not its turn.
        for n in 0..pools.len() {
            until(|| answers(n)).await;
        }
        // They stay for two seconds after the last observer.
        tokio::time::sleep(Duration::from_millis(2_300)).await;
    }
    drop(pools);
}

#[tokio::test]
async fn names_and_texts_of_a_user_are_escaped() {
    async fn nasty(_: u64) -> Result<u64, String> {
        Err("\u{1b}[2J\u{202e}\"</script>\n".to_owned())
    }
    let pool = Pool::builder().name("escaped").processes(1).build().unwrap();
    in_time(pool.try_apply(nasty, 1)).await.unwrap_err();
    let text = named("escaped").unwrap().ask().unwrap();
    assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    let _: Snapshot = serde_json::from_str(&text).unwrap();
}
