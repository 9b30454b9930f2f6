//! A closure that captures something that is neither `Copy` nor `Send`.
//! says: the closure captures variables, which a worker process does not have
//! says: pass what the task needs as part of its argument
//! errors: 1

use std::rc::Rc;

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    let shared = Rc::new(1_u64);
    drop(pool.apply(move |x: u64| { let shared = Rc::clone(&shared); async move { x + *shared } }, 1)); // HERE
}
