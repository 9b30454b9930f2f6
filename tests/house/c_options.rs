//! C has the options that Rust's builders have, and Go and Node those that C has, or this says why
//! not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What Rust calls it, and the field or flag of C. `field` alone is one of the same name.
const OF_POOLS: [(&str, &str); 38] = [
    ("blocked_after", "blocked_after_ms"),
    ("capacity", "capacity"),
    ("child_concurrency", "child_concurrency"),
    ("current_dir", "directory"),
    ("deadline", "deadline_ns"),
    ("env", "environment"),
    ("env_clear", "AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT"),
    ("env_remove", "environment"),
    ("envs", "environment"),
    ("exception_handler", "exception_function"),
    ("exit_hook", "exit_function"),
    ("grace", "grace_ms"),
    ("group", "group"),
    ("hold", "held_fd"),
    ("initializer", "init_function"),
    ("initializer_bytes", "init_input"),
    ("input_arena", "input_arena"),
    ("keep_fds", "AIOPOOL_POOL_KEEP_FDS"),
    ("max_payload", "max_payload"),
    ("max_tasks_per_child", "max_tasks_per_child"),
    ("name", "name"),
    ("nice", "nice"),
    ("no_new_privs", "AIOPOOL_POOL_NO_NEW_PRIVS"),
    ("observable", "AIOPOOL_POOL_NOT_OBSERVABLE"),
    ("output_arena", "output_arena"),
    ("output_per_task", "AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK"),
    ("output_to", "output_directory"),
    ("priorities", "priorities"),
    ("probation", "probation"),
    ("processes", "processes"),
    ("processors", "processors"),
    ("queues", "queues"),
    ("scheduler", "scheduler"),
    ("start_method", "start_method"),
    ("start_timeout", "start_timeout_ms"),
    ("stats_page", "stats_page"),
    ("umask", "umask"),
    ("user", "user"),
];
const OF_LIMITS: [(&str, &str); 3] = [
    ("address_space", "limit_address_space"),
    ("cpu_seconds", "limit_cpu_seconds"),
    ("open_files", "limit_open_files"),
];
const OF_SANDBOXES: [(&str, &str); 7] = [
    ("best_effort", "AIOPOOL_POOL_BEST_EFFORT"),
    ("deny_system_calls", "denied_calls"),
    ("no_exec", "AIOPOOL_POOL_NO_EXEC"),
    ("no_network", "AIOPOOL_POOL_NO_NETWORK"),
    ("no_signals", "AIOPOOL_POOL_NO_SIGNALS"),
    ("read_only", "read_only"),
    ("read_write", "read_write"),
];
const OF_TASKS: [(&str, &str); 11] = [
    ("alone", "AIOPOOL_CALL_ALONE"),
    ("backoff", "backoff_ms"),
    ("jitter", "AIOPOOL_CALL_JITTER"),
    ("longest_backoff", "longest_backoff_ms"),
    ("priority", "priority"),
    ("queue_ttl", "wait_limit_ms"),
    ("retries", "retries"),
    ("retry_if", "retry_if"),
    ("retry_on_error", "AIOPOOL_CALL_RETRY_ON_ERROR"),
    ("retry_on_timeout", "AIOPOOL_CALL_RETRY_ON_TIMEOUT"),
    ("timeout", "run_limit_ms"),
];

/// What C has not, and why.
const NOT_IN_C: [(&str, &str); 5] = [
    ("limits", "its fields are options of the pool, `limit_...`"),
    ("sandbox", "its rules are fields and flags of the pool"),
    ("logs", "records of tracing, which C has not: `aiopool_log_set` has the pool's own messages"),
    ("metrics", "for recorders of the crate metrics: `aiopool --metrics` serves any pool"),
    ("runtime_initializer", "tokio's own options, which tasks in C do not see"),
];

/// What belongs to one of those: a length, an input, the bit that says that a field is set.
const GOES_WITH: [&str; 18] = [
    "AIOPOOL_POOL_HOLD",
    "AIOPOOL_SURROUNDINGS_GROUP",
    "AIOPOOL_SURROUNDINGS_UMASK",
    "AIOPOOL_SURROUNDINGS_USER",
    "command",
    "custom_scheduler",
    "denied_calls_len",
    "exit_input",
    "exit_input_len",
    "flags",
    "init_input_len",
    "input_len",
    "parts_len",
    "processors_len",
    "queue",
    "reserved",
    "struct_size",
    "surroundings",
];

/// What is an argument or a type in Rust, or comes of what a handle of C is.
const ONLY_IN_C: [&str; 10] = [
    "AIOPOOL_CALL_BORROW_OUTPUT",
    "AIOPOOL_CALL_BY_TICKET",
    "AIOPOOL_CALL_ON_QUEUE",
    "context",
    "function",
    "input",
    "loan",
    "on_complete",
    "parts",
    "user_data",
];

/// What the bindings of Go and Node have not: they start workers that are another program, and have
/// no functions of their own there.
const NOT_IN_BINDINGS: [(&str, &str); 21] = [
    ("AIOPOOL_CALL_BY_TICKET", "each outcome goes to the caller that waits for it"),
    ("AIOPOOL_POOL_HOLD", "see held_fd"),
    ("AIOPOOL_POOL_KEEP_FDS", "for forks of the host"),
    ("AIOPOOL_POOL_NO_EXEC", "a command is executed"),
    ("AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK", "their calls have no tickets: the directory is there"),
    ("context", "for libraries in C that register functions"),
    ("custom_scheduler", "called by any thread of the library's, for each task"),
    ("exception_function", "the worker's program has its own"),
    ("exit_function", "the worker's program has its own"),
    ("exit_input", "of exit_function"),
    ("exit_input_len", "of exit_function"),
    ("held_fd", "keeps a lock of the host's until its last worker is gone"),
    ("init_function", "the worker's program has its own"),
    ("init_input", "an argument or a variable of the command does it"),
    ("init_input_len", "of init_input"),
    ("on_complete", "promises and goroutines are that"),
    ("parts", "both have slices of one buffer"),
    ("parts_len", "of parts"),
    ("reserved", "0"),
    ("struct_size", "set by the library's `..._init`"),
    ("stats_page", "`aiopool top` looks at any pool"),
];
const NOT_IN_GO: [(&str, &str); 0] = [];
const NOT_IN_NODE: [(&str, &str); 1] =
    [("retry_if", "the library may not wait for the only thread that runs JavaScript")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// The public methods of `of` that take it and give it back: its options.
fn options(folder: &str, of: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources(folder) {
        let text = fs::read_to_string(file).unwrap();
        for part in text.split(&format!("\nimpl {of} {{")).skip(1) {
            let part = part.split("\n}\n").next().unwrap();
            for function in part.split("\n    pub fn ").skip(1) {
                let signature = function.split('{').next().unwrap();
                let is_option = signature.contains("self") && signature.contains("-> Self");
                let end = function.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
                is_option.then(|| found.insert(function[..end].to_owned()));
            }
        }
    }
    found
}

/// Asserts that a binding's text has what C has, but for `not`; `of` makes the binding's words, of
/// which it has one.
fn assert_has(text: &str, of: impl Fn(&str) -> Vec<String>, not: &[(&str, &str)]) {
    let is_of_word = |c: char| c.is_alphanumeric() || "_.".contains(c);
    let words: BTreeSet<_> = text.split(|c| !is_of_word(c)).collect();
    let has = |name: &String| of(name).iter().any(|word| words.contains(&**word));
    let missing: BTreeSet<_> = of_c().into_iter().filter(|name| !has(name)).collect();
    let known = not.iter().chain(&NOT_IN_BINDINGS).map(|(name, _)| (*name).to_owned());
    assert_eq!(missing, known.collect(), "an option of C came or went: the binding has it, or not");
}

/// The fields of the structs of C that a program fills in for a pool or a call, and the flags.
fn of_c() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("include/aiopool.h")).unwrap();
    let mut found = BTreeSet::new();
    for name in ["aiopool_pool_options", "aiopool_surroundings", "aiopool_call"] {
        let body = header.split(&format!("typedef struct {name} {{")).nth(1).unwrap();
        let body = body.split(&format!("}} {name};")).next().unwrap();
        let lines = body.lines().map(str::trim).filter(|line| !line.starts_with(['*', '/']));
        found.extend(lines.filter_map(|line| {
            let field = line.strip_suffix(';')?.split('[').next()?;
            Some(field.rsplit([' ', '*']).next()?.to_owned())
        }));
    }
    for line in header.lines().filter_map(|line| line.strip_prefix("#define AIOPOOL_")) {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let is_flag = ["POOL_", "SURROUNDINGS_", "CALL_"].iter().any(|of| name.starts_with(of));
        if is_flag && value.trim().parse::<u32>().is_ok() {
            found.insert(format!("AIOPOOL_{name}"));
        }
    }
    found
}

fn names<const N: usize>(table: &[(&str, &str); N]) -> BTreeSet<String> {
    table.iter().map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn each_option_of_rust_is_one_of_c_or_has_a_reason() {
    let pools = options("src/pool", "PoolBuilder");
    let known = &names(&OF_POOLS) | &names(&NOT_IN_C);
    assert_eq!(pools, known, "an option of pools came or went: say what C does");
    let limits = options("src/launch", "Limits");
    assert_eq!(limits, names(&OF_LIMITS), "an option of limits came or went: say what C does");
    let sandboxes = options("src/launch", "Sandbox");
    assert_eq!(sandboxes, names(&OF_SANDBOXES), "a rule came or went: say what C does");
    let tasks = options("src/task", "TaskOptions");
    assert_eq!(tasks, names(&OF_TASKS), "an option of tasks came or went: say what C does");
}

#[test]
fn each_option_of_c_is_one_of_rust_or_belongs_to_c() {
    let pairs = OF_POOLS.iter().chain(&OF_LIMITS).chain(&OF_SANDBOXES).chain(&OF_TASKS);
    let in_c = pairs.map(|(_, name)| *name).chain(GOES_WITH).chain(ONLY_IN_C);
    let known: BTreeSet<String> = in_c.map(str::to_owned).collect();
    assert_eq!(of_c(), known, "an option of C came or went: say which of Rust's it is");
}

#[test]
fn the_tour_says_what_c_has_not() {
    let tour = fs::read_to_string(root().join("docs/c-api.md")).unwrap();
    let part = tour.split("\n## What Rust has and C has not\n").nth(1).unwrap();
    let part = part.split("\n## ").next().unwrap();
    for (name, _) in NOT_IN_C.iter().filter(|(name, _)| !["limits", "sandbox"].contains(name)) {
        assert!(part.contains(&format!("`{name}`")), "docs/c-api.md does not name {name}");
    }
}

#[test]
fn go_has_each_option_of_c_or_has_a_reason() {
    let sources = sources("ffi-examples/go/aiopool");
    let text: String = sources.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // What they set: the structs are those of C.
    let of = |name: &str| match name.starts_with("AIOPOOL_") {
        true => vec![name.to_owned(), format!("C.{name}")],
        false => ["options", "call", "s"].map(|of| format!("{of}.{name}")).to_vec(),
    };
    assert_has(&text, of, &NOT_IN_GO);
}

#[test]
fn node_has_each_option_of_c_or_has_a_reason() {
    let file = root().join("ffi-examples/node/aiopool.mjs");
    let text = fs::read_to_string(file).unwrap();
    // Behind the structs, which have all fields whether they are set or not, and behind the numbers
    // of the flags.
    let text = text.split("/** A call that the library refused").nth(1).unwrap();
    let of = |name: &str| {
        let prefixes = ["AIOPOOL_POOL_", "AIOPOOL_SURROUNDINGS_", "AIOPOOL_CALL_"];
        let word = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        vec![word.to_owned(), format!("call.{word}")]
    };
    assert_has(text, of, &NOT_IN_NODE);
}
