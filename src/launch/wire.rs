//! What is said between host, zygote and executed workers, and how it is framed.
//!
//! All of it is postcard; descriptors travel beside the bytes, in the order each message names.
//! Both ends are one build: the framing only has to tell that it is so.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ForkOrder, Sandbox};
use crate::sys::image::Image;
use crate::table::WorkerId;
use crate::task::WorkerExit;
use crate::view::shortened;

/// Names the descriptor of a zygote's line to its host, in the zygote's environment.
pub(super) const ZYGOTE_VARIABLE: &str = "AIOPOOL_ZYGOTE";
/// Names the same in the environment of a program that is one pool's zygote.
pub(super) const TEMPLATE_VARIABLE: &str = "AIOPOOL_TEMPLATE";
/// Names the descriptor of an executed worker's [`Handover`], in the worker's environment.
pub(super) const WORKER_VARIABLE: &str = "AIOPOOL_WORKER";

/// Opens a [`Greeting`].
pub(super) const ZYGOTE_MAGIC: [u8; 8] = *b"aiopoolZ";
/// Opens a [`Handover`].
pub(super) const WORKER_MAGIC: [u8; 8] = *b"aiopoolW";
/// Grows with every change of [`Greeting`] or [`Handover`].
const LAYOUT: u32 = 4;

/// No message is longer: reasons are cut, a path has at most 4096 bytes, and what may be larger
/// travels in a memfd.
pub(super) const LONGEST: usize = 8192;
/// Where a reason is cut.
const LONGEST_REASON: usize = 2048;

/// Which build of this library a process has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Build {
    /// The crate's version.
    pub version: String,
    /// The file this library was loaded from.
    pub path: PathBuf,
    /// What tells that file from every other.
    pub identity: String,
}

impl Build {
    /// Returns the build that `image` is, which is this very one.
    pub(super) fn own(image: &Image) -> io::Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path: image.path.clone(),
            identity: image.identity()?,
        })
    }
}

/// Host → executed zygote, with the host's pidfd: the first message on its line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// Which copy of the library is meant.
    pub build: Build,
    /// The library came by `LD_PRELOAD`, of which it is the last element.
    pub preloaded: bool,
    /// Keep the inherited descriptors, for workers of pools that keep them.
    pub keep_fds: bool,
}

/// Zygote → host: its first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hello {
    /// It serves.
    Ready {
        /// Its process id.
        pid: u32,
    },
    /// It ends now.
    Refused(String),
}

/// Host → zygote, on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// A new pool; with the zygote's end of its line.
    NewPool,
}

/// Host → zygote, on a pool's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// The pool, as a memfd with its [`PoolSpec`](super::PoolSpec) and what the host is, the root
    /// and the working directory, request arena, host's and
    /// supervisor's doorbells, the timer and the socket for logs where the pool has them, control
    /// regions, workers' doorbells: `fds` in all, the first of
    /// them beside this.
    Open {
        /// How many descriptors there are.
        fds: u32,
    },
    /// More of the pool's descriptors.
    More,
    /// Start a worker; with its result arena.
    Fork(ForkOrder),
    /// Kill a worker's process group, if it is that incarnation's.
    Kill(WorkerId),
    /// A new control region for a queue.
    Control {
        /// Which queue.
        queue: u32,
    },
}

/// Zygote → host, on a pool's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// To `Open` and `More`: all is there.
    Opened,
    /// To `Open` and `More`: the pool cannot be had.
    Refused(String),
    /// To `Fork`; with the worker's pidfd.
    Forked {
        /// Which one.
        id: WorkerId,
        /// Its process id.
        pid: u32,
    },
    /// To `Fork`: no process came to be.
    ForkFailed {
        /// Which one.
        id: WorkerId,
        /// What was refused.
        reason: String,
    },
    /// A worker is dead and reaped.
    Died {
        /// Which one.
        id: WorkerId,
        /// The process id it had.
        pid: u32,
        /// What it ended with.
        exit: WorkerExit,
        /// Another one would not start either.
        is_final: bool,
        /// Processor time that it used, in nanoseconds.
        cpu_ns: u64,
    },
}

/// Worker → zygote, on the start line that all workers of a zygote share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// The worker, as the zygote knows it.
    pub pid: u32,
    /// An error is why it ends now, before its loop.
    pub result: Result<(), String>,
    /// Another process of the same program would end for the same reason.
    pub is_final: bool,
}

/// Zygote → executed worker, in a sealed memfd after [`WORKER_MAGIC`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handover {
    /// Taken over by the constructor before `main`; otherwise left for `attach`.
    pub before_main: bool,
    /// Whose zygote it is.
    pub build: Build,
    /// The library comes by `LD_PRELOAD`, of which it is the last element.
    pub preloaded: bool,
    /// The zygote's process id.
    pub zygote: u32,
    /// The process id with which the worker was forked.
    pub pid: u32,
    /// Which worker, and where its lanes go on.
    pub order: ForkOrder,
    /// Start line, control region, request arena, result arena, host's and supervisor's
    /// doorbells, the socket for logs where there is one, then the doorbells of the queue by slot.
    pub fds: Vec<i32>,
    /// Whether there is a socket for logs.
    pub logs: bool,
    /// What the worker keeps open to its end, without a use for it.
    pub held: Option<i32>,
    /// The pool's worker configuration.
    pub config: Vec<u8>,
    /// The C library's locale in the host, which executing a program loses.
    pub locale: Option<CString>,
    /// Whether other processes of its user may look into it, which executing a program grants.
    pub dumpable: bool,
    /// What a worker that starts before `main` is forbidden.
    pub sandbox: Option<Sandbox>,
}

/// Returns the bytes of a message.
pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data of bounded size can be encoded")
}

/// Returns the message in `bytes`; `None` when it is no such message.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// Returns the bytes of a first message, which says what it is before it is decoded.
pub(super) fn encode_first<T: Serialize>(magic: [u8; 8], message: &T) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(LAYOUT.to_le_bytes());
    bytes.extend(encode(message));
    bytes
}

/// Returns the first message in `bytes`, if it is one, of this layout.
pub(super) fn decode_first<T: DeserializeOwned>(magic: [u8; 8], bytes: &[u8]) -> Option<T> {
    decode(bytes.strip_prefix(&magic)?.strip_prefix(&LAYOUT.to_le_bytes())?)
}

/// Returns a reason that fits into any message.
pub(super) fn reason(text: impl ToString) -> String {
    shortened(text.to_string(), LONGEST_REASON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_of_another_kind_or_layout_is_none() {
        let bytes = encode_first(ZYGOTE_MAGIC, &Call::NewPool);
        assert_eq!(decode_first(ZYGOTE_MAGIC, &bytes), Some(Call::NewPool));
        assert_eq!(decode_first::<Call>(WORKER_MAGIC, &bytes), None);
        let mut other = bytes;
        other[8] ^= 1;
        assert_eq!(decode_first::<Call>(ZYGOTE_MAGIC, &other), None);
        assert_eq!(decode_first::<Call>(ZYGOTE_MAGIC, b"aiopool"), None);
    }

    #[test]
    fn the_longest_reason_fits_into_a_message() {
        let cut = reason("ü".repeat(LONGEST));
        assert!(cut.ends_with("ü…"));
        let id = WorkerId { queue: u16::MAX, slot: u16::MAX, incarnation: u32::MAX };
        let exit = WorkerExit::NotStarted { reason: cut };
        let (pid, cpu_ns, is_final) = (u32::MAX, u64::MAX, true);
        let died = Answer::Died { id, pid, exit, is_final, cpu_ns };
        assert!(encode(&died).len() <= LONGEST);
    }
}
