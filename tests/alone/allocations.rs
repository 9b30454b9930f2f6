//! A task in steady state allocates nothing, on either side.

#![allow(unsafe_code)] // An allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aiopool::Pool;

thread_local! {
    /// By thread: the supervisor's and the test harness's are not a task's.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is the system allocator's; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() -> u64 {
    COUNT.with(Cell::get)
}

/// The allocations of the worker's executor thread so far.
async fn counted(_: u64) -> u64 {
    count()
}

const WARM: usize = 20_000;
const TASKS: usize = 20_000;

/// One in a thousand is not "per task": a list that grows once more than before.
fn assert_none(what: &str, before: u64, after: u64) {
    let each = (after - before) as f64 / TASKS as f64;
    assert!(each <= 0.001, "{what}: {each} allocations a task");
}

#[test]
fn the_counter_counts() {
    let _alone = crate::one_at_a_time();
    let before = count();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(count() - before, 1);
}

#[tokio::test]
async fn a_map_allocates_nothing_per_task() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).build().unwrap();
    let mut results = pool.map(counted, 0..(WARM + TASKS) as u64);
    let mut worker = 0;
    for _ in 0..WARM {
        worker = results.next().await.unwrap().unwrap();
    }
    let host = count();
    let mut last = 0;
    for _ in 0..TASKS {
        last = results.next().await.unwrap().unwrap();
    }
    assert_none("host", host, count());
    assert_none("worker", worker, last);
}

#[tokio::test]
async fn an_apply_allocates_nothing() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).build().unwrap();
    let mut worker = 0;
    for x in 0..WARM as u64 {
        worker = pool.apply(counted, x).await.unwrap();
    }
    let host = count();
    let mut last = 0;
    for x in 0..TASKS as u64 {
        last = pool.apply(counted, x).await.unwrap();
    }
    assert_none("host", host, count());
    assert_none("worker", worker, last);
}
