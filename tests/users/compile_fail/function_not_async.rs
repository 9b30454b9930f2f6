//! A function that is not async.
//! says: the task function returns a `u64`, which is not a future
//! says: make it an `async fn`, or pass `aiopool::sync_fn(function)`
//! errors: 1

fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.map(square, [1])); // HERE
}
