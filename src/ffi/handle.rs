//! Handles: cells of memory that is used again and never given back.
//!
//! So a handle that was freed still points to a cell, and the cell says that it is empty. A cell
//! is used again only after many others, so that a mistake is found and not covered up.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard};

use crate::sync::lock;

/// What a handle points to: one object at a time, or none.
#[derive(Debug)]
pub struct Cell<T>(Mutex<Option<T>>);

impl<T> Cell<T> {
    pub(super) const fn empty() -> Self {
        Self(Mutex::new(None))
    }

    /// The object, if there is one.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<T>> {
        lock(&self.0)
    }
}

/// The empty cells of one kind.
pub(super) struct Cells<H: 'static>(Mutex<VecDeque<&'static H>>);

/// As many cells stay empty before one of them is used again.
const QUARANTINE: usize = 64;

impl<H> Cells<H> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// A cell with `object` in it.
    pub(super) fn put<T>(&self, object: T) -> &'static H
    where
        H: Deref<Target = Cell<T>> + Default,
    {
        let known = {
            let mut empty = lock(&self.0);
            if empty.len() > QUARANTINE { empty.pop_front() } else { None }
        };
        let cell = known.unwrap_or_else(|| Box::leak(Box::default()));
        *cell.lock() = Some(object);
        cell
    }

    /// Takes note of a cell that was emptied.
    pub(super) fn give_back(&self, cell: &'static H) {
        lock(&self.0).push_back(cell);
    }
}
