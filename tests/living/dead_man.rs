//! A pool with a deadline: a dead man's switch that the zygote holds.

use std::path::Path;
use std::time::Duration;

use aiopool::{Pool, TaskError, remote};

use crate::alone;

const MS: u64 = 1_000_000;

async fn sleep(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

/// Both tests have a fork server of their own: one that does not get to act on a deadline in time is
/// killed, and other tests have pools, too.
#[test]
fn a_deadline_ends_the_pool_and_every_worker_of_it() {
    alone("dead_man::a_deadline_ends_the_pool_and_every_worker_of_it", || {
        let deadline = remote::boottime_ns() + 10_000 * MS;
        let pool = Pool::builder().processes(2).deadline(deadline).build().unwrap();
        let pids = pool.worker_pids();
        assert_eq!(pool.apply(sleep, 1).wait().unwrap(), 1);
        let error = pool.apply(sleep, 600_000).wait().unwrap_err();
        assert!(remote::boottime_ns() >= deadline);
        assert!(
            matches!(&error, TaskError::PoolClosed { reason: Some(reason) }
                if reason.to_string().contains("deadline")),
            "{error:?}"
        );
        for pid in pids {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map_or("gone", |(_, rest)| &rest[..1]);
            assert!(["gone", "Z", "X"].contains(&state), "worker {pid} is in state {state}");
        }
        // Too late: the zygote has let go of the pool.
        pool.extend_deadline(remote::boottime_ns() + 60_000 * MS).unwrap();
        assert!(pool.apply(sleep, 1).wait().is_err());
        drop(pool);
        // Other pools of the same zygote go on.
        let other = Pool::builder().processes(1).build().unwrap();
        assert_eq!(other.apply(sleep, 2).wait().unwrap(), 2);
        assert!(other.extend_deadline(0).is_err(), "it has none");
    });
}

#[test]
fn a_deadline_that_is_pushed_out_does_not_come() {
    alone("dead_man::a_deadline_that_is_pushed_out_does_not_come", || {
        let deadline = remote::boottime_ns() + 10_000 * MS;
        let pool = Pool::builder().processes(1).deadline(deadline).build().unwrap();
        let pid = pool.worker_pids()[0];
        pool.extend_deadline(deadline + 600_000 * MS).unwrap();
        assert_eq!(pool.apply(sleep, 11_000).wait().unwrap(), 11_000);
        assert_eq!(pool.worker_pids(), [pid]);
        assert!(Path::new(&format!("/proc/{pid}")).exists());
    });
}
