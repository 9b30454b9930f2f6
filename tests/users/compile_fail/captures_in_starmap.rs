//! A closure of two arguments that captures.
//! says: this task function carries a value, which a worker process does not have
//! errors: 2

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    let limit = 3_u64;
    drop(pool.starmap(move |a: u64, b: u64| async move { (a + b).min(limit) }, [(1, 2)])); // HERE
}
