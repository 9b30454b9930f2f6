//! An end is an end: what is left of a pool that was dropped, and how its workers leave.
#![allow(unsafe_code)] // system calls

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aiopool::Pool;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::alone;

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Waits for `folder` to have `count` entries: the kernel lists a thread for a moment after its end.
fn await_entries(folder: &str, count: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while entries(folder) != count {
        assert!(Instant::now() < end, "{} in {folder}, not {count}", entries(folder));
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn same(x: u32) -> u32 {
    x
}

#[test]
fn after_a_drop_no_thread_and_no_descriptor_is_left() {
    alone("end::after_a_drop_no_thread_and_no_descriptor_is_left", || {
        // The line to the fork server stays.
        drop(Pool::builder().processes(1).build().unwrap());
        let before = (entries("/proc/self/task"), entries("/proc/self/fd"));
        for round in 0..100 {
            let pool = Pool::builder().processes(1).build().unwrap();
            if round % 2 == 0 {
                assert_eq!(pool.apply(same, round).wait().unwrap(), round);
            }
            if round % 3 == 0 {
                pool.close();
                pool.join_blocking().unwrap();
                await_entries("/proc/self/task", before.0);
            }
            drop(pool);
            await_entries("/proc/self/task", before.0);
            assert_eq!(entries("/proc/self/fd"), before.1, "descriptors in round {round}");
        }
        aiopool::block_on(async {
            let before = entries("/proc/self/task");
            let pool = Pool::builder().processes(1).build().unwrap();
            pool.close();
            pool.join().await.unwrap();
            await_entries("/proc/self/task", before);
        });
    });
}

#[test]
fn the_descriptors_of_one_pool_are_enough_for_one_after_the_other() {
    alone("end::the_descriptors_of_one_pool_are_enough_for_one_after_the_other", || {
        drop(Pool::builder().processes(1).build().unwrap());
        // A pool asks for 19 more, and what it did not give back would not be there for the next.
        let needed = entries("/proc/self/fd") as libc::rlim_t + 22;
        let limit = libc::rlimit { rlim_cur: needed, rlim_max: needed };
        // SAFETY: the call reads a limit that is there.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        for round in 0..20 {
            let pool = Pool::builder().processes(1).build();
            drop(pool.unwrap_or_else(|error| panic!("round {round}: {error}")));
        }
    });
}

/// Keeps what the library warns of.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }
}

async fn dies(_: ()) {
    std::process::abort();
}

#[test]
fn an_ordinary_end_is_nothing_to_warn_of() {
    alone("end::an_ordinary_end_is_nothing_to_warn_of", || {
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.clone());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        for round in 0..12 {
            // A worker that takes its time is killed after the grace period, with a warning.
            let builder = Pool::builder().processes(2).grace(Duration::from_secs(60));
            let pool = builder.build().unwrap();
            assert_eq!(pool.apply(same, round).wait().unwrap(), round);
            match round % 3 {
                // Dropped, with idle workers.
                0 => {}
                1 => pool.terminate(),
                _ => {
                    pool.close();
                    pool.join_blocking().unwrap();
                }
            }
        }
        assert_eq!(*warnings.0.lock().unwrap(), Vec::<String>::new());
        // It would have heard: a worker that dies by itself is worth a warning.
        let pool = Pool::builder().processes(1).build().unwrap();
        pool.apply(dies, ()).wait().unwrap_err();
        assert!(warnings.0.lock().unwrap().iter().any(|text| text.contains("died")));
    });
}

async fn says_goodbye(place: String) -> Result<(), String> {
    use std::io::Write;
    let file = std::fs::File::options().append(true).create(true).open(place);
    file.and_then(|mut file| writeln!(file, "{}", std::process::id()))
        .map_err(|error| error.to_string())
}

#[test]
fn a_drop_runs_the_exit_hook_in_every_idle_worker() {
    let file = Scratch::new("goodbye");
    for round in 1..=10 {
        let pool = Pool::builder()
            .processes(4)
            .grace(Duration::from_secs(60))
            .exit_hook(says_goodbye, file.path.clone())
            .build()
            .unwrap();
        assert_eq!(pool.apply(same, 1).wait().unwrap(), 1);
        assert_eq!(pool.stats().deaths, 0);
        drop(pool);
        assert_eq!(file.read().lines().count(), 4 * round, "in round {round}");
    }
}

async fn prints(x: u32) {
    // Not a whole line: only an orderly end flushes it.
    print!("task {x};");
}

#[test]
fn what_tasks_printed_arrives_before_the_drop_is_over() {
    let said = alone("end::what_tasks_printed_arrives_before_the_drop_is_over", || {
        for round in 0..20 {
            let pool = Pool::builder().processes(1).build().unwrap();
            pool.apply(prints, round).wait().unwrap();
            drop(pool);
            print!("drop {round};");
        }
    });
    let wanted: String = (0..20).map(|round| format!("task {round};")).collect();
    let tasks: String = said.split_inclusive(';').filter(|part| part.contains("task ")).collect();
    // The harness's own first words stand before the first.
    assert!(tasks.ends_with(&wanted), "{said}");
}

async fn computes(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

#[test]
fn a_worker_that_does_not_leave_is_killed_after_the_grace_period() {
    let grace = Duration::from_millis(100);
    let pool = Pool::builder().processes(1).grace(grace).build().unwrap();
    let task = pool.apply(computes, ());
    let pids = pool.worker_pids();
    drop(pool);
    assert!(!std::path::Path::new(&format!("/proc/{}", pids[0])).exists(), "{pids:?} lives");
    assert!(matches!(task.wait(), Err(aiopool::TaskError::PoolClosed { .. })));
}

/// Moves its worker to another process group, and computes.
async fn moves_away(_: ()) {
    // SAFETY: takes no pointers. The group that the fork server leads is in the same session.
    unsafe { libc::setpgid(0, libc::getppid()) };
    loop {
        std::hint::spin_loop();
    }
}

#[test]
fn a_worker_in_another_process_group_is_killed_too() {
    let pool = Pool::builder().processes(1).grace(Duration::from_millis(100)).build().unwrap();
    let options = aiopool::TaskOptions::new().timeout(Duration::from_millis(100));
    let pids = pool.worker_pids();
    let outcome = pool.with(options).apply(moves_away, ()).wait();
    assert!(matches!(outcome, Err(aiopool::TaskError::TimedOut { .. })), "{outcome:?}");
    // The next task has a new worker, since the old one did not obey.
    assert_eq!(pool.apply(same, 5).wait().unwrap(), 5);
    drop(pool);
    assert!(!std::path::Path::new(&format!("/proc/{}", pids[0])).exists(), "{pids:?} lives");
}

async fn sets_a_hook(_: ()) -> Result<(), String> {
    std::panic::set_hook(Box::new(|_| {}));
    Ok(())
}

async fn panics(replaces: bool) -> u32 {
    if replaces {
        std::panic::set_hook(Box::new(|_| {}));
    }
    panic!("what happened is {}", 1 + 1)
}

#[test]
fn a_panic_hook_of_the_users_hides_no_text() {
    let pool = Pool::builder().processes(1).initializer(sets_a_hook, ()).build().unwrap();
    for replaces in [false, true, false] {
        let error = pool.apply(panics, replaces).wait().unwrap_err();
        assert!(error.to_string().contains("what happened is 2"), "{error}");
    }
}

#[test]
fn a_report_of_an_error_says_each_thing_once() {
    let refused = std::io::Error::other("the cause");
    let error = aiopool::Error::System { what: "do it".to_owned(), error: refused };
    let report = format!("{:#}", anyhow::Error::new(error));
    assert_eq!(report, "cannot do it: the cause");
}

/// A file that is removed with its test.
struct Scratch {
    path: String,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{}", std::process::id()));
        Self { path: path.to_str().unwrap().to_owned() }
    }

    fn read(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
