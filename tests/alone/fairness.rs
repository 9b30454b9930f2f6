//! No task starves the ring, the timers or the sockets of its worker.

use std::time::Duration;

use aiopool::{Pool, Task};

/// Far above what any of this takes; only there so that a starved test ends.
const WATCHDOG: Duration = Duration::from_secs(60);

async fn no_op(x: u64) -> u64 {
    x
}

/// Always ready: wakes itself at each poll.
async fn spin(_: u64) {
    loop {
        let mut polled = false;
        std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::replace(&mut polled, true) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

/// The same as subtasks of tokio's.
async fn spawn_spinners(n: u64) {
    for _ in 0..n {
        tokio::spawn(spin(0));
    }
    std::future::pending::<()>().await;
}

async fn compute_for_ever(_: u64) {
    let mut x = 1_u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(3));
    }
}

async fn tick(n: u64) -> u64 {
    for _ in 0..n {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    n
}

async fn talk(n: u64) -> u64 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
    for i in 0..n {
        client.write_u64(i).await.unwrap();
        assert_eq!(server.read_u64().await.unwrap(), i);
        server.write_u64(i).await.unwrap();
        assert_eq!(client.read_u64().await.unwrap(), i);
    }
    n
}

/// Runs a little of everything in `pool`, whose worker is kept busy by `_busy`.
async fn all_still_works(pool: &Pool, _busy: Vec<Task<()>>) {
    let work = async {
        assert_eq!(pool.map(no_op, 0..200).await.unwrap().len(), 200);
        assert_eq!(pool.apply(tick, 20).await.unwrap(), 20);
        assert_eq!(pool.apply(talk, 20).await.unwrap(), 20);
    };
    tokio::time::timeout(WATCHDOG, work).await.expect("starved");
}

#[tokio::test]
async fn a_task_that_is_always_ready() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).build().unwrap();
    let busy = vec![pool.apply(spin, 0)];
    all_still_works(&pool, busy).await;
}

#[tokio::test]
async fn two_hundred_tasks_that_are_always_ready() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).child_concurrency(256).build().unwrap();
    let busy = (0..200).map(|i| pool.apply(spin, i)).collect();
    all_still_works(&pool, busy).await;
}

#[tokio::test]
async fn a_task_that_spawns_always_ready_subtasks() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(1).build().unwrap();
    let busy = vec![pool.apply(spawn_spinners, 50)];
    all_still_works(&pool, busy).await;
}

#[tokio::test]
async fn a_task_that_never_yields_leaves_the_rest_to_its_siblings() {
    let _alone = crate::one_at_a_time();
    let pool = Pool::builder().processes(2).build().unwrap();
    let busy = vec![pool.apply(compute_for_ever, 0)];
    all_still_works(&pool, busy).await;
}
