//! The codec: how inputs and outputs become bytes. serde with postcard; [`Bytes`] as they are.

use std::any::Any;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reason;

/// Appends `value` to `into`.
///
/// # Errors
///
/// What the value's `Serialize` says; `into` then holds a part of it.
#[inline]
pub(crate) fn encode<T: Serialize + 'static>(value: &T, into: &mut Vec<u8>) -> Result<(), String> {
    if let Some(raw) = (value as &dyn Any).downcast_ref::<Bytes>() {
        into.extend_from_slice(raw);
        return Ok(());
    }
    postcard::serialize_with_flavor(value, Appender(into))
        .map_err(|error| unencodable(&error, value))
}

/// Returns the value that `bytes` are.
///
/// # Errors
///
/// When they are not what `encode` makes of a `T`, trailing bytes included.
#[inline]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, String> {
    if let Some(raw) = as_raw(|| Bytes::copy_from_slice(bytes)) {
        return Ok(raw);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(left_over(rest.len())),
        Err(error) => Err(undecodable::<T>(&error, bytes)),
    }
}

// Out of the way of what is decoded.
#[cold]
fn left_over(bytes: usize) -> String {
    format!("{bytes} bytes are left over")
}

#[cold]
fn undecodable<T: DeserializeOwned>(error: &postcard::Error, bytes: &[u8]) -> String {
    named::<T>(error, reason::of_decode::<T>(bytes))
}

#[cold]
fn unencodable<T: Serialize>(error: &postcard::Error, value: &T) -> String {
    named::<T>(error, reason::of_encode(value))
}

/// Returns which type it was, and what that or else the codec says.
fn named<T>(error: &postcard::Error, reason: Option<String>) -> String {
    let reason = reason.unwrap_or_else(|| error.to_string());
    format!("{}: {reason}", std::any::type_name::<T>())
}

/// Returns the value that owned bytes are, without a copy if it is [`Bytes`].
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

/// Appends what the codec gives it.
struct Appender<'v>(&'v mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let value = (7_u64, "a£ — “q”".to_owned(), vec![Some(1.5_f64), None]);
        let mut bytes = Vec::new();
        encode(&value, &mut bytes).unwrap();
        assert_eq!(decode::<(u64, String, Vec<Option<f64>>)>(&bytes).unwrap(), value);
        bytes.push(0);
        assert!(decode::<(u64, String, Vec<Option<f64>>)>(&bytes).is_err());
    }

    #[test]
    fn raw_bytes_pass_as_they_are() {
        let raw = Bytes::from_static(b"\x00\xFF raw");
        let mut bytes = Vec::new();
        encode(&raw, &mut bytes).unwrap();
        assert_eq!(bytes, raw);
        assert_eq!(decode::<Bytes>(&bytes).unwrap(), raw);
        assert_eq!(decode_owned::<Bytes>(bytes).unwrap(), raw);
    }
}
