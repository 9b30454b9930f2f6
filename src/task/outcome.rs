//! The outcome of a task as the host holds it: bytes or an error, not yet decoded.

use std::borrow::Cow;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::shm::PrivateMap;
use crate::table::{OutputDesc, Place};

use super::codec;
use super::error::TaskError;
use super::failure::Status;

/// Bytes that are carried without an allocation. An outcome is moved a few times on its way to its
/// receiver: more would cost every task what few of them need.
pub(crate) const INLINE: usize = 23;

/// Bytes that stay in shared memory until this is dropped.
///
/// The bytes are in memory that the worker could still, wrongly, write. So Rust callers get a copy;
/// only the C API hands out the address.
pub trait Lent: Send + Sync {
    /// Returns where they are in this process, and how many.
    fn address(&self) -> (*const u8, usize);

    /// Returns a copy of them.
    fn copy(&self) -> Vec<u8>;

    /// Copies as many of them as `into` has, from the first on; all of `into` is initialised then.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    fn copy_to(&self, into: &mut [MaybeUninit<u8>]);

    /// Maps them as memory of this process alone; see `Region::map_copy`.
    ///
    /// # Errors
    ///
    /// As mmap.
    fn map_copy(&self) -> io::Result<PrivateMap>;
}

/// Eight bytes, where one instruction can move them.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub struct Eight(pub [u8; 8]);

/// An output's bytes.
// A word says which, as in `TaskError`.
#[derive(Clone)]
#[repr(u64)]
pub enum Payload {
    /// Up to eight bytes.
    Word {
        /// How many of them count.
        len: u8,
        /// The bytes.
        bytes: Eight,
    },
    /// Few bytes, without an allocation.
    Inline {
        /// How many of them count.
        len: u8,
        /// The bytes.
        bytes: [u8; INLINE],
    },
    /// Many bytes.
    Heap(Vec<u8>),
    /// Where the worker has put them.
    Lent(Arc<dyn Lent>),
}

impl Payload {
    /// Returns what `output` holds itself.
    #[inline]
    pub(crate) fn in_word(output: OutputDesc) -> Option<Self> {
        match output.place {
            Place::Word(word) if output.len as usize <= size_of_val(&word) => {
                Some(Self::Word { len: output.len as u8, bytes: Eight(word.to_le_bytes()) })
            }
            _ => None,
        }
    }

    /// Returns the bytes; a copy of those that are lent.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Lent(lent) => Cow::Owned(lent.copy()),
            here => Cow::Borrowed(here.bytes_here().unwrap_or_default()),
        }
    }

    /// Returns the bytes, unless they are lent.
    pub(crate) fn bytes_here(&self) -> Option<&[u8]> {
        match self {
            Self::Word { len, bytes } => Some(&bytes.0[..usize::from(*len)]),
            Self::Inline { len, bytes } => Some(&bytes[..usize::from(*len)]),
            Self::Heap(bytes) => Some(bytes),
            Self::Lent(_) => None,
        }
    }

    /// Returns where the bytes are, and how many; valid as long as this is.
    pub(crate) fn address(&self) -> (*const u8, usize) {
        match self {
            Self::Word { len, bytes } => (bytes.0.as_ptr(), usize::from(*len)),
            Self::Inline { len, bytes } => (bytes.as_ptr(), usize::from(*len)),
            Self::Heap(bytes) => (bytes.as_ptr(), bytes.len()),
            Self::Lent(lent) => lent.address(),
        }
    }

    /// Returns the value that they are.
    pub(crate) fn decode<T: DeserializeOwned + 'static>(self) -> Result<T, String> {
        match self {
            Self::Heap(bytes) => codec::decode_owned(bytes),
            Self::Lent(lent) => codec::decode_owned(lent.copy()),
            Self::Word { len, bytes } => codec::decode(&bytes.0[..usize::from(len)]),
            Self::Inline { len, bytes } => codec::decode(&bytes[..usize::from(len)]),
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.address().1)
    }
}

// An outcome is moved from list to list: it fits a cache line.
const _: () = assert!(size_of::<Outcome>() <= 64);

/// What a task ended with, and what is known about the way there.
#[derive(Debug)]
pub struct Outcome {
    /// The encoded value, or why there is none.
    pub result: Result<Payload, TaskError>,
    /// Attempts made. The C API reports them; in Rust only the error of a lost worker has them.
    pub(crate) attempts: u32,
    /// From the submission to the start of the last attempt, in nanoseconds.
    pub(crate) waited_ns: u64,
    /// How long the last attempt ran, in nanoseconds.
    pub(crate) ran_ns: u64,
}

impl Outcome {
    /// Returns an outcome without times.
    pub(crate) fn error(error: TaskError, attempts: u32) -> Self {
        Self { result: Err(error), attempts, waited_ns: 0, ran_ns: 0 }
    }

    /// Returns the time from the submission to the start of the last attempt.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_ns)
    }

    /// Returns how long the last attempt ran.
    pub(crate) fn ran(&self) -> Duration {
        Duration::from_nanos(self.ran_ns)
    }

    /// Returns the value, decoded.
    pub(crate) fn decode<T: DeserializeOwned + 'static>(self) -> Result<T, TaskError> {
        self.result?.decode().map_err(TaskError::Value)
    }
}

/// Returns what a worker's status and bytes say about a task.
#[inline]
pub(crate) fn interpret(status: u8, payload: Payload) -> Result<Payload, TaskError> {
    if status == Status::Ok as u8 { Ok(payload) } else { Err(error_of(status, payload)) }
}

#[cold]
fn error_of(status: u8, payload: Payload) -> TaskError {
    let text = |payload: &Payload| String::from_utf8_lossy(&payload.bytes()).into_owned();
    match Status::from_bits(status) {
        Some(Status::Failed) => match payload.decode() {
            Ok(failure) => TaskError::Failed(failure),
            Err(reason) => TaskError::Corrupt(format!("an error that cannot be read: {reason}")),
        },
        Some(Status::Panicked) => match payload.decode() {
            Ok(panic) => TaskError::Panicked(panic),
            Err(reason) => TaskError::Corrupt(format!("a panic that cannot be read: {reason}")),
        },
        Some(Status::Undecodable | Status::UnknownFunction) => TaskError::Refused(text(&payload)),
        Some(Status::Unencodable) => TaskError::Value(text(&payload)),
        Some(Status::OutputSpace) => TaskError::OutputSpace(text(&payload)),
        Some(Status::Cancelled) => TaskError::Cancelled,
        Some(Status::Damaged) => TaskError::Corrupt(format!("a worker: {}", text(&payload))),
        Some(Status::Ok) | None => {
            TaskError::Corrupt(format!("unknown status {status} of an output"))
        }
    }
}
