//! What the developers of this repository run: `cargo xtask` lists it.

mod bless;
mod ci;
mod list;
mod mutate;
mod steps;
mod targets;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND
  ci [STEP...]                all that CI runs, or the steps whose names contain a STEP, with a table
                              of them at the end
  mutate [--sample] [--only NAME]   the code weakened in one place at a time: what notices it
  bless                       writes the header, the lists of symbols and sizes and the layout anew
  figures [PYTHON]            measures, and brings the table and the plots in docs/ up to date;
                              PYTHON is made by `benches/python_rivals.py --setup DIR`
  targets                     checks the library with the oldest compiler that it states, and for
                              musl and aarch64; what rustup has not here it fetches
  docs                        builds the rustdoc pages with warnings as errors, and checks every
                              path, feature, type and command that the documents name";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("ci") => ci::run(&words.collect::<Vec<_>>()),
        Some("mutate") => mutate::run(words),
        Some("bless") => bless::run(),
        Some("figures") => steps::figures(words.next()),
        Some("targets") => targets::check(),
        Some("docs") => steps::docs(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The top of the repository.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is in the repository").to_owned()
}
