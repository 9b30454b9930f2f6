//! Queues between two threads of one process, each on a processor of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::parts::Threads;

const CAPACITY: usize = 4096;

/// Values of 8 bytes through rtrb's ring: the other thread produces.
pub struct Rtrb {
    threads: Threads,
    consumer: rtrb::Consumer<u64>,
}

impl Rtrb {
    pub fn new() -> anyhow::Result<Self> {
        let (mut producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
        let threads = Threads::new(move |operations| {
            for value in 0..operations {
                while producer.push(value).is_err() {
                    std::hint::spin_loop();
                }
            }
        })?;
        Ok(Self { threads, consumer })
    }

    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { threads, consumer } = self;
        threads.block(operations, |operations| {
            for value in 0..operations {
                while consumer.pop() != Ok(value) {
                    std::hint::spin_loop();
                }
            }
        })
    }
}

/// The same through crossbeam's bounded queue, which may have many producers and consumers.
pub struct ArrayQueue {
    threads: Threads,
    queue: Arc<crossbeam_queue::ArrayQueue<u64>>,
}

impl ArrayQueue {
    pub fn new() -> anyhow::Result<Self> {
        let queue = Arc::new(crossbeam_queue::ArrayQueue::new(CAPACITY));
        let theirs = Arc::clone(&queue);
        let threads = Threads::new(move |operations| {
            for value in 0..operations {
                while theirs.push(value).is_err() {
                    std::hint::spin_loop();
                }
            }
        })?;
        Ok(Self { threads, queue })
    }

    pub fn block(&mut self, operations: u64) -> Duration {
        let Self { threads, queue } = self;
        threads.block(operations, |operations| {
            for value in 0..operations {
                while queue.pop() != Some(value) {
                    std::hint::spin_loop();
                }
            }
        })
    }
}
