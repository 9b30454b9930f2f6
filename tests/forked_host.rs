//! A child that the host forks cannot disturb the pool.

#![allow(unsafe_code)] // it forks

use aiopool::{Error, Pool, TaskError};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    ms
}

#[test]
fn a_forked_child_cannot_disturb_the_pool() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let task = pool.apply(nap, 300);
    let queued: Vec<_> = (0..100).map(|x| pool.apply(double, x)).collect();
    // SAFETY: the child only touches memory of its own and leaves by `_exit`; the locks it takes
    // are held by nobody at this moment, since the host's other threads are idle.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = pool.apply(double, 1).wait();
        let told = matches!(&refused, Err(TaskError::NotSubmitted(e)) if matches!(**e, Error::Forked { .. }));
        let own = matches!(task.wait(), Err(TaskError::NotSubmitted(_)));
        drop(queued);
        pool.terminate();
        let join = matches!(pool.join_blocking(), Err(Error::Forked { .. }));
        drop(pool);
        // SAFETY: takes a number and does not come back.
        unsafe { libc::_exit(if told && own && join { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a writable int of our own.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was not refused");
    assert_eq!(task.wait().unwrap(), 300);
    for (x, task) in queued.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), 2 * x as u64);
    }
}
