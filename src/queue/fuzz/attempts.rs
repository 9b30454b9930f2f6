//! Scenarios without damage, for the rules of attempts and of tasks for one worker.

use super::rules::{start, with_tasks};
use super::scenario::Scenario;
use crate::queue::Reason;
use crate::table::{Owner, State};
use crate::task::{LossCause, TaskOptions};
use crate::worker::Look;

/// With one task that gets another attempt when its time is up, and it runs.
pub(super) fn with_a_late_task(
    predicate: Option<fn(&crate::task::TaskError) -> bool>,
) -> Scenario<'static> {
    let mut scenario = with_tasks(0);
    let options = TaskOptions::new().timeout(std::time::Duration::from_secs(3600)).retries(1);
    let options = match predicate {
        Some(predicate) => options.retry_if(predicate),
        None => options.retry_on_timeout(true),
    };
    scenario.submit_with(&[7; 8], options);
    start(&mut scenario);
    assert!(scenario.queue.cancel(scenario.tickets[0], Reason::Deadline));
    scenario
}

#[test]
fn the_next_attempt_waits_until_its_worker_has_let_go_of_the_last() {
    let mut scenario = with_a_late_task(None);
    let control = scenario.queue.control();
    scenario.queue.drain();
    assert_eq!(control.records()[0].state().state(), Some(State::Cancelling));
    assert_eq!(scenario.queue.pending(), 1, "no outcome was delivered");
    scenario.workers[0].as_mut().unwrap().attend();
    scenario.queue.drain();
    assert_eq!(control.records()[0].state().state(), Some(State::Held));
    scenario.supervise();
    let task = start(&mut scenario);
    let call = scenario.workers[0].as_ref().unwrap().engine.call(&task);
    assert_eq!(call.attempts, 1);
    assert!(scenario.queue.cancel(scenario.tickets[0], Reason::Deadline), "its last attempt");
    assert_eq!(scenario.queue.pending(), 0);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn the_next_attempt_follows_the_death_of_a_worker_that_never_let_go() {
    let mut scenario = with_a_late_task(None);
    scenario.recover(0, LossCause::NeighbourTimedOut);
    scenario.spawn(0);
    assert_eq!(scenario.queue.pending(), 1);
    scenario.supervise();
    let task = start(&mut scenario);
    assert_eq!(scenario.workers[0].as_ref().unwrap().engine.call(&task).attempts, 1);
    scenario.end();
}

#[test]
fn what_another_machine_decides_about_is_told_when_nothing_runs_any_more() {
    for dies in [false, true] {
        let mut scenario = with_tasks(0);
        let options = TaskOptions::new().timeout(std::time::Duration::from_secs(3600));
        let options = options.retry_on_timeout(true).decided_elsewhere(4);
        scenario.submit_with(&[7; 8], options);
        let task = start(&mut scenario);
        let call = scenario.workers[0].as_ref().unwrap().engine.call(&task);
        assert_eq!(call.attempts, 4, "those of the other machines");
        assert!(scenario.queue.cancel(scenario.tickets[0], Reason::Deadline));
        scenario.supervise();
        assert_eq!(scenario.queue.pending(), 1, "its worker has it");
        if dies {
            scenario.recover(0, LossCause::NeighbourTimedOut);
            scenario.spawn(0);
        } else {
            scenario.workers[0].as_mut().unwrap().attend();
            scenario.queue.drain();
        }
        scenario.supervise();
        assert_eq!(scenario.queue.pending(), 0, "and has let go of it");
        scenario.end();
        assert_eq!(scenario.damages, 0);
    }
}

#[test]
fn an_audit_takes_no_offence_at_a_task_between_its_attempts() {
    let mut scenario = with_a_late_task(None);
    scenario.workers[0].as_mut().unwrap().running.clear();
    let owner = Owner::of(scenario.workers[0].as_ref().unwrap().id);
    assert_eq!(scenario.queue.audit(|slot| (slot == 0).then_some(owner)), None);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_cancel_between_two_attempts_is_the_tasks_end() {
    let mut scenario = with_a_late_task(None);
    assert!(!scenario.queue.cancel(scenario.tickets[0], Reason::Deadline), "that was its deadline");
    assert!(scenario.queue.cancel(scenario.tickets[0], Reason::Cancel));
    assert_eq!(scenario.queue.pending(), 0);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_predicate_is_asked_once_and_without_a_lock() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut scenario = with_a_late_task(Some(|_| ASKED.fetch_add(1, Ordering::Relaxed) == 0));
    assert_eq!((ASKED.load(Ordering::Relaxed), scenario.queue.pending()), (1, 1));
    scenario.workers[0].as_mut().unwrap().attend();
    scenario.supervise();
    scenario.supervise();
    start(&mut scenario);
    // No retry is left: it is not asked again.
    assert!(scenario.queue.cancel(scenario.tickets[0], Reason::Deadline));
    assert_eq!((ASKED.load(Ordering::Relaxed), scenario.queue.pending()), (1, 0));
    scenario.end();
    let mut scenario = with_a_late_task(Some(|_| false));
    assert_eq!(scenario.queue.pending(), 0, "the answer was no");
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_task_for_one_worker_is_started_by_it_and_by_no_other() {
    let mut scenario = with_tasks(0);
    scenario.assign(0);
    // Its entry in the ring is none that can be claimed.
    let other = scenario.workers[1].as_mut().unwrap();
    other.attend();
    assert!(other.running.is_empty());
    assert!(matches!(other.engine.claim(true), Look::Nothing));
    let own = scenario.workers[0].as_mut().unwrap();
    own.attend();
    assert_eq!(own.running.len(), 1);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_task_for_one_worker_waits_for_the_next_one_on_its_seat() {
    let mut scenario = with_tasks(0);
    for death in 1..=3 {
        if death == 1 {
            scenario.assign(0);
        } else {
            scenario.supervise();
        }
        scenario.recover(0, LossCause::Death);
        scenario.spawn(0);
        let other = scenario.workers[1].as_mut().unwrap();
        assert!(matches!(other.engine.claim(true), Look::Nothing), "it was queued for another");
        assert_eq!(scenario.queue.pending(), usize::from(death < 3), "after {death} deaths");
    }
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_task_for_one_worker_is_no_damage_while_the_worker_has_not_looked() {
    let mut scenario = with_tasks(0);
    scenario.assign(0);
    scenario.supervise();
    scenario.workers[0].as_mut().unwrap().attend();
    assert_eq!(
        scenario.workers[0].as_ref().unwrap().running.len(),
        1,
        "it was taken for a scribble"
    );
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_task_that_is_assigned_between_question_and_answer_is_no_damage() {
    let mut scenario = with_tasks(0);
    scenario.workers[0].as_mut().unwrap().engine.attention();
    scenario.assign(0);
    // The question was read before the task was there.
    let worker = scenario.workers[0].as_mut().unwrap();
    worker.engine.answer(|_| false);
    worker.attend();
    assert_eq!(worker.running.len(), 1, "it was taken for a scribble");
    scenario.end();
    assert_eq!(scenario.damages, 0);
}
