//! Whatever runtime the host's futures are polled in: with I/O and timers or without, one or many,
//! one after the other.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aiopool::{Pool, TaskOptions};
use tokio::runtime::{Builder, Runtime};

use super::alone;

/// Far longer than any of these tests takes on a loaded machine.
const WATCHDOG: Duration = Duration::from_secs(120);

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

async fn double(x: u64) -> u64 {
    2 * x
}

/// Runs `body` in a thread, which it must leave in time.
fn in_time(body: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    let left = is_done.recv_timeout(WATCHDOG);
    assert_ne!(left, Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap();
}

/// Panics of which a hook has heard that the program set before its first pool. One that it sets
/// later stands before the library's and hears of the answers that tokio gives as panics.
fn count_panics() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.to_string().contains("IO is disabled") {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
    });
    &PANICS
}

/// Waits in every way that a host has.
async fn use_all(pool: &Pool) {
    for ms in [0, 1, 20] {
        assert_eq!(pool.apply(nap, ms).await.unwrap(), ms);
    }
    let doubled = pool.map(double, 0..500).await.unwrap();
    assert_eq!(doubled, (0..500).map(|x| 2 * x).collect::<Vec<_>>());
    let naps = pool.map(nap, [30, 1, 20]).as_completed().results().await;
    assert!(naps.iter().all(Result::is_ok), "{naps:?}");
    let submitted = pool.apply(nap, 5).submitted().await.unwrap();
    assert_eq!(submitted.await.unwrap(), 5);
    let short = TaskOptions::new().timeout(Duration::from_millis(50));
    assert!(pool.with(short).apply(nap, 100_000).await.is_err());
}

#[test]
fn a_runtime_without_io_and_without_time_works_and_nothing_panics() {
    alone("runtimes::a_runtime_without_io_and_without_time_works_and_nothing_panics", || {
        let panics = count_panics();
        type Make = fn() -> Builder;
        let makes: [Make; 4] = [
            Builder::new_current_thread,
            Builder::new_multi_thread,
            || {
                let mut builder = Builder::new_current_thread();
                builder.enable_time();
                builder
            },
            || {
                let mut builder = Builder::new_current_thread();
                builder.enable_io();
                builder
            },
        ];
        for make in makes {
            in_time(move || {
                let pool = Pool::builder().processes(1).build().unwrap();
                let runtime = make().build().unwrap();
                runtime.block_on(use_all(&pool));
                runtime.block_on(async {
                    assert!(pool.drain(WATCHDOG).await);
                    pool.join().await.unwrap();
                });
            });
        }
        assert_eq!(panics.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_pool_is_used_from_several_runtimes_at_once() {
    alone("runtimes::a_pool_is_used_from_several_runtimes_at_once", || {
        let panics = count_panics();
        in_time(|| {
            let pool = Pool::builder().processes(2).build().unwrap();
            std::thread::scope(|scope| {
                for kind in 0..6 {
                    let pool = &pool;
                    scope.spawn(move || {
                        let runtime = match kind % 3 {
                            0 => Builder::new_current_thread().enable_all().build(),
                            1 => Builder::new_current_thread().build(),
                            _ => Builder::new_multi_thread().worker_threads(1).enable_all().build(),
                        };
                        let runtime = runtime.unwrap();
                        (0..5).for_each(|_| runtime.block_on(use_all(pool)));
                    });
                }
            });
        });
        assert_eq!(panics.load(Ordering::Relaxed), 0);
    });
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn runtimes_come_and_go_and_the_pool_stays() {
    in_time(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        for _ in 0..20 {
            single().block_on(use_all(&pool));
        }
        // A task that is polled in one runtime, which is dropped, and finished in another one, or
        // without any.
        for _ in 0..5 {
            for finish in [|task| single().block_on(task), aiopool::Task::<u64>::wait] {
                let mut task = pool.apply(nap, 500);
                let runtime = single();
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        _ = &mut task => panic!("it is not over yet"),
                        () = std::future::ready(()) => {}
                    }
                });
                drop(runtime);
                assert_eq!(finish(task).unwrap(), 500);
            }
        }
        // While tasks of a stream are out.
        let mut map = pool.map(nap, (0..40).map(|n| n % 7));
        for n in 0..40 {
            assert_eq!(single().block_on(map.next()).unwrap().unwrap(), n % 7);
        }
    });
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_runtime_that_is_entered_and_that_no_thread_drives_holds_nothing_up() {
    in_time(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let runtime = single();
        let _entered = runtime.enter();
        let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
        for ms in [0, 10, 100] {
            let mut task = pin!(pool.apply(nap, ms));
            let value = loop {
                match task.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(value) => break value,
                    Poll::Pending => std::thread::park(),
                }
            };
            assert_eq!(value.unwrap(), ms);
        }
    });
}
