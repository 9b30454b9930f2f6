//! Signals without end, in the host, the zygote and the workers: no call that is interrupted is
//! taken for one that failed.
#![allow(unsafe_code)] // installs handlers and sends signals to threads

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::rig::{alone, double, kill, length, nap, own, pid, settles, until, works};
use aiopool::{Pool, TaskOptions};

static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

/// Has `signal` interrupt system calls: a handler without `SA_RESTART`.
fn interrupt_by(signal: libc::c_int) {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as *const () as libc::sighandler_t;
    // SAFETY: the handler only adds to an atomic.
    assert_eq!(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) }, 0);
}

/// Runs `body` while `shower` is called without end by another thread.
fn under(shower: impl Fn() + Send + 'static, body: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                shower();
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    body();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

/// A bit of everything, all of it right: small and large tasks, naps, a map, deaths, recycles.
fn mixed_load() {
    let options = TaskOptions::new().retries(100).timeout(Duration::from_secs(100));
    for round in 0..3_u64 {
        let pool = Pool::builder().processes(2).max_tasks_per_child(200).build().unwrap();
        let victim = pool.with(options).apply(pid, 0).wait().unwrap();
        let small: Vec<_> = (0..500).map(|x| pool.with(options).apply(double, x)).collect();
        let naps: Vec<_> = (0..20).map(|ms| pool.with(options).apply(nap, ms)).collect();
        // Taking memory for these can be interrupted, too.
        let large = vec![round as u8; 4 << 20];
        let echo = pool.with(options).apply(length, large.clone());
        kill(victim, libc::SIGKILL);
        let mapped = aiopool::block_on(async { pool.with(options).map(double, 0..500).await });
        assert_eq!(mapped.unwrap(), (0..500).map(|x| 2 * x).collect::<Vec<_>>());
        for (x, task) in small.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), 2 * x as u64);
        }
        for (ms, task) in naps.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), ms as u64);
        }
        assert_eq!(echo.wait().unwrap(), large);
        settles(&pool);
        pool.close();
        pool.join_blocking().unwrap();
    }
}

#[test]
fn every_thread_of_the_host_is_interrupted_all_the_time() {
    alone("every_thread_of_the_host_is_interrupted_all_the_time", || {
        interrupt_by(libc::SIGUSR1);
        interrupt_by(libc::SIGALRM);
        let every = libc::timeval { tv_sec: 0, tv_usec: 300 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: the timer is initialised; the old one is not asked for.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);
        let shower = || {
            // SAFETY: takes no arguments.
            let own = unsafe { libc::gettid() };
            for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let thread: i32 = thread.file_name().to_str().unwrap().parse().unwrap();
                if thread != own {
                    // SAFETY: takes numbers; a thread that has ended is an error, and nothing else.
                    unsafe {
                        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1)
                    };
                }
            }
        };
        // Until there was a storm.
        under(shower, || {
            while CAUGHT.load(Ordering::Relaxed) < 1000 {
                mixed_load();
            }
        });
    });
}

#[test]
fn zygote_and_workers_are_stopped_and_continued_all_the_time() {
    alone("zygote_and_workers_are_stopped_and_continued_all_the_time", || {
        // What waits in poll or epoll is interrupted by that, handler or not. The other signals
        // are those that these processes ignore, or that do nothing by default.
        static ROUNDS: AtomicU64 = AtomicU64::new(0);
        let shower = || {
            ROUNDS.fetch_add(1, Ordering::Relaxed);
            for pid in own("aiopool") {
                kill(pid, libc::SIGSTOP);
                for signal in [libc::SIGINT, libc::SIGPIPE, libc::SIGWINCH, libc::SIGURG] {
                    kill(pid, signal);
                }
                kill(pid, libc::SIGCONT);
            }
            own("aiopool-zygote").into_iter().for_each(|pid| kill(pid, libc::SIGHUP));
        };
        // Until there was a storm.
        under(shower, || {
            while ROUNDS.load(Ordering::Relaxed) < 10 {
                mixed_load();
            }
        });
    });
}

/// Leaves a handler and a timer behind, by which every later wait of the worker is interrupted.
async fn leave_a_handler(_: u64) -> u64 {
    interrupt_by(libc::SIGALRM);
    let every = libc::timeval { tv_sec: 0, tv_usec: 200 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the timer is initialised; the old one is not asked for.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    set as u64
}

async fn caught(_: u64) -> u64 {
    CAUGHT.load(Ordering::Relaxed)
}

async fn caught_mask(_: u64) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap().to_owned()
}

#[test]
fn a_handler_that_a_task_leaves_behind() {
    alone("a_handler_that_a_task_leaves_behind", || {
        let pool = Pool::builder().processes(1).build().unwrap();
        let clean = pool.apply(caught_mask, 0).wait().unwrap();
        let first = pool.apply(pid, 0).wait().unwrap();
        assert_eq!(pool.apply(leave_a_handler, 0).wait().unwrap(), 0);
        for ms in 0..10 {
            assert_eq!(pool.apply(nap, ms).wait().unwrap(), ms);
            works(&pool);
        }
        until("signals in the worker", || pool.apply(caught, 0).wait().unwrap() > 100);
        assert_eq!(pool.apply(pid, 0).wait().unwrap(), first, "the worker died of it");
        // It is that worker's alone: its replacement starts as the first one did.
        kill(first, libc::SIGKILL);
        until("another worker", || {
            pool.with(TaskOptions::new().retries(9)).apply(pid, 0).wait().unwrap() != first
        });
        assert_eq!(pool.apply(caught_mask, 0).wait().unwrap(), clean);
        assert_eq!(pool.apply(caught, 0).wait().unwrap(), 0);
    });
}
