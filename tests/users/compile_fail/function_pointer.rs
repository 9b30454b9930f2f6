//! A function pointer: as large as a closure that captures, but with a message of its own.
//! says: A function pointer names no function that a worker could find: pass the function itself
//! errors: 1

fn now(x: u64) -> std::future::Ready<u64> {
    std::future::ready(x)
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    let pointer: fn(u64) -> std::future::Ready<u64> = now;
    drop(pool.apply(pointer, 1)); // HERE
}
