//! A value that serde cannot encode.
//! says: a task cannot return `Receipt`: it cannot be sent back from a worker process
//! says: #[derive(serde::Serialize, serde::Deserialize)]
//! errors: 1

struct Receipt(u64);

async fn ship(order: u64) -> Receipt {
    Receipt(order)
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.map(ship, [1])); // HERE
}
