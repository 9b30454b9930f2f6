//! An error that is not `Display`, by `try_map`.
//! says: `Mistake` doesn't implement `std::fmt::Display`
//! errors: 1

struct Mistake;

async fn fail(_: u64) -> Result<u64, Mistake> {
    Err(Mistake)
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.try_map(fail, [1])); // HERE
}
