//! What a value that is being read asks for its parts: elements, pairs, fields, variants.
#![forbid(unsafe_code)]

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use super::refusal::Refusal;
use super::shape;
use super::source::{Reader, unread};
use super::tag::Kind;

impl<'de, const DESCRIBED: bool> Reader<'de, DESCRIBED> {
    /// The values of a list without an end mark.
    #[inline]
    pub(super) fn list<V: Visitor<'de>>(
        &mut self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let mut list = Listed { reader: self, left: Some(len) };
        let value = visitor.visit_seq(&mut list)?;
        if list.left == Some(0) { Ok(value) } else { Err(unread()) }
    }

    /// A tuple with its count.
    #[inline]
    pub(super) fn tuple<V: Visitor<'de>>(
        &mut self,
        name: &str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let there = self.number::<usize>()?;
        if there != len {
            return Err(Refusal::halves(name, format_args!("{there} values written, {len} read")));
        }
        self.list(len, visitor)
    }

    /// The fields of struct or variant `name`.
    #[inline]
    pub(super) fn fields<V: Visitor<'de>>(
        &mut self,
        name: &str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.key = false;
        let word = u32::from_le_bytes(self.array()?);
        if word == shape::of(fields) << 1 {
            return self.list(fields.len(), visitor);
        }
        self.by_name(name, fields, word, visitor)
    }

    /// Fields of which some are left out, or have other names here.
    #[cold]
    fn by_name<V: Visitor<'de>>(
        &mut self,
        name: &str,
        fields: &'static [&'static str],
        word: u32,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let Some(mut keys) = shape::find(fields, word >> 1) else {
            let detail = format!("the fields written are not those that are read, {fields:?}");
            return Err(Refusal::halves(name, detail));
        };
        if word & 1 == 1 {
            let present = u64::from_le_bytes(self.array()?);
            let mut bits = 0..;
            keys.retain(|_| bits.next().is_some_and(|bit| bit < 64 && present >> bit & 1 == 1));
        }
        let mut keyed = Keyed { reader: self, keys: keys.into_iter() };
        let value = visitor.visit_map(&mut keyed)?;
        if keyed.keys.len() == 0 { Ok(value) } else { Err(unread()) }
    }
}

/// The elements of a list.
pub(super) struct Listed<'r, 'de, const DESCRIBED: bool> {
    pub(super) reader: &'r mut Reader<'de, DESCRIBED>,
    /// How many are left, where no mark ends the list.
    pub(super) left: Option<usize>,
}

/// The pairs of a map.
pub(super) struct Pairs<'r, 'de, const DESCRIBED: bool> {
    pub(super) reader: &'r mut Reader<'de, DESCRIBED>,
    /// How many are left, where no mark ends the map.
    pub(super) left: Option<usize>,
}

/// Whether there is another, which is then no longer left.
#[inline]
fn another<const DESCRIBED: bool>(
    reader: &Reader<'_, DESCRIBED>,
    left: &mut Option<usize>,
) -> Result<bool, Refusal> {
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None => reader.at_end().map(|end| !end),
    }
}

impl<'de, const DESCRIBED: bool> de::SeqAccess<'de> for Listed<'_, 'de, DESCRIBED> {
    type Error = Refusal;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        if another(self.reader, &mut self.left)? {
            return seed.deserialize(&mut *self.reader).map(Some);
        }
        Ok(None)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'de, const DESCRIBED: bool> de::MapAccess<'de> for Pairs<'_, 'de, DESCRIBED> {
    type Error = Refusal;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        if another(self.reader, &mut self.left)? {
            self.reader.key = true;
            let key = seed.deserialize(&mut *self.reader);
            self.reader.key = false;
            return key.map(Some);
        }
        Ok(None)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        seed.deserialize(&mut *self.reader)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

/// The fields of a struct that does not have all of its own.
pub(super) struct Keyed<'r, 'de, const DESCRIBED: bool> {
    pub(super) reader: &'r mut Reader<'de, DESCRIBED>,
    pub(super) keys: std::vec::IntoIter<&'static str>,
}

impl<'de, const DESCRIBED: bool> de::MapAccess<'de> for Keyed<'_, 'de, DESCRIBED> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        let key = self.keys.next().map(BorrowedStrDeserializer::new);
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant: its name first, then its content.
pub(super) struct Name<'r, 'de, const DESCRIBED: bool> {
    pub(super) reader: &'r mut Reader<'de, DESCRIBED>,
    pub(super) variant: &'de str,
    pub(super) kind: Kind,
}

impl<const DESCRIBED: bool> Name<'_, '_, DESCRIBED> {
    /// Only a unit variant is known by the described format's name alone.
    #[inline]
    fn holds(&self, wanted: Kind) -> Result<(), Refusal> {
        let fits = match DESCRIBED {
            true => (self.kind == Kind::Unit) == (wanted == Kind::Unit),
            false => self.kind == wanted,
        };
        if fits {
            return Ok(());
        }
        let detail = format!("a {:?} variant is written, a {wanted:?} variant is read", self.kind);
        Err(Refusal::halves(self.variant, detail))
    }
}

impl<'de, const DESCRIBED: bool> de::EnumAccess<'de> for Name<'_, 'de, DESCRIBED> {
    type Error = Refusal;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refusal> {
        let name = BorrowedStrDeserializer::new(self.variant);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de, const DESCRIBED: bool> de::VariantAccess<'de> for Name<'_, 'de, DESCRIBED> {
    type Error = Refusal;

    #[inline]
    fn unit_variant(self) -> Result<(), Refusal> {
        self.holds(Kind::Unit)
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refusal> {
        self.holds(Kind::Newtype)?;
        seed.deserialize(self.reader)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.holds(Kind::Tuple)?;
        if DESCRIBED {
            return self.reader.deserialize_any(visitor);
        }
        self.reader.tuple(self.variant, len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.holds(Kind::Struct)?;
        if DESCRIBED {
            return self.reader.deserialize_any(visitor);
        }
        self.reader.fields(self.variant, fields, visitor)
    }
}
