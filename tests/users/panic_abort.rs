//! Programs built with `panic = "abort"`, which end at a panic: its task's outcome still is
//! `Panicked`, with message, place and backtrace.

use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A crate of its own, since the whole program has to be built that way; without the features and
/// tools that it does not need. The versions are ours.
fn build() -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-abort");
    fs::create_dir_all(&dir).unwrap();
    let manifest = format!(
        "[package]\nname = \"panic-abort\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [[bin]]\nname = \"panic-abort\"\npath = \"{ROOT}/tests/users/programs/panic_abort.rs\"\n\n\
         [dependencies]\naiopool = {{ path = \"{ROOT}\" }}\n\
         tokio = {{ version = \"1\", features = [\"rt\", \"time\"] }}\n\n\
         [profile.dev]\npanic = \"abort\"\ndebug = \"line-tables-only\"\n\n[workspace]\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    fs::copy(Path::new(ROOT).join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let output = crate::cargo(&dir, &["build", "--quiet", "--offline", "--target-dir", "target"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir.join("target/debug/panic-abort")
}

#[test]
fn a_panic_is_an_outcome_where_it_ends_the_worker() {
    let program = build();
    let output = Command::new("timeout")
        .args(["--kill-after=5", "240"])
        .arg(program)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    assert_eq!(said, "every panic had its outcome\n");
    // What became an outcome is not printed as well; what had none is.
    assert!(!errors.contains("no 7") && errors.contains("in a task of tokio's"), "{errors}");
}
