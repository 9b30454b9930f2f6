//! Programs that must succeed.
#![allow(unsafe_code)] // what happens between fork and exec

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has `command` die of signals again that end a program, where this process ignores them, as the
/// children of `nohup` and of a shell's background jobs do.
pub fn interruptible(command: &mut Command) -> &mut Command {
    let restore = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            // SAFETY: takes numbers only, and is async-signal-safe.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(restore) }
}

/// Whether `tool` is in no folder of `PATH`.
///
/// # Panics
///
/// When it is missing and `AIOPOOL_CI` is set: on CI no test may be skipped.
pub fn missing(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    assert!(
        found || std::env::var_os("AIOPOOL_CI").is_none(),
        "{tool} is not installed, and on CI nothing may be skipped"
    );
    if !found {
        eprintln!("skipped what needs {tool}, which is not installed");
    }
    !found
}

/// Runs `command` to its end and gives what it wrote to stdout.
///
/// # Panics
///
/// When it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
