//! Handles: cells of memory that is used again and never given back.
//!
//! So a handle that was freed still points to a cell, and the cell says that it is empty. A cell
//! is used again only after many others, so that a mistake is found and not covered up.
//!
//! In a forked child the lock of a cell may be held by a thread that does not exist there. So a
//! cell says without a lock whose it is, and is locked in the process that filled it only.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, Ordering::Relaxed};
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

    /// Puts `object` into an empty cell.
    #[inline]
    pub(super) fn fill(&self, object: T) {
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

/// Refuses a call in a child of the process that was at `generation`.
pub(super) fn check_process(generation: u32) -> Result<(), Failure> {
    if forked::generation() == generation {
        return Ok(());
    }
    let text = "this handle is of the process that this one was forked from";
    Err(Failure::new(AIOPOOL_ERR_FORKED, text))
}

/// Returns what a handle of C points to, which it may change: so it is no reference there.
#[inline]
pub(super) fn of_handle<H>(handle: Option<NonNull<H>>) -> Option<&'static H> {
    // SAFETY: the caller gives a handle, and their memory is there for good.
    handle.map(|handle| unsafe { handle.as_ref() })
}

/// The empty cells of one kind; a forked child has none of its parent's.
pub(super) struct Cells<H: 'static>(PerProcess<VecDeque<&'static H>>);

/// As many cells stay empty before one of them is used again.
pub(super) const QUARANTINE: usize = 64;

/// Takes a cell out of `empty`, oldest first, that has been empty for a while, or makes one.
pub(super) fn rested<H: Default>(empty: &mut VecDeque<&'static H>) -> &'static H {
    let known = if empty.len() > QUARANTINE { empty.pop_front() } else { None };
    known.unwrap_or_else(|| Box::leak(Box::default()))
}

impl<H> Cells<H> {
    pub(super) const fn new() -> Self {
        Self(PerProcess::new(|_| VecDeque::new()))
    }

    /// Returns a cell with `object` in it.
    pub(super) fn put<T>(&self, object: T) -> &'static H
    where
        H: Deref<Target = Cell<T>> + Default,
    {
        let cell = self.take();
        cell.fill(object);
        cell
    }

    /// Returns an empty cell.
    pub(super) fn take(&self) -> &'static H
    where
        H: Default,
    {
        rested(&mut self.0.write())
    }

    /// Moves up to `most` empty cells to `into`; none if there are none to spare.
    pub(super) fn take_many(&self, most: usize, into: &mut Vec<&'static H>) {
        let mut empty = self.0.write();
        let spare = empty.len().saturating_sub(QUARANTINE).min(most);
        into.extend(empty.drain(..spare));
    }

    /// Moves all empty cells to `into`.
    pub(super) fn take_all(&self, into: &mut VecDeque<&'static H>) {
        into.append(&mut self.0.write());
    }

    /// Takes note of cells that were emptied; leaves `cells` empty.
    pub(super) fn give_back_all(&self, cells: &mut VecDeque<&'static H>) {
        self.0.write().append(cells);
    }

    /// Takes note of a cell that was emptied.
    pub(super) fn give_back(&self, cell: &'static H) {
        self.0.write().push_back(cell);
    }
}

/// A cell whose object several threads use at once, and which the last of them drops.
#[derive(Debug)]
pub struct Held<T: 'static> {
    /// [`LIVING`], [`FULL`] and the number of users.
    word: AtomicUsize,
    object: UnsafeCell<MaybeUninit<T>>,
    /// Called by the last user of a freed handle, when the object is dropped.
    emptied: fn(&'static Self),
}

/// The handle may be used.
const LIVING: usize = 1 << (usize::BITS - 1);
/// There is an object.
const FULL: usize = 1 << (usize::BITS - 2);

// SAFETY: the object is put in and dropped by one thread, while no other uses it; users share it.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

impl<T> Held<T> {
    pub(super) const fn new(emptied: fn(&'static Self)) -> Self {
        let object = UnsafeCell::new(MaybeUninit::uninit());
        Self { word: AtomicUsize::new(0), object, emptied }
    }

    /// Puts `object` into an empty cell of [`Cells::take`].
    pub(super) fn put(&self, object: T) {
        // SAFETY: an empty cell is of one thread: it was just made, or its last user gave it back.
        unsafe { (*self.object.get()).write(object) };
        // Release: pairs with the Acquire of `enter`. An addition: a call with a handle that was
        // freed long ago may be in between.
        self.word.fetch_add(LIVING | FULL, Ordering::Release);
    }

    /// Returns the object for the time of a call; none if the handle was freed.
    #[inline]
    pub(super) fn enter(&'static self) -> Option<Use<T>> {
        // Acquire: pairs with the Release of `put`.
        if self.word.fetch_add(1, Ordering::Acquire) & LIVING != 0 {
            return Some(Use(self));
        }
        self.leave();
        None
    }

    /// Ends the handle: no call enters any more. Returns the object, which its last user drops;
    /// none if the handle was freed before.
    pub(super) fn end(&'static self) -> Option<Use<T>> {
        let used = self.enter()?;
        let was = self.word.fetch_and(!LIVING, Ordering::AcqRel);
        (was & LIVING != 0).then_some(used)
    }

    #[inline]
    fn leave(&'static self) {
        // AcqRel: what the users did comes before the drop by the last of them.
        if self.word.fetch_sub(1, Ordering::AcqRel) == FULL | 1 {
            self.drop_last();
        }
    }

    #[cold]
    fn drop_last(&'static self) {
        // A late call that entered in between leaves after this, and is the last one then.
        if self.word.compare_exchange(FULL, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: the handle was freed and has no user, and this thread alone has taken the bit
            // away.
            unsafe { (*self.object.get()).assume_init_drop() };
            (self.emptied)(self);
        }
    }
}

/// A use of the object of a [`Held`].
#[derive(Debug)]
pub struct Use<T: 'static>(&'static Held<T>);

impl<T> Deref for Use<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it was there when this use began, and is dropped after the last one.
        unsafe { (*self.0.object.get()).assume_init_ref() }
    }
}

impl<T> Drop for Use<T> {
    #[inline]
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Makes the type of a handle, `pub struct aiopool_thing(Object)`, the cells of all handles of that
/// type, and what a call answers to one whose object is gone.
macro_rules! handle {
    ($(#[$meta:meta])* pub struct $name:ident($object:ty) in $cells:ident, gone: $gone:literal;) => {
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
