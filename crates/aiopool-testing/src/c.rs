//! Programs in C and C++ against `libaiopool`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{root, run, scratch, target_dir};

/// Builds `libaiopool.so` with this test's profile, once, and gives its path.
///
/// Cargo builds a `cdylib` for no test of its own accord.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let dir = target_dir();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(root()).args(["build", "--quiet", "--package", "aiopool-capi"]);
        cargo.arg("--target-dir").arg(dir.parent().expect("a profile's folder is in the target's"));
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        run(&mut cargo);
        let library = dir.join("libaiopool.so");
        assert!(library.is_file(), "{} is not there", library.display());
        library
    })
}

/// Builds the program `source`, in C11 or C++17 (C++20 if its name says that it has coroutines),
/// against the library, and gives its path.
pub fn compile(source: &Path, name: &str) -> PathBuf {
    let dir = library().parent().expect("the library is in a folder");
    let binary = scratch("programs").join(name);
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let awaits = source.file_stem().is_some_and(|name| name == "coroutine");
    let (compiler, standard) = match (cpp, awaits) {
        (false, _) => ("cc", "-std=c11"),
        (true, false) => ("c++", "-std=c++17"),
        (true, true) => ("c++", "-std=c++20"),
    };
    run(Command::new(compiler)
        .args([standard, "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-I"])
        .arg(root().join("include"))
        .arg("-o")
        .arg(&binary)
        .arg(source)
        .arg("-L")
        .arg(dir)
        .args(["-laiopool", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", dir.display())));
    binary
}

/// Runs a program that must end by itself, with a watchdog, and gives what it wrote to stdout.
pub fn watched(binary: &Path, arguments: &[&str]) -> String {
    // Cargo's own value has a folder in it where an older library may lie.
    run(Command::new("timeout")
        .args(["--kill-after=5", "300"])
        .arg(binary)
        .args(arguments)
        .env("LD_LIBRARY_PATH", library().parent().expect("the library is in a folder")))
}
