//! Registries that constructors fill, as `inventory` does, in crates that the program is linked
//! with: a worker has every entry that its host has, whatever the order of linking. With
//! `lto = "fat"` that is another one than without.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A list that constructors put an entry on each.
const REGISTRY: &str = r#"
pub static ENTRIES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

pub fn count() -> usize {
    ENTRIES.load(std::sync::atomic::Ordering::Relaxed)
}

#[macro_export]
macro_rules! submit {
    () => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static ENTRY: extern "C" fn() = {
            extern "C" fn enter() {
                $crate::ENTRIES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            enter
        };
    };
}
"#;

const PLUGIN: &str = "registry::submit!();\npub fn touch() {}\n";

/// Uses the library, so that it is linked behind it.
const LAST_PLUGIN: &str =
    "registry::submit!();\npub fn touch() { let _ = aiopool::Pool::builder(); }\n";

const MAIN: &str = r#"
registry::submit!();

async fn count(_: ()) -> usize {
    registry::count()
}

fn main() {
    aaa_plugin::touch();
    zzz_plugin::touch();
    if std::env::args().nth(1).as_deref() == Some("init") {
        aiopool::init().unwrap();
    }
    let pool = aiopool::Pool::builder().processes(1).build().unwrap();
    println!("host {} worker {}", registry::count(), pool.apply(count, ()).wait().unwrap());
}
"#;

fn lay(dir: &Path, name: &str, kind: &str, source: &str, dependencies: &[&str]) {
    let folder = dir.join(name);
    fs::create_dir_all(folder.join("src")).unwrap();
    let root = aiopool_testing::root().display();
    let lines: String = dependencies
        .iter()
        .map(|name| match *name {
            "aiopool" => format!("aiopool = {{ path = \"{root}\", default-features = false }}\n"),
            name => format!("{name} = {{ path = \"../{name}\" }}\n"),
        })
        .collect();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{lines}"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src").join(kind), source).unwrap();
}

#[test]
fn a_worker_has_run_every_constructor_however_the_program_was_linked() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("constructors");
    let _ = fs::remove_dir_all(&dir);
    lay(&dir, "registry", "lib.rs", REGISTRY, &[]);
    lay(&dir, "aaa_plugin", "lib.rs", PLUGIN, &["registry"]);
    lay(&dir, "zzz_plugin", "lib.rs", LAST_PLUGIN, &["registry", "aiopool"]);
    let dependencies = ["aaa_plugin", "zzz_plugin", "registry", "aiopool"];
    lay(&dir, "app", "main.rs", MAIN, &dependencies);
    fs::write(
        dir.join("Cargo.toml"),
        "[workspace]\nmembers = [\"app\", \"registry\", \"aaa_plugin\", \"zzz_plugin\"]\n\
         resolver = \"3\"\n\n[profile.dev]\ndebug = false\n\n\
         [profile.fat]\ninherits = \"dev\"\nlto = \"fat\"\n",
    )
    .unwrap();
    fs::copy(aiopool_testing::root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    for (profile, folder) in [("dev", "debug"), ("fat", "fat")] {
        let arguments = ["build", "--quiet", "--offline", "--target-dir", "target"];
        let output = crate::cargo(&dir, &[&arguments[..], &["--profile", profile]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for how in ["", "init"] {
            let program = dir.join("target").join(folder).join("app");
            let output = Command::new("timeout")
                .args(["--kill-after=5", "120"])
                .arg(program)
                .arg(how)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(said, "host 3 worker 3\n", "{profile} {how}: {errors}");
        }
    }
}
