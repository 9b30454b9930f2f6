//! The functions that workers run outside of tasks, as the builder keeps them.

use crate::error::{Error, Result};
use crate::task::address::ImageAddress;
use crate::task::{Argument, TryTaskFn, codec, entry};
use crate::worker::Hook;

/// Makes a hook of `function` and its argument, which it encodes.
pub(super) fn hook<F, A>(function: F, argument: &A) -> Result<Hook>
where
    F: TryTaskFn<A, Value = ()>,
    A: Argument,
{
    let mut encoded = Vec::new();
    codec::encode(argument, &mut encoded)
        .map_err(|reason| Error::Encode { function: std::any::type_name::<F>(), reason })?;
    let vtable = Some(ImageAddress::of(entry::try_vtable(function)));
    Ok(Hook { vtable, argument: encoded })
}

/// Refuses functions of this program for workers that are another program, and bytes for workers
/// that are this one. Of `callbacks`, which are functions, the flag says whether each is set.
pub(super) fn check(
    other_program: bool,
    callbacks: [(&'static str, bool); 3],
    hooks: [(&'static str, &Option<Result<Hook>>); 2],
) -> Result<()> {
    let refuse = |name, allowed: &str| {
        let value = "set".to_owned();
        Err(Error::InvalidOption { name, value, allowed: allowed.to_owned() })
    };
    for (name, set) in callbacks {
        if set && other_program {
            return refuse(
                name,
                "workers that run a command have none of this program's functions",
            );
        }
    }
    for (name, hook) in hooks {
        let Some(Ok(hook)) = hook else { continue };
        match (other_program, hook.vtable.is_none()) {
            (true, false) => {
                return refuse(name, "workers that run a command are given initializer_bytes");
            }
            (false, true) => {
                let allowed = "bytes are for workers that run a command (StartMethod::Command)";
                return refuse(name, allowed);
            }
            _ => {}
        }
    }
    Ok(())
}
