//! A worker of its own with a closure that captures.
//! says: this task function carries a value, which a worker process does not have
//! errors: 1

fn main() {
    let limit = 3_u64;
    drop(aiopool::Worker::new(move |x: u64| async move { x + limit }, 1)); // HERE
}
