//! Values to bytes, in either format of `../README.md`.
#![forbid(unsafe_code)]

use serde::ser::{self, Serialize};

use super::refusal::{REMEDY, Refusal};
use super::shape::Shape;
use super::tag::{self, Kind};

type Done = Result<(), Refusal>;

/// Appends values to bytes; `DESCRIBED` ones with what they are.
pub(super) struct Writer<'o, const DESCRIBED: bool> {
    out: &'o mut Vec<u8>,
    names: Names,
}

impl<'o, const DESCRIBED: bool> Writer<'o, DESCRIBED> {
    #[inline]
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, names: Names { first: None, more: Vec::new() } }
    }

    #[inline(always)]
    fn tag(&mut self, tag: u8) {
        if DESCRIBED {
            self.out.push(tag);
        }
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn wide(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn variant(&mut self, kind: Kind, name: &'static str) {
        if DESCRIBED {
            if kind != Kind::Unit {
                self.out.push(tag::MAP);
            }
            self.out.push(tag::STR);
            self.bytes(name.as_bytes());
        } else if let Some(id) = self.names.id(name) {
            self.varint(id << 2 | kind as u64);
        } else {
            self.out.push(kind as u8);
            self.bytes(name.as_bytes());
        }
    }

    /// Begins a list of `len` values, of which the compact format says how many.
    #[inline]
    fn counted(&mut self, len: Option<usize>, tag: u8) -> Result<List<'_, 'o, DESCRIBED>, Refusal> {
        self.tag(tag);
        if DESCRIBED {
            return Ok(List { left: len, map: false, writer: self });
        }
        let Some(len) = len else {
            return Err(Refusal::new(format!(
                "a {} of unknown length (#[serde(flatten)] makes such a map): {REMEDY}",
                if tag == tag::MAP { "map" } else { "sequence" },
            )));
        };
        self.varint(len as u64);
        Ok(List { left: Some(len), map: false, writer: self })
    }

    #[inline]
    fn fields(&mut self) -> Fields<'_, 'o, DESCRIBED> {
        let at = self.out.len();
        if !DESCRIBED {
            self.out.extend_from_slice(&[0; 4]);
        }
        Fields {
            writer: self,
            at,
            shape: Shape::new(),
            next: 0,
            present: 0,
            skipped: false,
            map: false,
        }
    }
}

/// The names that a message has had, by where they lie: most messages have none or one.
struct Names {
    first: Option<&'static str>,
    /// Places by address; an id each, none is 0.
    more: Vec<(usize, usize, u64)>,
}

const PLACES: usize = 64;

impl Names {
    /// The id of `name` if it has been written before; otherwise it now gets the next one.
    #[inline]
    fn id(&mut self, name: &'static str) -> Option<u64> {
        match self.first {
            Some(first) if std::ptr::eq(first, name) => Some(1),
            Some(_) => self.other(name),
            None => {
                self.first = Some(name);
                None
            }
        }
    }

    fn other(&mut self, name: &'static str) -> Option<u64> {
        if self.more.is_empty() {
            // The last place holds the number of ids given.
            self.more = vec![(0, 0, 0); PLACES + 1];
            self.more[PLACES].2 = 1;
        }
        let key = (name.as_ptr() as usize, name.len());
        let place = key.0.wrapping_mul(0x9E37_79B9) >> 8 & (PLACES - 1);
        let (at, len, id) = self.more[place];
        if (at, len) == key && id != 0 {
            return Some(id);
        }
        self.more[PLACES].2 += 1;
        self.more[place] = (key.0, key.1, self.more[PLACES].2);
        None
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
        Ok(List { left: Some(len), map: false, writer: self })
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
        let list = self.counted(Some(len), tag::SEQ)?;
        Ok(List { map: true, ..list })
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refusal> {
        self.tag(tag::MAP);
        Ok(self.fields())
    }

    #[inline(always)]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refusal> {
        self.variant(Kind::Struct, variant);
        self.tag(tag::MAP);
        Ok(Fields { map: true, ..self.fields() })
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        DESCRIBED // what serde buffers for untagged and flatten says that it is
    }
}

/// A list in the making: a sequence, tuple or map.
pub(super) struct List<'w, 'o, const DESCRIBED: bool> {
    writer: &'w mut Writer<'o, DESCRIBED>,
    /// Values, or pairs, that were announced and are not there yet.
    left: Option<usize>,
    /// The list is what a variant's name maps to.
    map: bool,
}

impl<const DESCRIBED: bool> List<'_, '_, DESCRIBED> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T, counts: bool) -> Done {
        if counts && let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or_else(miscounted)?;
        }
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn close(self) -> Done {
        if self.left.is_some_and(|left| left > 0) {
            return Err(miscounted());
        }
        self.writer.tag(tag::END);
        if self.map {
            self.writer.tag(tag::END);
        }
        Ok(())
    }
}

#[cold]
fn miscounted() -> Refusal {
    Refusal::new(
        "a Serialize writes more or fewer values than it announced \
         (#[serde(skip_serializing_if)] on a tuple's field, or one written by hand)",
    )
}

macro_rules! lists {
    ($($part:ident: $name:ident),*) => {
        $(impl<const DESCRIBED: bool> ser::$part for List<'_, '_, DESCRIBED> {
            type Ok = ();
            type Error = Refusal;

            #[inline]
            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.item(value, true)
            }

            #[inline]
            fn end(self) -> Done {
                self.close()
            }
        })*
    };
}

lists! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
}

impl<const DESCRIBED: bool> ser::SerializeMap for List<'_, '_, DESCRIBED> {
    type Ok = ();
    type Error = Refusal;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.item(key, true)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.item(value, false)
    }

    #[inline]
    fn end(self) -> Done {
        self.close()
    }
}

/// A struct in the making.
pub(super) struct Fields<'w, 'o, const DESCRIBED: bool> {
    writer: &'w mut Writer<'o, DESCRIBED>,
    /// Where the shape word belongs.
    at: usize,
    shape: Shape,
    next: u32,
    /// Which of the first 64 fields are there, and whether one is not.
    present: u64,
    skipped: bool,
    /// The struct is what a variant's name maps to.
    map: bool,
}

impl<const DESCRIBED: bool> Fields<'_, '_, DESCRIBED> {
    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Done {
        if DESCRIBED {
            ser::Serializer::serialize_str(&mut *self.writer, key)?;
        } else {
            self.shape.add(key);
            self.present |= 1_u64.wrapping_shl(self.next) * u64::from(self.next < 64);
            self.next += 1;
        }
        value.serialize(&mut *self.writer)
    }

    #[inline(always)]
    fn skip(&mut self, key: &'static str) {
        self.shape.add(key);
        self.next += 1;
        self.skipped = true;
    }

    #[inline(always)]
    fn close(self) -> Done {
        if DESCRIBED {
            self.writer.tag(tag::END);
            if self.map {
                self.writer.tag(tag::END);
            }
            return Ok(());
        }
        let word = self.shape.word() << 1 | u32::from(self.skipped);
        self.writer.out[self.at..self.at + 4].copy_from_slice(&word.to_le_bytes());
        if self.skipped {
            return insert(self.writer.out, self.at + 4, self.present, self.next);
        }
        Ok(())
    }
}

/// Puts the mask of the fields that are there before them.
#[cold]
fn insert(out: &mut Vec<u8>, at: usize, present: u64, fields: u32) -> Done {
    if fields > 64 {
        return Err(Refusal::new(format!(
            "#[serde(skip_serializing_if)] in a struct of {fields} fields, 64 are the limit: \
             {REMEDY}"
        )));
    }
    out.splice(at..at, present.to_le_bytes());
    Ok(())
}

macro_rules! structs {
    ($($part:ident),*) => {
        $(impl<const DESCRIBED: bool> ser::$part for Fields<'_, '_, DESCRIBED> {
            type Ok = ();
            type Error = Refusal;

            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Done {
                self.field(key, value)
            }

            #[inline(always)]
            fn skip_field(&mut self, key: &'static str) -> Done {
                self.skip(key);
                Ok(())
            }

            #[inline(always)]
            fn end(self) -> Done {
                self.close()
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);
