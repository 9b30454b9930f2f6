//! The programs of `ffi-examples/c` and `ffi-examples/cpp`, built against the library and run.
#![cfg(feature = "capi")]

mod capi;

use std::path::Path;

use capi::{ROOT, compile, missing, watched};

fn example(language: &str, file: &str, arguments: &[&str]) -> Option<String> {
    if missing("cc") || missing("c++") {
        return None;
    }
    let source = Path::new(ROOT).join("ffi-examples").join(language).join(file);
    let binary = compile(&source, &format!("{language}-{file}"));
    Some(watched(&binary, arguments))
}

#[test]
fn map_squares_a_thousand_numbers() {
    let Some(said) = example("c", "map.c", &[]) else { return };
    assert_eq!(said, "map: 1000 squares, sum 332833500\n");
}
