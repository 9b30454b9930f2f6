//! Answers observers: one thread, which exists while there are some. `view/README.md` has the
//! rules that keep them from slowing or stopping the pool.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::poll::{PollFd, poll};
use crate::view::{Listener, Request};

use super::Shared;
use super::traces::Session;

/// Observers at once; `top`, a dashboard and a few scripts are fewer.
const MOST: usize = 16;
/// Bytes of requests that are read at once.
const READ: usize = 256;
/// Observers that have the pool traced at once, at most.
const TRACES: usize = 4;
/// Entries that such a trace keeps: some tens of megabytes of text.
const TRACE_ENTRIES: usize = 1 << 16;
/// How old a snapshot may be that is given as an answer.
const FRESH_NS: u64 = 50_000_000;
/// How long an observer may take to read on, before it is disconnected.
const STALL_NS: u64 = 30_000_000_000;
/// How long the thread stays after the last observer.
const LINGER_NS: u64 = 2_000_000_000;

/// The listening socket of a pool, and the thread that serves it.
#[derive(Debug)]
pub(super) struct Viewers {
    listener: Arc<Listener>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Stop {
    bell: EventFd,
    /// The pool is about to end.
    now: AtomicBool,
    /// The thread attends to the listening socket. It says when it does so no more, before it wakes
    /// the supervisor: its own end comes later, and wakes nobody.
    attends: AtomicBool,
    /// The listening socket cannot be used any more.
    broken: AtomicBool,
}

impl Viewers {
    /// Returns what answers on `listener`; no thread runs until an observer comes.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        let stop = Stop {
            bell: EventFd::new()?,
            now: AtomicBool::new(false),
            attends: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        };
        Ok(Self { listener: Arc::new(listener), stop: Arc::new(stop), thread: None })
    }

    /// Returns what is readable when an observer comes, unless the thread attends to that.
    pub(super) fn waits_on(&self) -> Option<BorrowedFd<'_>> {
        // It may have panicked, which it does not say.
        let runs = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        let attends = runs && self.stop.attends.load(Ordering::Acquire);
        (!attends && !self.stop.broken.load(Ordering::Relaxed)).then(|| self.listener.as_fd())
    }

    /// An observer has come: starts the thread.
    pub(super) fn serve(&mut self, shared: &Arc<Shared>) {
        if let Some(ended) = self.thread.take() {
            let _ = ended.join();
        }
        let (of, listener, stop) =
            (Arc::clone(shared), Arc::clone(&self.listener), Arc::clone(&self.stop));
        stop.attends.store(true, Ordering::Relaxed);
        let thread =
            std::thread::Builder::new().name("aiopool-viewers".to_owned()).spawn(move || {
                let mut server = Server { clients: Vec::new(), last: None };
                if server.run(&of, &listener, &stop).is_err() {
                    stop.broken.store(true, Ordering::Relaxed);
                }
                // The supervisor waits for observers again.
                stop.attends.store(false, Ordering::Release);
                of.common.call_supervisor();
            });
        match thread {
            Ok(thread) => self.thread = Some(thread),
            // No thread is to be had: the observer is sent away, and may come again.
            Err(_) => drop(self.listener.accept()),
        }
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.stop.now.store(true, Ordering::Relaxed);
        let _ = self.stop.bell.ring_nonblocking();
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but its descriptors; this one is among them.
            let _ = thread.join();
        }
    }
}

struct Server {
    clients: Vec<Client>,
    /// The last snapshot, and when it was made.
    last: Option<(u64, Arc<[u8]>)>,
}

struct Client {
    stream: UnixStream,
    /// What came of a line that is not whole.
    line: Vec<u8>,
    /// An answer, and how much of it is written.
    answer: Option<(Arc<[u8]>, usize)>,
    /// When it last read something.
    moved: u64,
    /// A trace that it has asked for, and when that ends.
    trace: Option<(Session, u64)>,
}

impl Server {
    fn run(&mut self, shared: &Arc<Shared>, listener: &Listener, stop: &Stop) -> io::Result<()> {
        let mut alone_since = monotonic_ns();
        while !stop.now.load(Ordering::Relaxed) {
            let timeout = self.timeout();
            let clients = self.clients.len();
            let ready: Vec<bool> = {
                let mut fds =
                    vec![PollFd::readable(stop.bell.as_fd()), PollFd::readable(listener.as_fd())];
                fds.extend(self.clients.iter().map(Client::waits_on));
                poll(&mut fds, Some(Duration::from_nanos(timeout)))?;
                fds.iter().map(PollFd::is_ready).collect()
            };
            let now = monotonic_ns();
            let mut ready_clients = ready[2..].iter();
            let Self { clients: all, last } = self;
            let mut answer = || Self::answer(shared, last);
            let mut traces = all.iter().filter(|client| client.trace.is_some()).count();
            all.retain_mut(|client| {
                client.end_trace(now);
                let is_ready = *ready_clients.next().unwrap_or(&false);
                let mut begin = |every| {
                    traces += 1;
                    let most = if traces > TRACES { 0 } else { TRACE_ENTRIES };
                    (most > 0).then(|| Session::begin(shared, every, most).ok()).flatten()
                };
                let goes_on = !is_ready || client.serve(now, &mut answer, &mut begin).is_ok();
                goes_on && (client.answer.is_none() || now - client.moved < STALL_NS)
            });
            if ready[1] {
                self.accept(listener, now)?;
            }
            if clients > 0 || !self.clients.is_empty() {
                alone_since = now;
            } else if now - alone_since >= LINGER_NS {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns how long to wait for observers, in nanoseconds.
    fn timeout(&self) -> u64 {
        let now = monotonic_ns();
        let traces = self.clients.iter().filter_map(|client| client.trace.as_ref());
        let next = traces.map(|(_, until)| until.saturating_sub(now)).min();
        let usual = if self.clients.is_empty() { LINGER_NS } else { STALL_NS };
        next.map_or(usual, |next| next.min(usual))
    }

    fn accept(&mut self, listener: &Listener, now: u64) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok(Some(stream)) if self.clients.len() < MOST => {
                    self.clients.push(Client {
                        stream,
                        line: Vec::new(),
                        answer: None,
                        moved: now,
                        trace: None,
                    });
                }
                // One too many: it sees the end of its connection.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) if is_shortage(&error) => {
                    // It would be readable at once again.
                    std::thread::sleep(Duration::from_millis(100));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns a snapshot that is not too old.
    fn answer(shared: &Shared, last: &mut Option<(u64, Arc<[u8]>)>) -> Arc<[u8]> {
        let now = monotonic_ns();
        match last {
            Some((made, text)) if now - *made < FRESH_NS => Arc::clone(text),
            _ => {
                let line = shared.snapshot().to_json() + "\n";
                let text: Arc<[u8]> = line.into_bytes().into();
                *last = Some((monotonic_ns(), Arc::clone(&text)));
                text
            }
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}

impl Client {
    fn waits_on(&self) -> PollFd<'_> {
        match self.answer {
            Some(_) => PollFd::writable(self.stream.as_fd()),
            None => PollFd::readable(self.stream.as_fd()),
        }
    }

    /// Writes what is left of an answer, or reads a request.
    ///
    /// # Errors
    ///
    /// The observer is gone, or speaks of something else.
    fn serve(
        &mut self,
        now: u64,
        answer: &mut impl FnMut() -> Arc<[u8]>,
        begin: &mut impl FnMut(u32) -> Option<Session>,
    ) -> io::Result<()> {
        if self.answer.is_none() {
            let mut bytes = [0; READ];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.line.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.moved = now;
            // Several requests that come together have one answer.
            let whole = self.line.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let lines = self.line[..whole].split(|&byte| byte == b'\n');
            let requests = lines.filter(|line| !line.is_empty()).map(Request::of_line);
            let requests: Option<Vec<Request>> = requests.collect();
            let (Some(requests), true) = (requests, self.line.len() - whole <= Request::LONGEST)
            else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            self.line.drain(..whole);
            match (requests.last(), &self.trace) {
                (None, _) => {}
                (Some(Request::Snapshot), None) => self.answer = Some((answer(), 0)),
                (Some(&Request::Trace { time_ns, every }), None) => {
                    let session = begin(every).ok_or(io::ErrorKind::ResourceBusy)?;
                    self.trace = Some((session, now.saturating_add(time_ns)));
                }
                // It waits for a trace.
                (Some(_), Some(_)) => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        self.write(now)
    }

    /// The time of its trace is over: the answer is there.
    fn end_trace(&mut self, now: u64) {
        if let Some((session, _)) = self.trace.take_if(|(_, until)| *until <= now) {
            let mut text = Vec::new();
            // A vector takes everything.
            let _ = session.end().write(&mut text);
            text.push(b'\n');
            (self.answer, self.moved) = (Some((text.into(), 0)), now);
        }
    }

    fn write(&mut self, now: u64) -> io::Result<()> {
        while let Some((text, written)) = &mut self.answer {
            match self.stream.write(&text[*written..]) {
                Ok(more) => {
                    *written += more;
                    self.moved = now;
                    if *written == text.len() {
                        self.answer = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
