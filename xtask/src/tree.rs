//! The copy of the tree in which every mutation is behind a switch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::list::{Mutation, Under};

const SWITCH: &str = r#"
/// Whether this run is to show that the mutation called `name` is noticed.
pub(crate) fn mutated(name: &str) -> bool {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var("AIOPOOL_MUTATION").unwrap_or_default()) == name
}
"#;

/// Lays the tree at `to`, writing only what has changed.
pub fn lay(root: &Path, to: &Path, all: &[Mutation]) -> Result<(), String> {
    let mut files = vec![PathBuf::from("Cargo.toml"), "Cargo.lock".into(), "README.md".into()];
    for dir in [
        "src",
        "tests",
        "benches",
        "examples",
        "include",
        "crates",
        "python",
        "xtask",
        "ffi-examples",
        "docs",
    ] {
        walk(&root.join(dir), &mut files).map_err(|error| format!("{dir}: {error}"))?;
    }
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_owned();
        let bytes = fs::read(root.join(&name)).map_err(|e| format!("{}: {e}", name.display()))?;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => mutate(&name, text, all)?.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        let path = to.join(&name);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            continue;
        }
        let dir = path.parent().expect("it is in the tree");
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "node_modules" && name != "target" {
            walk(&path, files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn mutate(name: &Path, mut text: String, all: &[Mutation]) -> Result<String, String> {
    if name == Path::new("src/sync/mod.rs") {
        text += SWITCH;
    }
    let name = name.strip_prefix("src").unwrap_or(Path::new("")).to_owned();
    for Mutation { name: what, file, code, instead, .. } in all {
        if name != Path::new(file) {
            continue;
        }
        if text.matches(code).count() != 1 {
            return Err(format!("{what}: {code:?} is not in src/{file} exactly once"));
        }
        let both = format!("if crate::sync::mutated({what:?}) {{ {instead} }} else {{ {code} }}");
        // An expression may stand where a statement's `if` may not.
        let both = if code.ends_with([';', '}']) { both } else { format!("({both})") };
        text = text.replace(code, &both);
    }
    Ok(text)
}

/// Builds the tests of the tree, and says where they are.
pub fn build(root: &Path, tree: &Path, under: Under) -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(tree).args([
        "test",
        "--package=aiopool",
        "--lib",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    cargo.args(["--no-default-features", "--quiet", "--offline"]);
    match under {
        // Where the models are built: what they depend on is there already.
        Under::Loom => cargo
            .args(["--release", "--target-dir"])
            .arg(root.join("target/loom"))
            .env("RUSTFLAGS", "--cfg aiopool_loom"),
        Under::Test => cargo.arg("--target-dir").arg(root.join("target/mutations/plain")),
    };
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let program = text.lines().filter(|line| line.contains("\"reason\":\"compiler-artifact\""));
    let mut program =
        program.filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    program.next_back().map(PathBuf::from).ok_or_else(|| "cargo named no program".to_owned())
}
