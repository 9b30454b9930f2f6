//! What workers are forbidden.
#![forbid(unsafe_code)]

use crate::error::Result;
use crate::launch::Sandbox;
#[cfg(feature = "sandbox")]
use crate::launch::StartMethod;

use super::PoolBuilder;

impl PoolBuilder {
    /// Forbids workers files, the network and more; by default they may do what the host may.
    #[cfg(feature = "sandbox")]
    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// Takes the sandbox, checked against what the kernel can enforce.
    pub(super) fn checked_sandbox(&mut self) -> Result<Option<Sandbox>> {
        let sandbox = self.sandbox.take();
        #[cfg(feature = "sandbox")]
        let sandbox = {
            let command = matches!(self.start, StartMethod::Command(_));
            sandbox.map(|sandbox| sandbox.checked(command)).transpose()?
        };
        Ok(sandbox)
    }
}
