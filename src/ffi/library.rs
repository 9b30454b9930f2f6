//! Serving the task functions of a C library: what `aiopool worker --load` does.

use std::convert::Infallible;
use std::ffi::{CStr, c_char};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::sys::library::Library;
use crate::sys::signal;

/// Loads the library at `path`, has it register its task functions, and makes this process the
/// worker that it was executed to be; see [`StartMethod::Command`](crate::StartMethod::Command).
///
/// The library exports `int aiopool_register_tasks(void)`, which calls
/// `aiopool_function_register` for each function and returns 0, and is linked with libaiopool.
/// It is that copy of libaiopool that serves: the library's functions call it, too.
///
/// # Errors
///
/// [`Error::System`] when the library cannot be loaded or used, or this process was not executed
/// as a worker. On success this process ends with its time as a worker.
pub fn serve_library(path: &Path) -> Result<Infallible> {
    let failed =
        |what: String| Error::system(format!("serve {}", path.display()), io::Error::other(what));
    let library = Library::open(path).map_err(|error| failed(error.to_string()))?;
    let symbol = |name: &CStr, hint: &str| {
        library.symbol(name).map_err(|error| failed(format!("{error}: {hint}")))
    };
    let register = symbol(c"aiopool_register_tasks", "it has to export this function")?;
    let serve = symbol(c"aiopool_worker_serve", "link it with -laiopool")?;
    let last_error = symbol(c"aiopool_last_error", "link it with -laiopool")?;
    // SAFETY: functions of these names are of these types: the library's by what this function
    // asks for, libaiopool's by its header.
    let (register, serve, last_error) = unsafe {
        type Status = unsafe extern "C" fn() -> i32;
        type Text = unsafe extern "C" fn() -> *const c_char;
        (
            std::mem::transmute::<*mut std::ffi::c_void, Status>(register.as_ptr()),
            std::mem::transmute::<*mut std::ffi::c_void, Status>(serve.as_ptr()),
            std::mem::transmute::<*mut std::ffi::c_void, Text>(last_error.as_ptr()),
        )
    };
    let said = || {
        // SAFETY: gives a C string, never NULL, valid until the next call.
        unsafe { CStr::from_ptr(last_error()) }.to_string_lossy().into_owned()
    };
    // SAFETY: takes nothing; called once, on this process's only thread.
    let status = unsafe { register() };
    if status != 0 {
        let text = said();
        let why = if text.is_empty() { String::new() } else { format!(": {text}") };
        return Err(failed(format!("aiopool_register_tasks returned {status}{why}")));
    }
    // As the zygote left them: a program in Rust handles stack overflows, and its handler would
    // swallow the first crash of a task function. The pool's end is reported, not signalled.
    let set = signal::default_all_but(&[libc::SIGINT, libc::SIGPIPE]);
    set.map_err(|error| failed(format!("cannot ignore a signal: {error}")))?;
    // SAFETY: takes nothing; returns only when this process cannot be a worker.
    unsafe { serve() };
    Err(failed(said()))
}
