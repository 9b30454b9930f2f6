//! What the tests of the C API share: the library, a compiler, and programs that are watched.
#![allow(dead_code)] // each test uses a part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Whether a tool is missing; on CI that is a failure.
pub fn missing(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    assert!(
        found || std::env::var_os("AIOPOOL_CI").is_none(),
        "{tool} is not installed, and on CI nothing may be skipped"
    );
    if !found {
        eprintln!("skipped what needs {tool}, which is not installed");
    }
    !found
}

/// A directory for what a test makes.
pub fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Where cargo put what this test runs with: the directory above `deps`.
pub fn target_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().find(|dir| dir.ends_with("deps")).unwrap().parent().unwrap().to_path_buf()
}

/// The shared library: cargo makes it together with the one that tests are linked with.
pub fn library() -> PathBuf {
    let library = target_dir().join("deps/libaiopool.so");
    assert!(library.is_file(), "{} is not there", library.display());
    library
}

/// Runs a command to its end and gives its output; it must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// Compiles the C program `source` against the library.
pub fn compile(source: &Path, name: &str) -> PathBuf {
    let library = library();
    let dir = library.parent().unwrap();
    let binary = scratch("programs").join(name);
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let (compiler, standard) = if cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    run(Command::new(compiler)
        .args([standard, "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-I"])
        .arg(Path::new(ROOT).join("include"))
        .arg("-o")
        .arg(&binary)
        .arg(source)
        .arg("-L")
        .arg(dir)
        .args(["-laiopool", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", dir.display())));
    binary
}

/// Runs a program that must end by itself; a watchdog ends one that hangs.
pub fn watched(binary: &Path, arguments: &[&str]) -> String {
    // Cargo's own value has a directory in it where an older library may lie.
    run(Command::new("timeout")
        .args(["--kill-after=5", "120"])
        .arg(binary)
        .args(arguments)
        .env("LD_LIBRARY_PATH", library().parent().unwrap()))
}
