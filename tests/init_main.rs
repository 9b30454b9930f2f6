//! A program that calls `aiopool::init()` first: its workers see what it had loaded by then.
//! Its own `main`, since the test harness has threads.

use std::sync::OnceLock;

use aiopool::{Error, Pool};

static MODEL: OnceLock<Vec<u64>> = OnceLock::new();

async fn look_up(index: usize) -> Option<u64> {
    MODEL.get().map(|model| model[index])
}

fn main() {
    MODEL.set((0..1000).map(|x| x * x).collect()).unwrap();
    aiopool::init().unwrap();
    assert!(matches!(aiopool::init(), Err(Error::Misuse(_))), "a second zygote");
    // Whatever comes later is the host's own: threads and a runtime of many.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::builder().processes(2).build().unwrap();
        let squares = pool.map(look_up, [3, 30, 300]).await.unwrap();
        assert_eq!(squares, [Some(9), Some(900), Some(90_000)]);
        pool.close();
        pool.join().await.unwrap();
    });
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
