//! The host's end of what connects it with its zygote.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::silence::{SECOND, Silence};
use super::wire::{self, Hello};
use crate::error::{Error, Result};
use crate::sys::own_fd::{OwnFd, TAKEN};
use crate::sys::poll::{PollFd, poll};
use crate::sys::wait::Ended;
use crate::sys::{pidfd, process, socket, wait};
use crate::task::WorkerExit;

/// How long a zygote may take to say hello: it runs every constructor of the program first. What is
/// not one must not hang the host for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an order may wait for room on a line.
const ORDER_PATIENCE: Duration = Duration::from_secs(5);

/// How a zygote ended that is not the host's child, where the kernel does not say.
pub(super) const NOT_SAID: &str = "ended";

/// A zygote, as its host sees it.
#[derive(Debug)]
pub(super) struct Line {
    socket: OwnFd,
    pidfd: OwnFd,
    /// The zygote's process id, once it has said hello.
    pid: u32,
    /// The process that started it; its forked children have a copy of this they must not use.
    host: u32,
    /// Whether workers can have the descriptors that the zygote was started with.
    pub keeps_fds: bool,
    /// Whether it was forked from the host and so shares its memory of then.
    pub forked: bool,
    end: OnceLock<String>,
}

/// The child that the host made on its way to a zygote.
pub(super) enum Made {
    /// The zygote itself.
    Zygote(u32),
    /// A program whose child the zygote is, and which has ended when the zygote says hello: the
    /// host's own loops over its children do not see the zygote.
    Parent(u32),
}

impl Line {
    /// Waits for the hello of the zygote that was just started.
    pub(super) fn greet(socket: OwnedFd, made: Made, keeps_fds: bool) -> Result<Self> {
        let (Made::Zygote(pid) | Made::Parent(pid)) = made;
        let forked = matches!(made, Made::Zygote(_));
        let pidfd = match pidfd::open(pid) {
            // A host that ignores SIGCHLD, or a loop of its over all its children, has reaped the
            // program already. The zygote says hello all the same, or its line closes. No signal
            // reaches a process through what stands in for the program's pidfd.
            Err(error) if !forked && error.raw_os_error() == Some(libc::ESRCH) => {
                socket.try_clone().map_err(|error| Error::system("start the zygote", error))?
            }
            opened => opened.map_err(|error| {
                let _ = process::signal_group(pid, libc::SIGKILL);
                let _ = wait::reap_waiting(pid);
                Error::system("open the zygote's pidfd", error)
            })?,
        };
        let host = process::own_pid();
        let (socket, pidfd) = (socket.into(), pidfd.into());
        let mut line = Self { socket, pidfd, pid, host, keeps_fds, forked, end: OnceLock::new() };
        let (refused, ended) = match line.wait_for_hello(forked) {
            Ok((Hello::Ready { pid: own }, Some(zygote))) => {
                line.pid = own;
                if !forked {
                    // It has nothing more to do but to end.
                    let _ = wait::reap_waiting(pid);
                    line.pidfd = zygote.into();
                }
                return Ok(line);
            }
            Ok((Hello::Ready { .. }, None)) => {
                let text = "its pidfd did not arrive: raise RLIMIT_NOFILE";
                (Some(Error::system("start the zygote", io::Error::other(text))), false)
            }
            Ok((Hello::Refused(reason), _)) => {
                (Some(Error::system("start the zygote", io::Error::other(reason))), false)
            }
            Err(error) => (error, true),
        };
        if !ended || refused.is_some() {
            // It may be any program, if the constructor did not catch it. A zygote that it has
            // made sees the line close.
            let _ = pidfd::send_signal(line.pidfd(), libc::SIGKILL);
        }
        let _ = poll(&mut [PollFd::readable(line.pidfd())], Some(Duration::from_secs(1)));
        let how = match wait::reap(line.pidfd()) {
            Ok(Some(Ended::Exited(0))) if !forked => "ended before it said hello".to_owned(),
            Ok(Some(ended)) => WorkerExit::from(ended).to_string(),
            _ => "ended".to_owned(),
        };
        Err(refused.unwrap_or(Error::ZygoteLost(how)))
    }

    /// Waits for the first message, and for the zygote's pidfd beside it; an error is `None` when
    /// the other end is closed.
    fn wait_for_hello(
        &self,
        is_zygote: bool,
    ) -> std::result::Result<(Hello, Option<OwnedFd>), Option<Error>> {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; wire::LONGEST];
        loop {
            // Looked at before the socket: what a zygote said before it died is still heard.
            let dead = is_zygote && self.is_dead();
            match socket::recv(self.socket(), &mut buffer) {
                Ok(Some(mut got)) => {
                    let hello = wire::decode(&buffer[..got.len]);
                    let odd = || Some(Error::Corrupt("the zygote's hello is not one".into()));
                    return Ok((hello.ok_or_else(odd)?, got.fds.pop()));
                }
                Ok(None) => return Err(None),
                Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => return Err(None),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(Some(Error::system("hear from the zygote", error)));
                }
                Err(_) if dead => return Err(None),
                Err(_) => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = "it does not say hello: does the program not link this library?";
                return Err(Some(Error::system("start the zygote", io::Error::other(text))));
            }
            let mut fds = vec![PollFd::readable(self.socket())];
            if is_zygote {
                fds.push(PollFd::readable(self.pidfd()));
            }
            poll(&mut fds, Some(left)).map_err(|error| Some(Error::system("poll", error)))?;
        }
    }

    /// Returns the socket on which pools are announced.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns a descriptor that is readable when the zygote is dead.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Has the zygote go on, if a signal has stopped it.
    pub(super) fn nudge(&self) {
        if self.pidfd.is_ours() {
            let _ = pidfd::send_signal(self.pidfd(), libc::SIGCONT);
        }
    }

    /// As [`Silence::another_second`]; nothing happens once the descriptors are other code's.
    pub(super) fn another_silent_second(&self, silence: &mut Silence, pool: Option<usize>) -> bool {
        self.pidfd.is_ours() && silence.another_second(self.pid, self.pidfd(), pool)
    }

    /// Returns whether the zygote itself is dead, and not only out of reach.
    pub(super) fn has_died(&self) -> bool {
        self.pidfd.is_ours() && self.socket.is_ours() && self.is_dead()
    }

    /// Refuses a process that only has a copy of its parent's line.
    pub(super) fn check_process(&self) -> Result<()> {
        match process::own_pid() {
            here if here == self.host => Ok(()),
            here => Err(Error::Forked { owner: self.host, here }),
        }
    }

    /// Returns whether the zygote is dead, as it is soon where its line was closed.
    pub(super) fn is_dead(&self) -> bool {
        if !self.pidfd.is_ours() || !self.socket.is_ours() {
            return true;
        }
        let mut fds = [PollFd::readable(self.pidfd())];
        poll(&mut fds, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
    }

    /// Returns the error of everything that needs the zygote, which has closed a line or is dead.
    pub(super) fn lost(&self) -> Error {
        // Its lines close a moment before it is dead.
        let _ = poll(&mut [PollFd::readable(self.pidfd())], Some(Duration::from_secs(1)));
        if !self.is_dead() {
            let text = "it has closed the line: raise the hard limit on open descriptors \
                (RLIMIT_NOFILE)";
            return Error::system("reach the zygote", io::Error::other(text));
        }
        Error::ZygoteLost(self.how_it_ended().to_owned())
    }

    /// Reaps the zygote, which is dead, and says how it ended.
    fn how_it_ended(&self) -> &str {
        if !self.pidfd.is_ours() || !self.socket.is_ours() {
            return TAKEN;
        }
        self.end.get_or_init(|| match wait::reap(self.pidfd()) {
            Ok(Some(ended)) => WorkerExit::from(ended).to_string(),
            // It is another process's child. The kernel says how it ended once that has reaped it,
            // which most do at once.
            Err(_) => {
                const TRIES: u32 = 20;
                let status = (0..TRIES).find_map(|_| {
                    let status = pidfd::status(self.pidfd());
                    if status.is_none() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    status
                });
                let how = status.map(|ended| WorkerExit::from(ended).to_string());
                how.unwrap_or_else(|| NOT_SAID.to_owned())
            }
            _ => "ended, and other code reaped it".to_owned(),
        })
    }

    /// Sends a message to the zygote, on any of its sockets.
    pub(super) fn post(
        &self,
        socket: BorrowedFd<'_>,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<()> {
        // A child that was being forked may hold the other end open a moment longer.
        if self.is_dead() {
            return Err(self.lost());
        }
        let end = Instant::now() + ORDER_PATIENCE;
        loop {
            let error = match socket::send(socket, bytes, fds) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let out_of_time = Instant::now() >= end;
            match error.raw_os_error() {
                Some(libc::EPIPE | libc::ECONNRESET) => return Err(self.lost()),
                Some(libc::EAGAIN) if !out_of_time => {
                    let mut fds = [PollFd::writable(socket), PollFd::readable(self.pidfd())];
                    let left = end.saturating_duration_since(Instant::now());
                    poll(&mut fds, Some(left)).map_err(|e| Error::system("poll", e))?;
                }
                // There is no way to learn when the descriptors that are on their way have arrived.
                Some(libc::ETOOMANYREFS) if !out_of_time => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Some(libc::EAGAIN) => {
                    let what = "give the zygote an order: it takes none, is it stopped?";
                    return Err(Error::system(what, error));
                }
                _ => return Err(Error::system("give the zygote an order", error)),
            }
        }
    }

    /// Waits for the zygote's next message on `socket`, which carries no descriptors. A zygote that
    /// does not answer is killed.
    pub(super) fn wait_for<T: serde::de::DeserializeOwned>(
        &self,
        socket: BorrowedFd<'_>,
    ) -> Result<T> {
        let mut buffer = [0; wire::LONGEST];
        let mut silence = Silence::default();
        loop {
            // Looked at before the socket: what a zygote said before it died is still heard.
            let dead = self.is_dead();
            match socket::recv(socket, &mut buffer) {
                Ok(Some(got)) => {
                    let message = wire::decode(&buffer[..got.len]);
                    return message.ok_or_else(|| {
                        Error::Corrupt("an answer of the zygote cannot be decoded".into())
                    });
                }
                Ok(None) => return Err(self.lost()),
                Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {
                    return Err(self.lost());
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(Error::system("hear from the zygote", error));
                }
                Err(_) if dead => return Err(self.lost()),
                Err(_) => {}
            }
            let mut fds = [PollFd::readable(socket), PollFd::readable(self.pidfd())];
            let ready = poll(&mut fds, Some(SECOND)).map_err(|e| Error::system("poll", e))?;
            if ready == 0 && !self.another_silent_second(&mut silence, None) {
                let text = "it does not answer, and cannot be killed: is it frozen?";
                return Err(Error::system("reach the fork server", io::Error::other(text)));
            }
        }
    }
}

impl Drop for Line {
    /// Has a zygote that this process has forked end, which no pool has any more, and reaps it.
    fn drop(&mut self) {
        // Z11. A forked child only has a copy; a zygote that was executed is no child of the host.
        let is_ours = self.pidfd.is_ours() && self.socket.is_ours();
        if !self.forked || !is_ours || self.check_process().is_err() {
            return;
        }
        // For every copy of it. What its last pools have left it still ends.
        let _ = socket::shut_down(self.socket());
        for signal in [libc::SIGCONT, libc::SIGKILL] {
            let _ = poll(&mut [PollFd::readable(self.pidfd())], Some(SECOND));
            if self.is_dead() {
                break;
            }
            let _ = pidfd::send_signal(self.pidfd(), signal);
        }
        let _ = poll(&mut [PollFd::readable(self.pidfd())], Some(ORDER_PATIENCE));
        let _ = wait::reap(self.pidfd());
    }
}
