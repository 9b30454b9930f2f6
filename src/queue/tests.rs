//! Which submitter waits for a record, and which worker is woken for a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use super::entry::{Receiver, Ticket};
use super::{Common, DeadWorker, For, HostQueue, Inputs, Reason, RoomWait, Submission};
use crate::control::{Control, Shape};
use crate::error::{Error, Result};
use crate::ring::{Claim, LaneWriter, claim};
use crate::sys::eventfd::EventFd;
use crate::table::{OutputDesc, Owner, Place, WorkerId};
use crate::task::{LossCause, Outcome, TaskOptions, WorkerExit};

const ME: WorkerId = WorkerId { queue: 0, slot: 0, incarnation: 1 };

/// Queue `index` with `capacity` records and one worker slot.
fn queue(index: u16, capacity: u32) -> Arc<HostQueue> {
    let bell = || EventFd::new().unwrap();
    let common = Common::new(Inputs::create(2 << 20).unwrap(), bell(), bell(), 0);
    let control = Control::create(Shape { capacity, slots: 1, classes: 1 }).unwrap();
    HostQueue::new(index, control, vec![bell()], common)
}

fn submit(queue: &HostQueue, task: u64) -> Result<Ticket> {
    struct Nobody;
    impl Receiver for Nobody {
        fn deliver(&self, _: u64, _: Outcome) -> bool {
            false
        }
    }
    queue.try_submit(Submission {
        task,
        function: 0,
        input: &[],
        options: TaskOptions::default(),
        receiver: For::One(Arc::new(Nobody)),
        token: task,
    })
}

/// A submitter that waits for a record, and whether it was woken for one.
struct Waiter {
    woken: Arc<WakeFlag>,
    _place: RoomWait,
}

struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Waiter {
    fn of(queue: &Arc<HostQueue>) -> Self {
        let woken = Arc::new(WakeFlag(AtomicBool::new(false)));
        let place = queue.wait_for_room(None, &Waker::from(Arc::clone(&woken)));
        Self { woken, _place: place }
    }

    fn was_told(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_place_in_one_queues_line_is_none_in_anothers() {
    let (first, second) = (queue(0, 16), queue(1, 16));
    let ahead = second.wait_for_room(None, Waker::noop());
    let moved = first.wait_for_room(None, Waker::noop());
    let moved = second.wait_for_room(Some(moved), Waker::noop());
    assert!(!first.is_awaited(), "who waits elsewhere now is still in the first line");
    drop(ahead);
    assert!(second.is_awaited(), "one's leaving took the other's place");
    drop(moved);
    assert!(!second.is_awaited());
}

#[test]
fn a_record_that_comes_home_wakes_who_waits_for_one() {
    let queue = queue(0, 16);
    for task in 0..16 {
        submit(&queue, task).unwrap();
    }
    assert!(matches!(submit(&queue, 16), Err(Error::Full)));
    let waiter = Waiter::of(&queue);
    let control = queue.control();
    let claimed = claim(control.ring(0), 0, control.records(), Owner::of(ME), |_| true);
    let Claim::Task { record: index, claimed } = claimed else { panic!("{claimed:?}") };
    let record = &control.records()[index as usize];
    let output = OutputDesc { status: 0, elapsed_ns: 0, len: 0, place: Place::Word(0) };
    record.describe_output(output, &[]);
    record.try_commit(record.try_start(claimed).unwrap()).unwrap();
    LaneWriter::at(0).push(control.lane(0), index);
    queue.drain();
    assert!(waiter.was_told(), "there is a free record, and nobody was woken");
    submit(&queue, 16).unwrap();
}

#[test]
fn the_record_of_a_dead_claimer_whose_task_was_called_off_wakes_who_waits_for_one() {
    let queue = queue(0, 1);
    let ticket = submit(&queue, 0).unwrap();
    // C2: claimed, head not moved.
    let control = queue.control();
    let record = &control.records()[0];
    assert!(record.try_claim(record.state(), Owner::of(ME)));
    assert!(queue.cancel(ticket, Reason::Cancel));
    let waiter = Waiter::of(&queue);
    assert!(matches!(submit(&queue, 1), Err(Error::Full)));
    let (exit, cause) = (WorkerExit::Exited(1), LossCause::Death);
    queue.recover(&DeadWorker { id: ME, seat: 0, pid: 1, exit, cause, stderr: String::new() });
    assert!(waiter.was_told(), "there is a free record, and nobody was woken");
    submit(&queue, 1).unwrap();
}

#[test]
fn nobody_is_woken_while_as_many_search_as_there_are_processors() {
    let bell = || EventFd::new().unwrap();
    let common = Common::new(Inputs::create(2 << 20).unwrap(), bell(), bell(), 0);
    let control = Control::create(Shape { capacity: 16, slots: 4, classes: 1 }).unwrap();
    let queue = HostQueue::new(0, control, (0..4).map(|_| bell()).collect(), common);
    let control = queue.control();
    let bells = control.bells();
    bells.sleep(0);
    bells.sleep(1);
    bells.start_search(2);
    bells.start_search(3);
    let mut state = queue.lock();
    for _ in 0..8 {
        state.control.ring(0).push(state.tails[0], 0);
        state.tails[0] += 1;
        assert_eq!(state.sleeper(0, 2), None, "two search on two processors");
    }
    // A searcher that claims wakes no sleeper either while another one searches.
    assert_eq!(bells.found(3, || u64::from(control.has_task())), None);
    assert_eq!(state.sleeper(0, 2), Some(0), "a processor is idle, and there is work");
    bells.stop_search(2);
    assert_eq!(bells.pass_on(3, || u64::from(control.has_task())), Some(1));
}
