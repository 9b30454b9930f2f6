//! Two programs that depend on the library by its path, with different features, and share a target
//! folder: each is linked with its own build of the library, and neither's build makes the other's
//! anew.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo;

/// The second program's `tokio` has fewer features: linked with the first one's build of the
/// library its task would have no timer, or the other way round.
const MAIN: &str = r#"
async fn nap(ms: u64) -> u64 {
    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    ms
}

fn main() {
    let pool = aiopool::Pool::builder().processes(1).build().unwrap();
    println!("{}", pool.apply(nap, 5).wait().unwrap());
}
"#;

fn lay(dir: &Path, name: &str, features: &str) -> PathBuf {
    let program = dir.join(name);
    fs::create_dir_all(program.join("src")).unwrap();
    let root = aiopool_testing::root().display();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\naiopool = {{ path = \"{root}\"{features} }}\n\
         tokio = {{ version = \"1\", features = [\"time\"] }}\n\n\
         [profile.dev]\ndebug = false\n\n[workspace]\n"
    );
    fs::write(program.join("Cargo.toml"), manifest).unwrap();
    fs::copy(aiopool_testing::root().join("Cargo.lock"), program.join("Cargo.lock")).unwrap();
    fs::write(program.join("src/main.rs"), MAIN).unwrap();
    program
}

/// Runs the program in `dir`; what cargo built for it, and what the program wrote.
fn run(dir: &Path) -> (Vec<String>, String) {
    let output = cargo(dir, &["run", "--offline", "--target-dir", "../target"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let built = errors.lines().filter_map(|line| line.trim().strip_prefix("Compiling "));
    let built = built.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    (built, String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn two_programs_with_one_target_folder_have_each_its_own_build() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("one-target-folder");
    let _ = fs::remove_dir_all(&dir);
    let first = lay(&dir, "first", "");
    let second = lay(&dir, "second", ", default-features = false");
    for program in [&first, &second] {
        let (built, said) = run(program);
        assert!(built.iter().any(|name| name == "aiopool"), "{built:?}");
        assert_eq!(said, "5\n");
    }
    // Both are fresh now, whichever ran last.
    for program in [&first, &second, &first] {
        let (built, said) = run(program);
        assert!(built.is_empty(), "built anew: {built:?}");
        assert_eq!(said, "5\n");
    }
}
