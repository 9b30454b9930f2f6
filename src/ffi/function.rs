//! Task functions.
//!
//! A task function is registered before `aiopool_init`, because workers are forked from the
//! process as it is then: function and `user` pointer are valid in them because they were in it.
//! Functions that live in workers of another program are declared by name, at any time.

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::boundary::Failure;
use super::pointer::{Out, out, text};
use super::status::*;
use super::task::{aiopool_output, aiopool_task};
use super::{entry, init};
use crate::sys::image;
use crate::task::address::ImageAddress;
use crate::task::entry::Target;
use crate::task::function::{FunctionEntry, MAX_NAME};
use crate::worker;

/// A task function, which runs in a worker process.
///
/// `input` is what was submitted, `input_len` bytes, valid until the function returns something
/// else than `AIOPOOL_PENDING` or the task is completed. What it writes to `output` is the
/// outcome's payload. `user` is the pointer it was registered with.
///
/// It returns 0 when it is done, `AIOPOOL_PENDING` if it will call `aiopool_task_complete` later,
/// and any other number for an error, with `aiopool_task_set_error` for its text; the payload is
/// dropped then. A worker runs one function at a time; one that waits should be asynchronous.
pub type aiopool_task_fn = Option<
    unsafe extern "C" fn(
        task: *mut aiopool_task,
        input: *const c_void,
        input_len: usize,
        output: *mut aiopool_output,
        user: *mut c_void,
    ) -> i32,
>;

/// What a task function returns that will complete its task later; see `aiopool_task_complete`.
pub const AIOPOOL_PENDING: i32 = 1;

#[derive(Clone, Copy, Debug)]
struct Known {
    name: &'static str,
    /// The function and its user pointer; none if only workers of another program have it.
    target: Option<Target>,
}

#[derive(Debug, Default)]
struct Registry {
    functions: Vec<Known>,
    by_name: Option<HashMap<&'static str, u32>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { functions: Vec::new(), by_name: None });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn add(&mut self, name: &str, target: Option<Target>) -> Result<u32, Failure> {
        if name.is_empty() || name.len() > MAX_NAME {
            let text = format!("a name of {} bytes: 1 to {MAX_NAME} are possible", name.len());
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        let by_name = self.by_name.get_or_insert_default();
        if let Some(&known) = by_name.get(name) {
            if self.functions[known as usize - 1].target == target {
                return Ok(known);
            }
            let text = format!("another function has the name {name:?} already");
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        // Names stay for good, as the functions do: a process has a few of them.
        let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
        self.functions.push(Known { name, target });
        let number = self.functions.len() as u32;
        by_name.insert(name, number);
        Ok(number)
    }
}

/// The number of the function called `name`.
pub(super) fn by_name(name: &str) -> Result<u32, Failure> {
    let found = registry().by_name.as_ref().and_then(|by_name| by_name.get(name).copied());
    found.ok_or_else(|| {
        let text = format!("no task function has the name {name:?}: register or declare it");
        Failure::new(AIOPOOL_ERR_UNKNOWN, text)
    })
}

/// What a pool is told about function `number`; only the name where its workers are not forks.
pub(super) fn entry_of(
    number: u32,
    forked: bool,
) -> Result<(FunctionEntry, &'static str), Failure> {
    let known = (number as usize)
        .checked_sub(1)
        .and_then(|index| registry().functions.get(index).copied())
        .ok_or_else(|| {
            let text = format!("no task function has the number {number}");
            Failure::new(AIOPOOL_ERR_UNKNOWN, text)
        })?;
    let name = known.name.to_owned();
    let entry = match known.target {
        Some(target) if forked => {
            let vtable = Some(ImageAddress::of(&entry::C_TASK));
            FunctionEntry { vtable, target, name }
        }
        _ => FunctionEntry { vtable: None, target: Target::default(), name },
    };
    Ok((entry, known.name))
}

/// Where function `number` is, for hooks: in forks of this process only.
pub(super) fn target_of(number: u32) -> Result<Target, Failure> {
    let (entry, name) = entry_of(number, true)?;
    if entry.vtable.is_none() {
        let text = format!("the function {name:?} is only declared: hooks have to be registered");
        return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    }
    Ok(entry.target)
}

/// Where the function registered as `name` is, for a worker that is a program of its own.
pub(super) fn target_by_name(name: &str) -> Option<Target> {
    let registry = registry();
    let number = *registry.by_name.as_ref()?.get(name)?;
    registry.functions[number as usize - 1].target
}

/// The name of the function at `target`, for a fork of this process.
pub(super) fn name_of(target: Target) -> &'static str {
    let registry = registry();
    let known = registry.functions.iter().find(|known| known.target == Some(target));
    known.map_or("a C function", |known| known.name)
}

/// Whether a function was registered that only a fork of this process has.
pub(super) fn any_registered() -> bool {
    registry().functions.iter().any(|known| known.target.is_some())
}

/// Looks once more that every function is still in an image: one may have been unloaded.
pub(super) fn check_all() -> Result<(), Failure> {
    let functions = registry().functions.clone();
    functions.iter().try_for_each(|known| known.target.map_or(Ok(()), |t| check(t, known.name)))
}

fn check(target: Target, name: &str) -> Result<(), Failure> {
    if image::is_code(target.address as usize) {
        return Ok(());
    }
    let text = format!(
        "the function {name:?} is in no image that is mapped now: it was made at run time or its \
         library is unloaded, so workers would not have it"
    );
    Err(Failure::new(AIOPOOL_ERR_INVALID, text))
}

ffi_fn! {
    /// Registers `function` under `name`, to be called with `user`, and gives its number.
    ///
    /// A program in Rust can submit it by its name, too, beside functions of its own.
    /// `name` is copied. `user` may be NULL; what it points to is what workers see as it was at
    /// `aiopool_init`. The same function registered again under its name has the same number.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_INVALID` for a name that is taken,
    /// empty or too long (224 bytes), and for a function that is in no image mapped into this
    /// process (made at run time); `AIOPOOL_ERR_TOO_LATE` after `aiopool_init`.
    /// Thread rule: callable from every thread of the host.
    fn aiopool_function_register(
        name: *const c_char,
        function: aiopool_task_fn,
        user: *mut c_void,
        function_out: Option<&mut std::mem::MaybeUninit<u32>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        let name = unsafe { text("name", name) }?;
        let function = function.ok_or_else(|| Failure::null("function"))?;
        let function_out: &mut _ = out("function_out", function_out as Out<'_, u32>)?;
        if init::is_done() {
            let text = format!(
                "{name:?} is registered after aiopool_init(): workers are forks of the process as \
                 it was then, so register first"
            );
            return Err(Failure::new(AIOPOOL_ERR_TOO_LATE, text));
        }
        let target = Target { address: function as usize as u64, user: user as usize as u64 };
        check(target, name)?;
        function_out.write(registry().add(name, Some(target))?);
        // Forks of a Rust program find it by its name, too.
        worker::set_by_name(|name| target_by_name(name).map(|target| (&entry::C_TASK, target)));
        Ok(())
    }
}

ffi_fn! {
    /// Declares a function that only the workers know, by `name`, and gives its number.
    ///
    /// For pools whose workers are another program (`AIOPOOL_START_COMMAND`), which serves the
    /// name. A task of a name that the worker does not have ends with an error that says so.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_INVALID` (as
    /// `aiopool_function_register`).
    /// Thread rule: callable from every thread of the host, at any time.
    fn aiopool_function_declare(
        name: *const c_char,
        function_out: Option<&mut std::mem::MaybeUninit<u32>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        let name = unsafe { text("name", name) }?;
        let function_out = out("function_out", function_out)?;
        function_out.write(registry().add(name, None)?);
        Ok(())
    }
}

ffi_fn! {
    /// Gives the number of the function that was registered or declared under `name`.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_UNKNOWN`.
    /// Thread rule: callable from every thread of the host, at any time.
    fn aiopool_function_find(
        name: *const c_char,
        function_out: Option<&mut std::mem::MaybeUninit<u32>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        let name = unsafe { text("name", name) }?;
        let function_out = out("function_out", function_out)?;
        function_out.write(by_name(name)?);
        Ok(())
    }
}
