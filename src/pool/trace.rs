//! Timelines: what a pool's workers did and when, in a file that Perfetto opens.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use crate::error::{Error, Result};
use crate::supervisor::{Session, Shared, TRACE_ENTRIES};

use super::Pool;

/// A timeline that is being recorded; see [`Pool::trace`].
///
/// Dropping it writes the file, too; [`finish`](Self::finish) says whether that worked.
#[derive(Debug)]
pub struct Trace {
    session: Option<Session>,
    path: PathBuf,
    file: Option<File>,
}

impl Pool {
    /// Records what the workers do from now on, and writes it to a file when the [`Trace`] is
    /// finished or dropped: every poll of a task, which worker made it, how long the task was
    /// queued before and waited in between, and the pool's events. Open the file with
    /// <https://ui.perfetto.dev>, which keeps it on your machine, or with `chrome://tracing`.
    ///
    /// A worker that dies loses none of its part: what it was doing is in the file, up to its
    /// death. The last million entries are kept; the file says how many there were before those.
    /// Recording costs a task some nanoseconds while it lasts, and nothing before and after.
    ///
    /// `AIOPOOL_TRACE=out.json` in the environment records each pool of a program from its start
    /// to its end, without a change of the program: the second pool to `out.2.json` and so on;
    /// `%p` in the name stands for the process id, `AIOPOOL_TRACE_EVERY` for the number of
    /// [`trace_sampled`](Self::trace_sampled). `aiopool trace POOL` records one that runs.
    ///
    /// ```
    /// # async fn double(x: u64) -> u64 { x * 2 }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("aiopool-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let pool = aiopool::Pool::builder().processes(2).build()?;
    /// let trace = pool.trace(folder.join("trace.json"))?;
    /// aiopool::block_on(pool.map(double, 0..100))?;
    /// trace.finish()?;
    /// # assert!(std::fs::read_to_string(folder.join("trace.json"))?.contains("double"));
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the file cannot be made or there is no memory for the recording;
    /// [`Error::Forked`] in a forked child.
    pub fn trace(&self, path: impl AsRef<Path>) -> Result<Trace> {
        self.trace_sampled(path, 1)
    }

    /// [`trace`](Self::trace) of every `every`-th task only, for long runs: the file has the same
    /// length after `every` times as long.
    ///
    /// # Errors
    ///
    /// As [`trace`](Self::trace).
    pub fn trace_sampled(&self, path: impl AsRef<Path>, every: u32) -> Result<Trace> {
        Trace::begin(&self.shared, path.as_ref(), every)
    }
}

impl Trace {
    fn begin(shared: &Arc<Shared>, path: &Path, every: u32) -> Result<Self> {
        let path = path.to_owned();
        let file = File::create(partial(&path)).map_err(|error| refused(&path, error))?;
        let session = Session::begin(shared, every, TRACE_ENTRIES);
        let session = session.inspect_err(|_| {
            let _ = std::fs::remove_file(partial(&path));
        })?;
        Ok(Self { session: Some(session), path, file: Some(file) })
    }

    /// Ends the recording and writes the file. A reader that finds the file finds it whole.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let (Some(session), Some(file)) = (self.session.take(), self.file.take()) else {
            return Ok(());
        };
        if !session.is_owner() {
            // A forked child: the file is the host's.
            return Ok(());
        }
        let mut timeline = session.end();
        let mut file = BufWriter::new(file);
        let written = timeline
            .write(&mut file)
            .and_then(|()| file.flush())
            .and_then(|()| std::fs::rename(partial(&self.path), &self.path));
        written.map_err(|error| refused(&self.path, error))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Err(error) = self.write() {
            tracing::error!(%error, "a trace is lost");
        }
    }
}

/// Returns what the file is called while it is not whole.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn refused(path: &Path, error: io::Error) -> Error {
    Error::system(format!("write the trace {}", path.display()), error)
}

/// Returns the trace of a new pool that `AIOPOOL_TRACE` asks for. What is wrong is said once.
pub(super) fn by_environment(shared: &Arc<Shared>) -> Option<Trace> {
    static SAID: Once = Once::new();
    let name = std::env::var("AIOPOOL_TRACE").ok().filter(|name| !name.is_empty())?;
    let path = path_of(&name, shared.pid, shared.id);
    let every = std::env::var("AIOPOOL_TRACE_EVERY").ok();
    let every = every.map_or(Ok(1), |every| every.parse::<u32>());
    let every = every.map_err(|error| Error::InvalidOption {
        name: "AIOPOOL_TRACE_EVERY",
        value: error.to_string(),
        allowed: "a number of tasks".to_owned(),
    });
    match every.and_then(|every| Trace::begin(shared, &path, every)) {
        Ok(trace) => Some(trace),
        Err(error) => {
            SAID.call_once(|| {
                tracing::warn!(pool = shared.id, %error, "the pool is not traced");
                if !tracing::dispatcher::has_been_set() {
                    let _ =
                        writeln!(io::stderr(), "aiopool: the pool runs without a trace: {error}");
                }
            });
            None
        }
    }
}

/// Returns the file of pool `number` of process `pid`.
fn path_of(name: &str, pid: u32, number: usize) -> PathBuf {
    let path = PathBuf::from(name.replace("%p", &pid.to_string()));
    if number == 1 {
        return path;
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => path.with_extension(format!("{number}.{extension}")),
        None => path.with_extension(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pool_of_each_process_has_a_file_of_its_own() {
        let path = |name, number| path_of(name, 77, number).to_str().unwrap().to_owned();
        assert_eq!(path("/a/out.json", 1), "/a/out.json");
        assert_eq!(path("/a/out.json", 2), "/a/out.2.json");
        assert_eq!(path("/a.b/out-%p.json", 3), "/a.b/out-77.3.json");
        assert_eq!(path("out", 2), "out.2");
    }
}
