//! `aiopool worker`: the task functions of a C library as a pool's worker.

use std::path::PathBuf;

/// Serve the task functions of a C library; for the start command of a pool
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The library; it exports `int aiopool_register_tasks(void)` and is linked with libaiopool
    #[arg(long, value_name = "LIBRARY")]
    load: PathBuf,
}

/// Returns only with the reason why this process is no worker.
pub fn run(args: Args) -> anyhow::Result<std::process::ExitCode> {
    match aiopool::ffi::serve_library(&args.load)? {}
}
