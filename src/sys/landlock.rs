//! Landlock: files and processes that this process can reach no more.
#![allow(unsafe_code)] // a call into libc

use std::ffi::OsString;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The version that rules every kind of access to files, truncation included.
pub(crate) const FILES: u32 = 3;
/// The version that rules signals and abstract sockets.
pub(crate) const SCOPES: u32 = 6;

/// What is to be restricted.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    /// What can be read, and what can be written, too; nothing else. `None` leaves files alone.
    pub files: Option<(&'a [OsString], &'a [OsString])>,
    /// Neither signals nor abstract sockets reach out of this process and its children.
    pub scopes: bool,
}

/// Returns the running kernel's version of Landlock; 0 where it has none or has it switched off.
pub(crate) fn version() -> u32 {
    const VERSION: libc::c_ulong = 1; // LANDLOCK_CREATE_RULESET_VERSION
    let (none, no_size) = (std::ptr::null::<libc::c_void>(), 0 as libc::size_t);
    // SAFETY: with this flag the call takes no ruleset and answers with a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, no_size, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Restricts this thread, and all it starts, for ever.
///
/// # Errors
///
/// A path that is not there, or a kernel with less than [`FILES`] or [`SCOPES`].
pub(crate) fn restrict(rules: &Rules<'_>) -> Result<(), String> {
    let status = ruleset(rules).map_err(|error| error.to_string())?;
    match status {
        RulesetStatus::FullyEnforced => Ok(()),
        partly => Err(format!("the kernel enforces it only in part: {partly:?}")),
    }
}

fn ruleset(rules: &Rules<'_>) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if rules.files.is_some() {
        ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V3))?;
    }
    if rules.scopes {
        ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket)?;
    }
    let mut created = ruleset.create()?;
    if let Some((read_only, read_write)) = rules.files {
        let reading = read_only.iter().map(|path| (path, AccessFs::from_read(ABI::V3)));
        let writing = read_write.iter().map(|path| (path, AccessFs::from_all(ABI::V3)));
        for (path, mut access) in reading.chain(writing) {
            if !Path::new(path).is_dir() {
                // The kernel refuses rights that only directories have.
                access &= AccessFs::from_file(ABI::V3);
            }
            created = created.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
        }
    }
    Ok(created.restrict_self()?.ruleset)
}
