//! Waiting until a pool's workers, or a node of a cluster, can take tasks.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::prelude::*;

use crate::connection::of_package;
use crate::handle::lock;

/// Gives the exception where it can never be so.
type Wait = Pin<Box<dyn Future<Output = Result<(), Never>> + Send>>;

/// Makes the exception for what will never be so.
pub(crate) type Never = Box<dyn FnOnce(Python<'_>) -> PyErr + Send>;

/// A wait that an event loop, or a thread, watches.
#[pyclass(frozen, module = "aiopool._native")]
pub struct Ready {
    /// `None` once it was given up.
    wait: Mutex<Option<Wait>>,
    bell: Arc<Bell>,
    watched: UnixStream,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

struct Bell(UnixStream);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Where there is no room for it, bytes are there.
        let _ = (&self.0).write(&[1]);
    }
}

impl Ready {
    pub(crate) fn of(
        wait: impl Future<Output = Result<(), Never>> + Send + 'static,
    ) -> PyResult<Self> {
        let (bell, watched) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        watched.set_nonblocking(true)?;
        Ok(Self { wait: Mutex::new(Some(Box::pin(wait))), bell: Arc::new(Bell(bell)), watched })
    }
}

#[pymethods]
impl Ready {
    /// The descriptor that is readable when `poll` is to be called again.
    fn fileno(&self) -> i32 {
        self.watched.as_raw_fd()
    }

    /// Whether it is so; raises why it never will be.
    fn poll(&self, py: Python<'_>) -> PyResult<bool> {
        let _ = (&self.watched).read(&mut [0; 64]);
        // Making an exception runs Python's code, which may hand the interpreter to a thread that
        // waits for the lock: not while it is held.
        let ready = lock(&self.wait).as_mut().map(|future| {
            let waker = Waker::from(Arc::clone(&self.bell));
            future.as_mut().poll(&mut Context::from_waker(&waker))
        });
        match ready {
            None => Err(of_package(py, "PoolClosed", "the pool ended before it was ready")),
            Some(Poll::Pending) => Ok(false),
            Some(Poll::Ready(Ok(()))) => Ok(true),
            Some(Poll::Ready(Err(never))) => Err(never(py)),
        }
    }

    /// Ends the wait, and lets go of the pool; from any thread.
    fn give_up(&self, py: Python<'_>) {
        let wait = lock(&self.wait).take();
        // It may be the last that holds the pool.
        py.detach(|| drop(wait));
        Arc::clone(&self.bell).wake();
    }
}
