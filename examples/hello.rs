//! The first pool: two worker processes, one async function, three items.
//!
//!     cargo run --example hello

use aiopool::Pool;

async fn shout(word: String) -> String {
    format!("{} from process {}", word.to_uppercase(), std::process::id())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(2).build()?;
    let words = ["hello", "brave", "world"].map(String::from);
    for line in aiopool::block_on(pool.map(shout, words))? {
        println!("{line}");
    }
    println!("and this is process {}", std::process::id());
    Ok(())
}
