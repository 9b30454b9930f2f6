//! What the command and the tasks of its pools log, on standard error: warnings and errors, or what
//! `RUST_LOG` asks for.

use std::io::{self, Write};

use aiopool_bench::output;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::progress;

/// Has what is logged from now on written. To be called once, before there is a pool.
pub fn install() {
    let filter = asked().unwrap_or_else(|error| {
        output::complain(format_args!("RUST_LOG is not used: {error}"));
        usual()
    });
    let lines = fmt::layer().with_ansi(false).with_writer(|| Lines).with_filter(filter);
    tracing_subscriber::registry().with(lines).init();
}

/// Returns what is logged, in the form of `RUST_LOG`.
pub fn filter() -> String {
    asked().unwrap_or_else(|_| usual()).to_string()
}

/// What `RUST_LOG` asks for.
fn asked() -> Result<Targets, ParseError> {
    match std::env::var("RUST_LOG") {
        Ok(asked) if !asked.trim().is_empty() => asked.parse(),
        _ => Ok(usual()),
    }
}

fn usual() -> Targets {
    Targets::new().with_default(LevelFilter::WARN)
}

/// Standard error, of which each write is a line.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A stderr without a reader is no reason to stop.
        progress::beside_bars(|| drop(io::stderr().write_all(line)));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
