//! Words to the terminal that must never fail the work.

use std::fmt;
use std::io::{self, Write};

/// Tells the user something on stderr. Nobody to tell is no reason to stop.
pub fn complain(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "aiopool: {message}");
}

/// Prints a line on stdout.
pub fn say(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
