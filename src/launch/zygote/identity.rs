//! Whether an inherited descriptor is meant for this process and this copy of the library.

use std::os::fd::RawFd;

use crate::launch::recipe::{PRELOAD_VARIABLE, preload_before};
use crate::launch::wire::Build;
use crate::sys::image;

/// Returns the descriptor that a variable names.
pub(super) fn number_of(variable: &str) -> Option<RawFd> {
    named_by(variable).map(|(fd, _)| fd)
}

/// Returns the descriptor that a variable names, and the process that it was for if it says that.
pub(super) fn named_by(variable: &str) -> Option<(RawFd, Option<u32>)> {
    let value = std::env::var_os(variable)?;
    let value = value.to_str()?;
    let (fd, process) = match value.split_once(':') {
        Some((fd, process)) => (fd, Some(process.parse().ok()?)),
        None => (value, None),
    };
    Some((fd.parse().ok().filter(|&fd: &RawFd| fd > 2)?, process))
}

/// Returns whether a message for `build` is for this copy of the library: a process may have
/// others.
///
/// An error says that it is, but that the file is not any more what the sender was loaded from.
pub(super) fn is_for_us(build: &Build) -> Result<bool, &'static str> {
    match image::own().and_then(|image| Build::own(&image)) {
        Ok(own) if own == *build => Ok(true),
        Ok(own) if own.version == build.version && own.path == build.path => {
            Err("the file of this library was replaced since it was loaded: restart the program")
        }
        _ => Ok(false),
    }
}

/// Takes back what was changed so that the library came into this program.
///
/// # Safety
///
/// This process has no other thread that could look at the environment.
pub(super) unsafe fn restore_environment(variable: &str, preloaded: bool) {
    let now = std::env::var_os(PRELOAD_VARIABLE).filter(|_| preloaded);
    // SAFETY: the caller vouches that no other thread reads the environment.
    unsafe {
        std::env::remove_var(variable);
        match now.map(|now| preload_before(&now)) {
            Some(Some(before)) => std::env::set_var(PRELOAD_VARIABLE, before),
            Some(None) => std::env::remove_var(PRELOAD_VARIABLE),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_very_build_is_for_us() {
        let own = Build::own(&image::own().unwrap()).unwrap();
        assert_eq!(is_for_us(&own), Ok(true));
        let replaced = Build { identity: "other".into(), ..own.clone() };
        assert!(is_for_us(&replaced).unwrap_err().contains("replaced"));
        let another = Build { path: "/lib/another.so".into(), ..replaced };
        assert_eq!(is_for_us(&another), Ok(false));
        let older = Build { version: "0.0.1".into(), ..own };
        assert_eq!(is_for_us(&older), Ok(false));
    }
}
