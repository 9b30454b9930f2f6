//! The complaint that `map` eats all memory, in a process of its own: other tests' memory would
//! count as this one's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aiopool::Pool;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn a_map_over_a_million_items_needs_constant_memory() {
    let _alone = crate::one_at_a_time();
    const ITEMS: u64 = 1_000_000;
    async fn length(text: String) -> u64 {
        text.len() as u64
    }
    let pool = Pool::builder().processes(2).build().unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    // Half a gigabyte in all, were it taken at once.
    let items = (0..ITEMS).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        "x".repeat(500)
    });
    let mut stream = pool.map(length, items).window(1000);
    let (mut before, mut most) = (0, 0);
    for given in 0..ITEMS {
        let length = stream.next().await.unwrap().unwrap();
        assert_eq!(length, 500);
        let ahead = taken.load(Ordering::Relaxed) - given;
        assert!(ahead <= 1001, "{ahead} items taken ahead");
        match given {
            20_000 => before = resident_bytes(),
            n if n % 10_000 == 0 => most = most.max(resident_bytes()),
            _ => {}
        }
    }
    assert!(stream.next().await.is_none());
    let grown = most.saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
}
