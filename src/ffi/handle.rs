//! Handles: cells of memory that is used again and never given back.
//!
//! So a handle that was freed still points to a cell, and the cell says that it is empty. A cell
//! is used again only after many others, so that a mistake is found and not covered up.
//!
//! In a forked child the lock of a cell may be held by a thread that does not exist there. So a
//! cell says without a lock whose it is, and is locked in the process that filled it only.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use super::boundary::Failure;
use super::status::AIOPOOL_ERR_FORKED;
use crate::sync::lock;
use crate::sys::forked::{self, PerProcess};

/// What a handle points to: one object at a time, or none.
#[derive(Debug)]
pub struct Cell<T> {
    /// The process that filled it last, by `forked::generation`.
    owner: AtomicU32,
    object: Mutex<Option<T>>,
}

impl<T> Cell<T> {
    pub(super) const fn empty() -> Self {
        Self { owner: AtomicU32::new(0), object: Mutex::new(None) }
    }

    fn fill(&self, object: T) {
        // Relaxed: a thread that has the handle got it from this one.
        self.owner.store(forked::generation(), Relaxed);
        *lock(&self.object) = Some(object);
    }

    /// Returns the object, if there is one, to the process that made it.
    ///
    /// # Errors
    ///
    /// `AIOPOOL_ERR_FORKED` in a child of that process.
    pub(super) fn enter(&self) -> Result<MutexGuard<'_, Option<T>>, Failure> {
        if !self.is_own() {
            let text = "this handle is of the process that this one was forked from";
            return Err(Failure::new(AIOPOOL_ERR_FORKED, text));
        }
        Ok(lock(&self.object))
    }

    /// Returns the object, if there is one, to be read only: also in a child, unless another thread
    /// was at it when that was forked.
    pub(super) fn look(&self) -> Option<MutexGuard<'_, Option<T>>> {
        if self.is_own() { Some(lock(&self.object)) } else { self.object.try_lock().ok() }
    }

    fn is_own(&self) -> bool {
        self.owner.load(Relaxed) == forked::generation()
    }
}

/// The empty cells of one kind; a forked child has none of its parent's.
pub(super) struct Cells<H: 'static>(PerProcess<VecDeque<&'static H>>);

/// As many cells stay empty before one of them is used again.
const QUARANTINE: usize = 64;

impl<H> Cells<H> {
    pub(super) const fn new() -> Self {
        Self(PerProcess::new(|_| VecDeque::new()))
    }

    /// Returns a cell with `object` in it.
    pub(super) fn put<T>(&self, object: T) -> &'static H
    where
        H: Deref<Target = Cell<T>> + Default,
    {
        let known = {
            let mut empty = self.0.write();
            if empty.len() > QUARANTINE { empty.pop_front() } else { None }
        };
        let cell = known.unwrap_or_else(|| Box::leak(Box::default()));
        cell.fill(object);
        cell
    }

    /// Takes note of a cell that was emptied.
    pub(super) fn give_back(&self, cell: &'static H) {
        self.0.write().push_back(cell);
    }
}

/// Makes the type of a handle, `pub struct aiopool_thing(Object)`, and, with `in CELLS`, the cells
/// of all handles of that type and what a call answers to one whose object is gone.
macro_rules! handle {
    ($(#[$meta:meta])* pub struct $name:ident($object:ty);) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name($crate::ffi::handle::Cell<$object>);

        impl Default for $name {
            fn default() -> Self {
                Self($crate::ffi::handle::Cell::empty())
            }
        }

        impl std::ops::Deref for $name {
            type Target = $crate::ffi::handle::Cell<$object>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
    ($(#[$meta:meta])* pub struct $name:ident($object:ty) in $cells:ident, gone: $gone:literal;) => {
        handle! {
            $(#[$meta])*
            pub struct $name($object);
        }

        static $cells: $crate::ffi::handle::Cells<$name> = $crate::ffi::handle::Cells::new();

        impl $name {
            /// Puts `object` behind a handle.
            pub(super) fn own(object: $object) -> *mut Self {
                std::ptr::from_ref($cells.put(object)).cast_mut()
            }

            /// Takes the object out, if `may` allows it; the handle is dead from then on.
            #[allow(dead_code)] // Outcomes are dropped where they are.
            pub(super) fn disown(
                &'static self,
                may: impl FnOnce(&$object) -> Result<(), $crate::ffi::boundary::Failure>,
            ) -> Result<$object, $crate::ffi::boundary::Failure> {
                let object = {
                    let mut living = self.enter()?;
                    may(living.as_ref().ok_or_else(Self::gone)?)?;
                    living.take().ok_or_else(Self::gone)?
                };
                $cells.give_back(self);
                Ok(object)
            }

            /// Drops the object where it is, if `may` allows it; the handle is dead from then on.
            #[allow(dead_code)] // For objects that others do not wait for.
            pub(super) fn end(
                &'static self,
                may: impl FnOnce(&$object) -> Result<(), $crate::ffi::boundary::Failure>,
            ) -> Result<(), $crate::ffi::boundary::Failure> {
                let mut living = self.enter()?;
                may(living.as_ref().ok_or_else(Self::gone)?)?;
                *living = None;
                drop(living);
                $cells.give_back(self);
                Ok(())
            }

            /// Returns the answer to a call with a handle whose object is gone.
            fn gone() -> $crate::ffi::boundary::Failure {
                let code = $crate::ffi::status::AIOPOOL_ERR_HANDLE;
                $crate::ffi::boundary::Failure::new(code, $gone)
            }
        }
    };
}
