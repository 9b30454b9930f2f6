//! A function that borrows its argument. The compiler's own sentence is the only one it gives
//! here: it finds the mistake while it compares lifetimes.
//! says: implementation of
//! says: Deserialize` is not general enough
//! errors: 3

async fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.map(length, ["a"])); // HERE
}
