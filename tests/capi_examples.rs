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

#[test]
fn epoll_submits_and_receives_in_one_loop() {
    let Some(said) = example("c", "epoll.c", &[]) else { return };
    assert_eq!(said, "epoll: 10000 squares, sum 333283335000\n");
}

#[test]
fn async_tasks_share_a_worker_and_are_told_of_their_end() {
    let Some(said) = example("c", "async.c", &[]) else { return };
    assert_eq!(said, "async: 200 tasks in one worker, sum 39800; the task was cancelled\n");
}

#[test]
fn a_crash_is_contained() {
    let Some(said) = example("c", "crash.c", &[]) else { return };
    assert_eq!(said, "crash: 95 done, 5 lost with their workers, each replaced\n");
}

#[test]
fn many_tasks_are_answered_right_and_once() {
    let Some(said) = example("c", "million.c", &["50000", "2"]) else { return };
    assert_eq!(said, "million: 50000 tasks, every answer right\n");
    let source = std::fs::read_to_string(Path::new(ROOT).join("ffi-examples/c/million.c")).unwrap();
    assert!(source.lines().count() <= 200);
}

#[test]
fn cpp_handles_free_themselves() {
    let Some(said) = example("cpp", "map.cpp", &[]) else { return };
    assert_eq!(said, "map: 1000 squares, sum 332833500\n");
}

#[test]
fn large_inputs_are_not_copied() {
    let Some(said) = example("c", "zero-copy.c", &[]) else { return };
    assert_eq!(said, "zero-copy: 8 inputs of 4 MiB, sum 150994944\n");
}

#[test]
fn every_mistake_is_a_status() {
    if missing("cc") {
        return;
    }
    let binary = compile(&Path::new(ROOT).join("tests/capi/misuse.c"), "misuse");
    let said = watched(&binary, &[]);
    assert!(said.ends_with("were statuses\n"), "{said}");
}

#[cfg(feature = "sandbox")]
#[test]
fn workers_are_confined_as_c_asks_for_it() {
    if missing("cc") {
        return;
    }
    let binary = compile(&Path::new(ROOT).join("tests/capi/isolation.c"), "isolation");
    let said = watched(&binary, &[]);
    assert_eq!(
        said,
        "isolation: socket Operation not permitted, other files Permission denied, /dev/null open, \
         exec Operation not permitted, uname Operation not permitted, 77 descriptors\n\
         isolation: lost 1, SIGXCPU\n"
    );
}
