//! Where a pool listens for observers.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::sys::own_fd::OwnFd;
use crate::sys::{credentials, forked, process, socket};

/// Bytes of a socket's path, at most: what the kernel's address has room for.
const MAX_PATH: usize = 107;

/// Returns why `name` cannot be a pool's, if it cannot.
pub(crate) fn allowed_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 32 || !name.chars().all(allowed) {
        return Err("1 to 32 letters, digits, dots, dashes and underscores");
    }
    Ok(())
}

/// Returns the directories in which pools of this user may listen, the preferred one first.
pub(super) fn directories() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute());
    let own = Path::new("/tmp").join(format!("aiopool-{}", credentials::user()));
    runtime.map(|dir| Path::new(&dir).join("aiopool")).into_iter().chain([own]).collect()
}

/// Makes the directory if it is not there, and checks that it is the user's alone.
fn prepare(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    check(directory)
}

/// Checks that nobody but the user can have made what is in `directory`.
pub(super) fn check(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != credentials::user() || found.mode() & 0o077 != 0 {
        let text =
            format!("{} is not a directory that only its user can enter", directory.display());
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// A file name of a pool's socket, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) pid: u32,
    pub(crate) number: u64,
    pub(crate) name: String,
}

impl Seat {
    fn file(&self) -> String {
        format!("{}.{}.{}.sock", self.pid, self.number, self.name)
    }

    /// Returns what a file name says, if it is one of a pool's socket.
    pub(super) fn of_file(file: &str) -> Option<Self> {
        let mut parts = file.strip_suffix(".sock")?.splitn(3, '.');
        let (pid, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let name = parts.next()?.to_owned();
        allowed_name(&name).ok()?;
        Some(Self { pid, number, name })
    }
}

/// A pool's listening socket; removed with it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// A daemonizer may have closed it, and have a file of its own under the number.
    socket: OwnFd,
    path: PathBuf,
    generation: u32,
}

impl Listener {
    /// Listens in the first directory where it can.
    ///
    /// # Errors
    ///
    /// The text of what each directory lacks.
    pub(crate) fn bind(seat: &Seat) -> Result<Self, String> {
        let mut refused = Vec::new();
        for directory in directories() {
            match Self::bind_in(&directory, seat) {
                Ok(listener) => return Ok(listener),
                Err(error) => refused.push(format!("{}: {error}", directory.display())),
            }
        }
        Err(refused.join("; "))
    }

    fn bind_in(directory: &Path, seat: &Seat) -> io::Result<Self> {
        let path = directory.join(seat.file());
        if path.as_os_str().len() > MAX_PATH {
            return Err(io::Error::other("its path is too long for a socket"));
        }
        prepare(directory)?;
        sweep(directory);
        // What has this name is of an earlier process with the same pid.
        let _ = fs::remove_file(&path);
        let socket = UnixListener::bind(&path)?;
        socket.set_nonblocking(true)?;
        let socket = OwnFd::from(OwnedFd::from(socket));
        let listener = Self { socket, path, generation: forked::generation() };
        fs::set_permissions(&listener.path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Accepts an observer that is this user or root; another one is disconnected. `None` if no
    /// observer waits.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        self.socket.check()?;
        let socket = UnixListener::from(self.socket.as_fd().try_clone_to_owned()?);
        loop {
            let stream = match socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let peer = socket::peer_user(stream.as_fd())?;
            if peer == 0 || peer == credentials::user() {
                stream.set_nonblocking(true)?;
                return Ok(Some(stream));
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A forked child's copy must not take the name from its parent's socket.
        if self.generation == forked::generation() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the sockets of hosts that are gone. Not those of a process that cannot be seen.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let seat = entry.file_name().to_str().and_then(Seat::of_file);
        // What refuses a connection has no host that listens, whatever has its pid by now.
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if seat.is_some_and(|seat| !process::exists(seat.pid))
            && socket::connect(&entry.path()).is_err_and(refused)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_says_whose_socket_it_is() {
        let seat = Seat { pid: 12, number: 3, name: "a.b-c".to_owned() };
        assert_eq!(Seat::of_file(&seat.file()), Some(seat));
        for other in ["12.3.sock", "x.3.a.sock", "12.3.a", "12.3.a/b.sock", "12.3..sock", ".sock"] {
            assert_eq!(Seat::of_file(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_that_others_can_enter_is_not_used() {
        let directory = std::env::temp_dir().join(format!("aiopool-test-{}", std::process::id()));
        let seat = Seat { pid: std::process::id(), number: 1, name: "test".to_owned() };
        let bound = Listener::bind_in(&directory, &seat).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&bound.path)), (0o700, 0o600));
        let gone = Seat { pid: i32::MAX as u32, ..seat.clone() };
        drop(UnixListener::bind(directory.join(gone.file())).unwrap());
        drop(bound);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Listener::bind_in(&directory, &seat).unwrap_err().to_string();
        assert!(refused.contains("only its user can enter"), "{refused}");
        let link = directory.with_extension("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert!(Listener::bind_in(&link, &seat).is_err());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        drop(Listener::bind_in(&directory, &seat).unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "what a dead host left is there");
        fs::remove_file(link).unwrap();
        fs::remove_dir(directory).unwrap();
    }
}
