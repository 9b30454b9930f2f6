//! The library's file is replaced while a program runs that has loaded it: what is started with
//! the new one says so, and what runs goes on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use aiopool_testing::{library, missing, root, run, scratch};

/// A pool before and after; the second one's workers are executed.
const PROGRAM: &str = r#"
#include <aiopool.h>
#include <stdio.h>

static int32_t echo(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    return aiopool_output_write(output, input, len);
}

static void try(uint32_t function, uint32_t start) {
    aiopool_pool_options options;
    aiopool_pool *pool;
    aiopool_call call;
    aiopool_outcome *outcome;

    aiopool_pool_options_init(&options);
    options.processes = 1;
    options.start_method = start;
    aiopool_call_init(&call);
    call.function = function;
    call.input = "hello";
    call.input_len = 5;
    if (aiopool_pool_start(&options, &pool)) {
        printf("error: %s\n", aiopool_last_error());
    } else {
        if (aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) ||
            aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome)) {
            printf("error: %s\n", aiopool_last_error());
        } else {
            if (aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK)
                printf("%.*s\n", (int)aiopool_outcome_len(outcome), (const char *)aiopool_outcome_data(outcome));
            else
                printf("error: %s\n", aiopool_outcome_text(outcome));
            aiopool_outcome_release(outcome);
        }
        aiopool_pool_free(pool);
    }
    fflush(stdout);
}

int main(void) {
    uint32_t function;
    if (aiopool_function_register("echo", echo, NULL, &function) || aiopool_init())
        return 1;
    try(function, AIOPOOL_START_FORK);
    if (getchar() == EOF)
        return 1;
    try(function, AIOPOOL_START_SPAWN);
    try(function, AIOPOOL_START_FORK);
    return 0;
}
"#;

/// Where the number of the build is, if the linker gave one: in a note of 20 bytes, type 3, named
/// "GNU".
fn build_number(library: &[u8]) -> Option<usize> {
    let note = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    library.windows(note.len()).position(|window| window == note).map(|at| at + note.len())
}

/// The error of a host that starts a pool of executed workers after `replace` changed the file of
/// its library.
fn told_after(name: &str, replace: impl FnOnce(&Path)) -> Option<String> {
    if missing("cc") {
        return None;
    }
    let dir = scratch(name);
    let (source, binary) = (dir.join("replaced.c"), dir.join("replaced"));
    let copy = dir.join("libaiopool.so");
    fs::write(&source, PROGRAM).unwrap();
    let _ = fs::remove_file(&copy);
    fs::copy(library(), &copy).unwrap();
    let (include, libraries) = (format!("-I{}/include", root().display()), dir.display());
    run(Command::new("cc").arg(include).arg("-o").args([&binary, &source]).args([
        &format!("-L{libraries}"),
        "-laiopool",
        &format!("-Wl,-rpath,{libraries}"),
    ]));
    let mut host = Command::new("timeout")
        .args([Path::new("120"), &binary])
        .env("LD_LIBRARY_PATH", &dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("hello"));
    replace(&copy);
    host.stdin.take().unwrap().write_all(b"\n").unwrap();
    let told = lines.next().unwrap_or_default();
    // Workers that are forked are of the library that was loaded.
    assert_eq!(lines.next().as_deref(), Some("hello"));
    assert!(host.wait().unwrap().success());
    Some(told)
}

#[test]
fn a_library_that_was_replaced_is_told_and_what_runs_goes_on() {
    let told = told_after("replaced", |copy| {
        let mut other = fs::read(copy).unwrap();
        if let Some(at) = build_number(&other) {
            other[at] ^= 0xFF;
        }
        let new = copy.with_extension("new");
        fs::write(&new, other).unwrap();
        fs::rename(&new, copy).unwrap();
    });
    let Some(told) = told else { return };
    assert!(told.starts_with("error: "), "{told}");
    // By the zygote, which does not find its own file any more.
    assert!(
        told.contains("its file was replaced since it was loaded: restart the program"),
        "{told}"
    );
}

#[test]
fn an_executed_worker_of_another_build_refuses() {
    let told = told_after("rebuilt", |copy| {
        use std::os::unix::fs::FileExt;
        // The same file with another build in it, so that only the executed program can notice.
        let at = build_number(&fs::read(copy).unwrap()).expect("linked with a build id");
        let file = fs::File::options().read(true).write(true).open(copy).unwrap();
        let mut number = [0];
        file.read_exact_at(&mut number, at as u64).unwrap();
        file.write_all_at(&[!number[0]], at as u64).unwrap();
    });
    let Some(told) = told else { return };
    assert!(told.starts_with("error: "), "{told}");
    let said = "the file of this library was replaced since it was loaded: restart the program";
    assert!(told.contains(said), "{told}");
}
