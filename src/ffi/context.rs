//! Contexts.
//!
//! A library that is one of several in a program makes a context, and has names of functions and a
//! log of its own: what others register or listen to does not meet it. It names the context in the
//! options of its pools, and needs to call nothing else: the first pool that is started with
//! functions which no snapshot has yet takes one, as `aiopool_init` does.
//!
//! The calls without a context (`aiopool_function_register`, `aiopool_log_set`) are those of the
//! default context, which NULL stands for, too. A pool has the functions of its context and no
//! others. One process for all contexts remains: the one that `aiopool_init` forks, since a fork
//! copies the whole program; and so its rule does, that no other thread may run then. Workers that
//! are not forks of this program find functions by their names in their own default context.
//!
//! Thread rule: callable from every thread of the host.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::boundary::Failure;
use super::contexts::{ContextId, OpenPool, open_pools_of};
use super::function::{aiopool_task_fn, register, write_number};
use super::handle::of_handle;
use super::log::{self, aiopool_log_fn};
use super::pointer::{out, text};
use super::status::*;
use super::{init, registry};

handle! {
    /// What a library of a program has for itself: names of functions, a log, pools.
    pub struct aiopool_context(ContextId) in CONTEXTS, gone: "this context was freed";
}

/// Takes note of a pool that is about to be started in a context.
pub(super) fn open(context: Option<NonNull<aiopool_context>>) -> Result<OpenPool, Failure> {
    // The context cannot be freed before the note is made.
    with(context, OpenPool::of)
}

/// Does something with a context that is not freed meanwhile; NULL is the default one.
fn with<T>(
    context: Option<NonNull<aiopool_context>>,
    f: impl FnOnce(ContextId) -> T,
) -> Result<T, Failure> {
    let Some(cell) = of_handle(context) else { return Ok(f(ContextId::DEFAULT)) };
    let living = cell.enter()?;
    Ok(f(living.ok_or_else(aiopool_context::gone)?))
}

ffi_fn! {
    /// Makes a context. The caller owns `context_out` and frees it with `aiopool_context_free`.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_context_new(
        context_out: Option<&mut MaybeUninit<*mut aiopool_context>>,
    ) -> aiopool_status {
        let context_out: &mut _ = out("context_out", context_out)?;
        init::check_host()?;
        context_out.write(aiopool_context::own(ContextId::next()));
        Ok(())
    }
}

ffi_fn! {
    /// Frees a context: its functions are unregistered, and its log function is called no more. A
    /// library whose functions they were may be unloaded then.
    ///
    /// NULL is accepted and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_BUSY`, and nothing is done, while there is a pool or a
    /// process of this context, or a call of another thread with one; `AIOPOOL_ERR_HANDLE`.
    fn aiopool_context_free(context: Option<NonNull<aiopool_context>>) -> aiopool_status {
        let Some(cell) = of_handle(context) else { return Ok(()) };
        init::check_host()?;
        let context = cell.disown(|&context| {
            let pools = open_pools_of(context);
            if pools > 0 {
                let text =
                    format!("{pools} pools or processes of this context are not freed: free them first");
                return Err(Failure::new(AIOPOOL_ERR_BUSY, text));
            }
            Ok(())
        })?;
        registry::remove_all(context);
        log::end(context);
        Ok(())
    }
}

ffi_fn! {
    /// As `aiopool_function_register`, in a context. The first pool of the context that is started
    /// after this has the function; `aiopool_init` may be called before, to choose the moment
    /// whose memory workers have.
    ///
    /// Returns as `aiopool_function_register`; `AIOPOOL_ERR_HANDLE`.
    fn aiopool_context_register(
        context: Option<NonNull<aiopool_context>>,
        name: *const c_char,
        function: aiopool_task_fn,
        user: *mut c_void,
        function_out: Option<&mut MaybeUninit<u32>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        with(context, |context| unsafe { register(context, name, function, user, function_out) })?
    }
}

ffi_fn! {
    /// As `aiopool_function_declare`, in a context.
    ///
    /// Returns as `aiopool_function_declare`; `AIOPOOL_ERR_HANDLE`.
    fn aiopool_context_declare(
        context: Option<NonNull<aiopool_context>>,
        name: *const c_char,
        function_out: Option<&mut MaybeUninit<u32>>,
    ) -> aiopool_status {
        let add = |name: &str| with(context, |context| registry::add(context, name, None))?;
        // SAFETY: the caller gives a C string or NULL.
        unsafe { write_number(name, function_out, add) }
    }
}

ffi_fn! {
    /// As `aiopool_function_find`, in a context.
    ///
    /// Returns as `aiopool_function_find`; `AIOPOOL_ERR_HANDLE`.
    fn aiopool_context_find(
        context: Option<NonNull<aiopool_context>>,
        name: *const c_char,
        function_out: Option<&mut MaybeUninit<u32>>,
    ) -> aiopool_status {
        let find = |name: &str| with(context, |context| registry::by_name(context, name))?;
        // SAFETY: the caller gives a C string or NULL.
        unsafe { write_number(name, function_out, find) }
    }
}

ffi_fn! {
    /// As `aiopool_function_unregister`, in a context.
    ///
    /// Returns as `aiopool_function_unregister`; `AIOPOOL_ERR_HANDLE`.
    fn aiopool_context_unregister(
        context: Option<NonNull<aiopool_context>>,
        name: *const c_char,
    ) -> aiopool_status {
        // SAFETY: the caller gives a C string or NULL.
        let name = unsafe { text("name", name) }?;
        with(context, |context| registry::remove(context, name))?
    }
}

ffi_fn! {
    /// As `aiopool_log_set`, for the messages about pools of a context. While a context has no
    /// function for them, the default context's is called.
    ///
    /// Returns as `aiopool_log_set`; `AIOPOOL_ERR_HANDLE`.
    fn aiopool_context_log_set(
        context: Option<NonNull<aiopool_context>>,
        level: u32,
        function: aiopool_log_fn,
        user: *mut c_void,
    ) -> aiopool_status {
        with(context, |context| log::set(context, level, function, user))?
    }
}
