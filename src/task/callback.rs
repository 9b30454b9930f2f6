//! Plain functions that a worker calls outside any task.

#![allow(unsafe_code)] // An island: a value of a type without size is made out of nothing.

use std::marker::PhantomData;

use super::address::ImageAddress;
use super::exception::LiveError;

/// Configures a worker's runtime.
pub(crate) type ConfigureRuntime = fn(&mut tokio::runtime::Builder);
/// Is given the error of a task.
pub(crate) type HandleException = for<'e> fn(&LiveError<'e>);
/// Gives the context of a task's caller to the task's span.
pub(crate) type AdoptContext = fn(&tracing::Span, &str);

/// Returns the address of the callback that `configure` is.
pub(crate) fn configure_runtime<F>(_configure: F) -> ImageAddress<ConfigureRuntime>
where
    F: Fn(&mut tokio::runtime::Builder) + Copy + 'static,
{
    ImageAddress::of(&Of::<F>::CONFIGURE_RUNTIME)
}

/// Returns the address of the callback that `handler` is.
pub(crate) fn handle_exception<F>(_handler: F) -> ImageAddress<HandleException>
where
    F: Fn(&LiveError<'_>) + Copy + 'static,
{
    ImageAddress::of(&Of::<F>::HANDLE_EXCEPTION)
}

/// Returns the address of the callback that `adopt` is.
pub(crate) fn adopt_context<F>(_adopt: F) -> ImageAddress<AdoptContext>
where
    F: Fn(&tracing::Span, &str) + Copy + 'static,
{
    ImageAddress::of(&Of::<F>::ADOPT_CONTEXT)
}

/// The callbacks of one function type. Private, and named above only: where there was a value.
struct Of<F>(PhantomData<F>);

impl<F: Fn(&mut tokio::runtime::Builder) + Copy + 'static> Of<F> {
    const CONFIGURE_RUNTIME: ConfigureRuntime = |builder| Self::function()(builder);
}

impl<F: Fn(&LiveError<'_>) + Copy + 'static> Of<F> {
    const HANDLE_EXCEPTION: HandleException = |error| Self::function()(error);
}

impl<F: Fn(&tracing::Span, &str) + Copy + 'static> Of<F> {
    const ADOPT_CONTEXT: AdoptContext = |span, context| Self::function()(span, context);
}

impl<F: Copy> Of<F> {
    fn function() -> F {
        const { assert!(size_of::<F>() == 0, "a function for workers must not capture anything") };
        // SAFETY: `F` has no bytes and is `Copy`, and the functions above, which alone name
        // this type, were given a value of it: this is a copy of that value.
        unsafe { std::ptr::NonNull::<F>::dangling().read() }
    }
}
