//! Plain values, as pickle writes them: None, booleans, numbers, short texts and bytes, and tuples of
//! these. They are most arguments and most results, and a pickler of Python's takes longer to make
//! than they take to write.
//!
//! What is written here, any unpickler reads; what is not read here is for Python's. Values that can
//! be changed are not written here: pickle keeps track of which are the same.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

/// Longest text or bytes, in bytes, that are written here.
const LONGEST: usize = 255;
/// Values of one tuple, and tuples in tuples, at most.
const MOST: usize = 32;
const DEEPEST: u32 = 4;
/// How each pickle begins: its protocol is 5.
const START: [u8; 2] = [0x80, 5];

const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const BYTE: u8 = b'K';
const TWO_BYTES: u8 = b'M';
const FOUR_BYTES: u8 = b'J';
const LONG: u8 = 0x8a;
const FLOAT: u8 = b'G';
const TEXT: u8 = 0x8c;
const BYTES: u8 = b'C';
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const NO_TUPLE: u8 = b')';
const TUPLE_OF_1: u8 = 0x85;
const TUPLE_OF_2: u8 = 0x86;
const TUPLE_OF_3: u8 = 0x87;
const NO_DICT: u8 = b'}';
const MEMOIZE: u8 = 0x94;
const FRAME: u8 = 0x95;

/// Adds the pickle of `value` to `out`. False, and `out` is as it was, if it is not plain.
pub(crate) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    whole(out, |out| add(value, out, 0), &[STOP])
}

/// Adds the pickle of a call's arguments, `(arguments, {})`, to `out`.
pub(crate) fn write_call(arguments: &Bound<'_, PyTuple>, out: &mut Vec<u8>) -> bool {
    whole(out, |out| add_tuple(arguments, out, 0), &[NO_DICT, TUPLE_OF_2, STOP])
}

/// Adds the pickle of the call with `item` as its one argument to `out`.
pub(crate) fn write_item(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    whole(out, |out| add(item, out, 0), &[TUPLE_OF_1, NO_DICT, TUPLE_OF_2, STOP])
}

/// Adds a pickle: its start, what `content` adds, and `end`; nothing if `content` returns false.
#[inline]
fn whole(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>) -> bool, end: &[u8]) -> bool {
    let before = out.len();
    out.extend_from_slice(&START);
    if !content(out) {
        out.truncate(before);
        return false;
    }
    out.extend_from_slice(end);
    true
}

fn add(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u32) -> bool {
    if value.is_exact_instance_of::<PyInt>() {
        return add_integer(value, out);
    }
    if value.is_exact_instance_of::<PyString>() {
        // SAFETY of what is read: a text with surrogates has no such bytes, and is left to Python.
        let Ok(text) = value.cast::<PyString>() else { return false };
        let Ok(text) = text.to_str() else { return false };
        return add_short(TEXT, text.as_bytes(), out);
    }
    if value.is_none() {
        out.push(NONE);
        return true;
    }
    if let Ok(value) = value.cast_exact::<PyFloat>() {
        out.push(FLOAT);
        out.extend_from_slice(&value.value().to_be_bytes());
        return true;
    }
    if let Ok(value) = value.cast_exact::<PyBool>() {
        out.push(if value.is_true() { TRUE } else { FALSE });
        return true;
    }
    if let Ok(value) = value.cast_exact::<PyTuple>() {
        return depth < DEEPEST && add_tuple(value, out, depth + 1);
    }
    if let Ok(value) = value.cast_exact::<PyBytes>() {
        return add_short(BYTES, value.as_bytes(), out);
    }
    false
}

fn add_integer(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let Ok(number) = value.extract::<i64>() else { return false };
    if let Ok(byte) = u8::try_from(number) {
        out.extend_from_slice(&[BYTE, byte]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(TWO_BYTES);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(FOUR_BYTES);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.extend_from_slice(&[LONG, 8]);
        out.extend_from_slice(&number.to_le_bytes());
    }
    true
}

fn add_short(code: u8, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if bytes.len() > LONGEST {
        return false;
    }
    out.extend_from_slice(&[code, bytes.len() as u8]);
    out.extend_from_slice(bytes);
    true
}

fn add_tuple(tuple: &Bound<'_, PyTuple>, out: &mut Vec<u8>, depth: u32) -> bool {
    let count = tuple.len();
    if count > MOST {
        return false;
    }
    if count > 3 {
        out.push(MARK);
    }
    if !tuple.iter_borrowed().all(|value| add(&value, out, depth)) {
        return false;
    }
    out.push(match count {
        0 => NO_TUPLE,
        1 => TUPLE_OF_1,
        2 => TUPLE_OF_2,
        3 => TUPLE_OF_3,
        _ => TUPLE,
    });
    true
}

/// Reads a pickle of a plain value, also one that Python's own pickler has written. None if it is
/// anything else.
pub(crate) fn read<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyAny>> {
    let mut stack = Vec::with_capacity(4);
    read_to(py, bytes, &mut stack, false)?;
    let value = stack.pop()?;
    stack.is_empty().then_some(value)
}

/// Reads the pickle of a call: the arguments of one that has no keywords.
pub(crate) fn read_call<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyTuple>> {
    let mut stack = Vec::with_capacity(4);
    read_to(py, bytes, &mut stack, true)?;
    let arguments = stack.pop()?;
    if stack.is_empty() { arguments.cast_into::<PyTuple>().ok() } else { None }
}

/// Reads a pickle; that of a call up to the empty dictionary behind its arguments.
fn read_to<'py>(
    py: Python<'py>,
    bytes: &[u8],
    stack: &mut Vec<Bound<'py, PyAny>>,
    is_call: bool,
) -> Option<()> {
    let mut rest = bytes.strip_prefix(&START)?;
    let mut mark = None;
    loop {
        let (&code, after) = rest.split_first()?;
        rest = after;
        let value = match code {
            BYTE => PyInt::new(py, take::<1>(&mut rest)?[0]).into_any(),
            TWO_BYTES => PyInt::new(py, u16::from_le_bytes(take(&mut rest)?)).into_any(),
            FOUR_BYTES => PyInt::new(py, i32::from_le_bytes(take(&mut rest)?)).into_any(),
            LONG if take::<1>(&mut rest)? == [8] => {
                PyInt::new(py, i64::from_le_bytes(take(&mut rest)?)).into_any()
            }
            FLOAT => PyFloat::new(py, f64::from_be_bytes(take(&mut rest)?)).into_any(),
            TEXT => PyString::new(py, std::str::from_utf8(short(&mut rest)?).ok()?).into_any(),
            BYTES => PyBytes::new(py, short(&mut rest)?).into_any(),
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            NO_TUPLE => PyTuple::empty(py).into_any(),
            TUPLE_OF_1 => last(py, stack, 1)?,
            TUPLE_OF_2 => last(py, stack, 2)?,
            TUPLE_OF_3 => last(py, stack, 3)?,
            MARK if mark.is_none() => {
                mark = Some(stack.len());
                continue;
            }
            TUPLE => {
                let count = stack.len().checked_sub(mark.take()?)?;
                last(py, stack, count)?
            }
            MEMOIZE => continue,
            FRAME => {
                take::<8>(&mut rest)?;
                continue;
            }
            NO_DICT if is_call => {
                // Python's own pickler memoizes here.
                let end: Vec<u8> = rest.iter().copied().filter(|&code| code != MEMOIZE).collect();
                return (end == [TUPLE_OF_2, STOP]).then_some(());
            }
            STOP if !is_call => return rest.is_empty().then_some(()),
            _ => return None,
        };
        stack.push(value);
    }
}

/// Makes a tuple of the last `count` values.
fn last<'py>(
    py: Python<'py>,
    stack: &mut Vec<Bound<'py, PyAny>>,
    count: usize,
) -> Option<Bound<'py, PyAny>> {
    let start = stack.len().checked_sub(count)?;
    let tuple = PyTuple::new(py, stack.drain(start..)).ok()?;
    Some(tuple.into_any())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn short<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = usize::from(take::<1>(rest)?[0]);
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

/// Returns whether a value of this type cannot be awaited: those that are most results.
pub(crate) fn is_no_awaitable(value: &Bound<'_, PyAny>) -> bool {
    let kind = value.get_type_ptr();
    value.is_none()
        || [
            &raw mut ffi::PyLong_Type,
            &raw mut ffi::PyUnicode_Type,
            &raw mut ffi::PyFloat_Type,
            &raw mut ffi::PyBool_Type,
            &raw mut ffi::PyBytes_Type,
            &raw mut ffi::PyTuple_Type,
            &raw mut ffi::PyList_Type,
            &raw mut ffi::PyDict_Type,
        ]
        .contains(&kind)
}
