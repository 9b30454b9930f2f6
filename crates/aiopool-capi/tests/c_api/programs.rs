//! The programs of `ffi-examples/c` and `ffi-examples/cpp`, built against the library and run.

use std::path::Path;
use std::process::Command;

use aiopool_testing::{compile, library, missing, root, run, scratch, watched};

fn example(language: &str, file: &str, arguments: &[&str]) -> Option<String> {
    if missing("cc") || missing("c++") {
        return None;
    }
    let source = root().join("ffi-examples").join(language).join(file);
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
    let Some(said) = example("c", "loop.c", &[]) else { return };
    assert_eq!(said, "loop: 10000 squares, sum 333283335000\n");
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
fn a_process_gives_a_value_or_is_stopped() {
    let Some(said) = example("c", "process.c", &[]) else { return };
    assert_eq!(said, "process: sum 499500; server ended with -15\n");
}

#[test]
fn many_tasks_are_answered_right_and_once() {
    let Some(said) = example("c", "million.c", &["50000", "2"]) else { return };
    assert_eq!(said, "million: 50000 tasks, every answer right\n");
    let source = std::fs::read_to_string(root().join("ffi-examples/c/million.c")).unwrap();
    assert!(source.lines().count() <= 200);
}

#[test]
fn the_bench_beside_libuv_runs_and_its_answers_are_right() {
    // On CI the header is installed; without it the program does not compile there, and this fails.
    let has_header = Path::new("/usr/include/uv.h").exists();
    if missing("cc") || !has_header && std::env::var_os("AIOPOOL_CI").is_none() {
        return;
    }
    let lib = library().parent().expect("the library is in a folder");
    let said = run(Command::new("timeout")
        .args(["--kill-after=5", "120", "sh"])
        .arg(root().join("benches/libuv.sh"))
        .args(["1", "1000"])
        // Cargo's own value has a folder in it where an older library may lie.
        .envs([("AIOPOOL_LIB_DIR", lib), ("LD_LIBRARY_PATH", lib)])
        .env("AIOPOOL_OUT", scratch("libuv")));
    assert_eq!(said.matches("times as fast").count(), 6, "{said}");
}

#[test]
fn cpp_handles_free_themselves() {
    let Some(said) = example("cpp", "map.cpp", &[]) else { return };
    assert_eq!(said, "map: 1000 squares, sum 332833500\n");
}

#[test]
fn cpp_contexts_have_names_pools_and_logs_of_their_own() {
    let Some(said) = example("cpp", "context.cpp", &[]) else { return };
    let first = "context: two of one name, 144 and 6; one log heard its own worker's death\n";
    assert_eq!(said, first);
}

#[test]
fn cpp_tasks_print_each_for_itself() {
    let Some(said) = example("cpp", "printed.cpp", &[]) else { return };
    assert_eq!(said, "printed: 6 of 6 tasks said what they were asked for\n");
}

#[test]
fn cpp_coroutines_await_tasks_and_get_their_exceptions() {
    let Some(said) = example("cpp", "coroutine.cpp", &[]) else { return };
    assert_eq!(said, "coroutine: sum 230100, 100 exceptions, 5000 ended with the pool\n");
}

#[test]
fn cpp_tasks_say_how_far_they_are_and_are_cancelled() {
    let Some(said) = example("cpp", "cancel.cpp", &[]) else { return };
    assert_eq!(said, "cancel: one obeyed, one was killed, 144\n");
}

#[test]
fn cpp_gives_every_worker_a_task() {
    let Some(said) = example("cpp", "broadcast.cpp", &[]) else { return };
    assert_eq!(said, "broadcast: 3 workers have the key, and did 100 tasks\n");
}

#[test]
fn cpp_submits_as_there_is_room_and_tells_what_ended_a_task() {
    let Some(said) = example("cpp", "batch.cpp", &[]) else { return };
    assert_eq!(
        said,
        "batch: 1000 squares through 16 places, sum 332833500; 3 attempts, a bystander\n"
    );
}

#[test]
fn cpp_threads_share_a_pool() {
    let Some(said) = example("cpp", "threads.cpp", &[]) else { return };
    assert_eq!(said, "threads: 4 with 500 tasks each, and one that receives\n");
}

#[test]
fn cpp_handles_cannot_be_copied() {
    if missing("c++") {
        return;
    }
    let source = scratch("copies").join("copy.cpp");
    let compiles = |handle: &str, how: &str| {
        let text = format!(
            "#include \"aiopool.hpp\"\nvoid f(aiopool::{handle} one) {{ auto other = {how}; }}\n"
        );
        std::fs::write(&source, text).unwrap();
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-fsyntax-only", "-I"]).arg(root().join("include"));
        compiler.arg("-I").arg(root().join("ffi-examples/cpp")).arg(&source);
        compiler.output().unwrap().status.success()
    };
    for handle in ["context", "pool", "outcome", "loan", "process"] {
        assert!(compiles(handle, "std::move(one)"), "a {handle} cannot be moved");
        assert!(!compiles(handle, "one"), "a {handle} can be copied");
    }
}

/// Valgrind before 3.22 does not know `pidfd_open`.
#[test]
fn a_pool_runs_under_valgrind() {
    if missing("cc") || missing("valgrind") {
        return;
    }
    let binary = compile(&root().join("ffi-examples/c/map.c"), "valgrind-map");
    let checked = ["--error-exitcode=9", "--quiet", binary.to_str().unwrap()];
    let said = watched(Path::new("valgrind"), &checked);
    assert_eq!(said, "map: 1000 squares, sum 332833500\n");
}

#[test]
fn cpp_processes_free_themselves() {
    let Some(said) = example("cpp", "process.cpp", &[]) else { return };
    assert_eq!(said, "process: sum 499500; server ended with -15\n");
}

#[test]
fn large_inputs_are_not_copied() {
    let Some(said) = example("c", "zero-copy.c", &[]) else { return };
    assert_eq!(said, "zero-copy: 8 inputs and outputs of 4 MiB, sum 8405385216\n");
}

/// A program of `tests/programs`, built against the library and run.
fn program(name: &str, arguments: &[&str]) -> Option<String> {
    if missing("cc") {
        return None;
    }
    let binary =
        compile(&root().join(format!("crates/aiopool-capi/tests/programs/{name}.c")), name);
    Some(watched(&binary, arguments))
}

#[test]
fn every_mistake_is_a_status() {
    let Some(said) = program("misuse", &[]) else { return };
    assert!(said.ends_with("were statuses\n"), "{said}");
}

#[test]
fn workers_are_confined_as_c_asks_for_it() {
    let Some(said) = program("isolation", &[]) else { return };
    assert_eq!(
        said,
        "isolation: socket Operation not permitted, other files Permission denied, /dev/null open, \
         exec Operation not permitted, uname Operation not permitted, 77 descriptors\n\
         isolation: lost 1, SIGXCPU\n"
    );
}

#[test]
fn workers_are_what_c_says_that_they_are() {
    let Some(said) = program("workers", &[]) else { return };
    assert!(said.ends_with("checks of what workers are\n"), "{said}");
}

#[test]
fn nothing_is_a_status_too() {
    let symbols = root().join("crates/aiopool-capi/tests/abi/aiopool.symbols");
    let Some(said) = program("quiet", &[symbols.to_str().unwrap()]) else { return };
    assert!(said.ends_with("start no process\n"), "{said}");
}

#[test]
fn loans_are_where_they_should_be_and_end() {
    let Some(said) = program("loans", &[]) else { return };
    assert!(said.ends_with("checks of loans\n"), "{said}");
}

#[test]
fn a_pool_gets_on_with_the_process_around_it() {
    let Some(said) = program("surroundings", &[]) else { return };
    assert!(said.ends_with("checks of the process around a pool\n"), "{said}");
}

#[test]
fn inputs_and_outputs_are_aligned_for_every_type() {
    let Some(said) = program("alignment", &[]) else { return };
    assert!(said.ends_with("checks of addresses\n"), "{said}");
}

#[test]
fn calls_that_go_together_are_each_as_if_alone() {
    let Some(said) = program("many", &[]) else { return };
    assert!(said.ends_with("checks of calls that went together\n"), "{said}");
}

#[test]
fn a_task_is_tried_again_and_told_from_its_neighbour() {
    let Some(said) = program("retries", &[]) else { return };
    assert!(said.ends_with("checks of further attempts\n"), "{said}");
}

#[test]
fn a_worker_of_another_program_lends_its_outputs() {
    let Some(said) = program("worker", &[]) else { return };
    assert!(said.ends_with("checks of a worker's loans\n"), "{said}");
}

#[test]
fn executed_workers_have_the_functions_of_the_programs_first_moment() {
    let Some(said) = program("spawn", &[]) else { return };
    assert!(said.ends_with("checks of executed workers\n"), "{said}");
}

#[test]
fn a_function_has_a_process_of_its_own() {
    let Some(said) = program("processes", &[]) else { return };
    assert!(said.ends_with("checks of processes\n"), "{said}");
}

#[test]
fn c_has_the_options_that_rust_has() {
    let Some(said) = program("options", &[]) else { return };
    assert!(said.ends_with("checks of options\n"), "{said}");
}

#[test]
fn every_worker_runs_a_task_and_is_waited_for() {
    let Some(said) = program("broadcast", &[]) else { return };
    assert!(said.ends_with("checks of what every worker does\n"), "{said}");
}

#[test]
fn a_pool_proves_functions_ends_in_time_and_holds_a_lock() {
    let Some(said) = program("guards", &[]) else { return };
    assert!(said.ends_with("checks of guards\n"), "{said}");
}

#[test]
fn two_libraries_of_a_program_have_functions_of_their_own() {
    let Some(said) = program("libraries", &[]) else { return };
    assert!(said.ends_with("checks of libraries\n"), "{said}");
}

#[test]
fn each_library_of_a_program_has_a_context() {
    let Some(said) = program("contexts", &[]) else { return };
    assert!(said.ends_with("checks of contexts\n"), "{said}");
}

#[test]
fn the_descriptor_tells_the_truth() {
    let Some(said) = program("polling", &[]) else { return };
    assert!(said.ends_with("checks of the descriptor\n"), "{said}");
}

#[test]
fn an_event_loop_waits_for_room() {
    let Some(said) = program("room", &[]) else { return };
    assert!(said.ends_with("checks of the descriptor for room\n"), "{said}");
}

#[test]
fn the_library_ends_and_begins_again() {
    let Some(said) = program("shutdown", &[]) else { return };
    assert!(said.ends_with("checks of the end of the library\n"), "{said}");
}

#[test]
fn a_cancelled_thread_leaves_the_pool_whole_and_a_submitter_waits_for_the_receiver() {
    let Some(said) = program("threads", &[]) else { return };
    assert!(said.ends_with("checks of threads\n"), "{said}");
}

#[test]
fn a_child_waits_for_no_lock_of_its_parents_threads() {
    let Some(said) = program("forks", &[]) else { return };
    assert!(said.ends_with("checks of children\n"), "{said}");
}

#[test]
fn random_calls_lose_and_double_no_task() {
    let Some(said) = program("fuzz", &["4711", "5"]) else { return };
    assert!(said.starts_with("fuzz: ") && said.ends_with("seed 4711\n"), "{said}");
}

#[test]
fn the_benchmark_of_round_trips_is_built() {
    if !missing("cc") {
        compile(&root().join("benches/round_trips.c"), "round_trips");
    }
}
