//! Bytes to values, in either format of `../README.md`.
#![forbid(unsafe_code)]

use serde::de::{self, Visitor};

use super::parts::{Keyed, Listed, Name, Pairs};
use super::refusal::Refusal;
use super::shape;
use super::tag::{self, Kind};

/// How many elements of a list may have no bytes: it takes some 10 ms to make them.
const WITHOUT_BYTES: usize = 1 << 24;

/// Takes values off the front of bytes; `DESCRIBED` ones with what they are.
pub(super) struct Reader<'de, const DESCRIBED: bool> {
    input: &'de [u8],
    /// The variants' names so far.
    first: Option<&'de str>,
    more: Vec<&'de str>,
    /// What comes is the key of a map.
    pub(super) key: bool,
}

impl<'de, const DESCRIBED: bool> Reader<'de, DESCRIBED> {
    #[inline]
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self { input, first: None, more: Vec::new(), key: false }
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.input.len()
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Refusal> {
        let (&byte, rest) = self.input.split_first().ok_or_else(Refusal::short)?;
        self.input = rest;
        Ok(byte)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (&array, rest) = self.input.split_first_chunk().ok_or_else(Refusal::short)?;
        self.input = rest;
        Ok(array)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { Err(too_large()) } else { Ok(value) };
            }
        }
        Err(too_large())
    }

    fn wide(&mut self) -> Result<u128, Refusal> {
        let mut value = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if shift == 126 && byte > 3 { Err(too_large()) } else { Ok(value) };
            }
        }
        Err(too_large())
    }

    #[inline]
    fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Refusal> {
        T::try_from(self.varint()?).map_err(|_| too_large())
    }

    #[inline]
    fn signed<T: TryFrom<i64>>(&mut self) -> Result<T, Refusal> {
        let value = self.varint()?;
        T::try_from((value >> 1) as i64 ^ -((value & 1) as i64)).map_err(|_| too_large())
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'de [u8], Refusal> {
        let len = self.number()?;
        let (bytes, rest) = self.input.split_at_checked(len).ok_or_else(Refusal::short)?;
        self.input = rest;
        Ok(bytes)
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str, Refusal> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Refusal::new("a string that is not UTF-8"))
    }

    #[inline]
    fn truth(&mut self) -> Result<bool, Refusal> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Refusal::new(format!("{other} where 0 or 1 belongs"))),
        }
    }

    fn character(&mut self) -> Result<char, Refusal> {
        let number = self.number::<u32>()?;
        char::from_u32(number).ok_or_else(|| Refusal::new(format!("{number} is no character")))
    }

    /// A variant's name and what kind of content follows.
    #[inline]
    pub(super) fn variant(&mut self) -> Result<(&'de str, Kind), Refusal> {
        let tag = self.varint()?;
        let kind = Kind::of(tag);
        let name = match tag >> 2 {
            0 => {
                let name = self.text()?;
                match self.first {
                    None => self.first = Some(name),
                    Some(_) => self.more.push(name),
                }
                Some(name)
            }
            1 => self.first,
            id => self.more.get(id as usize - 2).copied(),
        };
        name.map(|name| (name, kind)).ok_or_else(|| Refusal::new("a variant without a name"))
    }

    /// The key of a map, or the tag of an adjacently tagged enum, which is written as a variant.
    fn identifier(&mut self) -> Result<&'de str, Refusal> {
        if std::mem::take(&mut self.key) {
            return self.text();
        }
        match self.variant()? {
            (name, Kind::Unit) => Ok(name),
            (name, _) => Err(Refusal::halves(name, "a variant is written, its name is read")),
        }
    }

    /// A variant's name as the described format has it: alone, or as the key of its content.
    fn described_variant(&mut self) -> Result<(&'de str, Kind), Refusal> {
        match self.byte()? {
            tag::STR => Ok((self.text()?, Kind::Unit)),
            tag::MAP if self.byte()? == tag::STR => Ok((self.text()?, Kind::Newtype)),
            _ => Err(Refusal::new("something else where an enum belongs")),
        }
    }

    /// Whether nothing is left of the list that is being read.
    #[inline]
    pub(super) fn at_end(&self) -> Result<bool, Refusal> {
        Ok(*self.input.first().ok_or_else(Refusal::short)? == tag::END)
    }

    /// Takes the end of a list of which everything has been read.
    pub(super) fn end(&mut self) -> Result<(), Refusal> {
        if self.byte()? == tag::END { Ok(()) } else { Err(unread()) }
    }

    /// How many elements or pairs follow. Most have at least a byte each; a number that only
    /// damage explains must not keep the reader busy with values of no bytes.
    #[inline]
    fn length(&mut self) -> Result<usize, Refusal> {
        let len = self.number::<usize>()?;
        if len > self.input.len() + WITHOUT_BYTES {
            return Err(Refusal::short());
        }
        Ok(len)
    }

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

    /// A value that says what it is.
    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refusal> {
        if !DESCRIBED {
            return Err(Refusal::undescribed(&visitor));
        }
        match self.byte()? {
            tag::UNIT => visitor.visit_unit(),
            tag::NONE => visitor.visit_none(),
            tag::SOME => visitor.visit_some(self),
            tag::BOOL => visitor.visit_bool(self.truth()?),
            tag::U8 => visitor.visit_u8(self.byte()?),
            tag::U16 => visitor.visit_u16(self.number()?),
            tag::U32 => visitor.visit_u32(self.number()?),
            tag::U64 => visitor.visit_u64(self.varint()?),
            tag::U128 => visitor.visit_u128(self.wide()?),
            tag::I8 => visitor.visit_i8(self.byte()? as i8),
            tag::I16 => visitor.visit_i16(self.signed()?),
            tag::I32 => visitor.visit_i32(self.signed()?),
            tag::I64 => visitor.visit_i64(self.signed()?),
            tag::I128 => visitor.visit_i128(unzigzag(self.wide()?)),
            tag::F32 => visitor.visit_f32(f32::from_le_bytes(self.array()?)),
            tag::F64 => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
            tag::CHAR => visitor.visit_char(self.character()?),
            tag::STR => visitor.visit_borrowed_str(self.text()?),
            tag::BYTES => visitor.visit_borrowed_bytes(self.bytes()?),
            tag::SEQ => {
                let value = visitor.visit_seq(Listed { reader: self, left: None })?;
                self.end().map(|()| value)
            }
            tag::MAP => {
                let value = visitor.visit_map(Pairs { reader: self, left: None })?;
                self.end().map(|()| value)
            }
            other => Err(Refusal::new(format!("{other} says of no value what it is"))),
        }
    }
}

macro_rules! reads {
    ($($name:ident: $visit:ident |$reader:ident| $value:expr;)*) => {
        $(#[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            if DESCRIBED {
                return self.any(visitor);
            }
            let $reader = self;
            visitor.$visit($value)
        })*
    };
}

impl<'de, const DESCRIBED: bool> de::Deserializer<'de> for &mut Reader<'de, DESCRIBED> {
    type Error = Refusal;

    reads! {
        deserialize_bool: visit_bool |r| r.truth()?;
        deserialize_u8: visit_u8 |r| r.byte()?;
        deserialize_i8: visit_i8 |r| r.byte()? as i8;
        deserialize_u16: visit_u16 |r| r.number()?;
        deserialize_u32: visit_u32 |r| r.number()?;
        deserialize_u64: visit_u64 |r| r.varint()?;
        deserialize_u128: visit_u128 |r| r.wide()?;
        deserialize_i16: visit_i16 |r| r.signed()?;
        deserialize_i32: visit_i32 |r| r.signed()?;
        deserialize_i64: visit_i64 |r| r.signed()?;
        deserialize_i128: visit_i128 |r| unzigzag(r.wide()?);
        deserialize_f32: visit_f32 |r| f32::from_le_bytes(r.array()?);
        deserialize_f64: visit_f64 |r| f64::from_le_bytes(r.array()?);
        deserialize_char: visit_char |r| r.character()?;
        deserialize_str: visit_borrowed_str |r| r.text()?;
        deserialize_string: visit_borrowed_str |r| r.text()?;
        deserialize_identifier: visit_borrowed_str |r| r.identifier()?;
        deserialize_bytes: visit_borrowed_bytes |r| r.bytes()?;
        deserialize_byte_buf: visit_borrowed_bytes |r| r.bytes()?;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.any(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if DESCRIBED {
            return self.any(visitor);
        }
        if self.truth()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if DESCRIBED { self.any(visitor) } else { visitor.visit_unit() }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if DESCRIBED {
            return self.any(visitor);
        }
        let len = self.length()?;
        self.list(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if DESCRIBED {
            return self.any(visitor);
        }
        let len = self.length()?;
        let mut pairs = Pairs { reader: self, left: Some(len) };
        let value = visitor.visit_map(&mut pairs)?;
        if pairs.left == Some(0) { Ok(value) } else { Err(unread()) }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        if DESCRIBED { self.any(visitor) } else { self.list(len, visitor) }
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        if DESCRIBED { self.any(visitor) } else { self.tuple(name, len, visitor) }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        if DESCRIBED { self.any(visitor) } else { self.fields(name, fields, visitor) }
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let (variant, kind) = if DESCRIBED { self.described_variant()? } else { self.variant()? };
        if !variants.contains(&variant) {
            let detail = format!("variant `{variant}` is written, of {variants:?} one is read");
            return Err(Refusal::halves(name, detail));
        }
        let value = visitor.visit_enum(Name { reader: self, variant, kind })?;
        if DESCRIBED && kind != Kind::Unit {
            self.end()?;
        }
        Ok(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        DESCRIBED
    }
}

fn unzigzag(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

#[cold]
fn too_large() -> Refusal {
    Refusal::new("a number that its type cannot hold")
}

#[cold]
pub(super) fn unread() -> Refusal {
    Refusal::new("a Deserialize leaves values unread that Serialize has written")
}
