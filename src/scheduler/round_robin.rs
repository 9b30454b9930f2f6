//! One task for each worker in turn.

use super::{Load, NewTask, Scheduler};

/// Deals tasks out in turn, to each queue in proportion to its workers.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    /// Workers of each queue.
    processes: Vec<usize>,
    /// The order of a round: a queue with two workers comes twice, not twice in a row.
    turns: Vec<usize>,
}

impl Scheduler for RoundRobin {
    fn register_queue(&mut self, _: usize) {
        self.processes.push(0);
    }

    fn register_process(&mut self, queue: usize) {
        let Some(processes) = self.processes.get_mut(queue) else { return };
        *processes += 1;
        let most = self.processes.iter().copied().max().unwrap_or(0);
        let queues = || self.processes.iter().enumerate();
        self.turns = (0..most)
            .flat_map(|round| queues().filter(move |&(_, &n)| n > round).map(|(queue, _)| queue))
            .collect();
    }

    fn minds_load(&self) -> bool {
        false
    }

    fn minds_outcomes(&self) -> bool {
        false
    }

    fn schedule_task(&self, task: &NewTask<'_>, _: &dyn Load) -> usize {
        match self.turns.len() as u64 {
            0 | 1 => 0,
            turns => self.turns[(task.task % turns) as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_with_more_workers_come_more_often_and_not_in_a_row() {
        let mut scheduler = RoundRobin::default();
        (0..3).for_each(|queue| scheduler.register_queue(queue));
        [0, 1, 2, 0, 1].into_iter().for_each(|queue| scheduler.register_process(queue));
        assert_eq!(scheduler.turns, [0, 1, 2, 0, 1]);
    }
}
