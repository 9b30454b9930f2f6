//! What proves on one machine that nothing of a node's last life runs any more: a locked file that its
//! zygote and every worker hold open.
//!
//! `flock` is free when the last of them has ended, in whichever order they do. The node's key names the
//! file and what stands in it, so that a file of the same name on another machine, in another
//! container, or made anew proves nothing.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::random;
use crate::wire::LockId;

/// A file that this process has locked.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    boot: u128,
    /// What the holder before wrote, if one did.
    before: Option<LockId>,
    now: Option<LockId>,
}

/// How long a lock is waited for whose holder is dead: its workers need a moment to end.
const PATIENCE: Duration = Duration::from_secs(2);

impl Lock {
    /// Locks the file of a node's name; `None` where that cannot be had: then the end of the last
    /// life has to be waited for.
    pub(super) async fn take(pool: &str, node: &str) -> Option<Self> {
        let file = open(pool, node)?;
        let start = Instant::now();
        while file.try_lock().is_err() {
            if start.elapsed() > PATIENCE {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16).ok()?;
        let mut lock = Self { file, boot, before: None, now: None };
        let mut token = [0; 16];
        if lock.file.read_exact(&mut token).is_ok() {
            lock.before = lock.id(u128::from_le_bytes(token));
        }
        Some(lock)
    }

    fn id(&self, token: u128) -> Option<LockId> {
        let metadata = self.file.metadata().ok()?;
        // A file that was removed is no file that the next process would find.
        let (boot, device, inode) = (self.boot, metadata.dev(), metadata.ino());
        (metadata.nlink() > 0).then_some(LockId { boot, device, inode, token })
    }

    /// Whether the life whose key names `theirs` held this very file, and has ended therefore.
    pub(super) fn proves(&self, theirs: Option<LockId>) -> bool {
        theirs.is_some() && theirs == self.before
    }

    /// Writes what the next life's key is to name.
    pub(super) fn renew(&mut self) -> Option<LockId> {
        let token = random::bits();
        let written = self.file.rewind().and_then(|()| self.file.write_all(&token.to_le_bytes()));
        self.now = written.ok().and_then(|()| self.id(token));
        // What stood there before is gone.
        self.before = self.now;
        self.now
    }

    /// Returns what the key names.
    pub(super) fn current(&self) -> Option<LockId> {
        self.now
    }

    /// Returns the locked file, to be held open by other processes, too.
    pub(super) fn held(&self) -> Option<OwnedFd> {
        self.file.try_clone().ok().map(OwnedFd::from)
    }
}

fn open(pool: &str, node: &str) -> Option<File> {
    let dir = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = dir.join(format!("aiopool-node-{pool}.{node}.lock"));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).ok()?;
    // Not through a link that another user has left there.
    let (opened, there) = (file.metadata().ok()?, std::fs::symlink_metadata(&path).ok()?);
    let same = (opened.dev(), opened.ino()) == (there.dev(), there.ino());
    (same && there.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_proves_the_end_of_the_life_that_held_it_and_of_no_other() {
        aiopool::block_on(async {
            let name = format!("test-{}", std::process::id());
            let mut first = Lock::take("p", &name).await.unwrap();
            let named = first.renew();
            assert!(named.is_some() && first.current() == named);
            let held = first.held().unwrap();
            assert!(open("p", &name).unwrap().try_lock().is_err());
            drop(first);
            assert!(open("p", &name).unwrap().try_lock().is_err(), "a copy holds it");
            drop(held);
            let mut second = Lock::take("p", &name).await.unwrap();
            assert!(second.proves(named));
            assert!(!second.proves(None));
            let other = named.map(|id| LockId { token: id.token + 1, ..id });
            assert!(!second.proves(other));
            second.renew();
            assert!(!second.proves(named), "another life has begun since");
        });
    }
}
