//! What copies of an interpreter go on sharing: the objects that code consists of.
//!
//! A page that processes share is copied when one of them writes to it, and code that uses an
//! object counts a reference in it. CPython from 3.12 on counts none in an object that is *immortal*. So
//! before the fork we make immortal what calls use: functions, classes, modules and descriptors, with
//! the dictionaries, tuples, cells, code, texts and numbers that belong to these. All other objects
//! end when nothing refers to them any more, as ever.
//!
//! What a copy allocates is best not scattered over the pages that it shares, either: before the
//! fork we take what is free between other blocks of C's heap.

#![allow(unsafe_code)] // An island: CPython has no call for this, only a number in each object.

use std::ffi::{c_int, c_void};

use pyo3::ffi::{self, PyObject, PyTypeObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// What stands first in an immortal object of CPython 3.12 and 3.13, on machines of 64 bits.
const IMMORTAL: u32 = u32::MAX;

/// How references of an object are visited.
type Traverse = unsafe extern "C" fn(*mut PyObject, ffi::visitproc, *mut c_void) -> c_int;

struct Marks {
    code: *mut PyTypeObject,
    /// The name of what a code has its constants in.
    constants: *mut PyObject,
    /// Types of what belongs to something, and is looked into.
    parts: Vec<*mut PyTypeObject>,
    /// Types of what refers to nothing.
    leaves: Vec<*mut PyTypeObject>,
    /// Parts to look into.
    found: Vec<*mut PyObject>,
    /// Whether parts are looked for now, beside leaves.
    is_owner: bool,
    count: usize,
}

impl Marks {
    /// Makes an object immortal; false if it is so already.
    ///
    /// # Safety
    ///
    /// The object is alive, and `keep_shared` has seen what immortal ones look like.
    unsafe fn mark(&mut self, object: *mut PyObject) -> bool {
        let first = object.cast::<u32>();
        // SAFETY: every object begins with the count of its references.
        unsafe {
            if *first == IMMORTAL {
                return false;
            }
            *first = IMMORTAL;
        }
        self.count += 1;
        true
    }

    /// Visits what `object` refers to.
    ///
    /// # Safety
    ///
    /// As for `mark`.
    unsafe fn look_into(&mut self, object: *mut PyObject) {
        let marks = (&raw mut *self).cast();
        // SAFETY: the object is alive, and a slot is asked for that has this type. What is visited
        // is alive with it.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == self.code {
                let constants = ffi::PyObject_GetAttr(object, self.constants);
                if constants.is_null() {
                    ffi::PyErr_Clear();
                } else {
                    visit(constants, marks);
                    ffi::Py_DecRef(constants);
                }
                return;
            }
            let slot = ffi::PyType_GetSlot(kind, ffi::Py_tp_traverse);
            if !slot.is_null() {
                std::mem::transmute::<*mut c_void, Traverse>(slot)(object, visit, marks);
            }
        }
    }
}

/// Takes note of what something that is immortal refers to.
extern "C" fn visit(object: *mut PyObject, marks: *mut c_void) -> c_int {
    // SAFETY: `look_into` is the caller, by way of CPython, and its objects are alive.
    unsafe {
        let marks = &mut *marks.cast::<Marks>();
        let kind = ffi::Py_TYPE(object);
        if marks.leaves.contains(&kind) {
            marks.mark(object);
        } else if marks.is_owner && marks.parts.contains(&kind) && marks.mark(object) {
            marks.found.push(object);
        }
    }
    0
}

/// Makes immortal those of `objects` whose types are `owners`, or that are types themselves, with what
/// belongs to them: `parts`, the first two of which are of code and of tuples, and `leaves`. Gives how
/// many that were: none where objects do not look as in the CPythons that this is known of.
#[pyfunction]
pub(crate) fn keep_shared<'py>(
    objects: &Bound<'py, PyList>,
    owners: &Bound<'py, PyTuple>,
    parts: &Bound<'py, PyTuple>,
    leaves: &Bound<'py, PyTuple>,
) -> usize {
    let kinds = |kinds: &Bound<'py, PyTuple>| -> Vec<*mut PyTypeObject> {
        kinds.iter().map(|kind| kind.as_ptr().cast()).collect()
    };
    let (owners, parts, leaves) = (kinds(owners), kinds(parts), kinds(leaves));
    let &[code, tuple, ..] = parts.as_slice() else { return 0 };
    // SAFETY: this object always lives; CPython has made it immortal where it can.
    if unsafe { *ffi::Py_Ellipsis().cast::<u32>() } != IMMORTAL {
        return 0;
    }
    let constants = intern!(objects.py(), "co_consts").as_ptr();
    let mut marks =
        Marks { code, constants, parts, leaves, found: Vec::new(), is_owner: true, count: 0 };
    for object in objects.iter() {
        let object = object.as_ptr();
        // SAFETY: the list has a reference to the object; what it looks like was seen above.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if !owners.contains(&kind) && ffi::PyType_Check(object) == 0 {
                continue;
            }
            marks.mark(object);
            marks.look_into(object);
            while let Some(part) = marks.found.pop() {
                let kind = ffi::Py_TYPE(part);
                // What a dictionary or a cell holds may be put into it by anybody.
                marks.is_owner = kind == code || kind == tuple;
                marks.look_into(part);
            }
            marks.is_owner = true;
        }
    }
    marks.count
}

/// The largest of the holes in the heap that are filled; `MAPPED` is more than what C's heap has.
const LARGEST_HOLE: usize = 64 << 10;
const MAPPED: usize = 1 << 40;
/// Bytes that are filled, at most: a heap may be another one than the C library's.
const MOST_FILLED: usize = 8 << 20;

/// Takes what is free in C's heap between other blocks, and keeps it: what copies allocate comes from
/// the heap's end then, from pages that lie together.
pub(crate) fn fill_holes() {
    // SAFETY: what is allocated is never used, but to know where it is.
    let allocated = |size| unsafe { libc::malloc(size) } as usize;
    // More than any hole has, and less than what has a mapping of its own.
    let end = allocated(LARGEST_HOLE + (32 << 10));
    let (mut size, mut filled) = (LARGEST_HOLE, 0);
    while size >= 24 && filled < MOST_FILLED {
        let at = allocated(size);
        if at < end && end - at < MAPPED {
            filled += size;
        } else {
            // SAFETY: allocated just now, or null.
            unsafe { libc::free(at as *mut c_void) };
            size -= if size > 1024 { size / 8 } else { 8 };
        }
    }
    // SAFETY: allocated above, or null.
    unsafe { libc::free(end as *mut c_void) };
}
