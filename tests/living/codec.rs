//! A zoo of derived types with every attribute of serde, through a real worker and back: a value
//! arrives as it was sent, or as its attributes say (as it would in JSON), or the task ends with an
//! error that names the type and the remedy. Never another value.
#![allow(clippy::struct_excessive_bools)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::LazyLock;
use std::time::Duration;

use aiopool::{Described, Pool};
use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize};

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::builder().processes(1).build().unwrap());
const ROUNDS: u64 = 12;

/// Numbers that are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        // Small and large ones alike.
        let mixed = mixed ^ mixed >> 27;
        mixed >> (mixed % 64)
    }

    fn n(&mut self) -> u32 {
        self.word() as u32
    }

    fn coin(&mut self) -> bool {
        self.word() & 1 == 1
    }

    fn option(&mut self) -> Option<u32> {
        self.coin().then(|| self.n())
    }

    fn text(&mut self) -> String {
        (0..self.word() % 5)
            .map(|_| ['a', 'ß', '“', '\0', '🦀'][self.word() as usize % 5])
            .collect()
    }

    fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.word() % 5).map(|_| make(self)).collect()
    }
}

trait Animal: Serialize + DeserializeOwned + Debug + PartialEq + Clone + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Debug + PartialEq + Clone + Send + 'static> Animal for T {}

async fn echo<T>(value: T) -> T {
    value
}

/// A value between neighbours: one that is read too far or too short damages them.
fn there_and_back<T: Animal>(value: &T) -> Result<T, String> {
    let sent = (1_u8, value.clone(), "neighbour".to_owned(), value.clone(), 2_u8);
    let outcome = POOL.apply(echo::<(u8, T, String, T, u8)>, sent).wait();
    let (one, first, neighbour, second, two) = outcome.map_err(|error| error.to_string())?;
    assert_eq!((one, neighbour.as_str(), two), (1, "neighbour", 2), "damaged by {value:?}");
    assert_eq!(first, second, "{value:?} arrived in two ways");
    Ok(first)
}

fn rounds<T>(make: impl Fn(&mut Random) -> T, check: impl Fn(T)) {
    for round in 0..ROUNDS {
        check(make(&mut Random(round)));
    }
}

/// Arrives as it was sent, in both formats.
#[track_caller]
fn arrives<T: Animal>(make: impl Fn(&mut Random) -> T) {
    rounds(make, |value| {
        assert_eq!(there_and_back(&value).as_ref(), Ok(&value));
        let described = there_and_back(&Described(value.clone()));
        assert_eq!(described.as_ref(), Ok(&Described(value)));
    });
}

/// Arrives as from JSON, in both formats: what is skipped is made anew.
#[track_caller]
fn arrives_as_json<T: Animal>(make: impl Fn(&mut Random) -> T) {
    rounds(make, |value| {
        let json = serde_json::to_string(&value).unwrap();
        match serde_json::from_str::<T>(&json) {
            Ok(expected) => {
                assert_eq!(there_and_back(&value).as_ref(), Ok(&expected), "{json}");
                let described = there_and_back(&Described(value));
                assert_eq!(described, Ok(Described(expected)), "{json}");
            }
            Err(_) => {
                there_and_back(&value).unwrap_err();
                there_and_back(&Described(value)).unwrap_err();
            }
        }
    });
}

/// Is refused with a text that has `needles` and the remedy, which then helps.
#[track_caller]
fn needs_described<T: Animal>(make: impl Fn(&mut Random) -> T, needles: &[&str]) {
    rounds(make, |value| {
        let refused = there_and_back(&value).unwrap_err();
        for needle in needles.iter().chain(&[std::any::type_name::<T>(), "aiopool::Described"]) {
            assert!(refused.contains(needle), "{needle:?} is not in: {refused}");
        }
        let described = there_and_back(&Described(value.clone()));
        assert_eq!(described, Ok(Described(value)));
    });
}

/// Is refused with a text that has `needles`.
#[track_caller]
fn is_refused<T: Animal>(make: impl Fn(&mut Random) -> T, needles: &[&str]) {
    rounds(make, |value| {
        let refused = there_and_back(&value).unwrap_err();
        for needle in needles.iter().chain(&[std::any::type_name::<T>()]) {
            assert!(refused.contains(needle), "{needle:?} is not in: {refused}");
        }
    });
}

/// A zoo's inhabitants: all are what `PartialEq` compares.
macro_rules! animals {
    ($($item:item)*) => {
        $(#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)] $item)*
    };
}

animals! {
    struct Unit;
    struct Newtype(u32);
    struct Pair(u32, String);
    struct Empty {}
    struct Plain { a: u32, b: String, c: Vec<Option<u32>>, d: (u8, char), e: Option<Box<Plain>> }
    enum Every { A, B(u32), C(u32, String), D { x: u32, y: Option<u32> }, E(Unit), F(Plain) }
    struct Generic<T> { inner: T, list: Vec<T> }
}

fn plain(r: &mut Random, depth: u32) -> Plain {
    Plain {
        a: r.n(),
        b: r.text(),
        c: r.list(Random::option),
        d: (r.n() as u8, 'ß'),
        e: (depth > 0).then(|| Box::new(plain(r, depth - 1))),
    }
}

fn every(r: &mut Random) -> Every {
    match r.word() % 6 {
        0 => Every::A,
        1 => Every::B(r.n()),
        2 => Every::C(r.n(), r.text()),
        3 => Every::D { x: r.n(), y: r.option() },
        4 => Every::E(Unit),
        _ => Every::F(plain(r, 2)),
    }
}

#[test]
fn what_has_no_attributes_arrives() {
    arrives(|_| Unit);
    arrives(|r| Newtype(r.n()));
    arrives(|r| Pair(r.n(), r.text()));
    arrives(|_| Empty {});
    arrives(|r| plain(r, 3));
    arrives(|r| r.list(every));
    arrives(|r| Generic { inner: every(r), list: r.list(every) });
    arrives(|r| (r.word() as i8, r.word() as i16, r.word() as i32, r.word() as i64));
    arrives(|r| (r.word(), r.word() as usize, u64::MAX, i64::MIN));
    arrives(|r| (u128::from(r.word()) << 64 | 1, i128::from(r.word()) - (1 << 70)));
    arrives(|r| (f64::from(r.n()) / 3.0, f32::MIN_POSITIVE, f64::INFINITY, -0.0_f64));
    arrives(|r| (r.coin(), r.text(), '🦀', ()));
    arrives(|r| [Some(Some(r.n())), Some(None), None]);
    arrives(|r| [Some(()), None][r.word() as usize % 2]);
    arrives(|r| r.list(|r| (r.text(), r.n())).into_iter().collect::<HashMap<_, _>>());
    arrives(|r| r.list(|r| (r.n(), r.text())).into_iter().collect::<BTreeMap<_, _>>());
    arrives(|r| r.list(|r| ((r.n(), 'x'), ())).into_iter().collect::<BTreeMap<_, _>>());
    arrives(|r| r.list(Random::text).into_iter().collect::<BTreeSet<_>>());
    arrives(|r| if r.coin() { Ok(r.n()) } else { Err(r.text()) });
    arrives(|r| [Bound::Included(r.n()), Bound::Excluded(r.n()), Bound::Unbounded]);
    arrives(|r| (r.n()..r.n(), r.n()..=r.n(), Duration::from_millis(r.word() >> 1)));
    arrives(|r| [IpAddr::from(r.n().to_be_bytes()), IpAddr::from([r.n() as u16; 8])]);
    arrives(|r| SocketAddr::from((r.n().to_be_bytes(), r.n() as u16)));
    arrives(|r| bytes::Bytes::from(r.text()));
    arrives(|_| vec![(); 1000]);
    arrives(|r| (0..200).map(|_| every(r)).collect::<Vec<_>>());
}

animals! {
    enum SkippedVariant { A, #[serde(skip)] #[allow(dead_code)] B, C, D(u32), #[serde(skip)] #[allow(dead_code)] E(u32), F { x: u32 } }
    #[serde(rename_all = "kebab-case", rename_all_fields = "UPPERCASE", rename = "other")]
    enum Renamed { OneTwo { three: u32 }, #[serde(rename = "x")] Four, #[serde(alias = "5", alias = "a")] Five(u32) }
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct RenamedFields { one_two: u32, #[serde(rename = "äöü")] three: u32 }
    struct Aliased { #[serde(alias = "first", alias = "zzz")] a: u32, #[serde(alias = "b0")] b: u32, c: u32 }
    enum AliasedVariant { #[serde(alias = "z", alias = "0")] A, B { #[serde(alias = "a")] x: u32, y: u32 }, C }
    #[serde(transparent)]
    struct Transparent { inner: u32 }
    #[serde(from = "(u32, u32)", into = "(u32, u32)")]
    struct Converted { sum: u32, of: u32 }
    #[serde(try_from = "u32", into = "u32")]
    struct Even(u32);
    #[serde(tag = "t", content = "c")]
    enum Adjacent { A, B(u32), C(u32, String), D { x: u32 } }
    #[serde(tag = "t", content = "c")]
    enum AdjacentSkip { #[serde(skip)] #[allow(dead_code)] A, B(u32), C }
    enum Other { A, #[serde(other)] Rest }
    #[serde(bound = "T: Serialize + DeserializeOwned")]
    struct Bounded<T> { inner: T }
}

impl From<(u32, u32)> for Converted {
    fn from((sum, of): (u32, u32)) -> Self {
        Self { sum, of }
    }
}

impl From<Converted> for (u32, u32) {
    fn from(value: Converted) -> Self {
        (value.sum, value.of)
    }
}

impl TryFrom<u32> for Even {
    type Error = String;

    fn try_from(half: u32) -> Result<Self, String> {
        half.checked_mul(2).map(Self).ok_or_else(|| "too large to be doubled".to_owned())
    }
}

impl From<Even> for u32 {
    fn from(value: Even) -> Self {
        value.0 / 2
    }
}

fn skipped_variant(r: &mut Random) -> SkippedVariant {
    match r.word() % 4 {
        0 => SkippedVariant::A,
        1 => SkippedVariant::C,
        2 => SkippedVariant::D(r.n()),
        _ => SkippedVariant::F { x: r.n() },
    }
}

#[test]
fn names_variants_and_conversions_arrive() {
    arrives(skipped_variant);
    arrives(|r| r.list(skipped_variant));
    arrives(|r| match r.word() % 3 {
        0 => Renamed::OneTwo { three: r.n() },
        1 => Renamed::Four,
        _ => Renamed::Five(r.n()),
    });
    arrives(|r| RenamedFields { one_two: r.n(), three: r.n() });
    arrives(|r| Aliased { a: r.n(), b: r.n(), c: r.n() });
    arrives(|r| match r.word() % 3 {
        0 => AliasedVariant::A,
        1 => AliasedVariant::B { x: r.n(), y: r.n() },
        _ => AliasedVariant::C,
    });
    arrives(|r| Transparent { inner: r.n() });
    arrives(|r| Converted { sum: r.n(), of: r.n() });
    arrives(|r| Even(r.n() / 2 * 2));
    arrives(|r| match r.word() % 3 {
        0 => Adjacent::A,
        1 => Adjacent::B(r.n()),
        _ => Adjacent::C(r.n(), r.text()),
    });
    arrives(|r| if r.coin() { AdjacentSkip::B(r.n()) } else { AdjacentSkip::C });
    arrives(|r| if r.coin() { Other::A } else { Other::Rest });
    arrives(|r| Bounded { inner: r.text() });
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

animals! {
    struct Skipped { a: u32, #[serde(skip)] b: u32, c: u32 }
    struct SkippedDefault { #[serde(skip, default = "seven")] a: u32, b: u32 }
    struct SkippedPart(u32, #[serde(skip)] u32, u32);
    struct SkippedNewtype(#[serde(skip)] u32);
    enum SkippedContent { A(#[serde(skip)] u32), B(u32, #[serde(skip)] u32), C { #[serde(skip)] x: u32, y: u32 } }
    struct SkipIf {
        #[serde(skip_serializing_if = "Option::is_none", default)] a: Option<u32>,
        b: u32,
        #[serde(skip_serializing_if = "is_zero", default)] c: u32,
        d: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty", default, alias = "list")] e: Vec<u32>,
    }
    enum SkipIfVariant { A { #[serde(skip_serializing_if = "is_zero", default)] x: u32, y: u32 }, B }
    struct SkipIfAmong { map: HashMap<u32, SkipIf>, list: Vec<SkipIf>, last: u32 }
    #[serde(default)]
    struct SkipIfDefault { #[serde(skip_serializing_if = "is_zero")] a: u32, b: u32 }
    struct SkipIfNoDefault { #[serde(skip_serializing_if = "is_zero")] a: u32, b: u32 }
    struct NotWritten { a: u32, #[serde(skip_serializing, default)] b: u32, c: u32 }
    struct NotWrittenOption { a: u32, #[serde(skip_serializing)] b: Option<u32>, c: u32 }
}

impl Default for SkipIfDefault {
    fn default() -> Self {
        Self { a: 3, b: 4 }
    }
}

fn seven() -> u32 {
    7
}

fn small(r: &mut Random) -> u32 {
    r.n() % 2
}

#[test]
fn what_is_skipped_is_as_its_attributes_say() {
    arrives_as_json(|r| Skipped { a: r.n(), b: r.n(), c: r.n() });
    arrives_as_json(|r| SkippedDefault { a: r.n(), b: r.n() });
    arrives_as_json(|r| SkippedPart(r.n(), r.n(), r.n()));
    arrives_as_json(|r| SkippedNewtype(r.n()));
    arrives_as_json(|r| match r.word() % 3 {
        0 => SkippedContent::A(r.n()),
        1 => SkippedContent::B(r.n(), r.n()),
        _ => SkippedContent::C { x: r.n(), y: r.n() },
    });
    arrives(|r| match r.coin() {
        true => SkipIfVariant::A { x: small(r), y: r.n() },
        false => SkipIfVariant::B,
    });
    arrives_as_json(|r| SkipIfNoDefault { a: small(r), b: r.n() });
    arrives_as_json(|r| NotWritten { a: r.n(), b: r.n(), c: r.n() });
    arrives_as_json(|r| NotWrittenOption { a: r.n(), b: r.option(), c: r.n() });
}

fn skip_if(r: &mut Random) -> SkipIf {
    SkipIf { a: r.option(), b: r.n(), c: small(r), d: r.option(), e: r.list(small) }
}

/// JSON would have another value, and no word of it.
#[test]
fn what_is_left_out_and_made_anew_as_another_value_is_refused() {
    arrives(skip_if);
    arrives(|r| SkipIfAmong {
        map: (0..40).map(|_| (r.n(), skip_if(r))).collect(),
        list: r.list(skip_if),
        last: r.n(),
    });
    arrives(|r| SkipIfDefault { a: r.n() | 1, b: r.n() });
    let needles = &["field `a`", "skip_serializing_if", "default"];
    is_refused(|r| SkipIfDefault { a: 0, b: r.n() }, needles);
    is_refused(|r| Described(SkipIfDefault { a: 0, b: r.n() }), needles);
    is_refused(|_| vec![SkipIfDefault { a: 2, b: 1 }, SkipIfDefault { a: 0, b: 1 }], needles);
    // An output is written by a worker, which says the same.
    async fn make(_: ()) -> SkipIfDefault {
        SkipIfDefault { a: 0, b: 1 }
    }
    let refused = POOL.apply(make, ()).wait().unwrap_err().to_string();
    assert!(needles.iter().all(|needle| refused.contains(needle)), "{refused}");
}

animals! {
    struct NotRead { a: u32, #[serde(skip_deserializing)] b: u32, c: u32 }
    struct Crossed { #[serde(skip_serializing, default)] a: u32, #[serde(skip_deserializing)] b: u32, c: u32 }
    struct RenamedOneWay { #[serde(rename(serialize = "x"))] a: u32, b: u32 }
    enum VariantNotRead { #[serde(skip_deserializing)] A, B, #[serde(other)] C }
    enum VariantRenamedOneWay { #[serde(rename(serialize = "x"))] A, B }
    enum VariantNotWritten { #[serde(skip_serializing)] A, B }
    enum ContentNotWritten { A(#[serde(skip_serializing)] u32), B }
    struct PartNotWritten(u32, #[serde(skip_serializing, default)] u32);
}

#[test]
fn attributes_of_one_direction_are_refused_by_name() {
    let needles = &["skip_deserializing", "aiopool::Described"];
    is_refused(|r| NotRead { a: r.n(), b: r.n(), c: r.n() }, needles);
    is_refused(|r| Crossed { a: r.n(), b: r.n(), c: r.n() }, needles);
    is_refused(|r| RenamedOneWay { a: r.n(), b: r.n() }, &["rename", "RenamedOneWay"]);
    is_refused(|_| VariantNotRead::A, &["skip_deserializing", "variant `A`"]);
    arrives(|r| if r.coin() { VariantNotRead::B } else { VariantNotRead::C });
    is_refused(|_| VariantRenamedOneWay::A, &["rename", "variant `x`"]);
    arrives(|_| VariantRenamedOneWay::B);
    is_refused(|_| VariantNotWritten::A, &["VariantNotWritten::A cannot be serialized"]);
    arrives(|_| VariantNotWritten::B);
    is_refused(|r| ContentNotWritten::A(r.n()), &["skip_serializing", "Unit variant"]);
    is_refused(|r| PartNotWritten(r.n(), r.n()), &["skip_serializing", "1 values written, 2 read"]);
}

animals! {
    #[serde(untagged)]
    enum Untagged { Number(u32), Text(String), Nothing, Pair(u32, u32), Struct { a: Option<u32> } }
    #[serde(tag = "type")]
    enum Tagged { A, B { value: u32, list: Vec<Option<u32>> }, C(Newtypes) }
    struct Newtypes { x: i64 }
    struct Flat { id: u32, #[serde(flatten)] inner: Newtypes, #[serde(flatten)] rest: BTreeMap<String, u32> }
    enum PartlyUntagged { A(u32), #[serde(untagged)] Rest(String) }
    struct Field { a: u32, #[serde(with = "aiopool::described")] b: Untagged, c: u32 }
}

fn untagged(r: &mut Random) -> Untagged {
    match r.word() % 5 {
        0 => Untagged::Number(r.n()),
        1 => Untagged::Text(r.text()),
        2 => Untagged::Nothing,
        3 => Untagged::Pair(r.n(), r.n()),
        _ => Untagged::Struct { a: r.option() },
    }
}

#[test]
fn what_needs_a_description_is_refused_without_and_arrives_with_one() {
    needs_described(untagged, &["untagged"]);
    needs_described(
        |r| match r.word() % 3 {
            0 => Tagged::A,
            1 => Tagged::B { value: r.n(), list: r.list(Random::option) },
            _ => Tagged::C(Newtypes { x: -5 }),
        },
        &["serde(tag", "internally tagged enum Tagged"],
    );
    needs_described(
        |r| Flat {
            id: r.n(),
            inner: Newtypes { x: -1 },
            rest: r.list(|r| (r.text() + "-", r.n())).into_iter().collect(),
        },
        &["flatten"],
    );
    needs_described(
        |r| if r.coin() { PartlyUntagged::A(r.n()) } else { PartlyUntagged::Rest(r.text()) },
        &["untagged"],
    );
    needs_described(|r| Adjacent::D { x: r.n() }, &["content = ", "Adjacent::D"]);
    needs_described(|r| serde_json::json!({"a": [r.n(), r.text(), null, -1.5]}), &["JSON value"]);
    arrives(|r| Field { a: r.n(), b: untagged(r), c: r.n() });
}

animals! {
    struct Wide { x: u128 }
    struct FlatWide { id: u32, #[serde(flatten)] inner: Wide }
}

/// A text of JSON as serde_json's `RawValue` is one: written as a struct, read as a newtype.
#[derive(Debug, PartialEq, Clone)]
struct Raw(String);

const RAW: &str = "$serde_json::private::RawValue";

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut raw = to.serialize_struct(RAW, 1)?;
        raw.serialize_field(RAW, &self.0)?;
        raw.end()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfJson;
        impl serde::de::Visitor<'_> for OfJson {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any valid JSON value")
            }
        }
        from.deserialize_newtype_struct(RAW, OfJson)
    }
}

#[test]
fn what_no_format_can_carry_is_refused_with_another_remedy() {
    for x in [7, u128::MAX] {
        let flat = FlatWide { id: 1, inner: Wide { x } };
        let refused = there_and_back(&Described(flat)).unwrap_err();
        assert!(refused.contains("FlatWide") && refused.contains("two u64"), "{refused}");
    }
    for refused in [
        there_and_back(&Raw("[1]".to_owned())).unwrap_err(),
        there_and_back(&Described(Raw("[1]".to_owned()))).unwrap_err(),
    ] {
        assert!(refused.contains("RawValue::get"), "{refused}");
    }
}

/// A list that is nested as deeply as it is long: by options, lists, maps or variants.
#[derive(Serialize, Deserialize, Debug, Clone, Default)]
struct Deep {
    option: Option<Box<Deep>>,
    list: Vec<Deep>,
    map: BTreeMap<u8, Deep>,
    variant: Wrap,
}

#[derive(Serialize, Deserialize, Debug, Clone, Default)]
enum Wrap {
    #[default]
    Nothing,
    Newtype(Box<Deep>),
    Tuple(u8, Box<Deep>),
    Struct {
        inner: Box<Deep>,
    },
}

fn deep(levels: u32, how: u32) -> Deep {
    let mut value = Deep::default();
    for _ in 0..levels {
        let inner = value;
        let mut outer = Deep::default();
        match how {
            0 => outer.option = Some(Box::new(inner)),
            1 => outer.list.push(inner),
            2 => drop(outer.map.insert(1, inner)),
            3 => outer.variant = Wrap::Newtype(Box::new(inner)),
            4 => outer.variant = Wrap::Tuple(1, Box::new(inner)),
            _ => outer.variant = Wrap::Struct { inner: Box::new(inner) },
        }
        value = outer;
    }
    value
}

async fn make_deep((levels, how): (u32, u32)) -> Deep {
    deep(levels, how)
}

async fn forget_deep(value: Deep) {
    std::mem::forget(value);
}

/// Neither the host nor a worker dies of a value that its stack has no room for.
#[test]
fn what_is_nested_too_deeply_is_refused_by_either_side() {
    let pool = Pool::builder().processes(1).build().unwrap();
    // With more stack than the worker has: what the host can write, the worker may not read.
    let large = std::thread::Builder::new().stack_size(1 << 30);
    let host = large.spawn(move || {
        for how in 0..6 {
            for levels in [50, 100_000] {
                let there = pool.apply(forget_deep, deep(levels, how)).wait();
                let described = pool.apply(echo::<Described<Deep>>, Described(deep(levels, how)));
                let described = described.wait().map(drop);
                for outcome in [there, described] {
                    match outcome {
                        Ok(()) => assert!(levels < 1000),
                        Err(error) => {
                            let text = error.to_string();
                            assert!(levels > 1000 && text.contains("nested more deeply"), "{text}");
                        }
                    }
                }
            }
        }
        pool
    });
    let pool = host.unwrap().join().unwrap();
    // With less: a worker's outputs do not end the host.
    let small = std::thread::Builder::new().stack_size(300 << 10);
    let host = small.spawn(move || {
        for how in 0..6 {
            // A build with small frames may have room.
            if let Err(error) = pool.apply(make_deep, (1000, how)).wait().map(std::mem::forget) {
                assert!(error.to_string().contains("nested more deeply"), "{error}");
            }
        }
    });
    host.unwrap().join().unwrap();
}
