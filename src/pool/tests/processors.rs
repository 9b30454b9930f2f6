//! Each side knows whether its partner can be running while it spins.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Pool;
use crate::sys::cpus::{self, Mask};

use super::damage::own_control;

/// Far above what any of this takes.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Keeps the worker on one processor.
async fn stay_on(processor: usize) {
    Mask::single(processor).apply().unwrap();
}

async fn double(x: u64) -> u64 {
    2 * x
}

/// Keeps the worker awake, until the file is there.
async fn burn(until: PathBuf) {
    while !until.exists() {}
}

/// Returns whether the host may be running beside this worker, as the worker sees it.
async fn may_host_run(_: ()) -> bool {
    own_control().processors().may_host_run(cpus::current())
}

#[test]
fn who_waits_knows_whether_its_partner_was_seen_on_its_own_processor() {
    let before = Mask::of_this_thread().unwrap();
    let processors = before.processors();
    let pool = Pool::builder().processes(1).build().unwrap();
    pool.apply(stay_on, processors[0]).wait().unwrap();
    for &own in processors.iter().take(2) {
        let shared = own == processors[0];
        Mask::single(own).apply().unwrap();
        // Each has waited where it is now.
        for x in 0..200 {
            assert_eq!(pool.apply(double, x).wait().unwrap(), 2 * x);
        }
        assert_eq!(pool.apply(may_host_run, ()).wait().unwrap(), !shared);
        let file = std::env::temp_dir().join(format!("aiopool-burn-{}", std::process::id()));
        let burning = pool.apply(burn, file.clone());
        let end = Instant::now() + WATCHDOG;
        while pool.stats().running == 0 {
            assert!(Instant::now() < end, "the task does not start");
            std::thread::yield_now();
        }
        assert_eq!(pool.shared.may_worker_run(), !shared);
        std::fs::write(&file, "").unwrap();
        burning.wait().unwrap();
        std::fs::remove_file(file).unwrap();
    }
    before.apply().unwrap();
    assert!(!pool.shared.may_worker_run(), "with nothing out there is nothing to spin for");
}
