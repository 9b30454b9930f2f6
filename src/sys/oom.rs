//! The kernel's choice of whom to kill when memory runs out, and how often it chose.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

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

/// How many processes of this process's control group were ever killed for want of memory; where
/// there is no such group, of the machine.
#[derive(Debug, Default)]
pub(crate) struct KillCount {
    /// What the kernel said of this process's groups when `file` was found.
    groups: String,
    file: Option<PathBuf>,
}

impl KillCount {
    /// Returns the count; `None` where the kernel does not count.
    ///
    /// The file is looked for anew, among all mounts, only when this process is in other groups
    /// than before, or the file is gone.
    pub(crate) fn read(&mut self) -> Option<u64> {
        let groups = cgroup::lines().unwrap_or_default();
        if let Some(file) = self.file.as_ref().filter(|_| groups == self.groups)
            && let Some(count) = read_count(file)
        {
            return Some(count);
        }
        let files = cgroup::among(&groups, "memory").unwrap_or_default();
        let files = files.iter().map(|group| {
            group.directory().join(match group.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            })
        });
        let (file, count) = files
            .chain([PathBuf::from("/proc/vmstat")])
            .find_map(|file| read_count(&file).map(|count| (file, count)))?;
        (self.groups, self.file) = (groups, Some(file));
        Some(count)
    }
}

fn read_count(file: &Path) -> Option<u64> {
    parse_count(&std::fs::read_to_string(file).ok()?)
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
        let mut count = KillCount::default();
        let first = count.read();
        assert!(first.is_some());
        // Neither a group that it has left nor a file that is gone is believed.
        count.groups.push_str("another");
        count.file = Some(PathBuf::from("/proc/self/stat"));
        assert!(count.read() >= first);
        count.file = Some(PathBuf::from("/proc/self/none"));
        assert!(count.read() >= first);
        assert_eq!(count.groups, cgroup::lines().unwrap());
        assert!((-1000..=MOST).contains(&score_adjustment().unwrap()));
    }
}
