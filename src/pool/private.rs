//! Large outputs that are not copied before they are written.

use std::fmt;
use std::sync::Arc;

use crate::shm::PrivateMap;
use crate::task::outcome::Lent;

use super::polled::Output;

/// A large output as memory of this process: what is written is a copy, page by page, and nobody
/// else sees it. The rest is in the pool's memory, which takes room from others, until this is
/// dropped.
///
/// The worker has the same pages, and leaves them alone while this lives; a faulty one may write to
/// them. What must not change between a check and its use is copied first.
pub struct PrivateOutput {
    // Unmapped before the block is handed back.
    map: PrivateMap,
    _lent: Arc<dyn Lent>,
}

impl PrivateOutput {
    pub(super) fn new(map: PrivateMap, lent: Arc<dyn Lent>) -> Self {
        Self { map, _lent: lent }
    }

    /// Returns where the bytes are, for as long as this lives.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.map.address()
    }

    /// Returns how many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes all of it this process's own.
    ///
    /// To be called before this process is forked: in the child the pages would change when the
    /// worker uses them again, which it may as soon as the parent has dropped this.
    pub fn own(&self) {
        self.map.own();
    }
}

impl fmt::Debug for PrivateOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateOutput of {} bytes", self.len())
    }
}

impl Output {
    /// Turns a large output, one that is in the pool's memory, into memory of this process.
    ///
    /// # Errors
    ///
    /// The output as it was, if it is small, was copied already, or the system refuses a mapping.
    pub fn into_private(self) -> Result<PrivateOutput, Self> {
        let Some(lent) = self.lent() else { return Err(self) };
        match lent.map_copy() {
            Ok(map) => Ok(PrivateOutput::new(map, lent)),
            Err(_) => Err(self),
        }
    }
}
