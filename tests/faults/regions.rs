//! A pool's shared memory has no name and cannot be resized. Only the pool's own processes have it,
//! and each has only its own part.
#![allow(unsafe_code)] // asks for seals

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::{WATCHDOG, alone, length, own, pid, processes, until, works, zygotes};
use aiopool::{Pool, StartMethod};

/// What tells a file from every other: device and inode.
type Identity = (u64, u64);

/// The descriptors of a process: what each shows as, and where to look at it.
fn descriptors(pid: u32) -> Vec<(String, PathBuf)> {
    let Ok(listed) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let listed = listed.flatten().filter_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        Some((link.to_string_lossy().into_owned(), entry.path()))
    });
    listed.collect()
}

/// The regions that a process has a descriptor of, with their names in its listing.
fn regions(pid: u32) -> BTreeMap<Identity, String> {
    let regions = descriptors(pid).into_iter().filter_map(|(link, path)| {
        let name = link.strip_prefix("/memfd:aiopool-")?.trim_end_matches(" (deleted)");
        let data = std::fs::metadata(path).ok()?;
        Some(((data.dev(), data.ino()), name.to_owned()))
    });
    regions.collect()
}

/// The regions that a process has mapped.
fn mapped(pid: u32) -> BTreeMap<Identity, String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let regions = maps.lines().filter_map(|line| {
        let (fields, name) = line.split_once("/memfd:aiopool-")?;
        let mut fields = fields.split_whitespace().skip(3);
        let (major, minor) = fields.next()?.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let device = libc::makedev(number(major)?, number(minor)?);
        let inode = fields.next()?.parse().ok()?;
        Some(((device, inode), name.trim_end_matches(" (deleted)").to_owned()))
    });
    regions.collect()
}

fn seals(path: &PathBuf) -> i32 {
    let file = File::open(path).unwrap();
    // SAFETY: takes no pointers.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) }
}

/// What a descriptor in `/proc` was opened for.
fn mode(path: &Path) -> i32 {
    let (process, number) = (path.parent().unwrap().parent().unwrap(), path.file_name().unwrap());
    let info = std::fs::read_to_string(process.join("fdinfo").join(number)).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_ACCMODE
}

/// Bytes that the system has set aside for the inputs of this process's one pool.
fn memory_of_inputs() -> u64 {
    let of_inputs = |(link, path): (String, PathBuf)| {
        link.starts_with("/memfd:aiopool-requests").then_some(path)
    };
    let path = descriptors(std::process::id()).into_iter().find_map(of_inputs).unwrap();
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Waits until the inputs have no more memory than `most`, if they ever do.
fn await_memory_of_inputs(most: u64) {
    let end = Instant::now() + WATCHDOG;
    while memory_of_inputs() > most {
        assert!(Instant::now() < end, "{} bytes are kept", memory_of_inputs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn memory_of_inputs_goes_back_when_it_was_not_used_for_a_while() {
    alone("memory_of_inputs_goes_back_when_it_was_not_used_for_a_while", || {
        const LARGE: usize = 12 << 20;
        // What an ordinary load uses stays: 16 MiB.
        const KEPT: u64 = 17 << 20;
        let folder = std::env::temp_dir().join(format!("aiopool-inputs-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let input = |letter: u8| String::from_utf8(vec![letter; LARGE]).unwrap();
        let one = Pool::builder().processes(1).child_concurrency(1).input_arena(256 << 20);
        let pool = one.build().unwrap();
        let fill = |name: &str| {
            let held = pool.apply(hold, folder.join(name));
            let calls: Vec<_> = (b'a'..b'g').map(|c| (c, pool.apply(look, input(c)))).collect();
            assert!(memory_of_inputs() > 60 << 20, "they are not where this test looks");
            std::fs::write(folder.join(name), "").unwrap();
            held.wait().unwrap();
            for (letter, call) in calls {
                assert_eq!(call.wait().unwrap(), (LARGE, Some(letter)));
            }
        };
        // Idle, and used again.
        for name in ["first", "second"] {
            fill(name);
            await_memory_of_inputs(KEPT);
        }
        // Small tasks that come and go all the time do not keep it.
        fill("third");
        let end = Instant::now() + WATCHDOG;
        while memory_of_inputs() > KEPT {
            assert!(Instant::now() < end, "{} bytes are kept", memory_of_inputs());
            let small = "z".repeat(100);
            assert_eq!(pool.apply(look, small).wait().unwrap(), (100, Some(b'z')));
        }
        // What waits for its worker stays as it is while memory around it goes back.
        fill("fourth");
        let held = pool.apply(hold, folder.join("last"));
        let waits = pool.apply(look, input(b'w'));
        await_memory_of_inputs(LARGE as u64 + KEPT);
        std::fs::write(folder.join("last"), "").unwrap();
        held.wait().unwrap();
        assert_eq!(waits.wait().unwrap(), (LARGE, Some(b'w')));
        std::fs::remove_dir_all(folder).unwrap();
    });
}

fn names(regions: &BTreeMap<Identity, String>) -> Vec<&str> {
    let mut names: Vec<&str> = regions.values().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Starts a program and leaves it.
#[allow(clippy::zombie_processes)] // the pool's end is its end
async fn start_child(_: u64) -> u32 {
    Command::new("sleep").arg("3600").stdout(Stdio::null()).spawn().unwrap().id()
}

/// Returns how long a text is, and the letter that it consists of.
async fn look(text: String) -> (usize, Option<u8>) {
    let first = text.bytes().next();
    let is_whole = text.bytes().step_by(1000).all(|byte| Some(byte) == first);
    (text.len(), first.filter(|_| is_whole))
}

/// Holds its worker until the file is there.
async fn hold(until: PathBuf) {
    while !until.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check(method: StartMethod) {
    let pool = Pool::builder().processes(4).queues(2).start_method(method.clone());
    let pool = pool.max_payload(4 << 20).build().unwrap();
    let other = Pool::builder().processes(1).max_payload(1 << 20).build().unwrap();
    assert_eq!(pool.apply(length, vec![1; 1 << 20]).wait().unwrap().len(), 1 << 20);
    // Workers that start have not mapped everything.
    pool.ready_blocking().unwrap();
    let zygote = zygotes();
    let stranger = other.apply(pid, 0).wait().unwrap();
    let mut child = Command::new("sleep").arg("3600").stdout(Stdio::null()).spawn().unwrap();
    let grandchild = pool.apply(start_child, 0).wait().unwrap();
    let children = [child.id(), grandchild];
    // The kernel closes what is not for them before it gives them their name.
    until("the children to be executed", || own("sleep").len() == 2);
    let host = std::process::id();
    let is_child = |pid| children.contains(&pid);
    let workers: Vec<u32> = own("")
        .into_iter()
        .filter(|&pid| pid != host && pid != stranger && !zygote.contains(&pid) && !is_child(pid))
        .collect();
    assert_eq!((zygote.len(), workers.len()), (1, 4), "{:?}", own(""));

    // No name, and no way to make one larger or smaller or to seal it against others.
    let mut seen = 0;
    for (link, path) in [host, zygote[0]].iter().chain(&workers).flat_map(|&pid| descriptors(pid)) {
        let Some(name) = link.strip_prefix("/memfd:aiopool-") else { continue };
        assert_eq!(std::fs::metadata(&path).unwrap().nlink(), 0, "{link} has a name");
        let wanted = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        assert_eq!(seals(&path) & wanted, wanted, "{link}");
        if name.starts_with("requests") && !path.starts_with(format!("/proc/{host}")) {
            // Who only reads the inputs cannot write them: neither by the descriptor nor by a
            // mapping that it makes.
            assert_eq!(mode(&path), libc::O_RDONLY, "{link}");
            // Nor do other users get another one by its name there.
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0, "{link}");
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen}");

    // A worker has its queue's control region, the inputs, its own results, and nothing else.
    let mut results = BTreeSet::new();
    for &worker in &workers {
        let (open, mapped) = (regions(worker), mapped(worker));
        assert_eq!(names(&open), ["control", "requests", "results"], "{worker}");
        assert_eq!(open, mapped, "{worker}");
        let own = open.iter().find(|(_, name)| *name == "results").unwrap();
        assert!(results.insert(*own.0), "two workers have one result arena");
    }
    let theirs: BTreeSet<Identity> =
        workers.iter().flat_map(|&pid| regions(pid)).map(|r| r.0).collect();
    assert_eq!(theirs.len(), 2 + 1 + 4);
    let foreign: BTreeSet<Identity> = regions(stranger).into_keys().collect();
    assert!(theirs.is_disjoint(&foreign), "a worker of another pool has regions of this one");

    // No other process on this machine has any, by descriptor or by mapping, not even the children
    // that the host and a task have started.
    let holders = processes(|pid| {
        regions(pid).keys().chain(mapped(pid).keys()).any(|region| theirs.contains(region))
    });
    let holders: BTreeSet<u32> = holders.into_iter().map(|holder| holder.pid).collect();
    let allowed: BTreeSet<u32> = [host, zygote[0]].into_iter().chain(workers).collect();
    assert_eq!(holders, allowed);
    assert!(!is_child(host) && children.iter().all(|&pid| regions(pid).is_empty()));

    // The zygote keeps no result arena, and maps nothing.
    let kept = regions(zygote[0]);
    assert!(names(&kept).iter().all(|name| *name != "results"), "{kept:?}");
    assert!(mapped(zygote[0]).is_empty());
    works(&other);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn regions_are_sealed_nameless_and_the_pools_own() {
    alone("regions_are_sealed_nameless_and_the_pools_own", || {
        check(StartMethod::Fork);
        check(StartMethod::Spawn);
    });
}

#[test]
fn what_a_worker_has_open_has_no_name_either() {
    alone("what_a_worker_has_open_has_no_name_either", || {
        let pool = Pool::builder().processes(1).build().unwrap();
        let worker = pool.apply(pid, 0).wait().unwrap();
        for process in zygotes().into_iter().chain([worker]) {
            for (link, path) in descriptors(process) {
                let number: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                let nameless = ["/memfd:aiopool-", "anon_inode:", "socket:", "pipe:"];
                let stdio = number <= 2;
                // The zygote keeps the host's directories for later workers; they hold no data.
                let directory = process != worker && std::path::Path::new(&link).is_dir();
                assert!(
                    stdio || directory || nameless.iter().any(|kind| link.starts_with(kind)),
                    "{link}"
                );
            }
        }
        // Sockets could have names, too: one in the file system, or an abstract one.
        let named = std::fs::read_to_string("/proc/net/unix").unwrap();
        let inodes: BTreeSet<String> = descriptors(worker)
            .into_iter()
            .chain(zygotes().into_iter().flat_map(descriptors))
            .filter_map(|(link, _)| {
                Some(link.strip_prefix("socket:[")?.trim_end_matches(']').into())
            })
            .collect();
        assert!(!inodes.is_empty());
        for line in named.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(6);
            let (inode, name) = (fields.next().unwrap(), fields.next());
            assert!(name.is_none() || !inodes.contains(inode), "{line}");
        }
    });
}
