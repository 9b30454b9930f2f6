//! Values that travel with a description of themselves, for types that need one.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, Visitor};
use serde::ser::{self, Serialize, Serializer};

use super::source::Reader;

/// A value that is sent with a description of itself: field names, and what each part is.
///
/// Inputs and outputs usually travel without one, which is quick and small. Some types cannot be
/// read that way: those with `#[serde(untagged)]`, `#[serde(tag = "..")]`, `#[serde(flatten)]`, or
/// with a part of any type, such as `serde_json::Value`. Their tasks end with an error that says
/// so. Wrapped in this, every type arrives as it was sent. For a field of a larger type there is
/// `#[serde(with = "aiopool::described")]`.
///
/// ```
/// use aiopool::{Described, Pool};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// #[serde(untagged)]
/// enum Id {
///     Number(u64),
///     Name(String),
/// }
///
/// async fn next(Described(id): Described<Id>) -> Described<Id> {
///     Described(match id {
///         Id::Number(number) => Id::Number(number + 1),
///         Id::Name(name) => Id::Name(name + "'"),
///     })
/// }
///
/// let pool = Pool::builder().processes(1).build()?;
/// let Described(id) = pool.apply(next, Described(Id::Number(7))).wait()?;
/// assert_eq!(id, Id::Number(8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Described<T>(
    /// The value.
    pub T,
);

impl<T: Serialize + DeserializeOwned> Serialize for Described<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Described<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        deserialize(source).map(Self)
    }
}

/// Writes `value` as [`Described`] does. For `#[serde(with = "aiopool::described")]`.
///
/// # Errors
///
/// What the value's own `Serialize` says, and where [`deserialize`] would read another value.
pub fn serialize<T: Serialize + DeserializeOwned, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::new();
    super::written::<T, true>(value, &mut bytes).map_err(ser::Error::custom)?;
    serializer.serialize_bytes(&bytes)
}

/// Reads what [`serialize`] wrote. For `#[serde(with = "aiopool::described")]`.
///
/// # Errors
///
/// What the value's own `Deserialize` says, and when the bytes are not a described `T`.
pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    source: D,
) -> Result<T, D::Error> {
    source.deserialize_bytes(Bytes(PhantomData))
}

struct Bytes<T>(PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for Bytes<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a described value")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        let mut reader = Reader::<true>::new(bytes);
        let value = T::deserialize(&mut reader).map_err(E::custom)?;
        match reader.left() {
            0 => Ok(value),
            left => Err(E::custom(super::left_over(left))),
        }
    }
}
