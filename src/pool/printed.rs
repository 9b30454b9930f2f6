//! What tasks have printed, where each has files of its own.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::worker::file_of_task;

use super::Pool;

/// What a task has printed, of all its attempts; see [`Pool::printed`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Printed {
    /// What went to its standard output.
    pub stdout: Vec<u8>,
    /// What went to its standard error.
    pub stderr: Vec<u8>,
}

impl Pool {
    /// Returns what a task has printed until now: all of it, once its outcome is there. `task` is
    /// its [number](crate::Task::id), taken before the task is awaited. The files stay in the
    /// directory.
    ///
    /// ```
    /// # async fn greet(name: String) -> usize { println!("hello {name}"); name.len() }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("aiopool-printed-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let pool = aiopool::Pool::builder()
    ///     .processes(2)
    ///     .child_concurrency(1)
    ///     .output_to(&folder)
    ///     .output_per_task(true)
    ///     .build()?;
    /// let task = pool.apply(greet, "world".to_owned());
    /// let number = task.id().expect("it was not refused");
    /// assert_eq!(aiopool::block_on(task)?, 5);
    /// assert_eq!(pool.printed(number)?.stdout, b"hello world\n");
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] without [`output_per_task`](crate::PoolBuilder::output_per_task);
    /// [`Error::System`] if a file cannot be read.
    pub fn printed(&self, task: u64) -> Result<Printed> {
        let Some(directory) = &self.shared.plan.worker.printed else {
            return Err(Error::Misuse(
                "what tasks print is kept where the pool is built with output_per_task",
            ));
        };
        let read = |kind| read(directory, task, kind);
        let stdout = read("out")?;
        Ok(Printed { stdout, stderr: read("err")? })
    }
}

fn read(directory: &Path, task: u64, kind: &str) -> Result<Vec<u8>> {
    // Workers know the low 31 bits.
    let path = file_of_task(directory, (task & u64::from(u32::MAX >> 1)) as u32, kind);
    match std::fs::read(&path) {
        // One that printed nothing has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| Error::system(format!("read {}", path.display()), error)),
    }
}
