//! Lists and structs in the making: what a value that is being written gives its parts to.
#![forbid(unsafe_code)]

use serde::ser::{self, Serialize};

use super::refusal::{REMEDY, Refusal};
use super::shape::Shape;
use super::sink::Writer;
use super::tag;

pub(super) type Done = Result<(), Refusal>;

/// A list in the making: a sequence, tuple or map.
pub(super) struct List<'w, 'o, const DESCRIBED: bool> {
    writer: &'w mut Writer<'o, DESCRIBED>,
    /// Values, or pairs, that were announced and are not there yet.
    left: Option<usize>,
    /// The list is what a variant's name maps to.
    map: bool,
}

impl<'w, 'o, const DESCRIBED: bool> List<'w, 'o, DESCRIBED> {
    #[inline]
    pub(super) fn new(writer: &'w mut Writer<'o, DESCRIBED>, left: Option<usize>) -> Self {
        Self { writer, left, map: false }
    }

    /// The same as a variant's content.
    #[inline]
    pub(super) fn of_variant(self) -> Self {
        Self { map: true, ..self }
    }

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

impl<'w, 'o, const DESCRIBED: bool> Fields<'w, 'o, DESCRIBED> {
    #[inline(always)]
    pub(super) fn new(writer: &'w mut Writer<'o, DESCRIBED>) -> Self {
        let at = writer.out.len();
        if !DESCRIBED {
            writer.out.extend_from_slice(&[0; 4]);
        }
        Self { writer, at, shape: Shape::new(), next: 0, present: 0, skipped: false, map: false }
    }

    /// The same as a variant's content.
    #[inline(always)]
    pub(super) fn of_variant(self) -> Self {
        Self { map: true, ..self }
    }

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
        self.writer.left_out.push(key);
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
