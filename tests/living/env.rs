//! What the machine lacks is an error that names it, and never a signal.
#![allow(unsafe_code)] // system calls

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use aiopool::Pool;

use crate::alone;

/// Names the case in the environment of the process that runs it.
const CASE: &str = "AIOPOOL_LIVING_ENV";

/// Runs `body` in a process of its own, which `sh` prepares with `setup` in a mount namespace of
/// its own; gives what it printed, errors last. The name is that of the calling test.
fn alone_after(test: &str, setup: &str, body: impl FnOnce()) -> String {
    if std::env::var(CASE).is_ok_and(|case| case == test) {
        body();
        std::process::exit(0);
    }
    let run = "exec \"$0\" --nocapture --test-threads=1 --exact \"$1\"";
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-ec"])
        .arg(format!("mount -t proc proc /proc\n{setup}\n{run}"))
        .arg(std::env::current_exe().unwrap())
        .arg(format!("env::{test}"))
        .env(CASE, test)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{test}: {}\n{said}\n{errors}", child.status);
    said + &errors
}

async fn square(x: u32) -> u32 {
    x * x
}

#[cfg(feature = "stats-page")]
#[test]
fn a_full_dev_shm_is_an_error_that_names_it() {
    let setup = "mount -t tmpfs -o size=4k tmpfs /dev/shm; head -c 4096 /dev/zero >/dev/shm/full";
    let said = alone_after("a_full_dev_shm_is_an_error_that_names_it", setup, || {
        let refused = Pool::builder().processes(1).stats_page("living-env").build().unwrap_err();
        println!("{refused}");
        // The page that could not be is gone, and a pool without one is fine.
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 1);
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
    });
    assert!(said.contains("stats page") && said.contains("/dev/shm"), "{said}");
}

#[test]
fn a_proc_of_processes_only_is_enough() {
    let setup = "mount -t proc -o subset=pid proc /proc";
    alone_after("a_proc_of_processes_only_is_enough", setup, || {
        assert!(!std::path::Path::new("/proc/meminfo").exists(), "the test tests nothing");
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
        // What it tells of its workers is there all the same.
        let worker = &pool.snapshot().workers[0];
        assert!(worker.rss_bytes > Some(0) && worker.cpu_ns > Some(0), "{worker:?}");
    });
}

#[test]
fn a_pool_that_no_observer_can_find_runs_and_says_so_once() {
    let setup = "export XDG_RUNTIME_DIR=/proc/none; mkdir -p /tmp; \
        mount -t tmpfs -o ro tmpfs /tmp";
    let test = "a_pool_that_no_observer_can_find_runs_and_says_so_once";
    let said = alone_after(test, setup, || {
        for _ in 0..2 {
            let pool = Pool::builder().processes(1).name("unseen").build().unwrap();
            assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
            assert!(aiopool::view::pools().is_empty());
            assert_eq!(pool.snapshot().pool.stats.ok, 1);
        }
    });
    let lines: Vec<_> = said.lines().filter(|line| line.contains("cannot see it")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("/tmp/aiopool-") && lines[0].contains("/proc/none"), "{said}");
}

#[test]
fn without_proc_the_error_names_it() {
    let setup = "mount -t tmpfs tmpfs /proc";
    let said = alone_after("without_proc_the_error_names_it", setup, || {
        println!("{}", Pool::builder().processes(1).build().unwrap_err());
    });
    assert!(said.contains("/proc") && !said.contains("input_arena"), "{said}");
}

/// Lowers a limit of this process; its number is of another type in glibc than in musl.
fn limit(what: impl TryInto<libc::c_int, Error: std::fmt::Debug>, to: u64) {
    let what = what.try_into().unwrap();
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: the pointer is to a limit that lives during the call.
    assert_eq!(unsafe { libc::setrlimit(what as _, &limit) }, 0);
}

#[test]
fn without_a_descriptor_left_the_error_names_the_limit() {
    let said = alone("env::without_a_descriptor_left_the_error_names_the_limit", || {
        let _open: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        limit(libc::RLIMIT_NOFILE, 64);
        println!("{}", Pool::builder().processes(1).build().unwrap_err());
    });
    assert!(said.contains("RLIMIT_NOFILE") && !said.contains("mount"), "{said}");
}

#[test]
fn without_address_space_the_error_names_the_limit() {
    let said = alone("env::without_address_space_the_error_names_the_limit", || {
        limit(libc::RLIMIT_AS, 200_000_000);
        println!("{}", Pool::builder().processes(1).build().unwrap_err());
    });
    assert!(said.contains("RLIMIT_AS"), "{said}");
}

#[test]
fn what_a_host_without_standard_descriptors_prints_is_not_in_the_pool() {
    alone("env::what_a_host_without_standard_descriptors_prints_is_not_in_the_pool", || {
        // SAFETY: takes a number only; nothing here uses what had these.
        (0..3).for_each(|number| assert_eq!(unsafe { libc::close(number) }, 0));
        let pool = Pool::builder().processes(2).build().unwrap();
        for number in 0..3 {
            let file = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
            assert_eq!(file.as_os_str(), "/dev/null");
        }
        assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
    });
}

#[test]
fn a_stack_that_is_too_small_is_named_by_the_error() {
    let said = alone("env::a_stack_that_is_too_small_is_named_by_the_error", || {
        limit(libc::RLIMIT_STACK, 128 << 10);
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
        drop(pool);
        limit(libc::RLIMIT_STACK, 16 << 10);
        println!("{}", Pool::builder().processes(1).build().unwrap_err());
    });
    assert!(said.contains("RLIMIT_STACK"), "{said}");
}

#[test]
fn without_a_process_left_the_error_names_the_limits() {
    let said = alone("env::without_a_process_left_the_error_names_the_limits", || {
        // The system counts no processes of root's. This user has one: this process.
        // SAFETY: takes a number only.
        let is_root = unsafe { libc::geteuid() } == 0;
        // SAFETY: takes a number only.
        assert!(!is_root || unsafe { libc::setuid(54_321) } == 0);
        limit(libc::RLIMIT_NPROC, 1);
        println!("{}", Pool::builder().processes(1).build().unwrap_err());
    });
    assert!(said.contains("RLIMIT_NPROC") && said.contains("pids limit"), "{said}");
}

#[test]
fn without_dev_null_the_error_names_it() {
    let setup = "mount -t tmpfs tmpfs /dev";
    let said = alone_after("without_dev_null_the_error_names_it", setup, || {
        println!("{}", Pool::builder().processes(1).build().unwrap_err());
    });
    assert!(said.contains("/dev/null"), "{said}");
}

#[test]
fn a_working_directory_that_something_was_mounted_over_is_the_workers_too() {
    let test = "a_working_directory_that_something_was_mounted_over_is_the_workers_too";
    // A path there leads into what is mounted now, which is empty.
    let setup = "mkdir -p /tmp/aiopool-shadowed/inner; cd /tmp/aiopool-shadowed; \
        mount -t tmpfs tmpfs /tmp/aiopool-shadowed";
    alone_after(test, setup, || {
        async fn has(name: String) -> bool {
            std::path::Path::new(&name).exists()
        }
        assert!(!std::path::Path::new("/tmp/aiopool-shadowed/inner").exists());
        let pool = Pool::builder().processes(1).build().unwrap();
        assert!(pool.apply(has, "inner".to_owned()).wait().unwrap());
    });
}

#[test]
fn without_a_home_and_on_a_read_only_root_all_is_well() {
    let setup = "unset HOME XDG_RUNTIME_DIR TMPDIR; mount --rbind / /mnt; \
        mount -o remount,bind,ro /mnt; exec chroot /mnt \"$0\" --nocapture --test-threads=1 --exact \"$1\"";
    alone_after("without_a_home_and_on_a_read_only_root_all_is_well", setup, || {
        assert!(File::create("/tmp/aiopool-read-only").is_err(), "the test tests nothing");
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
    });
}

#[test]
fn a_daemonizer_that_closes_all_descriptors_keeps_its_own_files() {
    let setup = "";
    alone_after("a_daemonizer_that_closes_all_descriptors_keeps_its_own_files", setup, || {
        for idle in [true, false] {
            let pool = Pool::builder().processes(1).build().unwrap();
            assert_eq!(pool.apply(square, 3).wait().unwrap(), 9);
            if idle {
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
            // SAFETY: takes no pointers; that the pool's descriptors are among them is the test.
            assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
            let folder = std::env::temp_dir();
            let name = format!("aiopool-daemon-{}", std::process::id());
            let files: Vec<File> = (0..40)
                .map(|_| {
                    let path = folder.join(&name);
                    let mut options = File::options();
                    options.create(true).truncate(true).read(true).write(true);
                    let file = options.open(&path).unwrap();
                    std::fs::remove_file(path).unwrap();
                    file
                })
                .collect();
            // Until its fork server has gone with its line, an awake worker may still serve a task.
            let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let refused = loop {
                match pool.apply(square, 4).wait() {
                    Ok(value) => assert_eq!(value, 16),
                    Err(error) => break error.to_string(),
                }
                assert!(std::time::Instant::now() < end, "the pool does not notice");
            };
            let later = pool.apply(square, 5).wait().unwrap_err().to_string();
            assert!(later.contains("daemons"), "{refused}; {later}");
            drop(pool);
            for file in &files {
                // SAFETY: takes no pointers.
                let open = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) } >= 0;
                assert!(open, "{file:?} was closed");
                assert_eq!(file.metadata().unwrap().len(), 0, "{file:?} was written to");
            }
            // The next one has a fork server of its own.
            let pool = Pool::builder().processes(1).build().unwrap();
            assert_eq!(pool.apply(square, 6).wait().unwrap(), 36);
            drop(pool);
        }
    });
}
