//! A scene: workers that live side by side with what a host does, and the peace after it.

use std::sync::Arc;

use crate::sync::model::mortal;

use super::Queue;
use super::host::Host;
use super::worker::Worker;

/// A queue, its host, and the tasks that the host has to see through.
pub(super) struct Scene {
    pub(super) queue: Arc<Queue>,
    pub(super) host: Host,
    tasks: usize,
    next: usize,
    lives: Vec<loom::thread::JoinHandle<bool>>,
}

impl Scene {
    /// Creates a queue of `records` for `workers`; as many of the `tasks` as fit are submitted.
    pub(super) fn new(records: usize, workers: usize, tasks: usize) -> Self {
        let queue = Arc::new(Queue::new(records, workers, tasks));
        let host = Host::new(&queue);
        let mut scene = Self { queue, host, tasks, next: 0, lives: Vec::new() };
        while scene.submit_next() {}
        scene
    }

    /// Submits the next task, if there is one and room for it.
    pub(super) fn submit_next(&mut self) -> bool {
        let submitted = self.next < self.tasks && self.host.try_submit(&self.queue, self.next);
        self.next += usize::from(submitted);
        submitted
    }

    /// Starts a worker in the next slot that makes `attempts` claims, and is killed before change
    /// number `killed` of shared memory if it gets there.
    pub(super) fn start(&mut self, attempts: usize, killed: usize) {
        let (slot, queue) = (self.lives.len(), self.queue.clone());
        self.lives.push(loom::thread::spawn(move || {
            let mut worker = Worker::new(slot, 1, 0);
            mortal(killed, || {
                for _ in 0..attempts {
                    worker.work(&queue);
                }
            })
        }));
    }

    /// Waits for the end of the worker in the newest slot; true if it was killed.
    pub(super) fn reap(&mut self) -> bool {
        self.lives.pop().unwrap().join().unwrap()
    }

    /// Drains every lane.
    pub(super) fn receive(&mut self) {
        (0..self.queue.lanes.len()).for_each(|slot| self.host.receive(&self.queue, slot));
    }

    /// Takes whatever the records say is DONE.
    pub(super) fn audit(&mut self) {
        (0..self.queue.records.len()).for_each(|index| self.host.audit(&self.queue, index));
    }

    /// All workers end; one new one does what is left in peace, which shows what was lost before.
    pub(super) fn finish(&mut self) {
        self.finish_all_but(0);
        self.host.assert_at_rest(&self.queue);
    }

    /// As [`finish`](Self::finish), but up to `held` tasks are held by workers that are stopped.
    pub(super) fn finish_all_but(&mut self, held: usize) {
        while !self.lives.is_empty() {
            self.reap();
        }
        self.receive();
        let mut last = Worker::new(0, 9, self.host.lane_position(0));
        loop {
            let submitted = self.submit_next();
            let worked = last.work(&self.queue);
            self.receive();
            if !submitted && !worked {
                break;
            }
        }
        assert!(self.host.finished() >= self.tasks - held, "a task or a record was lost");
    }
}
