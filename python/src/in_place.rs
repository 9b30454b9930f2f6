//! Large results as Python objects without a copy: memory that shows the pool's pages until it is
//! written, and hands them back when the last array over it is gone.
//!
//! The buffer protocol of types is in CPython's stable ABI from 3.11 on, and works in 3.10 as it
//! does there; pyo3 offers it only for that version, so the type is made here.

#![allow(unsafe_code)] // An island: a type by CPython's own rules, and memory that it lends.

use std::collections::HashMap;
use std::ffi::{c_int, c_ulong, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiopool::PrivateOutput;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::buffer::{PyBuffer_FillInfo, RawBuffer};

/// `Py_bf_getbuffer` of CPython's `typeslots.h`.
const GET_BUFFER: c_int = 1;
/// `Py_TPFLAGS_DISALLOW_INSTANTIATION`.
const ONLY_FROM_HERE: c_ulong = 1 << 7;

/// A Python object that lends the bytes of a result.
#[repr(C)]
struct Lender {
    base: PyObject,
    /// From `Box::into_raw`; null until it is filled.
    output: *mut Arc<PrivateOutput>,
}

/// The type of [`Lender`].
static TYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// All that live, by their addresses: what a fork has to make this process's own. Used only with
/// the interpreter attached, so that no thread has the lock in a copy of this process.
static LIVING: Mutex<Option<HashMap<usize, Arc<PrivateOutput>>>> = Mutex::new(None);

fn living() -> MutexGuard<'static, Option<HashMap<usize, Arc<PrivateOutput>>>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a `memoryview` of a result, which may be written.
pub(crate) fn view(py: Python<'_>, output: PrivateOutput) -> PyResult<Bound<'_, PyAny>> {
    let kind = TYPE.get_or_try_init(py, || new_type(py))?;
    // SAFETY: a type that was made by `new_type`, whose objects are all bytes zero at first.
    let lender = unsafe {
        let lender = ffi::PyType_GenericAlloc(kind.as_ptr().cast(), 0);
        Bound::from_owned_ptr_or_err(py, lender)?
    };
    let output = Arc::new(output);
    living().get_or_insert_default().insert(output.address() as usize, Arc::clone(&output));
    // SAFETY: the object is a `Lender`, and nobody else has it yet.
    unsafe { (*lender.as_ptr().cast::<Lender>()).output = Box::into_raw(Box::new(output)) };
    // SAFETY: an object that has the buffer protocol.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyMemoryView_FromObject(lender.as_ptr())) }
}

/// Makes all results this process's own: before it is forked, as the pages would change in the
/// child when the pool uses them again.
#[pyfunction]
pub(crate) fn own_results() {
    if let Some(all) = &*living() {
        all.values().for_each(|output| output.own());
    }
}

fn new_type(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let slot = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(GET_BUFFER, get_buffer as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(0, std::ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"aiopool._native.Result".as_ptr(),
        basicsize: size_of::<Lender>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ONLY_FROM_HERE) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the functions are those that their slots ask for; CPython copies the rest.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }
        .map(Bound::unbind)
}

/// `bf_getbuffer`.
unsafe extern "C" fn get_buffer(
    lender: *mut PyObject,
    view: *mut RawBuffer,
    flags: c_int,
) -> c_int {
    // SAFETY: CPython calls it with an object of the type, attached to the interpreter.
    let output = unsafe { (*lender.cast::<Lender>()).output };
    // SAFETY: null, or from `Box::into_raw`, and freed only with the object.
    let Some(output) = (unsafe { output.as_ref() }) else {
        // SAFETY: this thread is attached: CPython has called this function.
        PyBufferError::new_err("there is no result").restore(unsafe { Python::assume_attached() });
        return -1;
    };
    let (address, len) = (output.address().cast(), output.len() as ffi::Py_ssize_t);
    // SAFETY: the bytes are there as long as the object, to which the view has a reference.
    unsafe { PyBuffer_FillInfo(view, lender, address, len, 0, flags) }
}

/// `tp_dealloc`.
unsafe extern "C" fn dealloc(lender: *mut PyObject) {
    // SAFETY: the last reference is gone; CPython calls it once, attached to the interpreter.
    unsafe {
        let output = (*lender.cast::<Lender>()).output;
        if !output.is_null() {
            let output = *Box::from_raw(output);
            let known = living().as_mut().and_then(|all| all.remove(&(output.address() as usize)));
            // Without the lock: the pool gets its block back.
            drop((known, output));
        }
        let kind = ffi::Py_TYPE(lender);
        ffi::PyObject_Free(lender.cast());
        ffi::Py_DECREF(kind.cast());
    }
}
