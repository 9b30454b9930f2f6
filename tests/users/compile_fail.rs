//! Wrong use does not compile, and the compiler's message says what to do.
//!
//! Each file of `tests/users/compile_fail` is one mistake. Its head lists what the message must contain,
//! one `//! says:` line each; `//! errors:` is how many errors there may be; and the message must
//! show the line that the mistake is on, which ends with `// HERE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The library that this test was built with: cargo has just built it, so it is the newest.
fn library() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let deps = this.parent().unwrap();
    let found = [deps, deps.parent().unwrap()].into_iter().flat_map(|dir| {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap_or("");
            (name.starts_with("libaiopool-") || name == "libaiopool.rlib")
                && name.ends_with(".rlib")
        })
    });
    let built = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    found.max_by_key(built).expect("no build of the library beside this test")
}

/// Compiles `source` as a user's program, as far as machine code: what a closure captures is found
/// out no earlier.
fn compile(source: &Path, into: &Path) -> Output {
    let library = library();
    let deps = std::env::current_exe().unwrap();
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--emit", "obj", "--color", "never", "--extern"])
        .arg(format!("aiopool={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", deps.parent().unwrap().display()))
        .arg("-o")
        .arg(into.join(source.with_extension("o").file_name().unwrap()))
        .arg(source)
        .output()
        .expect("rustc cannot be run")
}

/// What is wrong with the compiler's words on `source`, if anything is.
fn complaint(source: &Path, into: &Path) -> Option<String> {
    let text = fs::read_to_string(source).unwrap();
    let output = compile(source, into);
    let said = String::from_utf8_lossy(&output.stderr);
    // Messages are wrapped; only their words count.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = words(&said);
    let name = source.file_name().unwrap().to_str().unwrap();
    let mut wrong = Vec::new();
    if output.status.success() {
        wrong.push("it compiles".to_owned());
    }
    for expected in text.lines().filter_map(|line| line.strip_prefix("//! says: ")) {
        if !all.contains(&words(expected)) {
            wrong.push(format!("it does not say {expected:?}"));
        }
    }
    let most = text.lines().find_map(|line| line.strip_prefix("//! errors: ")).unwrap();
    let errors = said.lines().filter(|line| line.starts_with("error")).count() - 1;
    if errors > most.parse().unwrap() {
        wrong.push(format!("{errors} errors, and {most} would do"));
    }
    let line = text.lines().position(|line| line.ends_with("// HERE")).unwrap() + 1;
    if !said.contains(&format!("{name}:{line}:")) {
        wrong.push(format!("it does not show line {line}"));
    }
    (!wrong.is_empty()).then(|| format!("{name}: {}\n{said}", wrong.join("; ")))
}

fn sources(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/users").join(kind);
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    found.sort();
    found
}

#[test]
fn mistakes_are_refused_with_the_remedy_at_the_line_where_they_are_made() {
    let into = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let good = into.join("compiles.rs");
    fs::write(&good, "fn main() { aiopool::Pool::builder().build().unwrap(); }").unwrap();
    let control = compile(&good, &into);
    assert!(control.status.success(), "{}", String::from_utf8_lossy(&control.stderr));
    let mistakes = sources("compile_fail");
    assert!(mistakes.len() >= 12, "the mistakes were not found: {mistakes:?}");
    let wrong: Vec<_> = mistakes.iter().filter_map(|source| complaint(source, &into)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
