//! The queue with the least to do for each of its workers.

use super::{Load, NewTask, Scheduler};

/// Gives each task to the queue with the fewest unfinished tasks for each worker alive.
///
/// For durations that differ: a queue that is held up by long tasks gets no more of them.
#[derive(Clone, Debug, Default)]
pub struct LeastLoaded {
    queues: usize,
}

impl Scheduler for LeastLoaded {
    fn register_queue(&mut self, _: usize) {
        self.queues += 1;
    }

    fn register_process(&mut self, _: usize) {}

    fn minds_outcomes(&self) -> bool {
        false
    }

    fn schedule_task(&self, task: &NewTask<'_>, load: &dyn Load) -> usize {
        least(self.queues, task.task, |queue| (load.pending(queue), load.processes(queue)))
    }
}

/// Returns the queue with the least work for each worker. Equals take turns.
pub(super) fn least(queues: usize, turn: u64, load: impl Fn(usize) -> (usize, usize)) -> usize {
    let first = (turn % queues.max(1) as u64) as usize;
    let mut best = (first, load(first));
    for queue in (first + 1..queues).chain(0..first) {
        let ((work, workers), (best_work, best_workers)) = (load(queue), best.1);
        // work / workers < best_work / best_workers; no living worker is the worst of all.
        let better = match (workers, best_workers) {
            (0, _) => false,
            (_, 0) => true,
            _ => (work as u64) * (best_workers as u64) < (best_work as u64) * (workers as u64),
        };
        if better {
            best = (queue, (work, workers));
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_work_for_each_worker_wins_and_equals_take_turns() {
        assert_eq!(least(3, 0, |queue| ([9, 4, 5][queue], [3, 1, 2][queue])), 2);
        assert_eq!(least(2, 0, |queue| ([0, 9][queue], [0, 1][queue])), 1, "nobody is on queue 0");
        let chosen: Vec<usize> = (0..4).map(|turn| least(2, turn, |_| (5, 1))).collect();
        assert_eq!(chosen, [0, 1, 0, 1]);
        assert_eq!(least(0, 7, |_| (0, 0)), 0);
    }
}
