//! How much memory can still be taken before the kernel kills a process for it.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use super::cgroup::{self, Version};

/// Returns the bytes available to this process: what the machine has to give, less where a control
/// group's limit is nearer.
///
/// An estimate of this moment, and no reservation.
pub fn available() -> io::Result<u64> {
    let machine = match std::fs::read_to_string("/proc/meminfo") {
        // A sandbox: there is no look, and the kernel's own limits must do.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(u64::MAX),
        text => text?,
    };
    let machine = parse_machine(&machine)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no line `MemAvailable: … kB`"))?;
    let groups = cgroup::of("memory").unwrap_or_default();
    let groups = groups.iter().flat_map(|group| {
        group.upwards().filter_map(|directory| read_group(group.version, directory))
    });
    Ok(groups.min().map_or(machine, |group| group.min(machine)))
}

fn parse_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns what a group has left; `None` without a limit.
fn read_group(version: Version, directory: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    let (limit, used, cache) = match version {
        Version::V1 => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
        Version::V2 => ("memory.max", "memory.current", "inactive_file "),
    };
    // The limit alone says whether the rest is worth reading; `max` is none.
    let limit = read(limit)?.trim().parse().ok()?;
    Some(left(limit, read(used)?.trim().parse().ok()?, &read("memory.stat")?, cache))
}

/// Returns what is left of `limit`. The kernel gives back pages of files that were not used lately
/// before it kills a process.
fn left(limit: u64, used: u64, stat: &str, cache: &str) -> u64 {
    let cache = stat.lines().find_map(|line| line.strip_prefix(cache));
    let cache: u64 = cache.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    limit.saturating_sub(used.saturating_sub(cache))
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
        assert!(available().unwrap() > 0);
    }

    #[test]
    fn a_groups_idle_cache_counts_as_left() {
        let stat = "anon 7\ninactive_file 30\nactive_file 5\n";
        assert_eq!(left(100, 60, stat, "inactive_file "), 70);
        assert_eq!(left(100, 60, "", "inactive_file "), 40);
        assert_eq!(left(100, 160, stat, "inactive_file "), 0);
    }
}
