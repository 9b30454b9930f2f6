//! What workers are forbidden.

use crate::error::Result;
#[cfg(feature = "sandbox")]
use crate::launch::Sandbox;

use super::PoolBuilder;

impl PoolBuilder {
    /// Forbids workers files, the network and more; by default they may do what the host may.
    #[cfg(feature = "sandbox")]
    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.confinement.sandbox = Some(sandbox);
        self
    }

    /// Checks the sandbox against what the kernel can enforce.
    #[cfg_attr(not(feature = "sandbox"), allow(clippy::unnecessary_wraps))]
    pub(super) fn check_sandbox(&mut self) -> Result<()> {
        #[cfg(feature = "sandbox")]
        if let Some(sandbox) = self.confinement.sandbox.take() {
            let command = self.start.is_other_program();
            self.confinement.sandbox = Some(sandbox.checked(command)?);
        }
        Ok(())
    }
}
