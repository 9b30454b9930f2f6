//! An argument that serde cannot encode.
//! says: `Order` cannot be sent to a worker process
//! says: #[derive(serde::Serialize, serde::Deserialize)]
//! errors: 2

struct Order(u64);

async fn ship(order: Order) -> u64 {
    order.0
}

fn main() {
    let pool = aiopool::Pool::new().unwrap();
    drop(pool.map(ship, [Order(1)])); // HERE
}
