//! A closure that captures something that is not `Copy`: found by `cargo check`.
//! says: the closure captures variables, which a worker process does not have
//! says: pass what the task needs as part of its argument
//! says: `PoolBuilder::initializer`
//! errors: 1

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    let name = String::from("x");
    drop(pool.apply(
        move |x: u64| { // HERE
            let name = name.clone();
            async move { x + name.len() as u64 }
        },
        1,
    ));
}
