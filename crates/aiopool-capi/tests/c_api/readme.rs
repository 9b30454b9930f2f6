//! What the README shows works as it stands there. Its Rust is compiled as a doctest of the crate.

use std::fs;
use std::process::Command;

use aiopool_testing::{library, missing, root, run, scratch, watched};

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The first block of code in `language`.
fn block(readme: &str, language: &str) -> String {
    let (_, rest) = readme.split_once(&format!("\n```{language}\n")).expect("there is a block");
    rest.split_once("```\n").expect("the block ends").0.to_owned()
}

#[test]
fn the_two_commands_stand_first_and_rust_before_c() {
    let readme = readme();
    let at = |text: &str| readme.find(text).unwrap_or_else(|| panic!("{text} is not there"));
    let order = ["cargo run --release -- scrape", "cargo test ", "```rust", "```c\n", "## Why not"];
    assert!(order.map(at).is_sorted(), "{:?}", order.map(at));
    assert_eq!(block(&readme, "sh").lines().count(), 2);
    assert_eq!(block(&readme, "rust").lines().count(), 12);
}

#[test]
fn the_c_program_compiles_without_a_warning_and_prints_what_it_says() {
    if missing("cc") {
        return;
    }
    let dir = scratch("readme");
    let (source, binary) = (dir.join("square.c"), dir.join("square"));
    fs::write(&source, block(&readme(), "c")).unwrap();
    let include = format!("-I{}/include", root().display());
    let libraries = library().parent().unwrap().display().to_string();
    run(Command::new("cc")
        .args(["-Wall", "-Werror", &include, "-o"])
        .args([&binary, &source])
        .args([&format!("-L{libraries}"), "-laiopool", &format!("-Wl,-rpath,{libraries}")]));
    assert_eq!(watched(&binary, &[]), "144\n");
}
