//! The pool's verbs one at a time, to look at while working on them: `cargo bench -- apply`.
//!
//! These say how long something takes here and now. How that compares with anything else is for
//! `aiopool bench`, which runs the rivals in the same run, block by block.

use aiopool::Pool;
use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

fn main() {
    // First thing, as in a user's program: workers are forked from here.
    aiopool::init().expect("no thread yet");
    divan::main();
}

async fn same(x: u64) -> u64 {
    x
}

async fn echo(payload: Bytes) -> Bytes {
    payload
}

/// A pool whose workers are up.
fn pool(processes: usize, queues: usize) -> Pool {
    let pool = Pool::builder().processes(processes).queues(queues).build().expect("a pool");
    assert!(matches!(pool.apply(same, 1).wait(), Ok(1)));
    pool
}

/// One task after the other, the caller blocked.
#[divan::bench]
fn apply(bencher: Bencher<'_, '_>) {
    let pool = pool(1, 1);
    bencher.bench_local(|| pool.apply(same, black_box(7)).wait());
}

/// One task after the other, awaited.
#[divan::bench]
fn apply_async(bencher: Bencher<'_, '_>) {
    let pool = pool(1, 1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    bencher.bench_local(|| runtime.block_on(async { pool.apply(same, black_box(7)).await }));
}

const TASKS: u64 = 2_000;

/// 2,000 tasks, with a given number in flight.
#[divan::bench(args = [1, 10, 100, 1_000])]
fn map(bencher: Bencher<'_, '_>, window: usize) {
    let pool = pool(2, 1);
    bencher.counter(ItemsCount::new(TASKS)).bench_local(|| {
        let results = pool.map(same, 0..TASKS).window(window).into_blocking_iter();
        assert_eq!(results.filter(Result::is_ok).count() as u64, TASKS);
    });
}

/// 2,000 tasks over a number of queues with a worker each.
#[divan::bench(args = [1, 4, 16])]
fn map_queues(bencher: Bencher<'_, '_>, queues: usize) {
    let pool = pool(queues, queues);
    bencher.counter(ItemsCount::new(TASKS)).bench_local(|| {
        let results = pool.map(same, 0..TASKS).into_blocking_iter();
        assert_eq!(results.filter(Result::is_ok).count() as u64, TASKS);
    });
}

/// A number of bytes there and back.
#[divan::bench(args = [8, 256, 64 << 10, 1 << 20])]
fn payload(bencher: Bencher<'_, '_>, size: usize) {
    let pool = pool(1, 1);
    let payload = Bytes::from(vec![7; size]);
    bencher.counter(BytesCount::new(size)).bench_local(|| pool.apply(echo, payload.clone()).wait());
}

/// A pool of two from nothing to its first result, and gone again.
#[divan::bench(sample_count = 20)]
fn start(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| pool(2, 1));
}
