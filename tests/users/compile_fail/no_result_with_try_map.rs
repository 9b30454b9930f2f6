//! A function that returns no `Result`, by `try_map`.
//! says: the task function returns a `u64`, which is not a `Result`
//! says: use the verb without `try_`
//! errors: 1

async fn double(x: u64) -> u64 {
    x * 2
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.try_map(double, [1])); // HERE
}
