//! Executing a program: in this process, or in a new one made without copying this one.
#![allow(unsafe_code)] // calls into libc

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Turns this process into another program, looked for in `PATH` unless its name has a slash.
///
/// Comes back only with the error.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer and point at C strings that live across the call.
    unsafe { libc::execvpe(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Starts a program, looked for in `PATH` unless its name has a slash, in a new process and says
/// its pid.
///
/// The child shares this process's memory until it executes, and runs nothing but the C library
/// in between: this may be called with any number of threads, and costs the same in a large
/// process. It leads a process group of its own, has every signal at its default and blocked,
/// standard input from `/dev/null`, and `inherited` under the same numbers; other descriptors are
/// inherited unless close-on-exec.
pub(crate) fn spawn(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    inherited: &[BorrowedFd<'_>],
) -> io::Result<u32> {
    let actions = Actions::new(inherited)?;
    let attributes = Attributes::new()?;
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    let mut pid = 0;
    // SAFETY: `actions` and `attributes` are initialised; both lists end with a null pointer and
    // point at C strings that live across the call.
    ok(unsafe {
        libc::posix_spawnp(
            &mut pid,
            program.as_ptr(),
            &actions.0,
            &attributes.0,
            arguments.as_ptr().cast(),
            environment.as_ptr().cast(),
        )
    })
    .map_err(|error| match error.raw_os_error() {
        Some(libc::EAGAIN) => super::process::many(error),
        Some(libc::ENOENT) if std::fs::File::open("/dev/null").is_err() => {
            io::Error::new(error.kind(), format!("{error}: there is no /dev/null to read from"))
        }
        _ => super::named("clone3, clone or execve", error),
    })?;
    Ok(pid as u32)
}

/// What the child does with descriptors before it executes.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(inherited: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        ok(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, and destroyed once, by `Drop`.
        let mut actions = Self(unsafe { actions.assume_init() });
        let null = c"/dev/null".as_ptr();
        // SAFETY: `actions` is initialised and copies the path.
        ok(unsafe {
            libc::posix_spawn_file_actions_addopen(&mut actions.0, 0, null, libc::O_RDONLY, 0)
        })?;
        for fd in inherited {
            let fd = fd.as_raw_fd();
            // Copying to itself takes close-on-exec off, in the child only.
            // SAFETY: `actions` is initialised.
            ok(unsafe { libc::posix_spawn_file_actions_adddup2(&mut actions.0, fd, fd) })?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// How the child differs in signals and process group.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        ok(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, and destroyed once, by `Drop`.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let mut signals = MaybeUninit::uninit();
        let flags = libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: `attributes` is initialised; each set is initialised before it is copied.
        unsafe {
            libc::sigfillset(signals.as_mut_ptr());
            ok(libc::posix_spawnattr_setsigmask(&mut attributes.0, signals.as_ptr()))?;
            ok(libc::posix_spawnattr_setsigdefault(&mut attributes.0, signals.as_ptr()))?;
            ok(libc::posix_spawnattr_setpgroup(&mut attributes.0, 0))?;
            ok(libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

/// The result of a call that answers with the error's number itself.
fn ok(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::wait::{Ended, reap_waiting};

    #[test]
    fn a_spawned_program_has_what_it_was_given() {
        let file = crate::sys::memfd::create(c"aiopool-test").unwrap();
        let fd = file.as_raw_fd();
        let script = format!("echo \"$WORD $(wc -c) $0\" >/proc/self/fd/{fd}; exit 3");
        let arguments = [c"sh".into(), c"-c".into(), CString::new(script).unwrap(), c"me".into()];
        let environment = [c"WORD=hello".into(), c"PATH=/usr/bin:/bin".into()];
        let pid = spawn(c"/bin/sh", &arguments, &environment, &[file.as_fd()]).unwrap();
        assert_eq!(reap_waiting(pid).unwrap(), Some(Ended::Exited(3)));
        let said = std::fs::read_to_string(format!("/proc/self/fd/{fd}")).unwrap();
        assert_eq!(said, "hello 0 me\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let refused = spawn(c"/nowhere/at/all", &[c"x".into()], &[], &[]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
    }
}
