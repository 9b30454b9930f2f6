//! The codec: how inputs and outputs become bytes. serde values as `../README.md` says; [`Bytes`]
//! as they are.

mod depth;
pub mod described;
mod left_out;
mod made;
mod parts;
mod reader;
mod refusal;
mod shape;
mod sink;
mod source;
mod tag;
mod writer;

use std::any::Any;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use refusal::Refusal;
use sink::Writer;
use source::Reader;

/// The largest buffer for encoded values, in bytes, that is kept for the next value. A larger one
/// is freed: it would hold memory that few values need.
pub(crate) const KEEP_BUFFER: usize = 1 << 20;

/// Appends `value` to `into`.
///
/// # Errors
///
/// What the value's `Serialize` says, and where another value would be read; `into` then holds a
/// part of it.
#[inline]
pub(crate) fn encode<T: Serialize + DeserializeOwned + 'static>(
    value: &T,
    into: &mut Vec<u8>,
) -> Result<(), String> {
    if let Some(raw) = (value as &dyn Any).downcast_ref::<Bytes>() {
        into.extend_from_slice(raw);
        return Ok(());
    }
    written::<T, false>(value, into).map_err(named::<T>)
}

/// Appends `value`, in either format.
#[inline]
fn written<T: Serialize + DeserializeOwned, const DESCRIBED: bool>(
    value: &T,
    into: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let from = into.len();
    let mut writer = Writer::<DESCRIBED>::new(into);
    value.serialize(&mut writer)?;
    if writer.left_out.is_empty() {
        return Ok(());
    }
    let left_out = writer.left_out;
    left_out::check::<T, DESCRIBED>(left_out, &into[from..])
}

/// The value that `bytes` are.
///
/// # Errors
///
/// When they are not what `encode` makes of a `T`, trailing bytes included.
#[inline]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, String> {
    if let Some(raw) = as_raw(|| Bytes::copy_from_slice(bytes)) {
        return Ok(raw);
    }
    let mut reader = Reader::<false>::new(bytes);
    match T::deserialize(&mut reader) {
        Ok(value) if reader.left() == 0 => Ok(value),
        Ok(_) => Err(named::<T>(left_over(reader.left()))),
        Err(refusal) => Err(named::<T>(refusal)),
    }
}

#[cold]
#[inline(never)]
fn left_over(bytes: usize) -> Refusal {
    Refusal::new(format!("{bytes} bytes are left over"))
}

/// Which type it was, and why.
#[cold]
#[inline(never)]
fn named<T>(refusal: Refusal) -> String {
    format!("{}: {refusal}", std::any::type_name::<T>())
}

/// The value that owned bytes are, without a copy if it is [`Bytes`].
///
/// # Errors
///
/// As [`decode`].
pub(crate) fn decode_owned<T: DeserializeOwned + 'static>(bytes: Vec<u8>) -> Result<T, String> {
    if std::any::TypeId::of::<T>() == std::any::TypeId::of::<Bytes>() {
        return as_raw(|| Bytes::from(bytes)).ok_or_else(String::new);
    }
    decode(&bytes)
}

/// `raw()` as a `T`, if a `T` is [`Bytes`].
fn as_raw<T: 'static>(raw: impl FnOnce() -> Bytes) -> Option<T> {
    let mut value: Option<T> = None;
    if let Some(place) = (&mut value as &mut dyn Any).downcast_mut::<Option<Bytes>>() {
        *place = Some(raw());
    }
    value
}

#[cfg(test)]
mod tests;
