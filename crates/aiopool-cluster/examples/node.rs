//! A node of one's own, and a submitter, in one program: both have to be the same build.
//!
//!     cargo run -p aiopool-cluster --example node -- --processes 2
//!     cargo run -p aiopool-cluster --example node -- submit
//!
//! Ctrl-C lets the node finish what it runs.

use std::error::Error;
use std::process::ExitCode;

use aiopool_cluster::Cluster;

async fn double(x: u64) -> u64 {
    x * 2
}

fn submit() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::builder("nats://127.0.0.1:4222").connect_blocking()?;
    for doubled in cluster.map(double, 1..=3).into_blocking_iter() {
        println!("{}", doubled?);
    }
    Ok(())
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("submit") {
        return aiopool_cluster::node_main();
    }
    match submit() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
