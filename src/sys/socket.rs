//! `SOCK_SEQPACKET` pairs: whole messages, in order, with descriptors beside them. And streams.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{check, retry};

/// Most descriptors in one message; the kernel takes 253.
pub(crate) const MAX_FDS: usize = 200;

/// Room for the control message of [`MAX_FDS`] descriptors, in words to have its alignment.
const CONTROL_WORDS: usize = 128;
/// Bytes of descriptors in the largest message.
const CONTROL_DATA: u32 = (MAX_FDS * size_of::<RawFd>()) as u32;
const _: () = {
    // SAFETY: only computes.
    let space = unsafe { libc::CMSG_SPACE(CONTROL_DATA) };
    assert!(CONTROL_WORDS * 8 >= space as usize);
};

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes of the buffer it has.
    pub len: usize,
    /// The descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Some descriptors are missing: this process has reached its limit of open files.
    pub fds_lost: bool,
}

/// Returns a connected pair, close-on-exec; each end is gone for the other when its last copy is
/// closed.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: the call just made both, and no other code has their numbers.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Connects to the stream socket at `path`, which takes no time: where too many others wait to be
/// accepted already, because the process there is stopped, the error is `WouldBlock`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    // SAFETY: all-zero is a valid address, of a path without a byte.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as _;
    let bytes = path.as_os_str().as_bytes();
    // The last byte stays 0.
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::other("its path is too long for a socket"));
    }
    address.sun_path.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte as _);
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only; the descriptor is new.
    let stream = unsafe {
        let socket = check(libc::socket(libc::AF_UNIX, kind, 0))?;
        UnixStream::from(OwnedFd::from_raw_fd(socket))
    };
    // SAFETY: the address is whole, and lives until the call returns.
    check(unsafe {
        let size = size_of_val(&address) as libc::socklen_t;
        libc::connect(stream.as_raw_fd(), (&raw const address).cast(), size)
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Has the kernel continue this process, should it be stopped, whenever a message comes on a socket
/// and when its other end is closed.
pub(crate) fn continue_at_messages(socket: BorrowedFd<'_>) -> io::Result<()> {
    /// The same on every platform; the C bindings lack it.
    const F_SETSIG: libc::c_int = 10;
    let fd = socket.as_raw_fd();
    // SAFETY: the options take numbers only.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()))?;
        check(libc::fcntl(fd, F_SETSIG, libc::SIGCONT))?;
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC)).map(drop)
    }
}

/// Sends one message, with copies of `fds`; never waits and never raises `SIGPIPE`.
///
/// # Errors
///
/// `WouldBlock` when the other side has not taken enough of what was sent before, `EPIPE` or
/// `ECONNRESET` when it is gone, `ETOOMANYREFS` when too many descriptors of this user are on
/// their way.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(!bytes.is_empty(), "an empty message would be taken for the end");
    assert!(fds.len() <= MAX_FDS, "more descriptors than a message carries");
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = header_over(&mut part, &mut control);
    if fds.is_empty() {
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
    } else {
        let size = size_of_val(fds) as u32;
        // SAFETY: `control` is large enough for `MAX_FDS` (asserted above), aligned for a control
        // message, and `BorrowedFd` is documented to have the representation of a `RawFd`.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size) as _;
            let message = libc::CMSG_FIRSTHDR(&header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(size) as _;
            let data = libc::CMSG_DATA(message);
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), data, size as usize);
        }
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    retry(|| {
        // SAFETY: `header` points at buffers that live until the call returns.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) };
        if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// Receives one message into `buffer`; never waits. `None` when the other end is gone and nothing
/// is left to read.
///
/// # Errors
///
/// `WouldBlock` when there is none, `EMSGSIZE` when it was longer than `buffer` (it is gone then).
pub(crate) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = header_over(&mut part, &mut control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let len = retry(|| {
        // SAFETY: `header` points at writable buffers of the lengths it says.
        let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) };
        if len == -1 { Err(io::Error::last_os_error()) } else { Ok(len as usize) }
    })?;
    let fds = received_fds(&header);
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    if len == 0 {
        return Ok(None);
    }
    let fds_lost = header.msg_flags & libc::MSG_CTRUNC != 0;
    Ok(Some(Received { len, fds, fds_lost }))
}

/// Copies the start of the next message and leaves it to be received; says how long the copy is.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
    retry(|| {
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the buffer is writable and has the length given.
        let len = unsafe { libc::recv(socket.as_raw_fd(), start, len, flags) };
        if len == -1 { Err(io::Error::last_os_error()) } else { Ok(len as usize) }
    })
}

/// Returns the effective user of the process that has connected a stream.
pub(crate) fn peer_user(stream: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is writable and has the size given.
    check(unsafe {
        let into = std::ptr::from_mut(&mut peer).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, into, &mut size)
    })?;
    Ok(peer.uid)
}

/// Ends the connection for every process that has a copy of either end.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}

fn header_over(part: &mut libc::iovec, control: &mut [u64; CONTROL_WORDS]) -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr` (musl pads it, so it cannot be written field by field).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    header
}

fn received_fds(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote the control messages that the header points at, so walking them by
    // the C library's macros stays inside; each descriptor in them is new and known only here.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_RIGHTS
            {
                let size = (*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(message).cast::<RawFd>();
                for index in 0..size / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    fds
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::eventfd::EventFd;
    use crate::sys::fd;

    #[test]
    fn a_connection_to_what_accepts_none_is_refused_at_once() {
        let path = std::env::temp_dir().join(format!("aiopool-full-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // SAFETY: takes numbers only.
        check(unsafe { libc::listen(listener.as_raw_fd(), 0) }).unwrap();
        let first = connect(&path).unwrap();
        let error = (0..8).find_map(|_| connect(&path).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let long = path.join("x".repeat(108));
        assert!(connect(&long).unwrap_err().to_string().contains("too long"));
        drop(first);
    }

    #[test]
    fn messages_keep_their_borders_and_order() {
        let (ours, theirs) = pair().unwrap();
        let mut buffer = [0; 8];
        let nothing = recv(theirs.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        send(ours.as_fd(), b"one", &[]).unwrap();
        send(ours.as_fd(), b"three", &[]).unwrap();
        assert_eq!(peek(theirs.as_fd(), &mut buffer).unwrap(), 3);
        for expected in [b"one".as_slice(), b"three"] {
            let got = recv(theirs.as_fd(), &mut buffer).unwrap().unwrap();
            assert_eq!(&buffer[..got.len], expected);
        }
        drop(ours);
        assert!(recv(theirs.as_fd(), &mut buffer).unwrap().is_none());
        let broken = send(theirs.as_fd(), b"?", &[]).unwrap_err();
        assert_eq!(broken.raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn a_full_message_of_descriptors_arrives_close_on_exec() {
        let (ours, theirs) = pair().unwrap();
        let bell = EventFd::new().unwrap();
        send(ours.as_fd(), b"x", &[bell.as_fd(); MAX_FDS]).unwrap();
        let got = recv(theirs.as_fd(), &mut [0; 1]).unwrap().unwrap();
        assert_eq!(got.fds.len(), MAX_FDS);
        assert!(!got.fds_lost);
        assert!(got.fds.iter().all(|fd| fd::is_close_on_exec(fd.as_fd()).unwrap()));
        EventFd::from(got.fds.into_iter().last().unwrap()).ring().unwrap();
        assert!(bell.drain().unwrap());
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error_and_gone() {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), b"too long", &[]).unwrap();
        send(ours.as_fd(), b"next", &[]).unwrap();
        let cut = recv(theirs.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(cut.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(recv(theirs.as_fd(), &mut [0; 4]).unwrap().unwrap().len, 4);
    }

    #[test]
    fn shutting_down_is_seen_past_a_copy() {
        let (ours, theirs) = pair().unwrap();
        let _copy = ours.try_clone().unwrap();
        shut_down(ours.as_fd()).unwrap();
        assert!(recv(theirs.as_fd(), &mut [0; 4]).unwrap().is_none());
    }
}
