//! What is on the wire: subjects, and the payloads of words and keys.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Side};
use crate::error::Error;
use crate::protocol::{Chunks, Ending, Incarnation, Key, LONGEST, SHORTEST, Word};

/// How a function is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Function {
    /// By its place in the build that the subject names.
    Place(u64),
    /// By its name, among workers of other languages.
    Named(String),
}

/// Priority classes, 0 the most urgent.
pub(crate) const CLASSES: u8 = 4;

/// An input or a value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    Inline(Bytes),
    Blob(Blob),
}

/// The payload of a queued word.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) attempt: u32,
    /// The name of the job's key.
    pub(crate) job: String,
    pub(crate) function: Function,
    pub(crate) timeout: Option<Duration>,
    /// Whether an attempt may follow one that ran out of time: its outcome waits for its end.
    pub(crate) again_after_timeout: bool,
    /// Whether nothing is to run beside it in its worker.
    pub(crate) alone: bool,
    /// In a durable job, what tells this function and input from others; else 0.
    pub(crate) item: u128,
    /// Whether the input is a list of [`Input`].
    pub(crate) group: bool,
    pub(crate) input: Body,
}

/// An item of a group: its place among the items that the word began with, and its input.
pub(crate) type Input = (u32, Bytes);

/// What became of an item of a group. The value of a group's outcome is a list of them.
pub(crate) type Ended = (u32, Ending, Result<Bytes, Bytes>);

/// The payload of a claim or an outcome.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Written {
    Claim {
        node: String,
        life: Incarnation,
        lease: u64,
        nonce: u64,
        attempt: u32,
        item: u128,
        /// Bytes that mean nothing: a stream at its limit takes what is smaller than what it
        /// replaces, and so every outcome without a value.
        room: Bytes,
    },
    Outcome {
        node: String,
        nonce: u64,
        attempt: u32,
        item: u128,
        ending: Ending,
        /// Microseconds that the longest run in it took.
        longest: u32,
        result: Result<Body, Bytes>,
    },
}

/// Bytes by which a claim is larger than the smallest outcome: an error's text fits in.
pub(crate) const ROOM: usize = 512;

/// The payload of a message to a node: it is to read words of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Hint {
    /// Of one task.
    Task { job: u128, n: u64 },
    /// Of all tasks of a job.
    Job { job: u128 },
}

/// The value of a job's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JobKey {
    pub(crate) key: Key,
    /// The number that is in the subjects of its tasks.
    pub(crate) job: u128,
    /// Whether it outlives its holder.
    pub(crate) durable: bool,
    /// Whether a process holds it.
    pub(crate) held: bool,
    /// The outcomes of all tasks below were taken by the caller.
    pub(crate) taken: u64,
    /// Tasks that are over: ranges, each with its end outside.
    pub(crate) purged: Vec<(u64, u64)>,
    /// The lease, in nanoseconds.
    pub(crate) lease: u64,
    /// Whose it is: host and process.
    pub(crate) holder: String,
}

impl JobKey {
    /// What is taken for the key of a job whose key cannot be read.
    pub(crate) fn unread(job: u128) -> Self {
        let key = Key { incarnation: Incarnation { id: 0, created: 0 }, serial: 0, alive: true };
        let (durable, held, taken, purged) = (false, false, 0, Vec::new());
        let holder = String::new();
        Self { key, job, durable, held, taken, purged, lease: LONGEST, holder }
    }

    /// Whether task `n` of job `job` is still wanted.
    pub(crate) fn wants(&self, job: u128, n: u64) -> bool {
        let over = |&(from, to): &(u64, u64)| (from..to).contains(&n);
        self.key.alive && self.job == job && !self.purged.iter().any(over)
    }
}

/// A locked file: which one, of which boot of which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockId {
    pub(crate) boot: u128,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// 128 random bits that its holder wrote into it.
    pub(crate) token: u128,
}

/// The value of a node's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeKey {
    pub(crate) key: Key,
    /// The lease, in nanoseconds.
    pub(crate) lease: u64,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) build: String,
    pub(crate) processes: u32,
    pub(crate) places: u32,
    pub(crate) taken: u32,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    /// Seconds since the server last answered a request for tasks.
    pub(crate) pull_seconds: u64,
    pub(crate) draining: bool,
    /// The file that every process of this life holds locked, on its machine.
    pub(crate) lock: Option<LockId>,
}

impl NodeKey {
    /// What an observer writes over the key of a life that is over.
    pub(crate) fn tombstone(key: Key, lease: u64) -> Self {
        Self {
            key,
            lease,
            host: String::new(),
            pid: 0,
            build: String::new(),
            processes: 0,
            places: 0,
            taken: 0,
            done: 0,
            failed: 0,
            lost: 0,
            pull_seconds: 0,
            draining: false,
            lock: None,
        }
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Plain data in memory: only a failing `Serialize` could refuse, and these are derived.
    postcard::to_stdvec(value).map(Bytes::from).unwrap_or_default()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// Returns what tells a function with its input from every other.
pub(crate) fn item_of(function: &Function, input: &[u8]) -> u128 {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&encode(function));
    context.update(input);
    let mut first = [0; 16];
    first.copy_from_slice(&context.finish().as_ref()[..16]);
    u128::from_le_bytes(first)
}

/// Returns the item that a stored word is of; `None` where it cannot be read.
pub(crate) fn item(subject: &str, payload: &[u8]) -> Option<u128> {
    match subject.split('.').nth(2)? {
        "q" => decode::<Queued>(payload).map(|queued| queued.item),
        _ => decode::<Written>(payload).map(|written| match written {
            Written::Claim { item, .. } | Written::Outcome { item, .. } => item,
        }),
    }
}

/// Returns the name of a durable job's key.
pub(crate) fn durable_key(name: &str) -> String {
    format!("d-{name}")
}

/// Reads the number of a job that is not durable in its key's name, which is also how subjects have it.
pub(crate) fn number_of_key(key: &str) -> Option<u128> {
    let job = u128::from_str_radix(key, 16).ok()?;
    (key == format!("{job:032x}")).then_some(job)
}

/// Returns a durable job's name, or the number of another, by its key's name.
pub(crate) fn name_of_key(key: &str) -> &str {
    key.strip_prefix("d-").unwrap_or(key)
}

/// One task's place in the subjects of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    pub(crate) class: u8,
    pub(crate) build: String,
    pub(crate) job: u128,
    pub(crate) n: u64,
}

impl Tail {
    pub(crate) fn chunk(&self) -> u64 {
        Chunks::of(self.n)
    }

    fn text(&self) -> String {
        let Self { class, build, job, n } = self;
        format!("{class}.{build}.{job:032x}.{}.{n}", self.chunk())
    }

    /// Reads the tail of `aiopool.<pool>.<q or w>.<tail>`; `None` for any other subject.
    pub(crate) fn parse(subject: &str) -> Option<Self> {
        let parts: Vec<&str> = subject.split('.').collect();
        let [_, _, _, class, build, job, chunk, n] = parts[..] else { return None };
        let job = u128::from_str_radix(job, 16).ok()?;
        let tail =
            Self { class: class.parse().ok()?, build: build.into(), job, n: n.parse().ok()? };
        (chunk.parse() == Ok(tail.chunk())).then_some(tail)
    }

    /// Whether a subject is that of the task's word, and not of another class, build or chunk.
    pub(crate) fn is_of(&self, subject: &str) -> bool {
        subject.strip_suffix(&self.text()).is_some_and(|before| before.ends_with('.'))
    }
}

/// Reads the task's number in a subject of its word.
pub(crate) fn number(subject: &str) -> Option<u64> {
    subject.rsplit('.').next()?.parse().ok()
}

/// The names of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) pool: String,
}

/// What the stream of large inputs and values is named, after the pool's own.
const BLOBS: &str = "_BLOBS";

/// What may be a pool's, a node's or a version's name.
pub(crate) const TOKEN: &str = "1 to 32 letters, digits, '-' and '_'";

impl Names {
    /// Takes the name of a pool.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for what can be no pool's.
    pub(crate) fn of(pool: &str) -> Result<Self, Error> {
        let allowed = if !is_token(pool) {
            TOKEN.to_owned()
        } else if let Some(other) = pool.strip_suffix(BLOBS) {
            format!("it may not end with {BLOBS}: a stream of the pool {other} has that name")
        } else {
            return Ok(Self { pool: pool.to_owned() });
        };
        Err(Error::InvalidOption { name: "pool", value: pool.to_owned(), allowed })
    }

    pub(crate) fn stream(&self) -> String {
        format!("AIOPOOL_{}", self.pool)
    }

    pub(crate) fn queue(&self, tail: &Tail) -> String {
        format!("aiopool.{}.q.{}", self.pool, tail.text())
    }

    pub(crate) fn written(&self, tail: &Tail) -> String {
        format!("aiopool.{}.w.{}", self.pool, tail.text())
    }

    /// The one subject by which every swap of a task is decided.
    pub(crate) fn swap(&self, tail: &Tail) -> String {
        format!("aiopool.{}.*.{}", self.pool, tail.text())
    }

    pub(crate) fn of_job(&self, job: u128) -> String {
        format!("aiopool.{}.*.*.*.{job:032x}.>", self.pool)
    }

    pub(crate) fn of_chunk(&self, job: u128, chunk: u64) -> String {
        format!("aiopool.{}.*.*.*.{job:032x}.{chunk}.*", self.pool)
    }

    pub(crate) fn written_of_job(&self, job: u128) -> String {
        format!("aiopool.{}.w.*.*.{job:032x}.>", self.pool)
    }

    pub(crate) fn queued_of_job(&self, job: u128) -> String {
        format!("aiopool.{}.q.*.*.{job:032x}.>", self.pool)
    }

    pub(crate) fn of_task(&self, job: u128, n: u64) -> String {
        format!("aiopool.{}.*.*.*.{job:032x}.{}.{n}", self.pool, Chunks::of(n))
    }

    pub(crate) fn queues(&self, class: u8, build: &str) -> String {
        format!("aiopool.{}.q.{class}.{build}.>", self.pool)
    }

    /// The stream of large inputs and values.
    pub(crate) fn blobs(&self) -> String {
        format!("AIOPOOL_{}{BLOBS}", self.pool)
    }

    pub(crate) fn blob(&self, job: u128, n: u64, side: Side, piece: u32) -> String {
        let (chunk, side) = (Chunks::of(n), side.token());
        format!("aiopool.{}.b.{job:032x}.{chunk}.{n}.{side}.{piece}", self.pool)
    }

    pub(crate) fn blobs_of_job(&self, job: u128) -> String {
        format!("aiopool.{}.b.{job:032x}.>", self.pool)
    }

    pub(crate) fn blobs_of_chunk(&self, job: u128, chunk: u64) -> String {
        format!("aiopool.{}.b.{job:032x}.{chunk}.>", self.pool)
    }

    pub(crate) fn blobs_of_task(&self, job: u128, n: u64) -> String {
        format!("aiopool.{}.b.{job:032x}.{}.{n}.>", self.pool, Chunks::of(n))
    }

    /// Where a node is told to read words.
    pub(crate) fn hints(&self, node: &str) -> String {
        format!("aiopool.{}.x.{node}", self.pool)
    }

    pub(crate) fn node_key(&self, node: &str) -> String {
        format!("{}.{node}", self.pool)
    }

    pub(crate) fn job_key(&self, job: &str) -> String {
        format!("{}.{job}", self.pool)
    }
}

/// Whether `text` may be one part of a subject.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Returns what another wrote as it may be shown: without what a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Whether this may be a lease, in nanoseconds.
pub(crate) fn is_lease(lease: u64) -> bool {
    (SHORTEST..=LONGEST).contains(&lease)
}

/// Reads what a stored message says: its subject tells queued from written. A claim of what can be no
/// node, or for longer than any, would be waited for without an end.
pub(crate) fn word(seq: u64, subject: &str, payload: &[u8]) -> Option<Word> {
    match subject.split('.').nth(2)? {
        "q" => {
            decode::<Queued>(payload).map(|queued| Word::Queued { seq, attempt: queued.attempt })
        }
        "w" => match decode(payload)? {
            Written::Claim { node, lease, .. } if !is_token(&node) || !is_lease(lease) => None,
            Written::Claim { life, nonce, attempt, .. } => {
                Some(Word::Claimed { seq, attempt, incarnation: life.id, nonce })
            }
            Written::Outcome { attempt, ending, .. } => Some(Word::Done { seq, attempt, ending }),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_comes_back_and_garbage_is_none() {
        let names = Names { pool: "p".into() };
        let tail = Tail { class: 1, build: "ab".into(), job: 77, n: 5000 };
        assert_eq!(Tail::parse(&names.queue(&tail)), Some(tail.clone()));
        for wrong in ["", "a.b.c", "aiopool.p.q.x.b.1.0.1", "aiopool.p.q.0.b.1.9.1", "...q....."] {
            assert_eq!(Tail::parse(wrong), None, "{wrong}");
        }
        assert!(tail.is_of(&names.written(&tail)));
        for (class, build, n) in [(2, "ab", 5000), (1, "ac", 5000), (1, "ab", 9000)] {
            let other = Tail { class, build: build.into(), n, ..tail.clone() };
            assert!(!tail.is_of(&names.written(&other)), "{other:?}");
        }
        assert_eq!(word(1, &names.queue(&tail), b"\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(word(1, "x", b""), None);
    }

    #[test]
    fn a_jobs_number_is_read_as_it_is_written() {
        let number = 0xff_u128;
        assert_eq!(number_of_key(&format!("{number:032x}")), Some(number));
        let plus = format!("+{:031x}", 1);
        for wrong in ["ff", "", "d-ff", &plus, &"F".repeat(32)] {
            assert_eq!(number_of_key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_pools_have_no_stream_in_common() {
        for pool in ["x_BLOBS", "_BLOBS", "x_BLOBS_BLOBS"] {
            let text = Names::of(pool).unwrap_err().to_string();
            assert!(text.contains(pool) && text.contains("_BLOBS"), "{text}");
        }
        for pool in ["x", "x_blobs", "BLOBS", "x-BLOBS", "_BLOBS_", "NODES", "JOBS"] {
            let names = Names::of(pool).unwrap();
            let own = [names.stream(), names.blobs()];
            for other in ["x", "NODES", "KV_AIOPOOL_NODES", "BLOBS"].map(|o| Names::of(o).unwrap())
            {
                let theirs = [other.stream(), other.blobs(), "KV_AIOPOOL_JOBS".to_owned()];
                let same = own.iter().any(|own| theirs.contains(own));
                assert_eq!(same, pool == other.pool, "{pool} and {}", other.pool);
            }
        }
    }

    #[test]
    fn a_token_is_no_wildcard() {
        assert!(is_token("a-B_9"));
        for wrong in ["", "a.b", "*", ">", "a b", "ü", &"x".repeat(33)] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }
}
