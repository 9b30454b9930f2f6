//! Coverage of what only workers run is written when they leave in order.

use std::path::{Path, PathBuf};
use std::process::Command;

use aiopool_testing::{library, missing, root, run, scratch, watched};

/// Builds `covered.c` with a compiler's instruments in a folder of its own.
fn build(name: &str, compiler: &str, instruments: &[&str], libraries: &[&str]) -> PathBuf {
    let folder = scratch("coverage").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let source = root().join("crates/aiopool-capi/tests/programs/covered.c");
    std::fs::copy(source, folder.join("covered.c")).unwrap();
    let libraries_in = library().parent().unwrap();
    run(Command::new(compiler)
        .current_dir(&folder)
        .args(instruments)
        .args(["-O0", "-pthread", "-I"])
        .arg(root().join("include"))
        .args(["-o", "covered", "covered.c", "-L"])
        .arg(libraries_in)
        .arg(format!("-Wl,-rpath,{}", libraries_in.display()))
        .args(libraries));
    folder
}

/// How often the compiler's tool says that each line with `text` in it ran.
fn counts(folder: &Path, text: &str) -> Vec<String> {
    let object = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let notes = object.filter(|path| path.extension().is_some_and(|end| end == "gcda"));
    let notes = notes.collect::<Vec<_>>();
    assert_eq!(notes.len(), 1, "the files of counts: {notes:?}");
    run(Command::new("gcov").current_dir(folder).arg(&notes[0]));
    let lines = std::fs::read_to_string(folder.join("covered.c.gcov")).unwrap();
    let lines = lines.lines().filter(|line| line.contains(text));
    lines.map(|line| line.split(':').next().unwrap().trim().to_owned()).collect()
}

/// How libaiopool is linked.
const LINKED: [(&str, &[&str]); 2] =
    [("shared", &["-laiopool"]), ("static", &["-l:libaiopool.a", "-ldl", "-lm"])];

#[test]
fn the_coverage_of_tasks_is_there_when_the_pool_has_ended() {
    if missing("gcc") || missing("gcov") {
        return;
    }
    for (name, libraries) in LINKED {
        for end in ["free", "join"] {
            let folder = build(&format!("{name}-{end}"), "gcc", &["--coverage"], libraries);
            let said = watched(&folder.join("covered"), &[end]);
            assert_eq!(said, "covered: 45\n", "{name} {end}");
            assert_eq!(counts(&folder, "int32_t sum = 0;"), ["1"], "{name} {end}");
        }
    }
}

#[test]
fn the_profile_of_tasks_is_there_when_the_pool_has_ended() {
    if ["clang", "llvm-profdata", "llvm-cov"].into_iter().any(missing) {
        return;
    }
    let instruments = ["-fprofile-instr-generate", "-fcoverage-mapping"];
    for (name, libraries) in LINKED {
        // What the processes append to one file, and what they add up in one.
        for profile in ["tasks.profraw", "tasks-%m.profraw"] {
            let folder = build(&format!("clang-{name}"), "clang", &instruments, libraries);
            let said = run(Command::new(folder.join("covered"))
                .arg("free")
                .env("LLVM_PROFILE_FILE", folder.join(profile)));
            assert_eq!(said, "covered: 45\n", "{name} {profile}");
            assert_eq!(profiled(&folder, "int32_t sum = 0;"), ["1"], "{name} {profile}");
        }
    }
}

/// How often clang's tools say that each line with `text` in it ran.
fn profiled(folder: &Path, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "profraw"));
    run(Command::new("llvm-profdata")
        .current_dir(folder)
        .args(["merge", "-o", "tasks.profdata"])
        .args(files));
    let lines = run(Command::new("llvm-cov").current_dir(folder).args([
        "show",
        "covered",
        "-instr-profile=tasks.profdata",
    ]));
    let lines = lines.lines().filter(|line| line.contains(text));
    lines.map(|line| line.split('|').nth(1).unwrap().trim().to_owned()).collect()
}
