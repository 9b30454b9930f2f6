//! The processes below a command, found by their parents in `/proc`, and what they map.

use std::collections::BTreeSet;
use std::fs;

/// The children of every thread of `pid`; none if it is gone.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// All that descend from `pid`, itself not among them.
pub fn descendants(pid: u32) -> Vec<u32> {
    let children = children(pid);
    children.iter().copied().chain(children.iter().flat_map(|&child| descendants(child))).collect()
}

/// The zygote of the host `pid`, once it has one.
pub fn zygote(pid: u32) -> Option<u32> {
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    children(pid).into_iter().find(|&child| name(child).trim() == "aiopool-zygote")
}

/// The workers of the host `pid`.
pub fn workers(pid: u32) -> Vec<u32> {
    zygote(pid).map(children).unwrap_or_default()
}

/// Whether `pid` runs. A zombie does not: there may be no parent to reap it.
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// The inodes of a pool's regions that `pid` has mapped.
pub fn regions(pid: u32) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines()
        .filter(|line| line.contains("/memfd:aiopool"))
        .map(|line| line.split_whitespace().nth(4).unwrap().to_owned())
        .collect()
}

/// Whether any process of this machine that can be looked into has one of `regions` mapped.
pub fn anybody_maps(regions: &BTreeSet<String>) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().any(|pid| !self::regions(pid).is_disjoint(regions))
}
