//! Programs of users, each built by cargo from a manifest of its own.

mod compile_fail;
mod constructors;
mod examples;
mod one_target_folder;
mod panic_abort;

use std::path::Path;
use std::process::{Command, Output};

/// Runs cargo in `dir` as a user would, without the variables of the cargo that runs this test.
fn cargo(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(words)
        .current_dir(dir)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap()
}
