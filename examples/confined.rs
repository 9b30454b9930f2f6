//! Workers that may do little: for code that parses what strangers send.
//!
//!     cargo run --example confined

use std::path::PathBuf;

use aiopool::{Limits, Pool, Sandbox};

async fn first_line(path: PathBuf) -> std::io::Result<String> {
    let text = std::fs::read_to_string(&path)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

async fn allocate(mib: usize) -> Result<usize, std::collections::TryReserveError> {
    let mut memory = Vec::<u8>::new();
    memory.try_reserve_exact(mib << 20)?;
    Ok(memory.capacity() >> 20)
}

async fn connect(address: String) -> std::io::Result<()> {
    std::net::TcpStream::connect(address).map(drop)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("aiopool-confined-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("letter"), "Dear Sir or Madam\n")?;
    let sandbox = Sandbox::new().read_only([&folder]).no_network().no_exec();
    let missing = sandbox.unsupported();
    if !missing.is_empty() {
        println!("this kernel cannot enforce {}", missing.join(", "));
        return Ok(());
    }
    let pool = Pool::builder()
        .processes(1)
        .limits(Limits::new().address_space(4 << 30).open_files(64))
        .sandbox(sandbox)
        .build()?;

    let line = pool.try_apply(first_line, folder.join("letter")).wait()?;
    println!("what it may read: {line}");
    let error = pool.try_apply(first_line, PathBuf::from("/etc/passwd")).wait().unwrap_err();
    println!("what it may not: {error}");
    let error = pool.try_apply(allocate, 8 << 10).wait().unwrap_err();
    println!("8 GiB: {error}");
    let error = pool.try_apply(connect, "127.0.0.1:80".to_owned()).wait().unwrap_err();
    println!("a connection: {error}");
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
