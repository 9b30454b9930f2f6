//! One conformance set for every scheduler: those that are shipped and one of a user's own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiopool::scheduler::{
    CompletedTask, LeastLoaded, Load, NewTask, Priority, ProcessInfo, RoundRobin, Scheduler,
};
use aiopool::{Pool, TaskOptions};
use aiopool_testing::in_time;

async fn pid(_: u64) -> u32 {
    std::process::id()
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn die(_: u64) -> u64 {
    std::process::abort()
}

/// The calls that a scheduler got.
#[derive(Debug, Default)]
struct Told {
    queues: Vec<usize>,
    processes: Vec<usize>,
    scheduled: Vec<(u64, usize)>,
    completed: Vec<CompletedTask>,
    started: Vec<ProcessInfo>,
    ended: Vec<(ProcessInfo, bool)>,
}

/// Records the calls and answers of the scheduler inside.
struct Spy<S>(S, Arc<Mutex<Told>>);

impl<S: Scheduler> Scheduler for Spy<S> {
    fn register_queue(&mut self, queue: usize) {
        self.1.lock().unwrap().queues.push(queue);
        self.0.register_queue(queue);
    }

    fn register_process(&mut self, queue: usize) {
        self.1.lock().unwrap().processes.push(queue);
        self.0.register_process(queue);
    }

    fn schedule_task(&self, task: &NewTask<'_>, load: &dyn Load) -> usize {
        assert_eq!(load.queues(), self.1.lock().unwrap().queues.len());
        for queue in 0..load.queues() {
            assert!((1..=self.1.lock().unwrap().processes.len()).contains(&load.processes(queue)));
            // In this order: workers take tasks meanwhile, and no other thread submits.
            let depth = load.depth(queue);
            assert!(load.depth_up_to(queue, 0) <= depth);
        }
        let queue = self.0.schedule_task(task, load);
        self.1.lock().unwrap().scheduled.push((task.task, queue));
        queue
    }

    fn complete_task(&self, task: &CompletedTask) {
        self.1.lock().unwrap().completed.push(*task);
        self.0.complete_task(task);
    }

    fn process_started(&self, process: &ProcessInfo) {
        self.1.lock().unwrap().started.push(*process);
        self.0.process_started(process);
    }

    fn process_ended(&self, process: &ProcessInfo, died: bool) {
        self.1.lock().unwrap().ended.push((*process, died));
        self.0.process_ended(process, died);
    }

    fn classes(&self) -> usize {
        self.0.classes()
    }
}

/// A user's own: short functions' tasks to the last queue, all others to the rest in turn.
#[derive(Default)]
struct ByName {
    queues: usize,
}

impl Scheduler for ByName {
    fn register_queue(&mut self, _: usize) {
        self.queues += 1;
    }

    fn register_process(&mut self, _: usize) {}

    fn schedule_task(&self, task: &NewTask<'_>, _: &dyn Load) -> usize {
        if task.function.ends_with("pid") && self.queues > 1 && task.task.is_multiple_of(2) {
            self.queues - 1
        } else {
            (task.task / 2) as usize % (self.queues - 1).max(1)
        }
    }
}

/// All that is asked of a scheduler.
async fn conforms<S: Scheduler>(make: impl Fn() -> S) {
    for (processes, queues) in [(1, 1), (2, 2), (5, 2), (3, 3)] {
        let told = Arc::new(Mutex::new(Told::default()));
        let spy = Spy(make(), Arc::clone(&told));
        let pool =
            Pool::builder().processes(processes).queues(queues).scheduler(spy).build().unwrap();
        {
            let told = told.lock().unwrap();
            assert_eq!(told.queues, (0..queues).collect::<Vec<_>>());
            let seats: Vec<usize> = (0..processes).map(|seat| seat % queues).collect();
            assert_eq!(told.processes, seats);
            assert!(told.scheduled.is_empty(), "asked before it was told of all");
        }
        // Every task is placed on a queue, runs, and is reported when it is over.
        let pids = in_time(pool.map(pid, 0..300)).await.unwrap();
        assert_eq!(pids.len(), 300);
        {
            let told = told.lock().unwrap();
            let tasks: HashSet<u64> = told.scheduled.iter().map(|(task, _)| *task).collect();
            assert_eq!(tasks.len(), 300);
            let used: HashSet<usize> = told.scheduled.iter().map(|(_, queue)| *queue).collect();
            assert_eq!(used, (0..queues).collect(), "a queue that gets nothing");
            assert_eq!(told.completed.len(), 300);
            for done in &told.completed {
                assert!(done.ok && tasks.contains(&done.task), "{done:?}");
                assert!(told.scheduled.contains(&(done.task, done.queue)), "{done:?}");
            }
            assert!(told.completed.iter().any(|done| !done.ran.is_zero()));
        }
        // The classes it asks for are there.
        let lowest = pool.stats_free_class();
        in_time(pool.with(TaskOptions::new().priority(lowest)).apply(pid, 1)).await.unwrap();
        // A death is reported, and so is the replacement; the scheduler goes on.
        in_time(pool.apply(die, 1)).await.unwrap_err();
        let completed = told.lock().unwrap().completed.last().copied().unwrap();
        assert!(!completed.ok);
        in_time(async {
            while told.lock().unwrap().started.len() < processes + 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        let ended = told.lock().unwrap().ended.clone();
        assert!(matches!(ended[..], [(_, true)]), "{ended:?}");
        assert_eq!(in_time(pool.map(pid, 0..50)).await.unwrap().len(), 50);
    }
}

trait FreeClass {
    fn stats_free_class(&self) -> u8;
}

impl FreeClass for Pool {
    /// The lowest class there is: the highest number that is not refused.
    fn stats_free_class(&self) -> u8 {
        let taken = |class: &u8| {
            let options = TaskOptions::new().priority(*class);
            self.with(options).apply(sleep_for_ever, 0).submitted_now().is_ok()
        };
        (0..4).take_while(taken).last().unwrap()
    }
}

#[tokio::test]
async fn round_robin_conforms() {
    conforms(RoundRobin::default).await;
}

#[tokio::test]
async fn least_loaded_conforms() {
    conforms(LeastLoaded::default).await;
}

#[tokio::test]
async fn priority_conforms() {
    conforms(|| Priority::new(3)).await;
}

#[tokio::test]
async fn a_users_own_conforms() {
    conforms(ByName::default).await;
}

#[tokio::test]
async fn round_robin_gives_in_proportion_to_the_processes() {
    let told = Arc::new(Mutex::new(Told::default()));
    let spy = Spy(RoundRobin::default(), Arc::clone(&told));
    let pool = Pool::builder().processes(3).queues(2).scheduler(spy).build().unwrap();
    in_time(pool.map(pid, 0..300)).await.unwrap();
    let told = told.lock().unwrap();
    let first = told.scheduled.iter().filter(|(_, queue)| *queue == 0).count();
    assert_eq!(first, 200);
}

#[tokio::test]
async fn least_loaded_avoids_a_queue_that_is_held_up() {
    let told = Arc::new(Mutex::new(Told::default()));
    let spy = Spy(LeastLoaded::default(), Arc::clone(&told));
    let pool = Pool::builder().processes(2).queues(2).scheduler(spy).build().unwrap();
    let held: Vec<_> = (0..10).map(|i| pool.apply(sleep_for_ever, i)).collect();
    // Five on each: the load was the same whenever it was asked.
    let placed = |told: &Told, queue| told.scheduled.iter().filter(|(_, q)| *q == queue).count();
    assert_eq!(placed(&told.lock().unwrap(), 0), 5);
    let second: Vec<u64> = {
        let told = told.lock().unwrap();
        told.scheduled.iter().filter(|(_, queue)| *queue == 1).map(|(task, _)| *task).collect()
    };
    let (keep, free): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|task| !second.contains(&task.id().unwrap()));
    drop(free);
    for i in 0..3 {
        in_time(pool.apply(pid, i)).await.unwrap();
    }
    assert_eq!(placed(&told.lock().unwrap(), 0), 5, "queue 0 is held up and got more");
    drop(keep);
}

#[tokio::test]
async fn the_load_that_a_scheduler_sees_is_the_one_there_is() {
    /// Puts every task on queue 0 and writes down what it sees of both.
    struct Look(Arc<Mutex<Vec<[usize; 6]>>>);
    impl Scheduler for Look {
        fn register_queue(&mut self, _: usize) {}
        fn register_process(&mut self, _: usize) {}
        fn schedule_task(&self, task: &NewTask<'_>, load: &dyn Load) -> usize {
            assert!(task.input_bytes > 0 && task.function.ends_with("sleep_for_ever"));
            let seen = [
                load.depth(0),
                load.depth_up_to(0, 0),
                load.in_flight(0),
                load.pending(0),
                load.processes(0),
                load.pending(1),
            ];
            self.0.lock().unwrap().push(seen);
            0
        }
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let pool = Pool::builder().processes(3).queues(2).child_concurrency(2).priorities(2);
    let pool = pool.scheduler(Look(Arc::clone(&seen))).build().unwrap();
    let class = |class| pool.with(TaskOptions::new().priority(class));
    // Queue 0 has two workers of two tasks each.
    let mut held: Vec<_> = (0..4).map(|i| pool.apply(sleep_for_ever, i)).collect();
    in_time(async {
        while pool.stats().queued > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    held.push(class(1).apply(sleep_for_ever, 5));
    held.push(class(0).apply(sleep_for_ever, 6));
    held.push(class(0).apply(sleep_for_ever, 7));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[4..], [[0, 0, 4, 4, 2, 0], [1, 0, 4, 5, 2, 0], [2, 1, 4, 6, 2, 0]]);
}

#[tokio::test]
async fn a_scheduler_that_panics_or_lies_harms_nobody() {
    struct Liar;
    impl Scheduler for Liar {
        fn register_queue(&mut self, _: usize) {}
        fn register_process(&mut self, _: usize) {}
        fn schedule_task(&self, _: &NewTask<'_>, _: &dyn Load) -> usize {
            usize::MAX
        }
        fn complete_task(&self, _: &CompletedTask) {
            panic!("not my task");
        }
    }
    let pool = Pool::builder().processes(2).queues(2).scheduler(Liar).build().unwrap();
    assert_eq!(in_time(pool.map(pid, 0..20)).await.unwrap().len(), 20);
}

#[test]
fn more_classes_than_there_are_is_refused() {
    let error = Pool::builder().processes(1).scheduler(Priority::new(5)).build().unwrap_err();
    assert!(error.to_string().contains("priorities = 5"), "{error}");
}
