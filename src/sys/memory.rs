//! How much memory can still be taken before the kernel kills a process for it.
#![forbid(unsafe_code)]

use std::path::Path;

use super::cgroup::{self, Version};

/// Returns the bytes available to this process: what the machine has to give, less where a control
/// group's limit is nearer.
///
/// An estimate of this moment, and no reservation.
pub fn available() -> u64 {
    // A sandbox, or a /proc of processes only: there is no look, and the kernel's own limits must
    // do.
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(parse_machine).unwrap_or(u64::MAX);
    let groups = cgroup::of("memory").unwrap_or_default();
    let groups = groups.iter().flat_map(|group| {
        group.upwards().filter_map(|directory| read_group(group.version, directory))
    });
    groups.min().map_or(machine, |group| group.min(machine))
}

fn parse_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns what a group has left; `None` without a limit.
fn read_group(version: Version, directory: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    let (limit, used, prefix) = match version {
        Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        Version::V2 => ("memory.max", "memory.current", ""),
    };
    // The limit alone says whether the rest is worth reading; `max` is none.
    let limit = read(limit)?.trim().parse().ok()?;
    Some(left(limit, read(used)?.trim().parse().ok()?, &read("memory.stat")?, prefix))
}

/// Returns what is left of `limit`. The kernel gives back pages of files, those in use too, before
/// it kills a process; the lines that count them begin with `prefix`.
fn left(limit: u64, used: u64, stat: &str, prefix: &str) -> u64 {
    let lines = stat.lines().filter_map(|line| line.strip_prefix(prefix));
    let cache = lines.filter_map(|line| {
        let count =
            line.strip_prefix("inactive_file ").or_else(|| line.strip_prefix("active_file "))?;
        count.trim().parse::<u64>().ok()
    });
    limit.saturating_sub(used.saturating_sub(cache.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_is_read_in_bytes() {
        let text = "MemTotal:  200 kB\nMemAvailable:    24376052 kB\nBuffers: 1 kB\n";
        assert_eq!(parse_machine(text), Some(24_376_052 * 1024));
        assert_eq!(parse_machine("MemTotal: 200 kB\n"), None);
        assert_eq!(parse_machine("MemAvailable: many kB\n"), None);
        assert!(available() > 0);
    }

    #[test]
    fn a_groups_page_cache_counts_as_left() {
        let stat = "anon 7\ninactive_file 30\nactive_file 5\n";
        assert_eq!(left(100, 60, stat, ""), 75);
        assert_eq!(left(100, 60, "", ""), 40);
        assert_eq!(left(100, 160, stat, ""), 0);
        let both = "inactive_file 1\nactive_file 2\ntotal_inactive_file 30\ntotal_active_file 5\n";
        assert_eq!(left(100, 60, both, "total_"), 75);
    }
}
