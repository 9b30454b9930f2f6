//! What a type's own `Serialize` or `Deserialize` said when it refused.
//!
//! postcard's error has no place for that text, so a value that failed goes once more through its
//! `serde` code: to a serializer that only listens, or to the codec's deserializer with an ear at
//! every turn. What works costs nothing by this.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt::{self, Display};

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::ser::{self, Serialize, Serializer};

/// Returns why `value` cannot be encoded, if its `Serialize` has a reason of its own.
pub(super) fn of_encode<T: Serialize>(value: &T) -> Option<String> {
    value.serialize(Listener).err().map(|told| told.0)
}

/// Returns why `bytes` are no `T`, if its `Deserialize` has a reason of its own.
pub(super) fn of_decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
    let heard = RefCell::default();
    let mut source = postcard::Deserializer::from_bytes(bytes);
    let _ = T::deserialize(Ear { inner: &mut source, heard: &heard }).err()?;
    heard.into_inner()
}

/// An error whose text is what was reported.
#[derive(Debug)]
struct SerdeText(String);

impl Display for SerdeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SerdeText {}

impl ser::Error for SerdeText {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

impl de::Error for SerdeText {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

/// A serializer that takes everything and keeps nothing.
struct Listener;

macro_rules! takes {
    ($($name:ident($($type:ty),*)),* $(,)?) => {
        $(fn $name(self, $(_: $type),*) -> Result<(), SerdeText> {
            Ok(())
        })*
    };
}

macro_rules! begins {
    ($($name:ident($($type:ty),*)),* $(,)?) => {
        $(fn $name(self, $(_: $type),*) -> Result<Self, SerdeText> {
            Ok(self)
        })*
    };
}

impl Serializer for Listener {
    type Ok = ();
    type Error = SerdeText;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    takes! {
        serialize_bool(bool), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    begins! {
        serialize_seq(Option<usize>), serialize_tuple(usize), serialize_map(Option<usize>),
        serialize_tuple_struct(&'static str, usize),
        serialize_tuple_variant(&'static str, u32, &'static str, usize),
        serialize_struct(&'static str, usize),
        serialize_struct_variant(&'static str, u32, &'static str, usize),
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), SerdeText> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), SerdeText> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), SerdeText> {
        value.serialize(self)
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), SerdeText> {
        Ok(())
    }

    fn is_human_readable(&self) -> bool {
        false // as the codec
    }
}

macro_rules! parts {
    ($($part:ident: $name:ident($($key:ty)?)),* $(,)?) => {
        $(impl ser::$part for Listener {
            type Ok = ();
            type Error = SerdeText;

            fn $name<T: Serialize + ?Sized>(
                &mut self,
                $(_: $key,)?
                value: &T,
            ) -> Result<(), SerdeText> {
                value.serialize(Listener)
            }

            fn end(self) -> Result<(), SerdeText> {
                Ok(())
            }
        })*
    };
}

parts! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for Listener {
    type Ok = ();
    type Error = SerdeText;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerdeText> {
        key.serialize(Listener)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeText> {
        value.serialize(Listener)
    }

    fn end(self) -> Result<(), SerdeText> {
        Ok(())
    }
}

/// A deserializer, or a part of one, whose users' errors are heard on their way through it.
struct Ear<'h, X> {
    inner: X,
    heard: &'h RefCell<Option<String>>,
}

impl<'h, X> Ear<'h, X> {
    fn over<Y>(&self, inner: Y) -> Ear<'h, Y> {
        Ear { inner, heard: self.heard }
    }
}

/// Records what a user's code said, and passes it on as an error of the codec's, which forgets it.
fn hear<E: de::Error>(heard: &RefCell<Option<String>>) -> impl FnOnce(SerdeText) -> E + '_ {
    move |told| {
        let error = E::custom(&told);
        // The first is the cause of the others.
        heard.borrow_mut().get_or_insert(told.0);
        error
    }
}

/// Passes on the codec's own error, which is no reason of the type's.
fn pass<E: Display>(error: E) -> SerdeText {
    SerdeText(error.to_string())
}

macro_rules! deserializes {
    ($($name:ident($($argument:ident: $type:ty),*)),* $(,)?) => {
        $(fn $name<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, SerdeText> {
            let visitor = self.over(visitor);
            self.inner.$name($($argument,)* visitor).map_err(pass)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Ear<'_, D> {
    type Error = SerdeText;

    deserializes! {
        deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(),
        deserialize_i32(), deserialize_i64(), deserialize_i128(), deserialize_u8(),
        deserialize_u16(), deserialize_u32(), deserialize_u64(), deserialize_u128(),
        deserialize_f32(), deserialize_f64(), deserialize_char(), deserialize_str(),
        deserialize_string(), deserialize_bytes(), deserialize_byte_buf(), deserialize_option(),
        deserialize_unit(), deserialize_seq(), deserialize_map(), deserialize_identifier(),
        deserialize_ignored_any(), deserialize_unit_struct(name: &'static str),
        deserialize_newtype_struct(name: &'static str), deserialize_tuple(len: usize),
        deserialize_tuple_struct(name: &'static str, len: usize),
        deserialize_struct(name: &'static str, fields: &'static [&'static str]),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]),
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visits {
    ($($name:ident($($type:ty)?)),* $(,)?) => {
        $(visits!(@ $name $($type)?);)*
    };
    (@ $name:ident $type:ty) => {
        fn $name<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$name(value).map_err(hear(self.heard))
        }
    };
    (@ $name:ident) => {
        fn $name<E: de::Error>(self) -> Result<V::Value, E> {
            self.inner.$name().map_err(hear(self.heard))
        }
    };
}

macro_rules! descends {
    ($($name:ident: $part:ident),* $(,)?) => {
        $(fn $name<A: de::$part<'de>>(self, access: A) -> Result<V::Value, A::Error> {
            let access = self.over(access);
            self.inner.$name(access).map_err(hear(self.heard))
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Ear<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visits! {
        visit_bool(bool), visit_i8(i8), visit_i16(i16), visit_i32(i32), visit_i64(i64),
        visit_i128(i128), visit_u8(u8), visit_u16(u16), visit_u32(u32), visit_u64(u64),
        visit_u128(u128), visit_f32(f32), visit_f64(f64), visit_char(char), visit_str(&str),
        visit_borrowed_str(&'de str), visit_string(String), visit_bytes(&[u8]),
        visit_borrowed_bytes(&'de [u8]), visit_byte_buf(Vec<u8>), visit_none(), visit_unit(),
    }

    descends! {
        visit_some: Deserializer, visit_newtype_struct: Deserializer, visit_seq: SeqAccess,
        visit_map: MapAccess, visit_enum: EnumAccess,
    }
}

impl<'de, S: de::DeserializeSeed<'de>> de::DeserializeSeed<'de> for Ear<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<S::Value, D::Error> {
        let source = self.over(source);
        self.inner.deserialize(source).map_err(hear(self.heard))
    }
}

impl<'de, A: de::SeqAccess<'de>> de::SeqAccess<'de> for Ear<'_, A> {
    type Error = SerdeText;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, SerdeText> {
        let seed = self.over(seed);
        self.inner.next_element_seed(seed).map_err(pass)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: de::MapAccess<'de>> de::MapAccess<'de> for Ear<'_, A> {
    type Error = SerdeText;

    fn next_key_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, SerdeText> {
        let seed = self.over(seed);
        self.inner.next_key_seed(seed).map_err(pass)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, SerdeText> {
        let seed = self.over(seed);
        self.inner.next_value_seed(seed).map_err(pass)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'h, A: de::EnumAccess<'de>> de::EnumAccess<'de> for Ear<'h, A> {
    type Error = SerdeText;
    type Variant = Ear<'h, A::Variant>;

    fn variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), SerdeText> {
        let seed = self.over(seed);
        let (value, variant) = self.inner.variant_seed(seed).map_err(pass)?;
        Ok((value, Ear { inner: variant, heard: self.heard }))
    }
}

impl<'de, A: de::VariantAccess<'de>> de::VariantAccess<'de> for Ear<'_, A> {
    type Error = SerdeText;

    fn unit_variant(self) -> Result<(), SerdeText> {
        self.inner.unit_variant().map_err(pass)
    }

    fn newtype_variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, SerdeText> {
        let seed = self.over(seed);
        self.inner.newtype_variant_seed(seed).map_err(pass)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, SerdeText> {
        let visitor = self.over(visitor);
        self.inner.tuple_variant(len, visitor).map_err(pass)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeText> {
        let visitor = self.over(visitor);
        self.inner.struct_variant(fields, visitor).map_err(pass)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::super::codec;

    /// A port that says itself what is wrong with it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Port(u16);

    impl Serialize for Port {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                1 => Err(serde::ser::Error::custom("port 1 is not to be sent")),
                port => serializer.serialize_u16(port),
            }
        }
    }

    impl<'de> Deserialize<'de> for Port {
        fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
            match u16::deserialize(source)? {
                2 => Err(serde::de::Error::custom("port 2 is not to be had")),
                port => Ok(Self(port)),
            }
        }
    }

    /// Everything that can lie between a value and its codec.
    #[derive(Debug, Serialize, Deserialize)]
    enum Nested {
        Unit,
        New(Port),
        Tuple(u8, Port),
        Struct { seq: Vec<(char, Port)>, map: BTreeMap<Port, Option<Port>>, boxed: Box<[Port; 2]> },
    }

    fn all(port: Port) -> Vec<Nested> {
        let fine = Port(80);
        let nested = |seq: Port, key: Port, value: Port, boxed: Port| Nested::Struct {
            seq: vec![('x', fine), ('y', seq)],
            map: [(key, Some(value))].into(),
            boxed: Box::new([fine, boxed]),
        };
        vec![
            Nested::New(port),
            Nested::Tuple(1, port),
            nested(port, fine, fine, fine),
            nested(fine, port, fine, fine),
            nested(fine, fine, port, fine),
            nested(fine, fine, fine, port),
        ]
    }

    #[test]
    fn a_types_own_reason_comes_through_from_every_depth() {
        let mut bytes = Vec::new();
        for value in all(Port(1)) {
            let reason = codec::encode(&value, &mut bytes).unwrap_err();
            assert!(reason.ends_with("Nested: port 1 is not to be sent"), "{value:?}: {reason}");
        }
        for value in all(Port(2)) {
            bytes.clear();
            codec::encode(&value, &mut bytes).unwrap();
            let reason = codec::decode::<Nested>(&bytes).unwrap_err();
            assert!(reason.ends_with("Nested: port 2 is not to be had"), "{value:?}: {reason}");
        }
    }

    #[test]
    fn what_the_codec_says_itself_is_left_as_it_is() {
        let mut bytes = Vec::new();
        codec::encode(&Nested::Unit, &mut bytes).unwrap();
        assert!(matches!(codec::decode(&bytes), Ok(Nested::Unit)));
        let short = codec::decode::<Nested>(&[1]).unwrap_err();
        assert!(short.contains("end of buffer"), "{short}");
        let none = codec::decode::<Nested>(&[9]).unwrap_err();
        assert!(none.contains("Nested: "), "{none}");
    }
}
