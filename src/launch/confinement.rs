//! What workers are confined to.
#![forbid(unsafe_code)]

use std::io;

use serde::{Deserialize, Serialize};

use super::{Limits, Sandbox, Surroundings};
use crate::sys::process;

/// What the workers of a pool have and may do, as its builder was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Whether workers keep the descriptors that the zygote was started with.
    pub keep_fds: bool,
    /// Resource limits of each worker.
    pub limits: Limits,
    /// Whether executing a set-user-id program gives workers no new rights.
    pub no_new_privs: bool,
    /// What else workers are, where that is not what the host is.
    pub surroundings: Surroundings,
    /// What workers are forbidden.
    pub sandbox: Option<Sandbox>,
}

impl Confinement {
    /// Limits this process: its resources, and the rights it may get.
    pub(super) fn limit(&self) -> io::Result<()> {
        self.limits.apply()?;
        if self.no_new_privs {
            process::no_new_privileges()?;
        }
        Ok(())
    }
}
