//! The kernel's choice of whom to kill when memory runs out, and how often it chose.
#![forbid(unsafe_code)]

use std::io;

use super::cgroup::{self, Version};

/// The highest value: killed first.
const MOST: i32 = 1000;

/// Returns how likely this process is chosen, from −1000 to 1000.
pub(crate) fn score_adjustment() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim().parse().map_err(io::Error::other)
}

/// Makes this process be chosen before one with the adjustment `other`, as far as there is room.
pub(crate) fn be_chosen_before(other: i32) -> io::Result<()> {
    const STEP: i32 = 100;
    let own = (other + STEP).min(MOST).max(score_adjustment()?);
    std::fs::write("/proc/self/oom_score_adj", own.to_string())
}

/// Returns how many processes of this process's control group were ever killed for want of memory;
/// where there is no such group, of the machine. `None` where the kernel does not count.
pub(crate) fn kill_count() -> Option<u64> {
    let groups = cgroup::of("memory").unwrap_or_default();
    let of_group = groups.iter().find_map(|group| {
        let file = match group.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        parse_count(&std::fs::read_to_string(group.directory().join(file)).ok()?)
    });
    of_group.or_else(|| parse_count(&std::fs::read_to_string("/proc/vmstat").ok()?))
}

fn parse_count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_files_count_is_found() {
        assert_eq!(parse_count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_count("low 0\nmax 7\noom 4\noom_kill 2\noom_group_kill 9\n"), Some(2));
        assert_eq!(parse_count("low 0\n"), None);
        assert_eq!(parse_count("oom_kill many\n"), None);
    }

    #[test]
    fn this_machine_counts() {
        assert!(kill_count().is_some());
        assert!((-1000..=MOST).contains(&score_adjustment().unwrap()));
    }
}
