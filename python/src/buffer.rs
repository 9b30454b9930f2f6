//! The bytes of Python objects: `bytes`, `memoryview`, arrays.
//!
//! The buffer protocol is in CPython's stable ABI from 3.11 on, with the layout and the functions
//! that 3.10 has, too; pyo3 offers it only for that version, so it is declared here.

#![allow(unsafe_code)] // An island: memory that a Python object lends.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use aiopool::Output;
use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::in_place;

/// `Py_buffer` of CPython 3.10 and later.
#[repr(C)]
pub(crate) struct RawBuffer {
    buf: *mut c_void,
    obj: *mut PyObject,
    len: Py_ssize_t,
    itemsize: Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut Py_ssize_t,
    strides: *mut Py_ssize_t,
    suboffsets: *mut Py_ssize_t,
    internal: *mut c_void,
}

/// One piece of contiguous memory, without its format.
const SIMPLE: c_int = 0;

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut RawBuffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut RawBuffer);
    /// Fills `view` with `len` bytes of `object`, which it takes a reference to.
    pub(crate) fn PyBuffer_FillInfo(
        view: *mut RawBuffer,
        object: *mut PyObject,
        address: *mut c_void,
        len: Py_ssize_t,
        readonly: c_int,
        flags: c_int,
    ) -> c_int;
}

/// A contiguous buffer, lent by its object while this lives. Dropped with the interpreter attached.
pub struct Buffer<'py> {
    view: Box<RawBuffer>,
    _py: Python<'py>,
}

impl<'py> Buffer<'py> {
    /// Borrows the bytes of `object`.
    ///
    /// # Errors
    ///
    /// `TypeError` if it has none, `BufferError` if they are not contiguous.
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<RawBuffer>::uninit());
        // SAFETY: the object is alive, and `view` has room for what CPython writes.
        let status = unsafe { PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), SIMPLE) };
        if status != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: status 0 says that it was written; it stays where it is, as CPython asks.
        Ok(Self { view: unsafe { view.assume_init() }, _py: object.py() })
    }

    /// Lends the bytes.
    ///
    /// What the object's other users write meanwhile is read as it comes, as with every buffer.
    pub fn bytes(&self) -> &[u8] {
        if self.view.len == 0 {
            return &[];
        }
        // SAFETY: CPython says that `len` bytes are there until the release in `drop`.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast(), self.view.len as usize) }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: filled by `PyObject_GetBuffer`, and released once.
        unsafe { PyBuffer_Release(&raw mut *self.view) }
    }
}

/// Lends `function` a descriptor of Python's, which its owner keeps open meanwhile.
pub(crate) fn lent<T>(descriptor: i32, function: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the number is that of an event loop that runs, in this thread, and so is not closed.
    function(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// The bytes of an output, for the package to read.
///
/// A large one with buffers stays where its worker has put it, as memory that may be written.
pub(crate) fn output<'py>(py: Python<'py>, output: Output) -> PyResult<Bound<'py, PyAny>> {
    if let Some(bytes) = output.as_slice() {
        return Ok(payload(py, bytes));
    }
    let len = output.len();
    if len < IN_PLACE {
        return copied(py, len, |into| output.copy_to(into));
    }
    let private = match output.into_private() {
        Ok(private) => private,
        Err(output) => return copied(py, len, |into| output.copy_to(into)),
    };
    // SAFETY: there are many bytes.
    if unsafe { private.address().read_volatile() } == WITH_BUFFERS {
        return in_place::view(py, private);
    }
    // What is decoded must not change meanwhile.
    copied(py, len, |into| {
        // SAFETY: as many bytes on both sides, which cannot overlap. That a faulty worker may write
        // meanwhile makes wrong bytes, and they are looked at only here.
        unsafe { private.address().copy_to_nonoverlapping(into.as_mut_ptr().cast(), len) }
    })
}

/// A new object of `len` bytes that `fill` initialises.
fn copied<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) + Send,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: NULL asks for room that is not filled yet.
    let array = unsafe {
        let array = ffi::PyByteArray_FromStringAndSize(std::ptr::null(), len as Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, array)?
    };
    // SAFETY: `len` bytes, of an object that no other code has; they stay while it is alive.
    let into = unsafe {
        std::slice::from_raw_parts_mut(ffi::PyByteArray_AsString(array.as_ptr()).cast(), len)
    };
    py.detach(|| fill(into));
    Ok(array)
}

/// The bytes of a payload: as `bytearray` if buffers follow its pickle, so that arrays over them can
/// be written, else as `bytes`.
pub(crate) fn payload<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    if bytes.first() == Some(&WITH_BUFFERS) {
        PyByteArray::new(py, bytes).into_any()
    } else {
        PyBytes::new(py, bytes).into_any()
    }
}

/// Bytes from which on a mapping costs less than a copy.
const IN_PLACE: usize = 1 << 20;

/// How a payload with buffers begins: `_wire._WITH_BUFFERS`.
const WITH_BUFFERS: u8 = b'B';
