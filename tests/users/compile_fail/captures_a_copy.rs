//! A closure that captures a number. `cargo check` cannot see it; the build must name the line.
//! says: this task function carries a value, which a worker process does not have
//! says: pass what the task needs as part of its argument
//! says: `PoolBuilder::initializer`
//! errors: 1

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    let limit = 3_u64;
    drop(pool.map(move |x: u64| async move { x.min(limit) }, [1])); // HERE
}
