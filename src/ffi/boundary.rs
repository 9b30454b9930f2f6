//! The boundary: what every exported function is made of.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::status::{self, AIOPOOL_ERR_PANIC, AIOPOOL_OK, aiopool_status};
use crate::error::Error;
use crate::sys::thread::Uncancelled;
use crate::task::{TaskError, panic_text};

/// Why a call fails: a status and the text for `aiopool_last_error`.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: aiopool_status,
    pub(super) text: Cow<'static, str>,
}

impl Failure {
    pub(super) fn new(status: aiopool_status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into() }
    }

    /// A required pointer is NULL.
    pub(super) fn null(name: &str) -> Self {
        Self::new(status::AIOPOOL_ERR_NULL, format!("{name} is NULL, and this call requires it"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(status::of_error(&error), in_c(&error))
    }
}

/// Returns what an error says to a program in C: calls by their names there, no advice about Rust.
pub(super) fn in_c(error: &Error) -> String {
    match error {
        Error::Closed => "the pool is closed: it takes no more tasks; start another one".to_owned(),
        Error::Full => {
            "the pool is full: receive some outcomes first, or submit with a time-out".to_owned()
        }
        Error::Failed(cause) => format!("the pool has failed: {}", in_c(cause)),
        other => in_words_of_c(other.to_string()),
    }
}

/// Returns what a task's end says to a program in C. What code of the caller's has said stays as it
/// is.
pub(super) fn end_in_c(end: &TaskError) -> String {
    match end {
        TaskError::PoolClosed { reason: Some(reason) } => {
            format!("the pool ended before the task did: {}", in_c(reason))
        }
        TaskError::NotSubmitted(error) => in_c(error),
        TaskError::NeighbourBlocked(blocked) => pause_in_c(&blocked.to_string()),
        TaskError::WorkerLost(lost) if !lost.earlier.is_empty() => {
            let mut lost = lost.clone();
            lost.earlier.iter_mut().for_each(|attempt| *attempt = attempt_in_c(attempt));
            lost.to_string()
        }
        TaskError::Failed(_) | TaskError::Panicked(_) | TaskError::WorkerLost(_) => end.to_string(),
        other => in_words_of_c(other.to_string()),
    }
}

/// The name of the function that blocked is the caller's, and stays as it is.
fn pause_in_c(text: &str) -> String {
    let (of_rust, of_c) = (
        "let that one pause (await) now and then",
        "have that one return AIOPOOL_PENDING now and then",
    );
    text.replace(of_rust, of_c)
}

/// Returns what is told of an earlier attempt. What does not begin as the pool's own texts do is
/// what the task function has said.
fn attempt_in_c(text: &str) -> String {
    const OWN: [&str; 3] =
        ["the worker could not take the task on: ", "the task's value ", "shared memory "];
    if text.starts_with("the task did not end within ") {
        pause_in_c(text)
    } else if OWN.iter().any(|own| text.starts_with(own)) {
        in_words_of_c(text.to_owned())
    } else {
        text.to_owned()
    }
}

fn in_words_of_c(text: String) -> String {
    WORDS.iter().fold(text, |text, (of_rust, of_c)| text.replace(of_rust, of_c))
}

/// What Rust and C have different names for, in the order in which they are replaced.
const WORDS: [(&str, &str); 28] = [
    (" (a multi-threaded #[tokio::main] has)", ""),
    (", outside of #[tokio::main] and block_on", ""),
    (
        ", which tokio does not allow inside of a runtime",
        ", which is not possible inside of a task",
    ),
    (": send it as `aiopool::Described(value)`", ""),
    ("an aiopool::after_fork hook (in C: pthread_atfork)", "a function given to pthread_atfork"),
    ("AttachedWorker::attach, in C aiopool_worker_attach", "aiopool_worker_attach"),
    ("StartMethod::Command, in C AIOPOOL_START_COMMAND", "AIOPOOL_START_COMMAND"),
    ("aiopool::init()", "aiopool_init()"),
    ("earlier init()", "earlier aiopool_init()"),
    ("since init()", "since aiopool_init()"),
    ("call init()", "call aiopool_init()"),
    ("StartMethod::Command", "AIOPOOL_START_COMMAND"),
    ("StartMethod::Spawn", "AIOPOOL_START_SPAWN"),
    ("StartMethod::Fork", "AIOPOOL_START_FORK"),
    ("numbered from 0; see priorities()", "numbered from 0: the option priorities"),
    ("could be moved: build it with one", "could be moved: start it with deadline_ns"),
    ("build another", "start another"),
    ("build a new one", "start a new one"),
    ("zygote", "fork server"),
    ("build this pool", "start this pool"),
    ("build the pool", "start the pool"),
    ("build pools", "start pools"),
    ("builds a pool", "starts a pool"),
    ("the pool is built with output_per_task", "AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK is set"),
    ("output_per_task = true", "AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK"),
    ("only with output_to, the", "only with output_directory, the"),
    ("builds the pool", "starts the pool"),
    ("a future's", "a task's"),
];

/// Runs the body of an exported function that returns a status.
#[inline]
pub(super) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> aiopool_status {
    // A thread that the C library cancels is unwound, which Rust takes for a foreign exception.
    let _whole = Uncancelled::begin();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => AIOPOOL_OK,
        Ok(Err(Failure { status, text })) => {
            status::set_last_error(text);
            status
        }
        Err(panic) => {
            status::set_last_error(panicked(&*panic));
            AIOPOOL_ERR_PANIC
        }
    }
}

/// Runs the short way of an exported function; false if the long one is to be gone.
///
/// A panic is the long one's to find and to report.
#[inline]
pub(super) fn at_once(quick: impl FnOnce() -> Option<()>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(quick)), Ok(Some(())))
}

/// Runs the body of an exported function that returns a value; `fallback` after a panic.
#[inline]
pub(super) fn guard_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        status::set_last_error(panicked(&*panic));
        fallback
    })
}

#[cold]
fn panicked(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    format!("a panic in aiopool, please report it: {}", panic_text(panic)).into()
}

/// Makes an enum of C: a number of a fixed type here, since C may give any, and an enum in the
/// header.
macro_rules! c_enum {
    ($(#[$meta:meta])* pub enum $name:ident: $int:ty {
        $($(#[$of_one:meta])* $constant:ident = $value:expr,)+
    }) => {
        $(#[$meta])*
        pub type $name = $int;
        $($(#[$of_one])* pub const $constant: $name = $value;)+
    };
}

/// Makes an exported function: `fn name(arguments) -> aiopool_status { body of a Result }`, or
/// `fn name(arguments) -> T = value_after_a_panic => { body of a T }`, which makes no system call
/// at which a thread could be cancelled.
///
/// `fn name(arguments) -> aiopool_status = at_once { quick } waits => { body }` tries `quick`
/// first, which returns `Some(())` when all is done and `None` before anything is; it makes no call
/// at which a thread could be cancelled.
///
/// `fn name(arguments) -> aiopool_status = waits => { body }` is for a body that waits until
/// [`turns::deadline`](super::turns::deadline) and can be run again after `AIOPOOL_ERR_TIMEOUT`.
macro_rules! ffi_fn {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> aiopool_status = at_once $quick:block waits => $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $crate::ffi::aiopool_status {
            {
                // SAFETY: an argument has nothing to drop, and is used by one of the two.
                let ($($arg,)*) = unsafe { ($(std::ptr::read(&raw const $arg),)*) };
                let _ = ($(&$arg,)*);
                if $crate::ffi::boundary::at_once(|| $quick) {
                    return $crate::ffi::AIOPOOL_OK;
                }
            }
            $crate::ffi::turns::begin();
            loop {
                let status = {
                    // SAFETY: an argument has nothing to drop, and one turn uses it at a time.
                    let ($($arg,)*) = unsafe { ($(std::ptr::read(&raw const $arg),)*) };
                    $crate::ffi::boundary::guard(|| $body)
                };
                if !$crate::ffi::turns::goes_on(status) {
                    return status;
                }
                // SAFETY: this frame has nothing to drop, and C called it.
                unsafe { $crate::sys::thread::end_if_cancelled() };
            }
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> aiopool_status = waits => $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $crate::ffi::aiopool_status {
            $crate::ffi::turns::begin();
            loop {
                let status = {
                    // SAFETY: an argument has nothing to drop, and one turn uses it at a time.
                    let ($($arg,)*) = unsafe { ($(std::ptr::read(&raw const $arg),)*) };
                    $crate::ffi::boundary::guard(|| $body)
                };
                if !$crate::ffi::turns::goes_on(status) {
                    return status;
                }
                // SAFETY: this frame has nothing to drop, and C called it.
                unsafe { $crate::sys::thread::end_if_cancelled() };
            }
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> aiopool_status $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::ffi::aiopool_status {
            $crate::ffi::boundary::guard(|| $body)
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $fallback:expr => $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            $crate::ffi::boundary::guard_value($fallback, || $body)
        }
    };
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::task::{Blocked, LossCause, TaskFailure, WorkerExit, WorkerLost};

    /// Errors that calls of C can meet, one of each kind.
    fn errors() -> Vec<Error> {
        let invalid = |allowed: &str| Error::InvalidOption {
            name: "option",
            value: "7".to_owned(),
            allowed: allowed.to_owned(),
        };
        let what = "the end of the workers";
        vec![
            Error::Closed,
            Error::Full,
            Error::PayloadTooLarge { size: 2, max: 1 },
            Error::ZygoteLost("SIGKILL".to_owned()),
            Error::NoWorkers("a zygote was lost".to_owned()),
            Error::Initializer("none".to_owned()),
            Error::Corrupt("a word".to_owned()),
            Error::TimedOut { what, limit: std::time::Duration::from_secs(1) },
            Error::Forked { owner: 1, here: 2 },
            Error::Failed(Arc::new(Error::ZygoteLost("SIGKILL".to_owned()))),
            Error::Failed(Arc::new(Error::Closed)),
            invalid("bytes are for workers that run a command (StartMethod::Command)"),
            invalid("the pool has 2 priority classes, numbered from 0; see priorities()"),
            Error::system("x: call aiopool::init() in that namespace", io::Error::other("no")),
        ]
    }

    /// Refuses a text with words that only a program in Rust knows.
    fn check(text: &str) {
        for (at, _) in text.match_indices("()") {
            let name = text[..at].rsplit([' ', '`', '(']).next();
            let is_of_c = |name: &str| name.starts_with("aiopool_") || name == "random";
            assert!(name.is_some_and(|name| is_of_c(name) || name == "rand"), "{text}");
        }
        let words = [
            "::",
            "#[",
            "await",
            "tokio",
            "uilder",
            "build a",
            "build the",
            "build it",
            "zygote",
            "Result",
            "serde",
        ];
        assert!(words.iter().all(|word| !text.contains(word)), "{text}");
    }

    #[test]
    fn no_error_speaks_rust_to_c() {
        errors().iter().for_each(|error| check(&in_c(error)));
    }

    fn lost_after(attempt: String) -> WorkerLost {
        WorkerLost {
            task: 3,
            function: "crunch".to_owned(),
            worker: 0,
            pid: 7,
            exit: WorkerExit::Exited(1),
            cause: LossCause::Death,
            attempt: 2,
            attempts_allowed: 2,
            running: std::time::Duration::from_secs(1),
            suspect: true,
            progress: None,
            stderr: String::new(),
            earlier: vec![attempt],
        }
    }

    #[test]
    fn no_end_of_a_task_speaks_rust_to_c() {
        let text = || "the zygote was started for another pool: call aiopool::init()".to_owned();
        let limit = std::time::Duration::from_secs(1);
        let blocked = Blocked { limit, by: 3, function: "crunch".to_owned() };
        let mut ends = vec![
            TaskError::Cancelled,
            TaskError::TimedOut { limit, started: true },
            TaskError::TimedOut { limit, started: false },
            TaskError::NeighbourBlocked(Box::new(blocked)),
            TaskError::PoolClosed { reason: None },
            TaskError::Refused(text()),
            TaskError::Value(text()),
            TaskError::OutputSpace(text()),
            TaskError::Corrupt(text()),
        ];
        ends.extend(errors().into_iter().flat_map(|error| {
            let error = Arc::new(error);
            let reason = Some(Arc::clone(&error));
            [TaskError::PoolClosed { reason }, TaskError::NotSubmitted(error)]
        }));
        ends.iter().for_each(|end| check(&end_in_c(end)));
        // What ended earlier attempts of a task is told with its last one.
        let own = TaskError::Failed(TaskFailure::from_c("my zygote::build ()".to_owned(), 7));
        for end in ends.iter().chain([&own]) {
            if matches!(end, TaskError::NotSubmitted(_) | TaskError::PoolClosed { .. }) {
                continue; // no attempt comes after these
            }
            let lost = TaskError::WorkerLost(Box::new(lost_after(end.to_string())));
            let told = end_in_c(&lost);
            let (last, first) = told.split_once("; attempt 1: ").unwrap();
            check(last);
            assert_eq!(first, end_in_c(end));
        }
        // What a task function has said is its own.
        assert_eq!(end_in_c(&own), "my zygote::build ()");
    }

    /// The texts in the source of the engine below the Rust API, where C gets its errors from.
    #[test]
    fn no_text_of_the_engine_speaks_rust_to_c() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut seen = 0;
        // Errors of compilers and of codecs for Rust types, clusters, and what is asked of a
        // program that preloads, which C cannot start.
        let others = [
            "tests",
            "task_fn.rs",
            "star.rs",
            "codec",
            "remote",
            "remote.rs",
            "template.rs",
            "boundary.rs",
            "error.rs",
            "view",
            "deadline.rs",
            "after_fork.rs",
            "model",
        ];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
                if others.contains(&&*name) {
                    continue;
                } else if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                for text in texts(&std::fs::read_to_string(path).unwrap()) {
                    seen += 1;
                    check(&in_words_of_c(text));
                }
            }
        }
        assert!(seen > 300, "{seen} texts");
    }

    /// Returns the string literals of a source that are sentences, but for those of its tests.
    fn texts(source: &str) -> Vec<String> {
        let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let is_code =
            |line: &&str| !["//", "#", "reason ="].iter().any(|no| line.trim().starts_with(no));
        let code: Vec<&str> = source.lines().filter(is_code).collect();
        let (code, mut texts) =
            (code.join("\n").replace("\\\"", "'").replace("'\"'", "''"), Vec::new());
        for text in code.split('"').skip(1).step_by(2) {
            let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\\')).collect();
            let first = lines.first().copied().unwrap_or_default().to_owned();
            let rest = lines.iter().skip(1).map(|line| line.trim_start());
            texts.push(rest.fold(first, |text, line| text + line));
        }
        texts.retain(|text| text.contains(' '));
        texts
    }
}
