//! A function that returns a `Result` with an error that serde does not know, by `map`.
//! says: a task cannot return `Result<String, std::io::Error>`
//! says: if it is a `Result`, use the verb's `try_` form (`try_map`, `try_apply`, `try_starmap`)
//! errors: 1

async fn read(path: String) -> Result<String, std::io::Error> {
    std::fs::read_to_string(path)
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.map(read, [String::new()])); // HERE
}
