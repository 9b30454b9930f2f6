//! Words to the terminal that must never fail the work.

use std::fmt;
use std::io::{self, Write};

/// Writes to the user on stderr. A stderr without a reader is no reason to stop.
pub fn complain(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "aiopool: {message}");
}

/// Prints a line on stdout.
pub fn say(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
