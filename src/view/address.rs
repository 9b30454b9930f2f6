//! The observer's end: which pools there are, and what one of them answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::place::{Seat, check, directories};
use super::request::Request;
use crate::error::{Error, Result};
use crate::sys::socket;

/// Time for an answer: a host that is stopped gives none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the largest answer that is taken: one of sixty thousand workers has less.
const MAX_ANSWER: u64 = 64 << 20;

/// A pool that listens for observers.
#[derive(Clone, Debug)]
pub struct Address {
    seat: Seat,
    path: PathBuf,
}

/// Returns the pools of this user that listen, by host and number. One that a killed host has left
/// may be among them; [`ask`](Address::ask) says so.
#[must_use]
pub fn pools() -> Vec<Address> {
    let mut found = Vec::new();
    for directory in directories() {
        if check(&directory).is_err() {
            continue;
        }
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if let Some(seat) = entry.file_name().to_str().and_then(Seat::of_file) {
                found.push(Address { seat, path: entry.path() });
            }
        }
    }
    found.sort_by_key(|address| (address.seat.pid, address.seat.number));
    found
}

impl Address {
    /// Returns the host's process id.
    #[must_use]
    pub fn host_pid(&self) -> u32 {
        self.seat.pid
    }

    /// Returns the pool's number among those of its host, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.seat.number
    }

    /// Returns the pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    /// Returns whether `word`, the name of a pool or the process id of a host, means this pool.
    #[must_use]
    pub fn is_called(&self, word: &str) -> bool {
        self.seat.name == word || word.parse() == Ok(self.seat.pid)
    }

    /// Connects to the pool.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if no host listens there, or one that is stopped and has thousands of
    /// observers waiting.
    pub fn connect(&self) -> Result<Observer> {
        let stream = socket::connect(&self.path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| self.refused("connect to", error))?;
        Ok(Observer { address: self.clone(), stream: BufReader::new(stream) })
    }

    /// Connects, and returns one [`Snapshot`](super::Snapshot) as JSON.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect) and [`Observer::ask`].
    pub fn ask(&self) -> Result<String> {
        self.connect()?.ask()
    }

    fn refused(&self, what: &str, error: io::Error) -> Error {
        let Seat { pid, number, name } = &self.seat;
        let hint = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ", which does not answer: is \
                its host stopped?"
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ", which has ended",
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => {
                ", which has ended, or has as many observers as \
                it takes"
            }
            _ => "",
        };
        Error::system(format!("{what} pool {number} ({name}) of process {pid}{hint}"), error)
    }
}

/// A connection to a pool, for more than one question.
#[derive(Debug)]
pub struct Observer {
    address: Address,
    stream: BufReader<UnixStream>,
}

impl Observer {
    /// Returns the pool as it is now: a [`Snapshot`](super::Snapshot) as one line of JSON.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the pool has ended, does not answer within two seconds, or has 16
    /// observers already.
    pub fn ask(&mut self) -> Result<String> {
        let answer = self.exchange(Request::Snapshot, 2 * PATIENCE);
        answer.map_err(|error| self.address.refused("ask", error))
    }

    /// Has the pool traced for `time`, at most ten minutes, and returns the timeline that
    /// [`Pool::trace`](crate::Pool::trace) writes into a file: of every `every`-th task, and of the
    /// last 65,536 polls.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask); at most four observers have a pool traced at once.
    pub fn trace(&mut self, time: Duration, every: u32) -> Result<String> {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // A timeline is made and sent in a few seconds.
        let limit = time.saturating_add(10 * PATIENCE);
        let stream = self.stream.get_ref();
        let traced = stream
            .set_read_timeout(Some(limit))
            .and_then(|()| self.exchange(Request::Trace { time_ns, every: every.max(1) }, limit));
        let again = self.stream.get_ref().set_read_timeout(Some(PATIENCE));
        let traced = traced.and_then(|text| again.map(|()| text));
        traced.map_err(|error| self.address.refused("trace", error))
    }

    fn exchange(&mut self, request: Request, limit: Duration) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{}\n", request.to_line()).as_bytes())?;
        let (mut line, begun) = (Vec::new(), Instant::now());
        // Piece by piece: each reading has a limit, and all of them together have one.
        while line.last() != Some(&b'\n') {
            let room = MAX_ANSWER - line.len() as u64;
            let read = self.stream.by_ref().take(room.min(1 << 16)).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if begun.elapsed() > limit {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        String::from_utf8(line).map_err(io::Error::other)
    }
}
