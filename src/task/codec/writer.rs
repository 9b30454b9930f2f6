//! Values to bytes, in either format of `../README.md`.
#![forbid(unsafe_code)]

use serde::ser::{self, Serialize};

use super::made::{Done, Fields, List};
use super::refusal::{REMEDY, Refusal};
use super::sink::Writer;
use super::tag::{self, Kind};

impl<'o, const DESCRIBED: bool> Writer<'o, DESCRIBED> {
    /// Begins a list of `len` values, of which the compact format says how many.
    #[inline]
    fn counted(&mut self, len: Option<usize>, tag: u8) -> Result<List<'_, 'o, DESCRIBED>, Refusal> {
        self.depth.check()?;
        self.tag(tag);
        if DESCRIBED {
            return Ok(List::new(self, len));
        }
        let Some(len) = len else {
            return Err(Refusal::new(format!(
                "a {} of unknown length (#[serde(flatten)] makes such a map): {REMEDY}",
                if tag == tag::MAP { "map" } else { "sequence" },
            )));
        };
        self.varint(len as u64);
        Ok(List::new(self, Some(len)))
    }
}

macro_rules! writes {
    ($($name:ident($type:ty, $tag:ident): |$writer:ident, $value:ident| $body:expr;)*) => {
        $(#[inline]
        fn $name(self, $value: $type) -> Done {
            let $writer = self;
            $writer.tag(tag::$tag);
            $body;
            Ok(())
        })*
    };
}

/// Zigzag: small numbers of either sign are small.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

impl<'w, 'o, const DESCRIBED: bool> ser::Serializer for &'w mut Writer<'o, DESCRIBED> {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = List<'w, 'o, DESCRIBED>;
    type SerializeTuple = List<'w, 'o, DESCRIBED>;
    type SerializeTupleStruct = List<'w, 'o, DESCRIBED>;
    type SerializeTupleVariant = List<'w, 'o, DESCRIBED>;
    type SerializeMap = List<'w, 'o, DESCRIBED>;
    type SerializeStruct = Fields<'w, 'o, DESCRIBED>;
    type SerializeStructVariant = Fields<'w, 'o, DESCRIBED>;

    writes! {
        serialize_bool(bool, BOOL): |w, value| w.out.push(u8::from(value));
        serialize_u8(u8, U8): |w, value| w.out.push(value);
        serialize_i8(i8, I8): |w, value| w.out.push(value as u8);
        serialize_u16(u16, U16): |w, value| w.varint(value.into());
        serialize_u32(u32, U32): |w, value| w.varint(value.into());
        serialize_u64(u64, U64): |w, value| w.varint(value);
        serialize_u128(u128, U128): |w, value| w.wide(value);
        serialize_i16(i16, I16): |w, value| w.varint(zigzag(value.into()));
        serialize_i32(i32, I32): |w, value| w.varint(zigzag(value.into()));
        serialize_i64(i64, I64): |w, value| w.varint(zigzag(value));
        serialize_i128(i128, I128): |w, value| w.wide((value << 1 ^ value >> 127) as u128);
        serialize_f32(f32, F32): |w, value| w.out.extend_from_slice(&value.to_le_bytes());
        serialize_f64(f64, F64): |w, value| w.out.extend_from_slice(&value.to_le_bytes());
        serialize_char(char, CHAR): |w, value| w.varint(u32::from(value).into());
        serialize_str(&str, STR): |w, value| w.bytes(value.as_bytes());
        serialize_bytes(&[u8], BYTES): |w, value| w.bytes(value);
    }

    #[inline]
    fn serialize_none(self) -> Done {
        self.out.push(if DESCRIBED { tag::NONE } else { 0 });
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        self.depth.check()?;
        self.out.push(if DESCRIBED { tag::SOME } else { 1 });
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Done {
        self.tag(tag::UNIT);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }

    #[inline(always)]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.variant(Kind::Unit, variant);
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        self.depth.check()?;
        self.variant(Kind::Newtype, variant);
        value.serialize(&mut *self)?;
        self.tag(tag::END);
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, Refusal> {
        self.counted(len, tag::SEQ)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, Refusal> {
        self.counted(len, tag::MAP)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, Refusal> {
        self.tag(tag::SEQ);
        Ok(List::new(self, Some(len)))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, Refusal> {
        self.counted(Some(len), tag::SEQ)
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, Refusal> {
        self.variant(Kind::Tuple, variant);
        self.counted(Some(len), tag::SEQ).map(List::of_variant)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refusal> {
        self.tag(tag::MAP);
        Ok(Fields::new(self))
    }

    #[inline(always)]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refusal> {
        self.depth.check()?;
        self.variant(Kind::Struct, variant);
        self.tag(tag::MAP);
        Ok(Fields::new(self).of_variant())
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        DESCRIBED // what serde buffers for untagged and flatten says that it is
    }
}
