//! Waiting with a watchdog, and a folder of one test's own.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The outcome of `what`, which takes far less than the watchdog allows.
pub async fn in_time<F: IntoFuture>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(120), what.into_future()).await.expect("it hangs")
}

/// Waits for what comes about without anybody telling.
pub async fn until(mut condition: impl FnMut() -> bool) {
    in_time(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A folder that is there as long as this is.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiopool-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The same for a task.
    pub fn text(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
