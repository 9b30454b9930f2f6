//! What C hands over: texts, byte ranges, structs that begin with their size, outputs.

use std::ffi::{CStr, OsString, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;

use super::boundary::Failure;
use super::status::{AIOPOOL_ERR_INVALID, AIOPOOL_ERR_STRUCT};

/// An argument for what a call gives back.
pub(super) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Returns the output `name`, checked before anything is done.
pub(super) fn out<'a, T>(name: &str, out: Out<'a, T>) -> Result<&'a mut MaybeUninit<T>, Failure> {
    out.ok_or_else(|| Failure::null(name))
}

/// Returns the C string at `pointer`.
///
/// # Safety
///
/// NULL, or a C string that stays as it is for `'a`.
pub(super) unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(pointer) }
        .to_str()
        .map_err(|_| Failure::new(AIOPOOL_ERR_INVALID, format!("{name} is not UTF-8")))
}

/// A caller's room for a text, and for how many bytes that has.
pub(super) struct TextRoom<'a> {
    to: *mut c_char,
    size: usize,
    length: &'a mut MaybeUninit<usize>,
}

impl<'a> TextRoom<'a> {
    /// Checks the room called `name`, which is NULL only if there is none.
    ///
    /// # Safety
    ///
    /// `size` bytes at `to` can be written as long as this lives.
    pub(super) unsafe fn new(
        name: &str,
        to: *mut c_char,
        size: usize,
        length_out: Out<'a, usize>,
    ) -> Result<Self, Failure> {
        let length = out("length_out", length_out)?;
        if to.is_null() && size > 0 {
            return Err(Failure::null(name));
        }
        Ok(Self { to, size, length })
    }

    /// Writes as much of a text as there is room for, a zero behind it, and how long it is.
    pub(super) fn write(self, text: &[u8]) {
        for (at, &byte) in text.iter().chain(&[0]).enumerate().take(self.size) {
            // SAFETY: there is room for `size` bytes, and `at` is less.
            unsafe { self.to.cast::<u8>().add(at).write(byte) };
        }
        self.length.write(text.len());
    }
}

/// Returns the `len` bytes at `pointer`, which may be NULL if there are none.
///
/// # Safety
///
/// The bytes can be read and stay as they are for `'a`.
pub(super) unsafe fn bytes<'a>(
    name: &str,
    pointer: *const c_void,
    len: usize,
) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Failure::null(name));
    }
    if len > isize::MAX as usize {
        let text = format!("{name} of {len} bytes is more than memory can have");
        return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
    }
    // SAFETY: not NULL and not too long; the caller vouches for the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), len) })
}

/// Returns the C strings of an array that NULL ends.
///
/// # Safety
///
/// NULL or such an array.
pub(super) unsafe fn arguments(array: *const *const c_char) -> Vec<OsString> {
    let mut all = Vec::new();
    if array.is_null() {
        return all;
    }
    // SAFETY: the caller vouches for the array and that NULL ends it.
    unsafe {
        while !(*array.add(all.len())).is_null() {
            let string = CStr::from_ptr(*array.add(all.len()));
            all.push(OsString::from_vec(string.to_bytes().to_vec()));
        }
    }
    all
}

/// A struct that begins with its size, `struct_size`, as the caller was compiled with.
///
/// # Safety
///
/// All bytes of the type, including padding, are made of integers and pointers for which 0 is
/// valid, and it begins with a `u32`, its size.
pub(super) unsafe trait Sized32: Copy {
    /// The name in the header.
    const NAME: &'static str;
    /// The size that the first version had; smaller ones do not exist.
    const FIRST: usize;
    /// Returns what fields have that the caller does not know.
    fn defaults() -> Self;
}

/// Copies a struct of the caller's size into one of ours.
///
/// # Safety
///
/// NULL, or a pointer to a `T` of which as many bytes can be read as its `struct_size` says.
pub(super) unsafe fn sized<T: Sized32>(pointer: *const T) -> Result<T, Failure> {
    if pointer.is_null() {
        return Err(Failure::null(T::NAME));
    }
    // SAFETY: every version begins with the size.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    if size < T::FIRST || size > 4096 {
        return Err(Failure::new(
            AIOPOOL_ERR_STRUCT,
            format!("struct_size = {size} is not that of {}: set it with its _init", T::NAME),
        ));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller vouches that as many bytes can be read.
    let all = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size) };
    if all[known..].iter().any(|&byte| byte != 0) {
        return Err(Failure::new(
            AIOPOOL_ERR_STRUCT,
            format!("{} has fields set that this version of aiopool does not know", T::NAME),
        ));
    }
    let mut ours = T::defaults();
    // SAFETY: both have at least `known` bytes, and any bytes make a valid `T`.
    unsafe {
        let to = (&raw mut ours).cast::<u8>();
        std::ptr::copy_nonoverlapping(all.as_ptr(), to, known);
    }
    Ok(ours)
}

/// Returns the caller's struct where it is of our size, else a copy of ours in `room`.
///
/// # Safety
///
/// As [`sized`]; it stays as it is for as long as what is returned.
#[inline]
pub(super) unsafe fn sized_in_place<T: Sized32>(
    pointer: *const T,
    room: &mut MaybeUninit<T>,
) -> Result<&T, Failure> {
    if !pointer.is_null() && pointer.is_aligned() {
        // SAFETY: every version begins with the size.
        let size = unsafe { pointer.cast::<u32>().read() } as usize;
        if size == size_of::<T>() {
            // SAFETY: the caller vouches that as many bytes can be read.
            return Ok(unsafe { &*pointer });
        }
    }
    // SAFETY: passed on.
    Ok(room.write(unsafe { sized(pointer) }?))
}
