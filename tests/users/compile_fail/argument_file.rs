//! An argument that only means something in this process.
//! says: `File` cannot be sent to a worker process
//! says: an open file or socket is opened by the task, from its path or address
//! errors: 2

async fn length(file: std::fs::File) -> u64 {
    file.metadata().unwrap().len()
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.apply(length, std::fs::File::open("/etc/passwd").unwrap())); // HERE
}
