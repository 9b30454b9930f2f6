//! A web service: requests over a socket, a full pool that pushes back, an end in order.
//!
//!     cargo run --example web_service

use std::time::Duration;

use aiopool::{Pool, TaskError, TaskOptions, sync_fn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a request asks for: a sum that takes a moment, given up when its client has gone.
fn sum_of_squares(below: u64) -> u64 {
    (0..below).take_while(|_| !aiopool::is_cancelled()).map(|n| n * n % 1_000_003).sum()
}

async fn warm_up(text: String) -> usize {
    text.len() // a cache would be filled here
}

async fn serve(pool: Pool, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let below = line.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap_or(0);
    let options = TaskOptions::new().timeout(Duration::from_secs(2));
    let answer = match pool.with(options).submit_now(sync_fn(sum_of_squares), &below) {
        Ok(task) => task.await,
        Err(full) => Err(full),
    };
    let status = match &answer {
        Ok(_) => "200 OK",
        Err(error) if error.is_full() => "503 Service Unavailable",
        Err(TaskError::TimedOut { .. }) => "504 Gateway Timeout",
        Err(_) => "500 Internal Server Error",
    };
    let body = answer.map_or_else(|error| error.to_string(), |sum| sum.to_string());
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all((head + &body).as_bytes()).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(2).child_concurrency(1).build()?;
    pool.ready().await?;
    let warm = pool.broadcast(warm_up, "the cache".to_owned()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    for below in [1_000, 100_000] {
        let mut client = TcpStream::connect(address).await?;
        client.write_all(format!("GET /{below} HTTP/1.1\r\n\r\n").as_bytes()).await?;
        serve(pool.clone(), listener.accept().await?.0).await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        println!("{below}: {}", answer.lines().next().unwrap_or_default());
    }
    let drained = pool.drain(Duration::from_secs(5)).await;
    println!("{} workers were warm, drained: {drained}", warm.len());
    Ok(())
}
