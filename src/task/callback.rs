//! Plain functions that a worker calls outside any task, told by address relative to the image.

#![allow(unsafe_code)] // An island: a relative address becomes a function.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::exception::LiveError;

/// A function without captures, by its address relative to the anchor; travels to the workers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Callback<T> {
    relative: u64,
    takes: PhantomData<fn(T)>,
}

impl<T> Clone for Callback<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Callback<T> {}

/// Marks callbacks that configure a worker's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runtime;

/// Marks callbacks that are told of a task's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception;

type ConfigureRuntime = fn(&mut tokio::runtime::Builder);
type HandleException = for<'e> fn(&LiveError<'e>);

/// Where relative addresses count from.
static ANCHOR: u8 = 0;

fn relative(address: usize) -> u64 {
    (address as u64).wrapping_sub(&raw const ANCHOR as u64)
}

fn absolute(relative: u64) -> usize {
    relative.wrapping_add(&raw const ANCHOR as u64) as usize
}

/// Makes a value of a function's type out of no bytes.
fn the<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "a function for workers must not capture anything") };
    // SAFETY: `F` is zero-sized and `Copy`, and whoever named the type here had a value of it.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

impl Callback<Runtime> {
    /// The callback that `F` is.
    pub(crate) fn configure_runtime<F>(_: F) -> Self
    where
        F: Fn(&mut tokio::runtime::Builder) + Copy + 'static,
    {
        fn call<F: Fn(&mut tokio::runtime::Builder) + Copy>(builder: &mut tokio::runtime::Builder) {
            the::<F>()(builder);
        }
        let function: ConfigureRuntime = call::<F>;
        Self { relative: relative(function as usize), takes: PhantomData }
    }

    /// The function, in this process.
    pub(crate) fn function(self) -> ConfigureRuntime {
        // SAFETY: made by `configure_runtime` in the host, whose image this process runs.
        unsafe { std::mem::transmute::<usize, ConfigureRuntime>(absolute(self.relative)) }
    }
}

impl Callback<Exception> {
    /// The callback that `F` is.
    pub(crate) fn handle_exception<F>(_: F) -> Self
    where
        F: Fn(&LiveError<'_>) + Copy + 'static,
    {
        fn call<F: Fn(&LiveError<'_>) + Copy>(error: &LiveError<'_>) {
            the::<F>()(error);
        }
        let function: HandleException = call::<F>;
        Self { relative: relative(function as usize), takes: PhantomData }
    }

    /// The function, in this process.
    pub(crate) fn function(self) -> HandleException {
        // SAFETY: made by `handle_exception` in the host, whose image this process runs.
        unsafe { std::mem::transmute::<usize, HandleException>(absolute(self.relative)) }
    }
}
