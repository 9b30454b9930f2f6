//! What a handle of a cluster, or of a durable job, has while it is not freed.
//!
//! A task's future is polled only by calls of Python's that submit and that receive: what wakes it, the
//! handle's thread, puts its token into a queue and rings. No thread of Rust's calls Python.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use aiopool::{TaskError, TaskOptions};
use aiopool_cluster::{Cluster, ClusterError, Job, Task};
use bytes::Bytes;

use crate::pool::{CALL, Which};

/// Stands in the queue for the end of the job.
pub(crate) const END: u64 = u64::MAX;

/// What has come, for the loop that watches the descriptor.
#[derive(Debug)]
struct Arrivals {
    /// As long as something is in it, a byte is on its way from `bell` to `watched`.
    queue: Mutex<VecDeque<u64>>,
    bell: UnixStream,
    watched: UnixStream,
}

impl Arrivals {
    fn new() -> std::io::Result<Self> {
        let (bell, watched) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        watched.set_nonblocking(true)?;
        Ok(Self { queue: Mutex::default(), bell, watched })
    }

    fn push(&self, token: u64) {
        let mut queue = lock(&self.queue);
        queue.push_back(token);
        if queue.len() == 1 {
            self.ring();
        }
    }

    fn ring(&self) {
        // There is room for it: no more than one byte is ever there.
        let _ = (&self.bell).write(&[1]);
    }

    /// Takes up to `limit` tokens.
    fn take(&self, limit: usize) -> Vec<u64> {
        let mut queue = lock(&self.queue);
        if queue.is_empty() {
            return Vec::new();
        }
        let count = limit.min(queue.len());
        let taken = queue.drain(..count).collect();
        if queue.is_empty() {
            let _ = (&self.watched).read(&mut [0]);
        }
        taken
    }
}

/// Puts a token into the queue.
struct Token(u64, Arc<Arrivals>);

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        self.1.push(self.0);
    }
}

/// A task whose outcome was not given yet.
enum Out {
    Waits(Task<Bytes>),
    Over(Result<Bytes, ClusterError>, u32),
}

type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What submits: the cluster's own job, or a durable one.
#[derive(Debug)]
pub(crate) enum Submitter {
    Cluster(Cluster),
    Job(Job),
}

impl Deref for Submitter {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        match self {
            Self::Cluster(cluster) => cluster,
            Self::Job(job) => job,
        }
    }
}

impl Submitter {
    /// Returns the job, if it is a durable one.
    pub(crate) fn job(&self) -> Option<&Job> {
        match self {
            Self::Cluster(_) => None,
            Self::Job(job) => Some(job),
        }
    }
}

/// What there is while the job is not freed.
pub(crate) struct Handle {
    tasks: Mutex<HashMap<u64, Out>>,
    end: Mutex<End>,
    /// Whether the job's end was received: every outcome was before it.
    ended: AtomicBool,
    arrivals: Arc<Arrivals>,
    pub(crate) engine: Arc<Submitter>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    pub(crate) fn new(engine: Submitter) -> std::io::Result<Self> {
        let engine = Arc::new(engine);
        let ends = Arc::clone(&engine);
        let handle = Self {
            tasks: Mutex::default(),
            end: Mutex::new(Box::pin(async move { ends.join().await })),
            ended: AtomicBool::new(false),
            arrivals: Arc::new(Arrivals::new()?),
            engine,
        };
        handle.look_for_end();
        Ok(handle)
    }

    /// The descriptor that is readable while tokens wait.
    pub(crate) fn descriptor(&self) -> i32 {
        self.arrivals.watched.as_raw_fd()
    }

    /// Takes up to `limit` tokens of what has come.
    pub(crate) fn arrived(&self, limit: usize) -> Vec<u64> {
        self.arrivals.take(limit)
    }

    /// Whether the job has ended, and all outcomes were received.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether one more task can be out now.
    pub(crate) fn has_room(&self) -> bool {
        let stats = self.engine.stats();
        stats.outstanding < stats.capacity
    }

    fn waker(&self, token: u64) -> Waker {
        Waker::from(Arc::new(Token(token, Arc::clone(&self.arrivals))))
    }

    /// Looks whether the job has ended, and has its end wake us if not.
    pub(crate) fn look_for_end(&self) {
        let waker = self.waker(END);
        if lock(&self.end).as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.ended.store(true, Ordering::Release);
        }
    }

    /// Submits a task; `None` if there is no room.
    pub(crate) fn submit(
        &self,
        input: Bytes,
        options: TaskOptions,
        token: u64,
    ) -> Result<Option<Which>, ClusterError> {
        // The thread that receives the outcome finds the task.
        let mut tasks = lock(&self.tasks);
        // Looked at under the lock: a task that found no room would have had its number in a job.
        if !self.has_room() {
            return Ok(None);
        }
        let task = self.engine.with(options).apply_named(CALL, input);
        let mut task = task.submitted_now()?;
        let number = task.id();
        let waker = self.waker(token);
        let out = match pin!(&mut task).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => Out::Waits(task),
            Poll::Ready(outcome) => {
                self.arrivals.push(token);
                Out::Over(outcome, task.attempts())
            }
        };
        tasks.insert(token, out);
        Ok(Some(Which::There { token, number }))
    }

    /// Calls a task off; one of a durable job is let go of, and goes on. False if it was over.
    pub(crate) fn cancel(&self, token: u64) -> bool {
        let mut tasks = lock(&self.tasks);
        let Some(out) = tasks.get_mut(&token) else { return false };
        let Out::Waits(task) = out else { return false };
        if self.engine.job().is_none() {
            task.cancel();
        } else {
            *out = Out::Over(Err(TaskError::Cancelled.into()), task.attempts());
            self.arrivals.push(token);
        }
        true
    }

    /// Takes the outcome that a token says has come.
    pub(crate) fn outcome(&self, token: u64) -> Option<(Result<Bytes, ClusterError>, u32)> {
        let mut tasks = lock(&self.tasks);
        match tasks.remove(&token)? {
            Out::Over(outcome, attempts) => Some((outcome, attempts)),
            Out::Waits(mut task) => {
                let waker = self.waker(token);
                match pin!(&mut task).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(outcome) => Some((outcome, task.attempts())),
                    Poll::Pending => {
                        tasks.insert(token, Out::Waits(task));
                        None
                    }
                }
            }
        }
    }
}
