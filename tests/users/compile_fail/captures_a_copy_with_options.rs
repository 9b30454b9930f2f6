//! The same by a verb with options.
//! says: this task function carries a value, which a worker process does not have
//! says: pass what the task needs as part of its argument
//! errors: 1

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    let limit = 3_u64;
    let options = aiopool::TaskOptions::new();
    let function = move |x: u64| async move { Ok::<_, String>(x.min(limit)) };
    drop(pool.with(options).try_apply(function, 1)); // HERE
}
