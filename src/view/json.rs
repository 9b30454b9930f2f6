//! Values as JSON: no more of the format than a snapshot needs. (A crate for all of it would bring
//! three more into every program that uses this library.)

use std::fmt::{self, Display, Write};

use serde::ser::{self, Impossible, Serialize};

/// Returns `value` as one line of JSON.
pub(crate) fn to_line(value: &impl Serialize) -> String {
    let mut writer = Writer(String::new());
    // Refused are only shapes that no type of this module has; a test writes all of them.
    let _ = value.serialize(&mut writer);
    writer.0
}

struct Writer(String);

/// A shape that is not written.
#[derive(Debug)]
struct Unsupported(String);

impl Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

impl ser::Error for Unsupported {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

fn unsupported<T>() -> Result<T, Unsupported> {
    Err(Unsupported("a shape that snapshots do not have".to_owned()))
}

impl Writer {
    fn show(&mut self, value: impl Display) -> Result<(), Unsupported> {
        let _ = write!(self.0, "{value}");
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                // Also what ends a line for JavaScript, and what turns the direction of a text.
                c if c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) => {
                    let _ = write!(self.0, "\\u{:04x}", c as u32);
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

/// The inside of a sequence or an object.
struct Parts<'w> {
    writer: &'w mut Writer,
    any: bool,
    end: char,
}

impl<'w> Parts<'w> {
    fn new(writer: &'w mut Writer, begin: char, end: char) -> Result<Self, Unsupported> {
        writer.0.push(begin);
        Ok(Self { writer, any: false, end })
    }

    fn part(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Unsupported> {
        if std::mem::replace(&mut self.any, true) {
            self.writer.0.push(',');
        }
        value.serialize(&mut *self.writer)
    }

    fn field(
        &mut self,
        key: &(impl Serialize + ?Sized),
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), Unsupported> {
        self.part(key)?;
        self.writer.0.push(':');
        value.serialize(&mut *self.writer)
    }

    fn close(self) -> Result<(), Unsupported> {
        self.writer.0.push(self.end);
        Ok(())
    }
}

impl ser::SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.part(value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close()
    }
}

impl ser::SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.part(value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close()
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close()
    }
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unsupported> {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.writer.0.push(':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close()
    }
}

macro_rules! shown {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<(), Unsupported> {
            self.show(value)
        })*
    };
}

impl<'w> ser::Serializer for &'w mut Writer {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Parts<'w>;
    type SerializeTuple = Parts<'w>;
    type SerializeStruct = Parts<'w>;
    type SerializeMap = Parts<'w>;
    type SerializeTupleStruct = Impossible<(), Unsupported>;
    type SerializeTupleVariant = Impossible<(), Unsupported>;
    type SerializeStructVariant = Impossible<(), Unsupported>;

    shown!(
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64
    );

    fn serialize_f32(self, value: f32) -> Result<(), Unsupported> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unsupported> {
        if value.is_finite() { self.show(value) } else { self.serialize_none() }
    }

    fn serialize_char(self, value: char) -> Result<(), Unsupported> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Unsupported> {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unsupported> {
        unsupported()
    }

    fn serialize_none(self) -> Result<(), Unsupported> {
        self.show("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unsupported> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unsupported> {
        self.serialize_none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unsupported> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unsupported> {
        unsupported()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'w>, Unsupported> {
        Parts::new(self, '[', ']')
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'w>, Unsupported> {
        Parts::new(self, '[', ']')
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unsupported> {
        unsupported()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unsupported> {
        unsupported()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'w>, Unsupported> {
        Parts::new(self, '{', '}')
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'w>, Unsupported> {
        Parts::new(self, '{', '}')
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unsupported> {
        unsupported()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_from_its_line() {
        let value = serde_json::json!({
            "numbers": [0, -5, u64::MAX, 1.5, true, null],
            "text \"\\\n\u{1b}\u{7f}\u{2028}\u{202e}": "ä\u{0}",
            "none": {},
        });
        let line = to_line(&value);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert_eq!(to_line(&f64::NAN), "null");
    }
}
