//! How many processors this process may keep busy.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cgroup::{self, Version};
use super::check;

/// Processors of the affinity mask, less where a control group's quota is lower; at least 1.
///
/// A quota of two and a half processors counts as three. What cannot be read does not limit.
pub fn available() -> usize {
    let allowed = affinity().unwrap_or(1);
    let groups = cgroup::of("cpu").unwrap_or_default();
    let quotas = groups.iter().flat_map(|group| {
        group.upwards().filter_map(|directory| read_quota(group.version, directory))
    });
    quotas.min().map_or(allowed, |quota| quota.min(allowed)).max(1)
}

/// Returns how many processors the calling thread may run on.
fn affinity() -> io::Result<usize> {
    Ok(Mask::of_this_thread()?.processors().len())
}

/// Returns the number of the processor that the calling thread runs on; no system call where the C
/// library has it from the kernel.
#[inline]
pub(crate) fn current() -> Option<u32> {
    // SAFETY: takes nothing.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// A set of processors, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask(Vec<u64>);

const BITS: usize = u64::BITS as usize;

impl Mask {
    /// Returns the processors that the calling thread may run on.
    pub fn of_this_thread() -> io::Result<Self> {
        // The kernel refuses a mask that is shorter than its own, so grow until it fits.
        let mut mask = vec![0u64; 16];
        loop {
            let size = size_of_val(mask.as_slice());
            // SAFETY: `mask` is writable for `size` bytes; the kernel fills in whole words.
            let result = unsafe { libc::sched_getaffinity(0, size, mask.as_mut_ptr().cast()) };
            if result == 0 {
                return Ok(Self(mask));
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) || mask.len() * BITS >= 1 << 20 {
                return Err(error);
            }
            mask.resize(mask.len() * 2, 0);
        }
    }

    /// Returns the processors that a thread of this process could choose, whichever the calling
    /// one runs on: those that are there and that its control group leaves it.
    pub(crate) fn possible() -> io::Result<Self> {
        let before = Self::of_this_thread()?;
        // The kernel takes what is possible of it, and tells only then.
        Self(vec![u64::MAX; before.0.len()]).apply()?;
        let possible = Self::of_this_thread();
        before.apply()?;
        possible
    }

    /// Returns processor `number` alone.
    #[cfg(any(test, feature = "internals"))]
    pub fn single(number: usize) -> Self {
        Self::of([number])
    }

    /// Returns these processors.
    pub(crate) fn of(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut mask = vec![0; 16];
        for number in numbers {
            mask.resize(mask.len().max(number / BITS + 1), 0);
            mask[number / BITS] |= 1 << (number % BITS);
        }
        Self(mask)
    }

    /// Returns the processors' numbers.
    pub fn processors(&self) -> Vec<usize> {
        (0..self.0.len() * BITS).filter(|n| self.0[n / BITS] >> (n % BITS) & 1 == 1).collect()
    }

    /// Has the calling thread run on these only.
    pub fn apply(&self) -> io::Result<()> {
        let size = size_of_val(self.0.as_slice());
        // SAFETY: the mask is readable for `size` bytes.
        check(unsafe { libc::sched_setaffinity(0, size, self.0.as_ptr().cast()) }).map(drop)
    }
}

fn read_quota(version: Version, directory: &Path) -> Option<usize> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    match version {
        Version::V2 => parse_v2(&read("cpu.max")?),
        Version::V1 => parse_v1(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
    }
}

/// `quota period`, in microseconds; the quota may be `max`.
fn parse_v2(cpu_max: &str) -> Option<usize> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    parse_v1(quota, period)
}

/// Parses quota and period of version 1; a quota of −1 is none.
fn parse_v1(quota: &str, period: &str) -> Option<usize> {
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok()?;
    (period > 0).then(|| quota.div_ceil(period) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up() {
        assert_eq!(parse_v2("250000 100000\n"), Some(3));
        assert_eq!(parse_v2("200000 100000\n"), Some(2));
        assert_eq!(parse_v2("1000 100000\n"), Some(1));
        assert_eq!(parse_v1("150000\n", "100000\n"), Some(2));
    }

    #[test]
    fn no_quota_and_nonsense_do_not_limit() {
        assert_eq!(parse_v2("max 100000\n"), None);
        assert_eq!(parse_v1("-1\n", "100000\n"), None);
        assert_eq!(parse_v1("100000\n", "0\n"), None);
        assert_eq!(parse_v2(""), None);
        assert_eq!(parse_v2("many few"), None);
    }

    #[test]
    fn this_process_has_a_processor_and_no_more_than_the_machine() {
        let count = available();
        let machine = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        assert!(count >= 1);
        assert!(count <= machine.lines().filter(|line| line.starts_with("processor")).count());
    }

    #[test]
    fn a_thread_can_be_kept_on_one_processor_and_let_go() {
        let before = Mask::of_this_thread().unwrap();
        let last = *before.processors().last().unwrap();
        Mask::single(last).apply().unwrap();
        let possible = Mask::possible().unwrap().processors();
        assert!(before.processors().iter().all(|number| possible.contains(number)));
        assert_eq!(Mask::of_this_thread().unwrap().processors(), [last]);
        assert_eq!(current(), Some(last as u32));
        before.apply().unwrap();
        assert_eq!(Mask::of_this_thread().unwrap().processors(), before.processors());
    }
}
