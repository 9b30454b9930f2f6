//! What the system has no more of: descriptors, memory, processes. A pool that cannot be is an
//! error that says what to do; one that is there goes on as soon as it can.
#![allow(unsafe_code)] // sets limits

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::rig::{
    alone, alone_as, answer, double, impossible, kill, lost, nap, pid, until, works, zygotes,
};
use aiopool::{Error, Pool, TaskError, TaskOptions};

/// Lowers this process's own limit; its number is of another type in glibc than in musl.
fn limit(resource: impl TryInto<libc::c_int, Error: std::fmt::Debug>, most: u64) {
    let resource = resource.try_into().unwrap();
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is writable.
    assert_eq!(unsafe { libc::getrlimit(resource as _, &mut now) }, 0);
    now.rlim_cur = most;
    // SAFETY: `now` is initialised.
    assert_eq!(unsafe { libc::setrlimit(resource as _, &now) }, 0);
}

/// Every descriptor there is.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn too_few_descriptors_are_an_error_at_build() {
    alone("too_few_descriptors_are_an_error_at_build", || {
        limit(libc::RLIMIT_NOFILE, 64);
        let refused = Pool::builder().processes(40).build().unwrap_err();
        assert!(refused.to_string().contains("RLIMIT_NOFILE"), "{refused}");
        // Whatever is left, from nothing to nearly enough: an error that says why, or a pool.
        let mut taken = take_all();
        let (mut refusals, mut built) = (0, 0);
        while !taken.is_empty() {
            match Pool::builder().processes(2).build() {
                Ok(pool) => {
                    built += 1;
                    works(&pool);
                }
                Err(error) => {
                    refusals += 1;
                    let text = error.to_string();
                    let told = ["RLIMIT_NOFILE", "Too many open files", "os error 24"];
                    assert!(told.iter().any(|word| text.contains(word)), "{text}");
                }
            }
            taken.truncate(taken.len() - 1);
            if built == 3 {
                break;
            }
        }
        assert!(refusals > 3 && built == 3, "{refusals} refused, {built} built");
        works(&Pool::builder().processes(1).build().unwrap());
    });
}

#[test]
fn descriptors_that_run_out_in_the_middle() {
    alone("descriptors_that_run_out_in_the_middle", || {
        limit(libc::RLIMIT_NOFILE, 256);
        let pool = Pool::builder().processes(2).build().unwrap();
        let tasks: Vec<_> = (0..50).map(|ms| pool.apply(nap, ms)).collect();
        let victims = pool.worker_pids();
        assert_eq!(victims.len(), 2);
        let taken = take_all();
        works(&pool);
        // A death that cannot be replaced for now: what ran is lost, the other worker goes on, and
        // when there are descriptors again, there are two again.
        let patient = TaskOptions::new().retries(50);
        kill(victims[0], libc::SIGKILL);
        for (ms, task) in tasks.into_iter().enumerate() {
            let ended = task.wait();
            assert!(matches!(ended, Ok(n) if n == ms as u64) || lost(ended).task < 100);
        }
        for x in 0..50 {
            assert_eq!(pool.with(patient).apply(double, x).wait().unwrap(), 2 * x);
        }
        // Longer than all the pauses between tries together.
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(pool.with(patient).apply(double, 4).wait().unwrap(), 8);
        drop(taken);
        until("both workers to be there again", || pool.stats().workers == 2);
        works(&pool);
    });
}

#[test]
fn no_memory_for_regions_is_an_error_at_build() {
    for (call, errno) in [
        (libc::SYS_memfd_create, libc::ENOMEM),
        (libc::SYS_ftruncate, libc::ENOSPC),
        (libc::SYS_fallocate, libc::ENOSPC),
        (libc::SYS_fallocate, libc::ENOMEM),
        (libc::SYS_eventfd2, libc::ENFILE),
    ] {
        let case = format!("{call} {errno}");
        alone_as("no_memory_for_regions_is_an_error_at_build", &case, || {
            // A zygote that works, and a pool that does not mind.
            let pool = Pool::builder().processes(1).build().unwrap();
            works(&pool);
            if let Err(error) = answer(&[call], errno) {
                return impossible("system calls that fail", error);
            }
            let refused = Pool::builder().processes(1).build().unwrap_err();
            let text = refused.to_string();
            assert!(matches!(refused, Error::System { .. }), "{text}");
            let errno = std::io::Error::from_raw_os_error(errno).to_string();
            assert!(text.contains(&errno) && text.contains("cannot create"), "{text}");
            (0..50).for_each(|x| assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x));
        });
    }
}

#[test]
fn limits_of_the_host_itself_are_errors_at_build() {
    let test = "limits_of_the_host_itself_are_errors_at_build";
    // Exceeding this one is a signal, of which no process may die.
    alone_as(test, "file size", || {
        let pool = Pool::builder().processes(1).build().unwrap();
        // More than a small pool's regions, of which room for timelines is the largest part; less
        // than the arenas of a pool with the default options.
        limit(libc::RLIMIT_FSIZE, 32 << 20);
        let refused = Pool::builder().processes(1).build().unwrap_err().to_string();
        assert!(refused.contains("ulimit -f"), "{refused}");
        works(&pool);
        let small = Pool::builder().processes(1).capacity(16).max_payload(1 << 10).build();
        works_small(&small.unwrap());
    });
    alone_as(test, "address space", || {
        let pool = Pool::builder().processes(1).build().unwrap();
        limit(libc::RLIMIT_AS, 1 << 20);
        let refused = Pool::builder().processes(1).build().unwrap_err().to_string();
        assert!(refused.contains("memory"), "{refused}");
        (0..50).for_each(|x| assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x));
    });
}

/// A pool with room for small inputs and sixteen tasks.
fn works_small(pool: &Pool) {
    for x in 0..50 {
        assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x);
    }
}

async fn blob(len: u64) -> Vec<u8> {
    vec![9; len as usize]
}

#[test]
fn inputs_without_memory_are_errors_of_their_tasks() {
    alone("inputs_without_memory_are_errors_of_their_tasks", || {
        // The filter is the host's alone: its zygote was there before.
        let pool = Pool::builder().processes(1).build().unwrap();
        works(&pool);
        if let Err(error) = answer(&[libc::SYS_fallocate], libc::ENOSPC) {
            return impossible("system calls that fail", error);
        }
        let large = vec![1; 8 << 20];
        let refused = pool.apply(crate::rig::length, large).wait().unwrap_err();
        assert!(matches!(refused, TaskError::NotSubmitted(_)), "{refused:?}");
        assert!(refused.to_string().contains("No space left"), "{refused}");
        assert_eq!(pool.apply(blob, 8 << 20).wait().unwrap().len(), 8 << 20);
        (0..50).for_each(|x| assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x));
        crate::rig::settles(&pool);
    });
}

#[test]
fn outputs_without_memory_are_errors_of_their_tasks() {
    alone("outputs_without_memory_are_errors_of_their_tasks", || {
        async fn deny(_: u64) -> bool {
            answer(&[libc::SYS_fallocate], libc::ENOSPC).is_ok()
        }
        let pool = Pool::builder().processes(1).build().unwrap();
        assert!(pool.apply(deny, 0).wait().unwrap());
        let ended = pool.apply(blob, 8 << 20).wait().unwrap_err();
        assert!(matches!(ended, TaskError::OutputSpace(_)), "{ended:?}");
        assert!(ended.to_string().contains("No space left"), "{ended}");
        assert_eq!(pool.apply(crate::rig::length, vec![1; 100]).wait().unwrap().len(), 100);
        (0..50).for_each(|x| assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x));
        crate::rig::settles(&pool);
    });
}

/// A control group of this test, version 1 or 2, removed with it.
struct Group(PathBuf);

impl Group {
    /// With `settings`, files' names in either version and their contents.
    fn new(controller: &str, settings: &[(&str, &str, String)]) -> Result<Self, String> {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, one) = match root.join(controller) {
            one if one.is_dir() => (one, true),
            _ => (root.to_owned(), false),
        };
        let group = Self(parent.join(format!("aiopool-test-{}", std::process::id())));
        let said = |what: String| move |error: std::io::Error| format!("{what}: {error}");
        std::fs::create_dir(&group.0).map_err(said(group.0.display().to_string()))?;
        for (name_in_1, name_in_2, value) in settings {
            let name = if one { name_in_1 } else { name_in_2 };
            std::fs::write(group.0.join(name), value).map_err(said((*name).to_owned()))?;
        }
        Ok(group)
    }

    /// Moves a process into it.
    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        until("the control group to be empty", || {
            let inside = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
            inside.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| kill(pid, 9));
            std::fs::remove_dir(&self.0).is_ok()
        });
    }
}

#[test]
fn fork_that_answers_eagain() {
    alone("fork_that_answers_eagain", || {
        let most = |n: u64| vec![("pids.max", "pids.max", n.to_string())];
        let group = match Group::new("pids", &most(3)) {
            Ok(group) => group,
            Err(error) => return impossible("a limit on processes", error),
        };
        // The zygote and two workers fit, and no more.
        let pool = Pool::builder().processes(2).build().unwrap();
        let zygote = zygotes();
        zygote.iter().chain(&pool.worker_pids()).for_each(|&pid| group.take(pid));
        let refused = Pool::builder().processes(1).build().unwrap_err();
        assert!(refused.to_string().contains("pids limit"), "{refused}");
        works(&pool);
        // One dies, and there is no place for another; later there is.
        std::fs::write(group.0.join("pids.max"), "2").unwrap();
        kill(pool.worker_pids()[0], libc::SIGKILL);
        let patient = TaskOptions::new().retries(50);
        for x in 0..50 {
            assert_eq!(pool.with(patient).apply(double, x).wait().unwrap(), 2 * x);
        }
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(pool.stats().workers, 1);
        std::fs::write(group.0.join("pids.max"), "max").unwrap();
        until("both workers to be there again", || pool.stats().workers == 2);
        works(&pool);
        drop(pool);
    });
}

/// Takes memory and uses it, which a control group may not have.
async fn eat(bytes: u64) -> u64 {
    let mut all = Vec::new();
    for _ in 0..bytes >> 20 {
        all.push(vec![1_u8; 1 << 20]);
    }
    all.len() as u64
}

#[test]
fn an_out_of_memory_kill_is_named() {
    alone("an_out_of_memory_kill_is_named", || {
        let most = ("memory.limit_in_bytes", "memory.max", (256_u64 << 20).to_string());
        let group = match Group::new("memory", &[most]) {
            Ok(group) => group,
            Err(error) => return impossible("a limit on memory", error),
        };
        let small = Pool::builder().processes(2).child_concurrency(2).max_payload(1 << 20);
        let pool = small.build().unwrap();
        let workers = pool.worker_pids();
        zygotes().iter().chain(&workers).for_each(|&pid| group.take(pid));
        let neighbours: Vec<_> = (0..4).map(|_| pool.apply(nap, 50)).collect();
        for _ in 0..2 {
            let lost = lost(pool.apply(eat, 1 << 30).wait());
            assert_eq!(lost.exit, aiopool::WorkerExit::OutOfMemory, "{lost}");
            assert!(lost.to_string().contains("memory ran out"), "{lost}");
            // The workers are chosen before the zygote and the host.
            assert_eq!(zygotes().len(), 1);
            works(&pool);
        }
        for task in neighbours {
            let ended = task.wait();
            assert!(matches!(ended, Ok(50) | Err(TaskError::WorkerLost(_))), "{ended:?}");
        }
        drop(pool);
    });
}

#[test]
fn sixty_four_workers_on_two_cores() {
    alone("sixty_four_workers_on_two_cores", || {
        let pool = Pool::builder().processes(64).queues(2).build().unwrap();
        let patient = TaskOptions::new().retries(50);
        for round in 0..3 {
            let tasks: Vec<_> = (0..2000).map(|x| pool.with(patient).apply(double, x)).collect();
            let naps: Vec<_> = (0..200).map(|_| pool.with(patient).apply(nap, 20)).collect();
            for victim in pool.worker_pids().iter().skip(round).step_by(5) {
                kill(*victim, libc::SIGKILL);
            }
            for (x, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.wait().unwrap(), 2 * x as u64);
            }
            naps.into_iter().for_each(|task| assert_eq!(task.wait().unwrap(), 20));
        }
        until("all workers to be there again", || pool.stats().workers == 64);
        let pids: std::collections::BTreeSet<u32> =
            (0..500).map(|_| pool.apply(pid, 0)).map(|task| task.wait().unwrap()).collect();
        assert!(!pids.is_empty());
        let stats = pool.stats();
        assert_eq!(stats.submitted, stats.ok, "{stats:?}");
    });
}
