//! The functions that a worker can run, looked up once each.

#![allow(unsafe_code)] // An island: a relative address becomes a vtable.

use std::sync::OnceLock;

use crate::shm::Region;
use crate::task::entry::{self, Target, Vtable};
use crate::task::function;

/// Finds a function by its name.
pub(crate) type ByName = fn(&str) -> Option<(&'static Vtable, Target)>;

/// Finds functions that were registered under a name, as those of C are.
static BY_NAME: OnceLock<ByName> = OnceLock::new();

/// Set in a worker that is a program of its own, and has no other functions.
static ONLY_BY_NAME: OnceLock<()> = OnceLock::new();

/// Lets the workers of this process find functions by name.
#[cfg(feature = "capi")]
pub(crate) fn set_by_name(by_name: ByName) {
    // The second of two calls finds the first one's function, which is the same.
    let _ = BY_NAME.set(by_name);
}

/// Makes this process's worker one that knows functions by name only.
#[cfg(feature = "capi")]
pub(crate) fn set_only_by_name() {
    let _ = ONLY_BY_NAME.set(());
}

const NOT_BY_NAME: &str =
    "this worker runs functions by name, not those of the host's program: submit by name";

/// The functions this worker has met, by number.
#[derive(Debug, Default)]
pub(crate) struct Functions(Vec<Option<(&'static Vtable, Target)>>);

impl Functions {
    /// Function `number` of the pool.
    ///
    /// # Errors
    ///
    /// The text to end the task with if the host's table has no such function.
    pub(crate) fn get(
        &mut self,
        requests: &Region,
        number: u32,
    ) -> Result<(&'static Vtable, Target), String> {
        if let Some(Some(known)) = self.0.get(number as usize) {
            return Ok(*known);
        }
        let entry = function::read(requests, number)
            .ok_or_else(|| format!("the pool has no function number {number}"))?;
        let found = if entry.vtable == 0 {
            let known = BY_NAME.get().and_then(|by_name| by_name(&entry.name));
            known.ok_or_else(|| format!("this worker has no function named {:?}", entry.name))?
        } else if ONLY_BY_NAME.get().is_some() {
            return Err(NOT_BY_NAME.to_owned());
        } else {
            // SAFETY: only the host writes the table, with `entry::relative`, and this process
            // runs the host's image (forked from it, or checked by its build id when it was
            // executed; a program of its own has set `ONLY_BY_NAME`).
            (unsafe { entry::absolute(entry.vtable) }, entry.target)
        };
        let number = number as usize;
        if self.0.len() <= number {
            self.0.resize(number + 1, None);
        }
        self.0[number] = Some(found);
        Ok(found)
    }
}

/// The functions that a worker of another language has met by name, by number.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<Option<String>>);

impl Names {
    /// The name of function `number` of the pool.
    ///
    /// # Errors
    ///
    /// As [`Functions::get`].
    pub(crate) fn get(&mut self, requests: &Region, number: u32) -> Result<&str, String> {
        let index = number as usize;
        if self.0.get(index).is_none_or(Option::is_none) {
            let entry = function::read(requests, number)
                .ok_or_else(|| format!("the pool has no function number {number}"))?;
            if entry.vtable != 0 {
                return Err(
                    "this worker runs functions by name, not those of the host's program: \
                            submit by name"
                        .to_owned(),
                );
            }
            if self.0.len() <= index {
                self.0.resize(index + 1, None);
            }
            self.0[index] = Some(entry.name);
        }
        Ok(self.0[index].as_deref().unwrap_or_default())
    }
}

/// The vtable of a hook.
pub(crate) fn hook(relative: u64) -> &'static Vtable {
    // SAFETY: as in `get`; the worker configuration comes from the host through the zygote.
    unsafe { entry::absolute(relative) }
}
