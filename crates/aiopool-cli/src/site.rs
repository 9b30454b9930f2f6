//! `aiopool site`: serves the built-in site.

use std::io;
use std::net::Ipv4Addr;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use aiopool_bench::output;
use aiopool_cluster::interrupt;
use aiopool_scrape::site::{Pages, Shop, serve};
use anyhow::Context;
use tokio::net::TcpListener;

/// Serves the built-in book shop on 127.0.0.1 until Ctrl-C; the first line of output is its URL
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Delay of each answer in milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    latency_ms: u64,
    /// End when stdin is closed, so that the site cannot outlive the process that started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.until_stdin_closes {
        thread::Builder::new().name("stdin".into()).spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            process::exit(0);
        })?;
    }
    let pages = Pages::new(&Shop::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
            .await
            .with_context(|| format!("cannot listen on 127.0.0.1:{}", args.port))?;
        output::say(format_args!("http://{}/", listener.local_addr()?))?;
        let stop = async {
            // Who closes stdin decides, even if signals go to every process of a service.
            while {
                interrupt::next().await;
                args.until_stdin_closes
            } {}
        };
        serve(listener, pages, Duration::from_millis(args.latency_ms), stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}
