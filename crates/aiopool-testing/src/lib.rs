//! What several test folders of this repository share: waiting with a watchdog, folders of a test's
//! own, programs that are watched, clocks that jump, and programs in C that are built against `libaiopool`.
//!
//! Everything here panics when something goes wrong: the panic is the test's failure.

mod c;
pub mod chrome;
pub mod clock;
mod folder;
mod program;
mod wait;
mod wheel;

pub use c::{compile, library, watched};
pub use folder::{Folder, root, scratch, target_dir};
pub use program::{interruptible, missing, run};
pub use wait::{WATCHDOG, in_time, until};
pub use wheel::Wheel;
