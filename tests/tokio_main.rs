//! A pool in an ordinary `#[tokio::main]`, without `init()`.

use aiopool::Pool;

async fn double(x: u64) -> u64 {
    x * 2
}

#[tokio::main]
async fn main() {
    let pool = Pool::builder().processes(2).build().unwrap();
    assert_eq!(pool.map(double, 0..100).await.unwrap().len(), 100);
    pool.close();
    pool.join().await.unwrap();
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
