//! Whether and under which name a pool can be looked at.

use std::io::Write;
use std::sync::Once;

use crate::error::{Error, Result};
use crate::supervisor::{Shared, program};
use crate::view::{Listener, Seat, allowed_name};

/// Returns the name of a pool: what the builder was given, or what its program is called.
///
/// # Errors
///
/// [`Error::InvalidOption`] if the builder was given no name.
pub(super) fn name(given: Option<String>) -> Result<String> {
    if let Some(name) = given {
        return match allowed_name(&name) {
            Ok(()) => Ok(name),
            Err(allowed) => Err(Error::InvalidOption {
                name: "name",
                value: format!("{name:?}"),
                allowed: allowed.to_owned(),
            }),
        };
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = program().chars().take(32).map(|c| if allowed(c) { c } else { '_' }).collect();
    Ok(name)
}

/// Has the pool listen for observers, if that can be done. What is missing is said once.
pub(super) fn listen(shared: &Shared) -> Option<Listener> {
    static SAID: Once = Once::new();
    if std::env::var_os("AIOPOOL_OBSERVE").is_some_and(|value| value == "0") {
        return None;
    }
    let seat = Seat { pid: shared.pid, number: shared.id as u64, name: shared.name.clone() };
    match Listener::bind(&seat) {
        Ok(listener) => Some(listener),
        Err(reason) => {
            SAID.call_once(|| {
                tracing::warn!(pool = shared.id, reason, "the pool cannot be observed");
                if !tracing::dispatcher::has_been_set() {
                    let _ = writeln!(
                        std::io::stderr(),
                        "aiopool: the pool runs, but `aiopool top` cannot see it: {reason} \
                         (AIOPOOL_OBSERVE=0 turns this off)"
                    );
                }
            });
            None
        }
    }
}
