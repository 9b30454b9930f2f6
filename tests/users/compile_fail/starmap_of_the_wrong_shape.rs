//! Items whose members are not the function's arguments.
//! says: expected a tuple with 2 elements, found one with 3 elements
//! errors: 1

async fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.starmap(add, [(1_u64, 2_u64, 3_u64)])); // HERE
}
