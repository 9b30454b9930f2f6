//! One task for each worker in turn.
#![forbid(unsafe_code)]

use super::Scheduler;

/// Deals tasks out in turn, to each queue in proportion to its workers.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    turns: Vec<usize>,
}

impl Scheduler for RoundRobin {
    fn start(&mut self, processes: &[u32]) {
        let most = processes.iter().copied().max().unwrap_or(0);
        self.turns = (0..most)
            .flat_map(|round| {
                processes.iter().enumerate().filter(move |&(_, &n)| n > round).map(|(i, _)| i)
            })
            .collect();
    }

    fn choose(&self, task: u64) -> usize {
        match self.turns.len() as u64 {
            0 | 1 => 0,
            turns => self.turns[(task % turns) as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_with_more_workers_get_more_tasks() {
        let mut scheduler = RoundRobin::default();
        scheduler.start(&[2, 1]);
        let mut counts = [0; 2];
        (0..300).for_each(|task| counts[scheduler.choose(task)] += 1);
        assert_eq!(counts, [200, 100]);
    }
}
