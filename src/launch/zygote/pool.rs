//! One pool, as the zygote keeps it: its line, its descriptors for respawns, what is to be said.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::snapshot::{Places, Snapshot};
use super::super::wire::{self, Answer, Order};
use super::super::{PoolSpec, StartMethod};
use super::follow;
use crate::sys::socket::{self, Received};
use crate::table::WorkerId;

/// A pool and its line.
#[derive(Debug)]
pub(super) struct ServedPool {
    /// Tells it from every other pool this zygote ever had.
    pub key: u64,
    line: OwnedFd,
    /// Descriptors that came so far, until all are there.
    arriving: Vec<OwnedFd>,
    expected: usize,
    /// What workers are made from, once all is there.
    pub kept: Option<KeptPool>,
    answers: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// The next answer did not go out, and not for want of room on the line.
    pub held_up: bool,
}

/// What workers are made from.
#[derive(Debug)]
pub(super) struct KeptPool {
    pub spec: PoolSpec,
    /// What the host was when it opened the pool.
    pub host: Snapshot,
    pub places: Places,
    pub requests: OwnedFd,
    pub host_bell: OwnedFd,
    pub supervisor_bell: OwnedFd,
    /// When the pool's workers are killed, where there is a time for it.
    pub deadline: Option<OwnedFd>,
    /// Where workers send what they log, if the host takes it.
    pub logs: Option<OwnedFd>,
    /// What is kept open to the end of each worker.
    pub held: Option<OwnedFd>,
    pub control: Vec<OwnedFd>,
    pub bells: Vec<Vec<OwnedFd>>,
}

/// What a look at a pool's line found.
pub(super) enum Heard {
    /// Nothing, for now.
    Nothing,
    /// The host closed the pool, or is gone.
    End,
    /// An order, with what came beside it.
    Order(Order, Received),
}

impl ServedPool {
    pub(super) fn new(key: u64, line: OwnedFd) -> Self {
        let (arriving, answers) = (Vec::new(), VecDeque::new());
        Self { key, line, arriving, expected: 0, kept: None, answers, held_up: false }
    }

    /// Removes the pool's stats page, if its host has not.
    pub(super) fn remove_page(&self) {
        if let Some((path, made)) = self.kept.as_ref().and_then(|kept| kept.spec.page.as_ref()) {
            crate::stats::remove(path, *made);
        }
    }

    /// Returns the line, to be waited for.
    pub(super) fn line(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// Returns the timer that ends the pool, to be waited for.
    pub(super) fn deadline(&self) -> Option<BorrowedFd<'_>> {
        self.kept.as_ref()?.deadline.as_ref().map(AsFd::as_fd)
    }

    /// Returns whether something is still to be said.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Takes the next order off the line.
    pub(super) fn hear(&self) -> Heard {
        let mut buffer = [0; wire::LONGEST];
        match socket::recv(self.line(), &mut buffer) {
            Ok(Some(got)) => match wire::decode(&buffer[..got.len]) {
                Some(order) => Heard::Order(order, got),
                // The host is the same build: it would have to be broken.
                None => Heard::End,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Ok(None) | Err(_) => Heard::End,
        }
    }

    /// Says something, now or when there is room; false when the host does not listen any more.
    pub(super) fn say(&mut self, answer: &Answer, fd: Option<OwnedFd>) -> bool {
        self.answers.push_back((wire::encode(answer), fd));
        self.flush()
    }

    /// Says what is still to be said, as far as there is room; false as for [`ServedPool::say`].
    pub(super) fn flush(&mut self) -> bool {
        self.held_up = false;
        while let Some((bytes, fd)) = self.answers.front() {
            let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
            match socket::send(self.line.as_fd(), bytes, &fds) {
                Ok(()) => {
                    self.answers.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                    self.held_up = true;
                    break;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes the first descriptors, and how many there will be.
    pub(super) fn open(&mut self, fds: u32, received: Received) -> Result<bool, String> {
        if self.kept.is_some() || self.expected != 0 {
            return Err("the pool was opened twice".to_owned());
        }
        self.expected = fds as usize;
        self.arrive(received)
    }

    /// Takes more descriptors; true when that was the last of them.
    pub(super) fn arrive(&mut self, received: Received) -> Result<bool, String> {
        if received.fds_lost {
            return Err(TOO_MANY_FDS.to_owned());
        }
        self.arriving.extend(received.fds);
        if self.kept.is_some() || self.arriving.len() > self.expected {
            return Err("more descriptors came than were announced".to_owned());
        }
        if self.arriving.len() < self.expected {
            return Ok(false);
        }
        self.kept = Some(KeptPool::new(std::mem::take(&mut self.arriving))?);
        Ok(true)
    }
}

/// What is said when a message came without its descriptors.
pub(super) const TOO_MANY_FDS: &str =
    "the zygote may not open so many descriptors: raise the hard limit (RLIMIT_NOFILE)";

impl KeptPool {
    fn new(fds: Vec<OwnedFd>) -> Result<Self, String> {
        const MISSING: &str = "fewer descriptors came than the pool has";
        let mut fds = fds.into_iter();
        let spec = fds.next().ok_or(MISSING)?;
        let (spec, host) =
            read_spec(spec).map_err(|error| format!("cannot read the pool: {error}"))?;
        if spec.start == StartMethod::Command(Vec::new()) {
            return Err("the command that is to be a worker is empty: name a program".to_owned());
        }
        let root = fds.next().ok_or(MISSING)?;
        let directory = fds.next().ok_or(MISSING)?;
        let places = follow::places(&host, root, directory)?;
        let requests = fds.next().ok_or(MISSING)?;
        let host_bell = fds.next().ok_or(MISSING)?;
        let supervisor_bell = fds.next().ok_or(MISSING)?;
        let deadline = match spec.deadline {
            true => Some(fds.next().ok_or(MISSING)?),
            false => None,
        };
        let logs = match spec.logs {
            true => Some(fds.next().ok_or(MISSING)?),
            false => None,
        };
        let held = match spec.held {
            true => Some(fds.next().ok_or(MISSING)?),
            false => None,
        };
        let control: Vec<_> = fds.by_ref().take(spec.slots.len()).collect();
        let bells = spec.slots.iter().map(|&slots| fds.by_ref().take(slots as usize).collect());
        let bells: Vec<Vec<_>> = bells.collect();
        let all = spec.slots.iter().zip(&bells).all(|(&slots, b)| b.len() == slots as usize);
        if control.len() != spec.slots.len() || !all || fds.next().is_some() {
            return Err("the descriptors are not as many as the pool needs".to_owned());
        }
        Ok(Self {
            spec,
            host,
            places,
            requests,
            host_bell,
            supervisor_bell,
            deadline,
            logs,
            held,
            control,
            bells,
        })
    }

    /// Returns whether the pool has this worker's slot.
    pub(super) fn has(&self, id: WorkerId) -> bool {
        let slots = self.spec.slots.get(usize::from(id.queue));
        slots.is_some_and(|&slots| u32::from(id.slot) < slots)
    }
}

fn read_spec(file: OwnedFd) -> io::Result<(PoolSpec, Snapshot)> {
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    // The position is shared with the host's descriptor, which has just written it all.
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    wire::decode(&bytes).ok_or_else(|| {
        io::Error::other("its description cannot be decoded: the host is another build of aiopool")
    })
}
