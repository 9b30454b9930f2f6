//! The functions that a worker can run, looked up once each.

#![allow(unsafe_code)] // An island: the addresses that the host wrote become functions.

use std::sync::OnceLock;

use crate::shm::Region;
use crate::task::callback::{AdoptContext, ConfigureRuntime, HandleException};
use crate::task::entry::{Target, Vtable};
use crate::task::function;

use super::config::{Hook, WorkerConfig};

/// Finds a function by its name.
pub(crate) type ByName = fn(&str) -> Option<(&'static Vtable, Target)>;

/// Finds functions that were registered under a name, as those of C are.
static BY_NAME: OnceLock<ByName> = OnceLock::new();

/// Lets the workers of this process find functions by name.
pub(crate) fn set_by_name(by_name: ByName) {
    // The second of two calls finds the first one's function, which is the same.
    let _ = BY_NAME.set(by_name);
}

const NOT_BY_NAME: &str =
    "this worker runs functions by name, not those of the host's program: submit by name";

/// The functions this worker has met, by number.
#[derive(Debug)]
pub(crate) struct Functions {
    met: Vec<Option<(&'static Vtable, Target)>>,
    /// The host's table counts: [`of_host`] was called, and its caller vouched for it.
    of_host: bool,
}

/// What a pool's configuration has a worker call outside of tasks.
#[derive(Debug, Default)]
pub(super) struct Hooks<'c> {
    pub(super) runtime_initializer: Option<ConfigureRuntime>,
    pub(super) exception_handler: Option<HandleException>,
    pub(super) adopt_context: Option<AdoptContext>,
    pub(super) initializer: Option<(&'static Vtable, &'c [u8])>,
    pub(super) exit_hook: Option<(&'static Vtable, &'c [u8])>,
}

/// Returns the functions and hooks of a worker that runs the host's image.
///
/// # Safety
///
/// `config`, and the function table of every region that [`Functions::get`] is given, were
/// written by a host that runs the image of this process.
pub(super) unsafe fn of_host(config: &WorkerConfig) -> (Functions, Hooks<'_>) {
    // SAFETY: a host writes addresses that `ImageAddress::of` gave it, and the caller vouches
    // that it was a host, and of this image.
    let hooks = unsafe {
        Hooks {
            runtime_initializer: config.runtime_initializer.map(|at| *at.get()),
            exception_handler: config.exception_handler.map(|at| *at.get()),
            adopt_context: config.adopt_context.map(|at| *at.get()),
            initializer: config.initializer.as_ref().and_then(|hook| resolve(hook)),
            exit_hook: config.exit_hook.as_ref().and_then(|hook| resolve(hook)),
        }
    };
    (Functions { met: Vec::new(), of_host: true }, hooks)
}

/// # Safety
///
/// As [`ImageAddress::get`], for the hook's address.
unsafe fn resolve(hook: &Hook) -> Option<(&'static Vtable, &[u8])> {
    // SAFETY: the caller vouches for it.
    Some((unsafe { hook.vtable?.get() }, &hook.argument))
}

/// Returns the functions of a worker that is a program of its own: those that it registered.
///
/// # Errors
///
/// The text of what `config` asks for that such a worker cannot have.
pub(super) fn by_name(config: &WorkerConfig) -> Result<(Functions, Hooks<'_>), String> {
    let is_code = |hook: &Option<Hook>| hook.as_ref().is_some_and(|hook| hook.vtable.is_some());
    let code = config.runtime_initializer.is_some()
        || config.exception_handler.is_some()
        || config.adopt_context.is_some()
        || is_code(&config.initializer)
        || is_code(&config.exit_hook);
    if code {
        return Err("the pool has hooks that are functions of the host's program, which this \
                    worker's program has not: give it initializer_bytes"
            .to_owned());
    }
    Ok((Functions { met: Vec::new(), of_host: false }, Hooks::default()))
}

impl Functions {
    /// Returns function `number` of the pool.
    ///
    /// # Errors
    ///
    /// The text to end the task with if the host's table has no such function.
    pub(crate) fn get(
        &mut self,
        requests: &Region,
        number: u32,
    ) -> Result<(&'static Vtable, Target), String> {
        if let Some(Some(known)) = self.met.get(number as usize) {
            return Ok(*known);
        }
        let entry = read(requests, number)?;
        let found = match entry.vtable {
            None => {
                let known = BY_NAME.get().and_then(|by_name| by_name(&entry.name));
                known
                    .ok_or_else(|| format!("this worker has no function named {:?}", entry.name))?
            }
            Some(_) if !self.of_host => return Err(NOT_BY_NAME.to_owned()),
            // SAFETY: only the host can write the table, of which it gives other processes a
            // descriptor to read, and `of_host` says that this process runs the host's image.
            Some(vtable) => (unsafe { vtable.get() }, entry.target),
        };
        let number = number as usize;
        if self.met.len() <= number {
            self.met.resize(number + 1, None);
        }
        self.met[number] = Some(found);
        Ok(found)
    }
}

/// The functions that a worker of another language has met by name, by number.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<Option<String>>);

impl Names {
    /// Returns the name of function `number` of the pool.
    ///
    /// # Errors
    ///
    /// As [`Functions::get`].
    pub(crate) fn get(&mut self, requests: &Region, number: u32) -> Result<&str, String> {
        let index = number as usize;
        if self.0.get(index).is_none_or(Option::is_none) {
            let entry = read(requests, number)?;
            if entry.vtable.is_some() {
                return Err(NOT_BY_NAME.to_owned());
            }
            if self.0.len() <= index {
                self.0.resize(index + 1, None);
            }
            self.0[index] = Some(entry.name);
        }
        Ok(self.known(number))
    }

    /// Returns the name of a function that [`get`](Self::get) has found.
    pub(crate) fn known(&self, number: u32) -> &str {
        self.0.get(number as usize).and_then(Option::as_deref).unwrap_or_default()
    }
}

fn read(requests: &Region, number: u32) -> Result<function::FunctionEntry, String> {
    function::read(requests, number)
        .ok_or_else(|| format!("the pool has no function number {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::address::ImageAddress;

    fn config(initializer: Option<Hook>) -> WorkerConfig {
        WorkerConfig { initializer, ..WorkerConfig::for_test() }
    }

    #[test]
    fn a_program_of_its_own_follows_no_address() {
        let vtable = ImageAddress::from_raw(64);
        let region = Region::create(c"aiopool-test", function::TABLE).unwrap();
        let entry = function::FunctionEntry { vtable, target: Target::default(), name: "f".into() };
        function::write(&region, 0, &entry);
        let config_of_bytes = config(Some(Hook { vtable: None, argument: vec![1] }));
        let (mut functions, hooks) = by_name(&config_of_bytes).unwrap();
        assert_eq!(functions.get(&region, 0).unwrap_err(), NOT_BY_NAME);
        assert!(hooks.initializer.is_none());
        let refused = by_name(&config(Some(Hook { vtable, argument: vec![] }))).unwrap_err();
        assert!(refused.contains("initializer_bytes"), "{refused}");
    }
}
