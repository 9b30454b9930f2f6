//! Items of a `map` that are encoded and on their way to their queues.
//!
//! A submission costs a lock, a fence, a reading of the clock and a search for a sleeping worker,
//! however many tasks it has. So a `map` over a quick iterator submits several at a time. A slow
//! iterator must not hold up the items that came before: see [`Pace`].

use crate::queue::Staged;

/// Upper bounds of one batch: items per queue, and queues.
const MOST: usize = 64;
const MOST_QUEUES: usize = 4;
/// A batch may hold back at most this part of the items that lately came quickly.
const SHARE: usize = 8;
/// An item that takes longer than this to come is not quick.
const QUICK_NS: u64 = 2_000;

/// How many items to wait for before they are submitted together.
///
/// While the iterator is asked for one item, those before it wait. So a batch is never more than
/// an eighth of the items that came quickly one after the other: where an iterator gives a burst
/// and then takes its time, seven eighths of the burst are running by then; where each item takes
/// its time, each is submitted at once.
#[derive(Debug)]
pub(super) struct Pace {
    quick: usize,
    most: usize,
}

impl Pace {
    /// Makes the pace of a map in a pool of `queues` queues.
    pub(super) fn new(queues: usize) -> Self {
        Self { quick: 0, most: MOST * queues.min(MOST_QUEUES) }
    }

    /// Returns how many results of a window of `window` items must be given before it is filled up.
    #[inline]
    pub(super) fn refill(&self, window: usize) -> usize {
        (window / 4).min(self.most)
    }

    /// Returns how many items make a batch now.
    pub(super) fn batch(&self) -> usize {
        (self.quick / SHARE).clamp(1, self.most)
    }

    /// Notes that `items` items came within `ns` nanoseconds.
    pub(super) fn learn(&mut self, items: usize, ns: u64) {
        let quick = ns <= QUICK_NS * items as u64;
        self.quick = if quick { self.quick.saturating_add(items) } else { 0 };
    }
}

/// The items of a batch, by queue.
#[derive(Debug)]
pub(super) struct Gathered {
    queues: Vec<QueueItems>,
    /// Those encoded inputs that need it, one behind the other.
    bytes: Vec<u8>,
    items: usize,
}

/// The items for one queue, first come first.
#[derive(Debug, Default)]
struct QueueItems {
    tasks: Vec<Staged>,
    /// How many tasks at the front were submitted or given up.
    gone: usize,
}

impl QueueItems {
    fn left(&self) -> &[Staged] {
        &self.tasks[self.gone..]
    }
}

impl Gathered {
    /// Makes an empty batch for a pool of `queues` queues.
    pub(super) fn new(queues: usize) -> Self {
        Self {
            queues: (0..queues).map(|_| QueueItems::default()).collect(),
            bytes: Vec::new(),
            items: 0,
        }
    }

    /// Returns how many items are in it.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// Adds task `task` with `input`, whose outcome comes with `token`.
    #[inline]
    pub(super) fn add(&mut self, queue: usize, task: u64, token: u64, input: &[u8]) {
        self.queues[queue].tasks.push(Staged::new(task, token, input, &mut self.bytes));
        self.items += 1;
    }

    /// Returns the items for `queue`, first come first, and the bytes that hold inputs of them.
    pub(super) fn of(&self, queue: usize) -> (&[Staged], &[u8]) {
        (self.queues[queue].left(), &self.bytes)
    }

    /// Removes the first `count` items for `queue`, which were submitted or given up.
    pub(super) fn done(&mut self, queue: usize, items: usize) {
        let items_of_queue = &mut self.queues[queue];
        items_of_queue.gone += items;
        if items_of_queue.gone == items_of_queue.tasks.len() {
            items_of_queue.tasks.clear();
            items_of_queue.gone = 0;
        }
        self.items -= items;
        if self.items == 0 {
            self.bytes.clear();
        }
    }

    /// Removes the task with this token, which is the first for its queue.
    pub(super) fn give_up(&mut self, token: u64) {
        let first =
            |items_of_queue: &QueueItems| items_of_queue.left().first().map(|staged| staged.token);
        if let Some(queue) =
            self.queues.iter().position(|items_of_queue| first(items_of_queue) == Some(token))
        {
            self.done(queue, 1);
        }
    }

    /// Removes all items.
    pub(super) fn clear(&mut self) {
        for queue in 0..self.queues.len() {
            self.done(queue, self.queues[queue].left().len());
        }
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::Pool;

    async fn same(x: u64) -> u64 {
        x
    }

    #[test]
    fn what_is_kept_of_the_items_does_not_grow_with_their_number() {
        // Never room for all that the window allows: something is always left of a batch.
        let pool = Pool::builder().processes(1).capacity(16).build().unwrap();
        let mut results = pool.map(same, 0..5_000).window(64);
        let (mut most, mut count) = (0, 0);
        crate::block_on(async {
            while let Some(result) = results.next().await {
                assert_eq!(result.unwrap(), count);
                count += 1;
                most = most.max(results.feed.gathered.queues[0].tasks.len());
            }
        });
        assert_eq!(count, 5_000);
        assert!(most <= 64, "{most} items are kept for a window of 64");
    }

    #[test]
    fn a_batch_holds_back_an_eighth_of_a_burst_at_most() {
        let mut pace = Pace::new(1);
        let mut submitted = 0;
        while pace.batch() < MOST {
            let batch = pace.batch();
            assert!(batch == 1 || batch * SHARE <= submitted, "{batch} after {submitted}");
            pace.learn(batch, batch as u64 * QUICK_NS);
            submitted += batch;
        }
        assert!(submitted <= SHARE * MOST + MOST);
        pace.learn(MOST, u64::MAX);
        assert_eq!(pace.batch(), 1, "a slow item ends the batches");
    }
}
