//! Task functions.
//!
//! Register task functions before `aiopool_init`: workers are forked from the process as it is
//! then, so function and `user` pointer are valid in them. Functions that live in workers of
//! another program are declared by name, at any time.

use std::ffi::{c_char, c_void};

use super::boundary::Failure;
use super::contexts::ContextId;
use super::pointer::{Out, out, text};
use super::task::{aiopool_output, aiopool_task};
use super::work::PENDING;
use super::{entry, registry};
use crate::task::entry::Target;
use crate::worker;

/// A task function, which runs in a worker process.
///
/// `input` is what was submitted: `input_len` bytes at a multiple of 16, so a cast to any type is
/// aligned. They are valid until the function returns something else than `AIOPOOL_PENDING`, or the
/// task is completed. What the function writes to `output` is the outcome's payload. `user` is the
/// pointer that it was registered with.
///
/// It returns 0 when it is done, `AIOPOOL_PENDING` if it will call `aiopool_task_complete` later,
/// and any other number for an error. `aiopool_task_set_error` sets the error's text; the payload
/// is then dropped. A worker runs one function at a time, so a function that waits should be
/// asynchronous.
pub type aiopool_task_fn = Option<
    unsafe extern "C" fn(
        task: *mut aiopool_task,
        input: *const c_void,
        input_len: usize,
        output: *mut aiopool_output,
        user: *mut c_void,
    ) -> i32,
>;

/// The return value of a task function that will complete its task later; see
/// `aiopool_task_complete`.
pub const AIOPOOL_PENDING: i32 = 1;
const _: () = assert!(AIOPOOL_PENDING == PENDING);

/// Registers a function in `context`.
///
/// # Safety
///
/// `name` is NULL or a C string.
pub(super) unsafe fn register(
    context: ContextId,
    name: *const c_char,
    function: aiopool_task_fn,
    user: *mut c_void,
    function_out: Option<&mut std::mem::MaybeUninit<u32>>,
) -> Result<(), Failure> {
    // SAFETY: passed on.
    let name = unsafe { text("name", name) }?;
    let function: registry::TaskFn = function.ok_or_else(|| Failure::null("function"))?;
    let function_out: &mut _ = out("function_out", function_out as Out<'_, u32>)?;
    let target = Target { address: function as usize as u64, user: user as usize as u64 };
    function_out.write(registry::add(context, name, Some(target))?);
    // Forks of a Rust program find it by its name, too.
    worker::set_by_name(entry::by_name);
    Ok(())
}

/// Writes the number that `find` has for a name.
///
/// # Safety
///
/// `name` is NULL or a C string.
pub(super) unsafe fn write_number(
    name: *const c_char,
    function_out: Out<'_, u32>,
    find: impl FnOnce(&str) -> Result<u32, Failure>,
) -> Result<(), Failure> {
    // SAFETY: passed on.
    let name = unsafe { text("name", name) }?;
    let function_out = out("function_out", function_out)?;
    function_out.write(find(name)?);
    Ok(())
}

ffi_fn! {
    /// Registers `function` under `name`, to be called with `user`, and writes its number.
    ///
    /// A program in Rust can submit it by its name, too, beside functions of its own. `name` is
    /// copied. `user` may be NULL; workers see what it points to as it was at `aiopool_init`. After
    /// `aiopool_init` it has to be called again; pools that were started before do not get the
    /// function (`AIOPOOL_ERR_TOO_LATE` when it is submitted). Registering the same function under
    /// the same name again gives the same number.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_INVALID` for a name that is taken,
    /// empty or too long (224 bytes), and for a function that is in no image mapped into this
    /// process (made at run time).
    /// Thread rule: callable from every thread of the host.
    fn aiopool_function_register(
        name: *const c_char,
        function: aiopool_task_fn,
        user: *mut c_void,
        function_out: Option<&mut std::mem::MaybeUninit<u32>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        unsafe { register(ContextId::DEFAULT, name, function, user, function_out) }
    }
}

ffi_fn! {
    /// Declares a function that only the workers have, by `name`, and writes its number.
    ///
    /// For pools whose workers are another program (`AIOPOOL_START_COMMAND`), which serves the
    /// name. If the worker does not have the name, the task ends with an error that says so.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_INVALID` (as
    /// `aiopool_function_register`).
    /// Thread rule: callable from every thread of the host, at any time.
    fn aiopool_function_declare(
        name: *const c_char,
        function_out: Option<&mut std::mem::MaybeUninit<u32>>,
    ) -> aiopool_status {
        let add = |name: &str| registry::add(ContextId::DEFAULT, name, None);
        // SAFETY: the caller gives a C string or NULL.
        unsafe { write_number(name, function_out, add) }
    }
}

ffi_fn! {
    /// Writes the number of the function that was registered or declared under `name`.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_UNKNOWN`.
    /// Thread rule: callable from every thread of the host, at any time.
    fn aiopool_function_find(
        name: *const c_char,
        function_out: Option<&mut std::mem::MaybeUninit<u32>>,
    ) -> aiopool_status {
        let find = |name: &str| registry::by_name(ContextId::DEFAULT, name);
        // SAFETY: the caller gives a C string or NULL.
        unsafe { write_number(name, function_out, find) }
    }
}

ffi_fn! {
    /// Takes the name of a function back: later pools do not have it, and another function may be
    /// registered under the name. Pools that have been given calls of it keep it, with its number.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_UNKNOWN`.
    /// Thread rule: callable from every thread of the host, at any time.
    fn aiopool_function_unregister(name: *const c_char) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        registry::remove(ContextId::DEFAULT, unsafe { text("name", name) }?)
    }
}
