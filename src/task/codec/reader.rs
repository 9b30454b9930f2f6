//! Bytes to values, in either format of `../README.md`.
#![forbid(unsafe_code)]

use serde::de::{self, Visitor};

use super::parts::{Listed, Name, Pairs};
use super::refusal::Refusal;
use super::source::{Reader, unread};
use super::tag::{self, Kind};

impl<'de, const DESCRIBED: bool> Reader<'de, DESCRIBED> {
    /// A value that says what it is.
    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Refusal> {
        if !DESCRIBED {
            return Err(Refusal::undescribed(&visitor));
        }
        self.depth.check()?;
        match self.byte()? {
            tag::UNIT => visitor.visit_unit(),
            tag::NONE => visitor.visit_none(),
            tag::SOME => visitor.visit_some(self),
            tag::BOOL => visitor.visit_bool(self.boolean()?),
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
        deserialize_bool: visit_bool |r| r.boolean()?;
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
        if !self.boolean()? {
            return visitor.visit_none();
        }
        self.depth.check()?;
        visitor.visit_some(self)
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
        self.depth.check()?;
        let len = self.length()?;
        self.list(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if DESCRIBED {
            return self.any(visitor);
        }
        self.depth.check()?;
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
        if kind != Kind::Unit {
            self.depth.check()?;
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
