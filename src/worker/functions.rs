//! The functions that a worker can run, looked up once each.

#![allow(unsafe_code)] // An island: a relative address becomes a vtable.

use crate::shm::Region;
use crate::task::entry::{self, Target, Vtable};
use crate::task::function;

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
        if entry.vtable == 0 {
            return Err(format!("this worker has no function named {:?}", entry.name));
        }
        // SAFETY: only the host writes the table, with `entry::relative`, and this process runs
        // the host's image (forked from it, or checked by its build id when it was executed).
        let found = (unsafe { entry::absolute(entry.vtable) }, entry.target);
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
