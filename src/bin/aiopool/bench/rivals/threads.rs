//! Queues between two threads of one process, each on a processor of its own.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use aiopool::bench::Pinned;

const CAPACITY: usize = 4096;

/// `operations` values of 8 bytes through rtrb's ring.
pub fn rtrb(operations: u64) -> anyhow::Result<Duration> {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    both(
        move || {
            for value in 0..operations {
                while producer.push(value).is_err() {
                    std::hint::spin_loop();
                }
            }
        },
        move || {
            for value in 0..operations {
                while consumer.pop() != Ok(value) {
                    std::hint::spin_loop();
                }
            }
        },
    )
}

/// The same through crossbeam's bounded queue, which may have many producers and consumers.
pub fn array_queue(operations: u64) -> anyhow::Result<Duration> {
    let queue = crossbeam_queue::ArrayQueue::new(CAPACITY);
    both(
        || {
            for value in 0..operations {
                while queue.push(value).is_err() {
                    std::hint::spin_loop();
                }
            }
        },
        || {
            for value in 0..operations {
                while queue.pop() != Some(value) {
                    std::hint::spin_loop();
                }
            }
        },
    )
}

/// Runs both from a common start until both are done; the consumer is the calling thread.
fn both(produce: impl FnOnce() + Send, consume: impl FnOnce()) -> anyhow::Result<Duration> {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> anyhow::Result<()> {
            let _pinned = Pinned::to(1)?;
            barrier.wait();
            produce();
            Ok(())
        });
        let _pinned = Pinned::to(0)?;
        barrier.wait();
        let start = Instant::now();
        consume();
        other.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        Ok(start.elapsed())
    })
}
