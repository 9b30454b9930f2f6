//! Errors, reported where they happen.
//!
//! A pool with an `exception_function` calls it in the worker with each error that a task function
//! returns and each panic of a task in Rust, before the outcome goes to the host: to log it, or to
//! send it to a collector of errors.
//!
//! Thread rule: the worker's event loop.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};

use super::registry;
use super::task::aiopool_task;
use crate::task::TaskFailure;
use crate::task::entry::Target;
use crate::task::exception::LiveError;

/// The input of the exception function; valid during the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_exception {
    /// `sizeof(aiopool_exception)` of the library.
    pub struct_size: u32,
    /// The number that a C task function returned; 0 for a task in Rust.
    pub code: i32,
    /// The name that the task function was registered with.
    pub function: *const c_char,
    /// The text of the error.
    pub text: *const c_char,
    /// 0.
    pub reserved: [u64; 4],
}

thread_local! {
    /// This worker's exception function.
    static HANDLER: Cell<Option<Target>> = const { Cell::new(None) };
}

/// Makes `target` the function of this worker.
pub(super) fn set_handler(target: Target) {
    HANDLER.set(Some(target));
}

/// The handler of a pool that C has started: calls the function in C.
pub(super) fn tell(error: &LiveError<'_>) {
    let Some(target) = HANDLER.get() else { return };
    // SAFETY: the hook's argument has what `registry::add` was given, before this fork.
    let function = unsafe { registry::function_at(target) };
    let Some(function) = function else { return };
    let text = |text: &str| CString::new(text.replace('\0', " ")).unwrap_or_default();
    let (name, said) = (text(error.function()), text(&error.to_string()));
    let exception = aiopool_exception {
        struct_size: size_of::<aiopool_exception>() as u32,
        code: error.downcast_ref::<TaskFailure>().and_then(TaskFailure::code).unwrap_or(0),
        function: name.as_ptr(),
        text: said.as_ptr(),
        reserved: [0; 4],
    };
    let task = aiopool_task::begin(None);
    let (task_pointer, output) = (std::ptr::from_ref(task).cast_mut(), task.output());
    let input = std::ptr::from_ref(&exception).cast::<c_void>();
    let (len, user) = (size_of::<aiopool_exception>(), target.user as *mut c_void);
    // SAFETY: the function's own type; the handles are valid and the input is there for the call.
    // What it returns or writes is ignored.
    unsafe { function(task_pointer, input, len, std::ptr::from_ref(output).cast_mut(), user) };
    task.end();
}

/// Reports an error that the C function at `target` has returned.
pub(super) fn tell_failure(target: Target, failure: &TaskFailure) {
    crate::task::exception::tell(&LiveError::error(registry::name_of(target), failure));
}
