//! Whether the library compiles where nobody here runs it.

use std::process::{Command, ExitCode};

use crate::steps::{all, command};

/// Those of the README that are not the developer's own.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-gnu"];

/// Checks the library and its C ABI for each of `TARGETS`, and the library with the compiler of its
/// `rust-version`.
///
/// Fails where rustup, or what it is to fetch, is not to be had: a check that was left out would look
/// like one that passed.
pub fn check() -> ExitCode {
    if Command::new("rustup").arg("--version").output().is_err() {
        eprintln!(
            "xtask: compilers and targets are fetched by rustup, which is not here: install it"
        );
        return ExitCode::FAILURE;
    }
    let oldest = oldest();
    let install =
        ["rustup", "toolchain", "install", &oldest, "--profile=minimal", "--no-self-update"];
    let fetch =
        [command(&install), command(&[&["rustup", "target", "add"][..], &TARGETS].concat())];
    let checks = TARGETS.map(|target| {
        let words = ["cargo", "check", "--quiet", "-paiopool", "-paiopool-capi", "--lib"];
        command(&[&words[..], &["--target", target]].concat())
    });
    // A folder of its own: each compiler throws away what the other has made.
    let words = ["rustup", "run", &oldest, "cargo", "check", "--quiet", "-paiopool", "--lib"];
    let options = ["--features=capi,metrics", "--target-dir=target/oldest"];
    let of_oldest = command(&[&words[..], &options].concat());
    all(fetch.into_iter().chain(checks).chain([of_oldest]))
}

/// Returns the `rust-version` of the library.
fn oldest() -> String {
    let manifest = std::fs::read_to_string(crate::root().join("Cargo.toml")).unwrap_or_default();
    let package = manifest.split("\n[package]\n").nth(1).unwrap_or_default();
    let line = package.lines().find_map(|line| line.strip_prefix("rust-version = "));
    line.expect("the library states its oldest compiler").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_oldest_compiler_is_that_of_the_library_and_not_of_the_workspace() {
        let oldest = super::oldest();
        let (major, minor) = oldest.split_once('.').unwrap();
        let minor: u32 = minor.parse().unwrap();
        assert!(major == "1" && (85..95).contains(&minor), "{oldest}");
    }
}
