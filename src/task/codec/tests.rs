//! Values, refusals and hostile bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
        let reason = encode(&value, &mut bytes).unwrap_err();
        assert!(reason.ends_with("Nested: port 1 is not to be sent"), "{value:?}: {reason}");
    }
    for value in all(Port(2)) {
        bytes.clear();
        encode(&value, &mut bytes).unwrap();
        let reason = decode::<Nested>(&bytes).unwrap_err();
        assert!(reason.ends_with("Nested: port 2 is not to be had"), "{value:?}: {reason}");
    }
}

#[test]
fn what_the_codec_says_itself_is_left_as_it_is() {
    let mut bytes = Vec::new();
    encode(&Nested::Unit, &mut bytes).unwrap();
    assert!(matches!(decode(&bytes), Ok(Nested::Unit)));
    let short = decode::<Nested>(&[1]).unwrap_err();
    assert!(short.contains("bytes end"), "{short}");
    let none = decode::<Nested>(&[9]).unwrap_err();
    assert!(none.contains("Nested: "), "{none}");
}

#[test]
fn bytes_of_any_kind_are_a_value_or_a_refusal() {
    type Zoo = (Option<Nested>, Vec<(String, char)>, BTreeMap<u8, Vec<()>>, i128, bool);
    let mut random = 1_u64;
    let mut values = 0;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random >> 59)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Small numbers are lengths and tags that lead on.
                (random >> 33) as u8 >> (random >> 60 & 7)
            })
            .collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        values += usize::from(decode::<Zoo>(&bytes).is_ok());
        values += usize::from(decode::<Option<Nested>>(&bytes).is_ok());
        let _ = Zoo::deserialize(&mut Reader::<true>::new(&bytes));
        let _ = serde::de::IgnoredAny::deserialize(&mut Reader::<true>::new(&bytes));
    }
    assert!(values > 50, "only {values} were values");
    // A length that no memory holds, of elements without bytes.
    assert!(decode::<Vec<()>>(&[0xFF; 9]).is_err());
    assert!(decode::<Vec<()>>(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]).is_err());
}
