//! What the processes of workers are, where that is not what the host is.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::PoolBuilder;
use crate::error::{Error, Result};
use crate::launch::Limits;
use crate::sys::cpus::{self, Mask};

/// By default a worker has the host's environment, directories, user, niceness and umask, as they
/// are when the pool is built; these methods change that. They are named as those of
/// [`std::process::Command`].
impl PoolBuilder {
    /// Sets an environment variable of each worker.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.confinement.surroundings.environment.push((name.into(), Some(value.into())));
        self
    }

    /// Sets several environment variables of each worker.
    #[must_use]
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        variables.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Takes a variable out of the environment of each worker.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.confinement.surroundings.environment.push((name.into(), None));
        self
    }

    /// Takes all variables out of the environment of each worker, those that were set by the
    /// builder so far included.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.confinement.surroundings.clears_environment = true;
        self.confinement.surroundings.environment.clear();
        self
    }

    /// Sets the working directory of each worker. It exists when the pool is built; a worker that
    /// cannot go there does not start.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.confinement.surroundings.directory = Some(directory.into());
        self
    }

    /// Sets the bits that files created by workers lack, 0 to 0o777.
    #[must_use]
    pub fn umask(mut self, bits: u32) -> Self {
        self.confinement.surroundings.file_mask = Some(bits);
        self
    }

    /// Makes workers nicer than the host by that much, 0 to 39: the processor is others' first.
    #[must_use]
    pub fn nice(mut self, increment: i32) -> Self {
        self.confinement.surroundings.nice = increment;
        self
    }

    /// Has workers run on these processors only, by number. By default they run where the thread
    /// may that builds the pool.
    ///
    /// Where [`processes`](Self::processes) is not set, there is one worker for each of them.
    #[must_use]
    pub fn processors(mut self, numbers: impl IntoIterator<Item = u32>) -> Self {
        self.confinement.surroundings.processors = Some(numbers.into_iter().collect());
        self
    }

    /// Has workers run as this user, by number. It takes root; the workers then have the groups of
    /// [`group`](Self::group) alone, or none but their own.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        self.confinement.surroundings.user = Some(user);
        self
    }

    /// Has workers run in this group alone, by number. It takes root.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.confinement.surroundings.group = Some(group);
        self
    }

    /// Has the workers' standard output and error go to files of `directory`, which exists: those
    /// of the worker on seat 3 to `worker-3.out` and `worker-3.err`, behind what is there. By
    /// default they go where the host's go.
    ///
    /// [`WorkerLost::stderr`](crate::WorkerLost::stderr) then has the last lines of a worker that
    /// died.
    #[must_use]
    pub fn output_to(mut self, directory: impl Into<PathBuf>) -> Self {
        self.confinement.surroundings.output = Some(directory.into());
        self
    }

    /// Has what each task prints go to files of its own in the directory of
    /// [`output_to`](Self::output_to): of task 17 to `task-17.out` and `task-17.err`, of all its
    /// attempts, and none where it prints nothing. [`Pool::printed`](crate::Pool::printed) gives it
    /// with the outcome, and [`WorkerLost::stderr`](crate::WorkerLost::stderr) has the last lines
    /// of the task that its worker died of. What a worker prints between its tasks goes to its own
    /// files.
    ///
    /// It takes [`child_concurrency(1)`](Self::child_concurrency): lines of tasks that take turns
    /// in a worker cannot be told apart. In a [sandbox](Self::sandbox) that has paths, the
    /// directory is one that workers may write to. It costs two files a task: 20 to 35 µs in a
    /// directory in memory (`/dev/shm`), and ten times that and more on a disk.
    #[must_use]
    pub fn output_per_task(mut self, yes: bool) -> Self {
        self.output_per_task = yes;
        self
    }

    /// Returns where tasks have files of their own.
    pub(super) fn printed(&self) -> Option<PathBuf> {
        self.confinement.surroundings.output.clone().filter(|_| self.output_per_task)
    }

    /// Makes the directory of outputs one that workers find wherever they are.
    pub(super) fn resolve_output(&mut self) -> Result<()> {
        if let Some(directory) = &mut self.confinement.surroundings.output {
            *directory = std::path::absolute(&*directory)
                .map_err(|error| Error::system("find the directory of output_to", error))?;
        }
        Ok(())
    }

    /// Lets workers keep the descriptors that the zygote has; by default all but theirs are
    /// closed.
    #[must_use]
    pub fn keep_fds(mut self, yes: bool) -> Self {
        self.confinement.keep_fds = yes;
        self
    }

    /// Resource limits of each worker; by default those of the host.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.confinement.limits = limits;
        self
    }

    /// Executing a set-user-id program gives workers no new rights (`PR_SET_NO_NEW_PRIVS`).
    #[must_use]
    pub fn no_new_privs(mut self, yes: bool) -> Self {
        self.confinement.no_new_privs = yes;
        self
    }

    /// Returns how many processors there are for workers.
    pub(super) fn processors_of_workers(&self) -> usize {
        let chosen = self.confinement.surroundings.processors.as_ref();
        chosen.map_or_else(cpus::available, BTreeSet::len)
    }

    /// Checks them.
    pub(super) fn check_surroundings(&self) -> Result<()> {
        let wanted = &self.confinement.surroundings;
        let refuse = |name, value: String, allowed: &str| {
            Err(Error::InvalidOption { name, value, allowed: allowed.to_owned() })
        };
        if let Some(name) = wanted.wrong_variable() {
            let allowed = "a name without `=`, and neither name nor value with a zero byte";
            return refuse("env", name.to_string_lossy().into_owned(), allowed);
        }
        if let Some(directory) = wanted.directory.as_ref().filter(|path| !path.is_dir()) {
            return refuse("current_dir", directory.display().to_string(), "a directory");
        }
        if let Some(directory) = wanted.output.as_ref().filter(|path| !path.is_dir()) {
            return refuse("output_to", directory.display().to_string(), "a directory");
        }
        if self.output_per_task && wanted.output.is_none() {
            let allowed = "only with output_to, the directory for the files";
            return refuse("output_per_task", "true".to_owned(), allowed);
        }
        if self.output_per_task && self.child_concurrency != 1 {
            let allowed = "only with child_concurrency 1: lines of tasks that take turns in a \
                           worker cannot be told apart";
            return refuse("output_per_task", "true".to_owned(), allowed);
        }
        if let Some(bits) = wanted.file_mask.filter(|&bits| bits > 0o777) {
            return refuse("umask", format!("{bits:#o}"), "0 to 0o777");
        }
        if !(0..=39).contains(&wanted.nice) {
            return refuse("nice", wanted.nice.to_string(), "0 to 39");
        }
        if let Some(wanted) = &wanted.processors {
            let possible = Mask::possible().map_err(|error| {
                Error::system("find out which processors there are for workers", error)
            })?;
            let possible: BTreeSet<u32> =
                possible.processors().into_iter().map(|number| number as u32).collect();
            if wanted.is_empty() || !wanted.is_subset(&possible) {
                return refuse(
                    "processors",
                    numbers(wanted),
                    &format!("some of {}", numbers(&possible)),
                );
            }
        }
        Ok(())
    }
}

/// Returns numbers as a list, those that follow each other as a range: `0-3, 8`; `none` of none.
fn numbers(of: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in of {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |(first, last)| {
        if first == last { format!("{first}") } else { format!("{first}-{last}") }
    };
    let ranges: Vec<String> = ranges.into_iter().map(range).collect();
    if ranges.is_empty() { "none".to_owned() } else { ranges.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_by_ranges() {
        assert_eq!(numbers(&BTreeSet::new()), "none");
        assert_eq!(numbers(&BTreeSet::from([7])), "7");
        assert_eq!(numbers(&BTreeSet::from([0, 1, 2, 8, 10, 11])), "0-2, 8, 10-11");
    }
}
