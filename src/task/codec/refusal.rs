//! Why a value cannot be encoded or decoded: a text, and nothing in the way of what works.
#![forbid(unsafe_code)]

use std::fmt::{self, Display};

use serde::{de, ser};

/// A reason, of the type's own code or of the codec. One pointer, so that results stay small.
#[derive(Debug)]
pub(super) struct Refusal(Box<Reason>);

#[derive(Debug)]
struct Reason(String);

/// How to send what the compact format cannot carry.
pub(super) const REMEDY: &str = "send it as `aiopool::Described(value)`, or mark the field #[serde(with = \"aiopool::described\")]";

impl Refusal {
    #[cold]
    #[inline(never)]
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Box::new(Reason(text.into())))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn short() -> Self {
        Self::new("the bytes end before the value does")
    }

    #[cold]
    #[inline(never)]
    pub(super) fn deep() -> Self {
        Self::new(
            "it is nested more deeply than this thread's stack has room for: raise the stack's size \
             (ulimit -s), or send it as a list",
        )
    }

    /// The two halves of struct or variant `name` do not fit.
    #[cold]
    #[inline(never)]
    pub(super) fn halves(name: &str, detail: impl Display) -> Self {
        Self::new(format!(
            "`{name}`: {detail}: an attribute for one direction only (#[serde(skip_serializing)], \
             #[serde(skip_deserializing)], #[serde(rename(serialize = ..))], ..) or a Serialize \
             and a Deserialize that do not match; use it for both directions, or {REMEDY}"
        ))
    }

    /// What is read for a field that was left out is not what was left out.
    #[cold]
    #[inline(never)]
    pub(super) fn made_anew(field: &str) -> Self {
        Self::new(format!(
            "field `{field}`: #[serde(skip_serializing_if)] leaves out another value than \
             #[serde(default)] gives: have `default` give what is left out, or leave nothing out"
        ))
    }

    /// The type named by `expected` is to be found out from its bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn undescribed(expected: &dyn de::Expected) -> Self {
        let what = expected.to_string();
        let attribute = if what.starts_with("internally tagged enum") {
            "#[serde(tag = \"..\")]"
        } else if what.starts_with("struct variant") {
            "#[serde(tag = \"..\", content = \"..\")] with such a variant"
        } else if what == "any value" {
            "#[serde(untagged)], #[serde(flatten)] or a content of any type"
        } else {
            "a type that takes what comes, as serde_json::Value does, or #[serde(untagged)]"
        };
        Self::new(format!(
            "{what}: its bytes do not say what they are, which {attribute} needs: {REMEDY}"
        ))
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    #[cold]
    fn custom<T: Display>(text: T) -> Self {
        Self::new(text.to_string())
    }
}

impl de::Error for Refusal {
    #[cold]
    fn custom<T: Display>(text: T) -> Self {
        let text = text.to_string();
        match remedy(&text) {
            Some(remedy) => Self::new(format!("{text}: {remedy}")),
            None => Self::new(text),
        }
    }
}

/// Returns what to do about texts of serde's and serde_json's own that do not say it, and that no
/// format can help.
fn remedy(text: &str) -> Option<&'static str> {
    let wide = ["u128 is not supported", "i128 is not supported", "` as u128, ", "` as i128, "];
    if wide.iter().any(|wide| text.contains(wide)) {
        return Some(
            "serde keeps no integers of 128 bits for #[serde(flatten)], #[serde(untagged)] and \
             #[serde(tag = \"..\")]: send them as text, or as two u64",
        );
    }
    (text == "invalid type: newtype struct, expected any valid JSON value")
        .then_some("serde_json's RawValue is for JSON alone: send its text, `RawValue::get`")
}
