//! An initializer that captures.
//! says: this task function carries a value, which a worker process does not have
//! errors: 1

fn main() {
    let limit = 3_u64;
    let initializer = move |_: u64| async move { if limit > 3 { Err("no") } else { Ok(()) } };
    drop(aiopool::Pool::builder().initializer(initializer, 1)); // HERE
}
