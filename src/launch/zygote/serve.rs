//! The zygote's loop, and what it does for each order.
//!
//! Nothing here waits but the one `poll`: the host's death must be seen at once, whatever else
//! goes on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::super::wire::{self, Answer, Call, Order, Started};
use super::super::{ForkOrder, StartMethod};
use super::child::NewWorker;
use super::child_table::Child;
use super::dead_man::DeadMan;
use super::follow;
use super::oom_watch::OomWatch;
use super::origin::{Lines, Origin, StartLine};
use super::pool::{Heard, ServedPool, TOO_MANY_FDS};
use crate::sync::crash::{self, Point};
use crate::sys::poll::{PollFd, PollSet};
use crate::sys::process::{self, Side};
use crate::sys::socket::{self, Received};
use crate::sys::{pidfd, timer, wait};
use crate::table::WorkerId;

/// When to try again to send descriptors that too many others are on their way with.
const HELD_UP: Duration = Duration::from_millis(10);

/// The state of a zygote.
#[derive(Debug)]
pub(super) struct Zygote {
    line: OwnedFd,
    host: OwnedFd,
    origin: Origin,
    pub(super) pools: Vec<ServedPool>,
    pub(super) workers: Vec<Child>,
    last_key: u64,
    pub(super) oom: OomWatch,
    start_line: StartLine,
    /// Readable when a child has died.
    pub(super) deaths: OwnedFd,
    dead_man: DeadMan,
}

/// What a descriptor that the zygote waits for stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The host has ended.
    Host,
    /// The host announces a pool.
    Line,
    /// A child has died.
    Deaths,
    /// A worker reports its start.
    Starts,
    /// The pool of this index: an order, room for an answer, or its deadline.
    Pool(usize),
    /// The worker of this index has ended.
    Worker(usize),
}

impl Zygote {
    pub(super) fn new(line: OwnedFd, host: OwnedFd, origin: Origin, lines: Lines) -> Self {
        let Lines { start_line, deaths } = lines;
        Self {
            line,
            host,
            origin,
            pools: Vec::new(),
            workers: Vec::new(),
            last_key: 0,
            oom: OomWatch::new(),
            start_line,
            deaths,
            dead_man: DeadMan::default(),
        }
    }

    /// Serves until the host is gone.
    ///
    /// Comes back with a new_worker in each worker that is forked meanwhile; all else is dropped
    /// there.
    pub(super) fn serve(mut self) -> Option<Box<NewWorker>> {
        loop {
            let ready = self.wait();
            if ready.contains(&Source::Host) {
                // Z7: whatever it was at, its workers' groups go, and this process.
                self.kill_all();
                return None;
            }
            self.hear_started();
            // Backwards, here and below: what is removed moves only what has been served.
            for source in ready.iter().rev() {
                if let Source::Worker(index) = *source {
                    self.reap(index);
                }
            }
            if ready.contains(&Source::Deaths) {
                self.reap_orphans();
            }
            // One order each, then the host is looked at again.
            for index in (0..self.pools.len()).rev() {
                let is_due = ready.contains(&Source::Pool(index)) || self.pools[index].held_up;
                if is_due && let Some(new_worker) = self.serve_pool(index) {
                    return Some(new_worker);
                }
            }
            if ready.contains(&Source::Line) && !self.greet_pool() {
                self.kill_all();
                return None;
            }
        }
    }

    fn wait(&mut self) -> Vec<Source> {
        let look = self.dead_man.look(self.pools.iter().filter_map(ServedPool::deadline));
        let mut set = PollSet::new();
        set.add(Source::Host, PollFd::readable(self.host.as_fd()));
        set.add(Source::Line, PollFd::readable(self.line.as_fd()));
        set.add(Source::Deaths, PollFd::readable(self.deaths.as_fd()));
        set.add(Source::Starts, PollFd::readable(self.start_line.ours.as_fd()));
        for (index, pool) in self.pools.iter().enumerate() {
            let answers = pool.has_answers() && !pool.held_up;
            let wait_for = if answers { PollFd::either } else { PollFd::readable };
            set.add(Source::Pool(index), wait_for(pool.line()));
            if let Some(deadline) = pool.deadline() {
                set.add(Source::Pool(index), PollFd::readable(deadline));
            }
        }
        for (index, worker) in self.workers.iter().enumerate() {
            set.add(Source::Worker(index), PollFd::readable(worker.pidfd.as_fd()));
        }
        let held_up = self.pools.iter().any(|pool| pool.held_up);
        let held_up = held_up.then_some(HELD_UP);
        set.wait(held_up.into_iter().chain(look).min(), |poll| poll())
            .expect("poll of descriptors that are all open")
    }

    /// Takes a new pool's line; false when the host closed its own.
    fn greet_pool(&mut self) -> bool {
        let mut buffer = [0; wire::LONGEST];
        match socket::recv(self.line.as_fd(), &mut buffer) {
            // Without its descriptor the line is closed already, which the host sees.
            Ok(Some(mut got)) => {
                if let (Some(Call::NewPool), Some(line)) =
                    (wire::decode(&buffer[..got.len]), got.fds.pop())
                {
                    // Without it a stopped zygote is continued by the next pool only.
                    let _ = socket::continue_at_messages(line.as_fd());
                    self.last_key += 1;
                    self.pools.push(ServedPool::new(self.last_key, line));
                }
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(None) => false,
        }
    }

    fn serve_pool(&mut self, index: usize) -> Option<Box<NewWorker>> {
        // Z13. Before any order: a worker that was ordered in time must not start behind its time.
        if self.pools[index].deadline().is_some_and(timer::is_over) {
            self.close(index);
            return None;
        }
        let pool = &mut self.pools[index];
        let mut open = pool.flush();
        let mut new_worker = None;
        match pool.hear() {
            Heard::Nothing => {}
            Heard::End => open = false,
            Heard::Order(order, received) => {
                let answer = match order {
                    Order::Open { fds } => self.opened(index, |pool| pool.open(fds, received)),
                    Order::More => self.opened(index, |pool| pool.arrive(received)),
                    Order::Control { queue } => {
                        replace_control(&mut self.pools[index], queue, received);
                        None
                    }
                    Order::Kill(id) => {
                        self.kill(index, id);
                        None
                    }
                    Order::Fork(order) => match self.fork(index, order, received) {
                        Ok(Forked::Child(child)) => {
                            new_worker = Some(child);
                            None
                        }
                        Ok(Forked::Parent(worker, copy)) => {
                            let answer = Answer::Forked { id: worker.id, pid: worker.pid };
                            self.workers.push(worker);
                            Some((answer, Some(copy)))
                        }
                        Err(reason) => {
                            let reason = wire::reason(reason);
                            Some((Answer::ForkFailed { id: order.id, reason }, None))
                        }
                    },
                };
                if new_worker.is_some() {
                    return new_worker;
                }
                if let Some((answer, fd)) = answer {
                    open &= self.pools[index].say(&answer, fd);
                    open &= !matches!(answer, Answer::Refused(_));
                }
            }
        }
        if !open {
            self.close(index);
        }
        None
    }

    /// Ends a pool: its workers are killed and, when they are dead, reaped without a word.
    fn close(&mut self, index: usize) {
        let pool = self.pools.remove(index);
        pool.remove_page();
        for worker in self.workers.iter_mut().filter(|worker| worker.pool == pool.key) {
            worker.kill();
        }
    }

    fn kill(&mut self, pool: usize, id: WorkerId) {
        let key = self.pools[pool].key;
        if let Some(worker) = self.workers.iter_mut().find(|w| w.pool == key && w.id == id) {
            worker.kill();
        }
    }

    /// Kills all workers' groups, since the host is gone.
    fn kill_all(&mut self) {
        self.workers.iter_mut().for_each(Child::kill);
        self.pools.iter().for_each(ServedPool::remove_page);
    }

    fn fork(
        &mut self,
        index: usize,
        order: ForkOrder,
        mut received: Received,
    ) -> Result<Forked, String> {
        let kept = self.pools[index].kept.as_ref().ok_or("the pool is not open yet")?;
        if !kept.has(order.id) {
            return Err(format!("the pool has no slot for {}", order.id));
        }
        let executed = kept.spec.start != StartMethod::Fork;
        let outputs = received.fds.pop().ok_or(TOO_MANY_FDS)?;
        let threads = process::thread_count().map_err(|e| format!("cannot count threads: {e}"))?;
        if threads != 1 {
            return Err(format!(
                "the zygote has {threads} threads and cannot be forked: something that was loaded \
                 before aiopool::init() started one"
            ));
        }
        self.oom.look();
        // SAFETY: counted just above, and the one thread is here.
        let side = unsafe { process::fork() }.map_err(|error| format!("fork: {error}"))?;
        let pid = match side {
            Side::Child => {
                let kept = self.pools.swap_remove(index).kept.expect("looked at before the fork");
                let started = self.start_line.theirs.try_clone();
                let new_worker = NewWorker::new(kept, order, outputs, started, &self.origin);
                return Ok(Forked::Child(Box::new(new_worker)));
            }
            Side::Parent(pid) => pid,
        };
        // Our child and not reaped: this is certain to be it.
        let opened = pidfd::open(pid).and_then(|pidfd| Ok((pidfd.try_clone()?, pidfd)));
        let (copy, pidfd) = opened.map_err(|error| {
            let _ = process::signal(pid, libc::SIGKILL);
            let _ = wait::reap_waiting(pid);
            format!("cannot open the worker's pidfd: {error}: {TOO_MANY_FDS}")
        })?;
        // Z4: dies here → a worker that the host never heard of dies by its death signal.
        crash::here(Point::Z4);
        let pool = self.pools[index].key;
        Ok(Forked::Parent(Child::new(order.id, pool, pid, pidfd, executed), copy))
    }

    /// Takes descriptors of a pool; the answer when that was the last of them.
    fn opened(
        &mut self,
        index: usize,
        take: impl FnOnce(&mut ServedPool) -> Result<bool, String>,
    ) -> Option<(Answer, Option<OwnedFd>)> {
        let pool = &mut self.pools[index];
        let taken = take(pool).and_then(|all| match &pool.kept {
            Some(kept) if all => {
                let forks = !matches!(kept.spec.start, StartMethod::Command(_));
                match self.origin.threads.clone().filter(|_| forks) {
                    Some(threads) => Err(threads),
                    None => follow::check(&kept.host, &kept.places, &self.host)
                        .and_then(|()| self.dead_man.prepare(kept.deadline.is_some()))
                        .map(|()| true),
                }
            }
            _ => Ok(false),
        });
        match taken {
            Ok(true) => Some((Answer::Opened, None)),
            Ok(false) => None,
            Err(reason) => Some((Answer::Refused(wire::reason(reason)), None)),
        }
    }

    /// Takes note of how workers started.
    pub(super) fn hear_started(&mut self) {
        let mut buffer = [0; wire::LONGEST];
        while let Ok(Some(got)) = socket::recv(self.start_line.ours.as_fd(), &mut buffer) {
            let started = wire::decode(&buffer[..got.len]);
            let Some(Started { pid, result, is_final }) = started else { continue };
            if let Some(worker) = self.workers.iter_mut().find(|worker| worker.pid == pid) {
                if result.is_err() {
                    // What said so may be a child of the worker, which may go on.
                    worker.kill();
                }
                (worker.started, worker.is_final) = (Some(result), is_final);
            }
        }
    }
}

/// What a fork made of this process.
enum Forked {
    Parent(Child, OwnedFd),
    Child(Box<NewWorker>),
}

fn replace_control(pool: &mut ServedPool, queue: u32, mut received: Received) {
    let kept = pool.kept.as_mut().and_then(|kept| kept.control.get_mut(queue as usize));
    if let (Some(kept), Some(control)) = (kept, received.fds.pop()) {
        *kept = control;
    }
}
