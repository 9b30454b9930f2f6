//! Several host threads: each submits under the host's mutex; the thread that gets the lanes drains
//! them.

use std::sync::Arc;

use loom::sync::Mutex;

use crate::sync::model::check;

use super::Queue;
use super::host::{Host, Outcome};
use super::worker::Worker;

/// What the threads of a host share.
struct Pool {
    queue: Queue,
    host: Mutex<Host>,
    /// Held by the one thread that drains.
    drains: Mutex<()>,
}

impl Pool {
    fn submit(&self, task: usize) -> bool {
        self.host.lock().unwrap().try_submit(&self.queue, task)
    }

    fn receive(&self) {
        if let Ok(_drains) = self.drains.try_lock() {
            self.host.lock().unwrap().receive(&self.queue, 0);
        }
    }
}

/// Two host threads with a task each and room for `records`, a third that drains, a worker.
fn host_threads(records: usize, drainers: usize) {
    let pool = Arc::new({
        let queue = Queue::new(records, 1, 2);
        let host = Mutex::new(Host::new(&queue));
        Pool { queue, host, drains: Mutex::new(()) }
    });
    let worker = {
        let pool = pool.clone();
        loom::thread::spawn(move || {
            let mut worker = Worker::new(0, 1, 0);
            worker.work(&pool.queue);
            worker
        })
    };
    let other = {
        let pool = pool.clone();
        loom::thread::spawn(move || {
            let submitted = pool.submit(1);
            pool.receive();
            submitted || pool.submit(1)
        })
    };
    let drainers: Vec<_> = (0..drainers)
        .map(|_| {
            let pool = pool.clone();
            loom::thread::spawn(move || pool.receive())
        })
        .collect();
    let mut submitted = [pool.submit(0), false];
    submitted[1] = other.join().unwrap();
    drainers.into_iter().for_each(|drainer| drainer.join().unwrap());
    let mut worker = worker.join().unwrap();
    for (task, &submitted) in submitted.iter().enumerate() {
        worker.work(&pool.queue);
        pool.receive();
        assert!(submitted || pool.submit(task), "a record was lost");
    }
    while worker.work(&pool.queue) {}
    let mut host = pool.host.lock().unwrap();
    host.assert_at_rest(&pool.queue);
    for task in 0..2 {
        assert_eq!((host.outcomes(task), pool.queue.ran(task)), (&[Outcome::Ok][..], 1));
    }
}

#[test]
fn two_threads_submit_into_one_record_while_one_drains() {
    check("host threads, one record", 2, || host_threads(1, 0));
}

#[test]
fn two_threads_submit_while_a_third_drains() {
    check("host threads, two records", 2, || host_threads(2, 1));
}
