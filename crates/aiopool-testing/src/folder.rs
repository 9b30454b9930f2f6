//! Places in the file system: the repository, the build, and what a test writes.

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is in crates/")
}

/// The folder into which cargo built this test: the one above `deps`.
///
/// # Panics
///
/// When the test was not built by cargo.
pub fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let deps = test.ancestors().find(|dir| dir.ends_with("deps"));
    deps.and_then(Path::parent).expect("cargo builds tests into `deps`").to_path_buf()
}

/// Makes the folder `name` for what a test builds; it is kept from run to run.
pub fn scratch(name: &str) -> PathBuf {
    let dir = target_dir().join("test-scratch").join(name);
    fs::create_dir_all(&dir).expect("the build's folder can be written to");
    dir
}

/// An empty folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one whose path contains `name` and this process's id.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a temporary folder can be made");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its path as a task's argument.
    pub fn text(&self) -> String {
        self.0.to_str().expect("the path is UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
