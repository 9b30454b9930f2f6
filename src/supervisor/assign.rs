//! Tasks for one worker each: the supervisor alone knows who works, so it assigns them.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::queue::{For, Submission};
use crate::sync::lock;
use crate::table::WorkerId;
use crate::task::TaskError;

use super::assignment::Assignment;
use super::crew::Member;
use super::{Shared, Stage, Supervisor};

/// When the supervisor looks again for room in a full queue, or for a worker on an empty seat.
const AGAIN: Duration = Duration::from_millis(5);

impl Shared {
    /// Returns the number of the first of as many tasks as there are seats.
    pub(crate) fn tasks_for_all(&self) -> u64 {
        let seats = self.plan.processes as usize;
        self.next_task.fetch_add(seats, Ordering::Relaxed) as u64
    }

    /// Has the supervisor assign tasks.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; nothing is delivered then.
    pub(crate) fn assign(&self, assignment: Assignment) -> Result<()> {
        if self.stage() != Stage::Open {
            return Err(Error::Closed);
        }
        {
            let mut all = lock(&self.assignments);
            // After the end of the supervisor the list is gone.
            let all = all.as_mut().ok_or(Error::Closed)?;
            self.unassigned.fetch_add(assignment.seats.len(), Ordering::Relaxed);
            all.push(assignment);
        }
        self.common.call_supervisor();
        Ok(())
    }
}

impl Supervisor {
    /// Gives seats their tasks, as far as they have workers and the queues have room.
    pub(super) fn assign(&mut self) {
        self.reassign();
        // A closed pool finishes what it has accepted, until its workers are told to leave.
        let works = self.shared.stage() < Stage::Terminating && self.kill_at.is_none();
        let works = works && self.launcher.is_some();
        let Some(all) = lock(&self.shared.assignments).as_mut().map(std::mem::take) else { return };
        let mut left = Vec::new();
        for mut assignment in all {
            if works {
                let mut seats = std::mem::take(&mut assignment.seats);
                let before = seats.len();
                seats.retain(|&seat| !self.assign_to(seat, &assignment));
                let assigned = before - seats.len();
                assignment.seats = seats;
                // Release: pairs with the Acquire in `Shared::pending`.
                self.shared.unassigned.fetch_sub(assigned, Ordering::Release);
                if !assignment.seats.is_empty() {
                    left.push(assignment);
                }
            } else {
                self.refuse(&assignment);
            }
        }
        if let Some(all) = lock(&self.shared.assignments).as_mut() {
            all.append(&mut left);
        }
    }

    /// Takes no more of them, before the thread ends.
    pub(super) fn end_assignments(&self) {
        let all = lock(&self.shared.assignments).take();
        all.into_iter().flatten().for_each(|assignment| self.refuse(&assignment));
    }

    fn refuse(&self, assignment: &Assignment) {
        for &seat in &assignment.seats {
            let error = TaskError::PoolClosed { reason: self.shared.reason() };
            self.shared.common.unpark(assignment.refuse(seat, error));
        }
        self.shared.unassigned.fetch_sub(assignment.seats.len(), Ordering::Release);
        // For a caller that waits until no task is left. It is this process's own bell, so it
        // cannot be refused.
        let _ = self.shared.common.host_bell.ring_nonblocking();
    }

    /// Returns the worker on a seat that can begin a task.
    fn worker_on(&self, seat: u32) -> Option<WorkerId> {
        let works = |worker: &&Member| {
            worker.seat == seat
                && !worker.retiring
                && worker.process.is_some()
                && worker.death.is_none()
                && worker.killed.is_none()
        };
        self.crew.workers().find(works).map(|worker| worker.id)
    }

    /// Gives tasks that a dead worker had not begun to the next one on its seat.
    fn reassign(&self) {
        for queue in &self.shared.queues {
            for (seat, ticket) in queue.take_unassigned() {
                match self.worker_on(seat) {
                    Some(worker) => queue.reassign(ticket, worker),
                    None => queue.keep_unassigned(seat, ticket),
                }
            }
        }
    }

    /// Returns whether the seat has been given its task, or an error.
    fn assign_to(&self, seat: u32, assignment: &Assignment) -> bool {
        let Some(worker) = self.worker_on(seat) else { return false };
        let Assignment { function, ref input, options, ref receiver, token, .. } = *assignment;
        let (task, receiver) = (assignment.task(seat), For::Many(receiver));
        let submission = Submission { task, function, input, options, receiver, token };
        let queue = &self.shared.queues[usize::from(worker.queue)];
        match queue.try_assign(submission, worker) {
            Ok(()) => true,
            Err(Error::Full) => false,
            Err(error) => {
                let error = self.shared.refusal(error);
                self.shared.common.unpark(assignment.refuse(seat, error));
                // A closed pool may have waited for nothing else.
                self.shared.common.call_supervisor();
                true
            }
        }
    }

    /// When [`assign`](Self::assign) is to look again.
    pub(super) fn next_assignment(&self, now: u64) -> Option<u64> {
        let waits = lock(&self.shared.assignments).as_ref().is_some_and(|all| !all.is_empty());
        let waits = waits || self.shared.queues.iter().any(|queue| queue.has_unassigned());
        waits.then(|| now + AGAIN.as_nanos() as u64)
    }
}
