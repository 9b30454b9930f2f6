//! What a user wants of the process of a worker, beyond what the host is.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::cpus::Mask;
use crate::sys::{credentials, fd, place, scheduling};

/// Changes to what a worker takes over from its host, made in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// Nothing of the host's environment is left.
    pub(crate) clears_environment: bool,
    /// Variables, oldest first; without a value those that are taken out.
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    pub(crate) directory: Option<PathBuf>,
    /// The bits that new files lack.
    pub(crate) file_mask: Option<u32>,
    /// What is added to the host's niceness.
    pub(crate) nice: i32,
    /// The numbers of the processors that it runs on, where these are not the host's.
    pub(crate) processors: Option<BTreeSet<u32>>,
    pub(crate) group: Option<u32>,
    pub(crate) user: Option<u32>,
    /// Where standard output and error go: files of this directory, two for each seat.
    pub(crate) output: Option<PathBuf>,
}

/// The kinds of output, with their descriptors.
const OUTPUTS: [(RawFd, &str); 2] = [(1, "out"), (2, "err")];
/// Bytes of a worker's error output that are kept of its end.
const LAST_WORDS: u64 = 2048;

fn file_of(directory: &Path, seat: u32, kind: &str) -> PathBuf {
    directory.join(format!("worker-{seat}.{kind}"))
}

/// Returns where the standard error of the workers on a seat goes.
pub(crate) fn errors_of(directory: &Path, seat: u32) -> PathBuf {
    file_of(directory, seat, "err")
}

/// Returns the last lines of a file that workers have written to.
pub(crate) fn last_words(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let cut = file.metadata()?.len().saturating_sub(LAST_WORDS);
        file.seek(io::SeekFrom::Start(cut))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole =
            if cut > 0 { text.split_once('\n').map_or("", |(_, whole)| whole) } else { &text };
        Ok(whole.to_owned())
    };
    // A file that cannot be read says nothing, and is no reason to end anything.
    read().unwrap_or_default()
}

impl Surroundings {
    /// Makes them those of the calling process, but for the environment.
    ///
    /// Takes the death signal away where the user changes.
    ///
    /// # Errors
    ///
    /// What the system refuses. A part may be done; the process must end.
    pub(super) fn take_on(&self) -> Result<(), String> {
        let cannot = |what: String| move |error: io::Error| format!("cannot {what}: {error}");
        if self.nice != 0 {
            scheduling::niceness()
                .and_then(|now| scheduling::set_niceness(now + self.nice))
                .map_err(cannot(format!("be nicer by {} (nice)", self.nice)))?;
        }
        if let Some(numbers) = &self.processors {
            Mask::of(numbers.iter().map(|&number| number as usize))
                .apply()
                .map_err(cannot("run on the processors of the options (processors)".into()))?;
        }
        if let Some(mask) = self.file_mask {
            place::set_file_mask(mask);
        }
        // Before the directory: it has to be one that this user may enter.
        credentials::become_user(self.user, self.group)
            .map_err(cannot("become the user and group of the options (that takes root)".into()))?;
        if let Some(directory) = &self.directory {
            std::env::set_current_dir(directory)
                .map_err(cannot(format!("go to {} (current_dir)", directory.display())))?;
        }
        Ok(())
    }

    /// Sends the output of this process, the worker on `seat`, where it is to go.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(super) fn redirect(&self, seat: u32) -> Result<(), String> {
        let Some(directory) = &self.output else { return Ok(()) };
        for (number, kind) in OUTPUTS {
            let path = file_of(directory, seat, kind);
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .and_then(|file| fd::replace_output(number, file.as_fd()))
                .map_err(|error| {
                    format!("cannot write to {} (output_to): {error}", path.display())
                })?;
        }
        Ok(())
    }

    /// Returns `host`, an environment, as these change it; `None` if they do not.
    pub(super) fn environment(
        &self,
        host: impl Iterator<Item = (OsString, OsString)>,
    ) -> Option<Vec<CString>> {
        if !self.clears_environment && self.environment.is_empty() {
            return None;
        }
        let mut all: Vec<(OsString, OsString)> =
            host.filter(|_| !self.clears_environment).collect();
        for (name, value) in &self.environment {
            all.retain(|(known, _)| known != name);
            all.extend(value.clone().map(|value| (name.clone(), value)));
        }
        let entry = |(name, value): (OsString, OsString)| {
            // The builder has refused what no C string can be.
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        };
        Some(all.into_iter().filter_map(entry).collect())
    }

    /// Returns the first name or value that no environment can hold.
    pub(crate) fn wrong_variable(&self) -> Option<&OsStr> {
        let wrong = |(name, value): &&(OsString, Option<OsString>)| {
            let value = value.as_deref().unwrap_or_default().as_bytes();
            name.is_empty()
                || name.as_bytes().iter().any(|byte| [b'=', 0].contains(byte))
                || value.contains(&0)
        };
        self.environment.iter().find(wrong).map(|(name, _)| name.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(surroundings: &Surroundings) -> Vec<String> {
        let host = [("A", "1"), ("B", "2")].map(|(name, value)| (name.into(), value.into()));
        let changed = surroundings.environment(host.into_iter()).unwrap();
        changed.into_iter().map(|entry| entry.into_string().unwrap()).collect()
    }

    #[test]
    fn variables_are_set_changed_and_taken_out_in_order() {
        let set = |name: &str, value: Option<&str>| (name.into(), value.map(OsString::from));
        let mut surroundings = Surroundings::default();
        assert!(surroundings.environment(std::iter::empty()).is_none());
        surroundings.environment = vec![set("B", Some("3")), set("C", Some("")), set("A", None)];
        assert_eq!(variables(&surroundings), ["B=3", "C="]);
        surroundings.clears_environment = true;
        surroundings.environment = vec![set("B", Some("4"))];
        assert_eq!(variables(&surroundings), ["B=4"]);
        assert_eq!(surroundings.wrong_variable(), None);
        for wrong in ["", "A=B", "A\0"] {
            surroundings.environment = vec![set(wrong, Some("1"))];
            assert_eq!(surroundings.wrong_variable(), Some(OsStr::new(wrong)));
        }
    }
}
