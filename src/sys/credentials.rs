//! Whom a process acts as, and what it may ask of the kernel: users, groups, capabilities, filters.
#![allow(unsafe_code)] // calls into libc

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::check;

/// Users, groups and capabilities of a process, as the kernel lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The real, effective and saved user.
    uids: [u32; 3],
    /// The real, effective and saved group.
    gids: [u32; 3],
    /// The supplementary groups, in ascending order.
    groups: Vec<u32>,
    /// The inheritable, permitted and effective capabilities.
    capabilities: [u64; 3],
    /// The capabilities that executing a program may give.
    bounding: u64,
    /// The capabilities that survive the execution of an ordinary program.
    ambient: u64,
    /// Whether executing a set-user-id program gives no new rights.
    no_new_privs: bool,
    /// Seccomp filters that each system call passes: a process inherits them, and gets none from
    /// another process.
    filters: u32,
}

impl Credentials {
    /// Reads those of the calling thread.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        Self::read("/proc/thread-self/status")
    }

    /// Reads those of the main thread of a process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Self::read(&format!("/proc/{pid}/status"))
    }

    fn read(path: &str) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| io::Error::new(error.kind(), format!("read {path}: {error}")))?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("{path} lacks credentials")))
    }

    fn parse(status: &str) -> Option<Self> {
        let line = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let ids = |name| -> Option<[u32; 3]> {
            let mut words = line(name)?.split_whitespace().map(str::parse);
            let mut next = || words.next()?.ok();
            Some([next()?, next()?, next()?])
        };
        let mask = |name| u64::from_str_radix(line(name)?, 16).ok();
        let groups = line("Groups")?.split_whitespace().map(str::parse);
        let mut groups: Vec<u32> = groups.collect::<Result<_, _>>().ok()?;
        groups.sort_unstable();
        Some(Self {
            uids: ids("Uid")?,
            gids: ids("Gid")?,
            groups,
            capabilities: [mask("CapInh")?, mask("CapPrm")?, mask("CapEff")?],
            bounding: mask("CapBnd")?,
            ambient: mask("CapAmb").unwrap_or(0),
            no_new_privs: line("NoNewPrivs") == Some("1"),
            filters: line("Seccomp_filters").and_then(|count| count.parse().ok()).unwrap_or(0),
        })
    }

    /// Makes the calling process, which has one thread, act as these say; says what it cannot.
    ///
    /// A change of user takes the death signal away, and the right to write files in `/proc/self`.
    pub(crate) fn take_on(&self) -> Result<(), String> {
        let own = || Self::of_this_thread().map_err(|error| format!("know its user: {error}"));
        let before = own()?;
        if before == *self {
            return Ok(());
        }
        if before.filters != self.filters {
            return Err(format!(
                "have the {} seccomp filters of its host, having {}: set filters before \
                 aiopool::init() or the first pool, or give the tasks a Sandbox",
                self.filters, before.filters
            ));
        }
        let refused = |error: io::Error| {
            format!(
                "become {self}, being {before}: {error}: call aiopool::init() while this process \
                 has all the rights that workers are to have"
            )
        };
        self.change(&before).map_err(refused)?;
        match own()? {
            now if now.in_force() == self.in_force() => Ok(()),
            now => Err(format!("become {self}: the system made it {now}")),
        }
    }

    /// What the kernel checks, without what the process could take back: a program that is
    /// executed has no saved ids but its effective ones, and no capabilities that are only
    /// permitted.
    fn in_force(&self) -> Self {
        let mut own = self.clone();
        (own.uids[2], own.gids[2]) = (self.uids[1], self.gids[1]);
        own.capabilities = [0, 0, self.capabilities[2]];
        own
    }

    fn change(&self, before: &Self) -> io::Result<()> {
        if self.groups != before.groups {
            // SAFETY: the list is readable for its length.
            check(unsafe { libc::setgroups(self.groups.len() as _, self.groups.as_ptr()) })?;
        }
        // Permitted capabilities outlive the change of user; those not wanted go below.
        control(libc::PR_SET_KEEPCAPS, 1, 0)?;
        if self.gids != before.gids {
            let [real, effective, saved] = self.gids;
            // SAFETY: takes numbers only.
            let set = |saved| check(unsafe { libc::setresgid(real, effective, saved) });
            set(saved).or_else(|_| set(effective))?;
        }
        if self.uids != before.uids {
            let [real, effective, saved] = self.uids;
            // SAFETY: takes numbers only.
            let set = |saved| check(unsafe { libc::setresuid(real, effective, saved) });
            set(saved).or_else(|_| set(effective))?;
        }
        let Self { capabilities: [inheritable, permitted, effective], bounding, ambient, .. } =
            *self;
        let held = Self::of_this_thread()?.capabilities[1];
        if bounding != before.bounding {
            // Dropping from the bounding set takes an effective capability.
            set_capabilities([before.capabilities[0], held, held])?;
            for capability in bits(before.bounding & !bounding) {
                control(libc::PR_CAPBSET_DROP, capability, 0)?;
            }
        }
        set_capabilities([inheritable & held, permitted & held, effective])?;
        if ambient != before.ambient {
            control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
            for capability in bits(ambient) {
                control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)?;
            }
        }
        control(libc::PR_SET_KEEPCAPS, 0, 0)?;
        if self.no_new_privs {
            super::process::no_new_privileges()?;
        }
        Ok(())
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, group, capabilities) = (self.uids[1], self.gids[1], self.capabilities[2]);
        write!(f, "user {user}, group {group}, groups {:?}", self.groups)?;
        write!(f, ", capabilities {capabilities:x}, {} seccomp filters", self.filters)
    }
}

/// Returns the effective user of this process.
pub(crate) fn user() -> u32 {
    // SAFETY: takes nothing, and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether the kernel lets other processes of the user look into this one.
pub(crate) fn is_dumpable() -> io::Result<bool> {
    Ok(control(libc::PR_GET_DUMPABLE, 0, 0)? == 1)
}

/// Lets other processes of the user look into this one, and this one write into `/proc/self`; or
/// neither.
pub(crate) fn set_dumpable(yes: bool) -> io::Result<()> {
    control(libc::PR_SET_DUMPABLE, yes.into(), 0).map(drop)
}

/// Sets the inheritable, permitted and effective capabilities of the calling thread.
fn set_capabilities(sets: [u64; 3]) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`: two words a set.
    const VERSION: u32 = 0x2008_0522;
    let [inheritable, permitted, effective] = sets;
    let word =
        |index: u32| [effective, permitted, inheritable].map(|set| (set >> (32 * index)) as u32);
    // The version and the calling thread; then each word of the three sets.
    let header = [VERSION, 0];
    let data = [word(0), word(1)];
    // SAFETY: both have the layout that this version asks for, and live across the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    check(result as libc::c_int).map(drop)
}

fn bits(set: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

/// `prctl` of an option that takes numbers.
pub(super) fn control(option: libc::c_int, second: u64, third: u64) -> io::Result<libc::c_int> {
    // SAFETY: each option above takes numbers only.
    check(unsafe { libc::prctl(option, second, third, 0 as libc::c_ulong, 0 as libc::c_ulong) })
        .map_err(|error| super::named("prctl", error))
}

/// Has the calling process, which has one thread, become `user` in `group` alone; what is `None`
/// stays. Takes the death signal away.
///
/// # Errors
///
/// What the system refuses: without root, all of it.
pub(crate) fn become_user(user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    let groups: Vec<libc::gid_t> = group.into_iter().collect();
    // SAFETY: reads as many numbers as there are.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    if let Some(group) = group {
        // SAFETY: takes numbers only.
        check(unsafe { libc::setresgid(group, group, group) })?;
    }
    // The group first: another user may not change it.
    if let Some(user) = user {
        // SAFETY: takes numbers only.
        check(unsafe { libc::setresuid(user, user, user) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whole_or_not_at_all() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 4 \nNoNewPrivs:\t1\n\
            CapInh:\t0000000000000001\nCapPrm:\t0000000000000003\nCapEff:\t0000000000000002\n\
            CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nSeccomp_filters:\t6\n";
        let expected = Credentials {
            uids: [1, 2, 3],
            gids: [5, 6, 7],
            groups: vec![4, 9],
            capabilities: [1, 3, 2],
            bounding: 0x1ff_ffff_ffff,
            ambient: 0,
            no_new_privs: true,
            filters: 6,
        };
        assert_eq!(Credentials::parse(status), Some(expected));
        assert_eq!(Credentials::parse(&status.replace("CapBnd", "CapXyz")), None);
    }

    #[test]
    fn what_a_process_is_already_it_can_become() {
        let own = Credentials::of_this_thread().unwrap();
        assert_eq!(own.take_on(), Ok(()));
        assert_eq!(Credentials::of(std::process::id()).unwrap().uids, own.uids);
    }
}
