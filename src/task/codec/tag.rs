//! What a byte of the described format, and a variant tag of the compact one, says.
#![forbid(unsafe_code)]

macro_rules! tags {
    ($($name:ident),* $(,)?) => {
        tags!(@ 0_u8; $($name,)*);
    };
    (@ $number:expr; $name:ident, $($rest:ident,)*) => {
        pub(super) const $name: u8 = $number;
        tags!(@ $number + 1; $($rest,)*);
    };
    (@ $number:expr;) => {};
}

tags! {
    END, UNIT, NONE, SOME, BOOL, U8, U16, U32, U64, U128, I8, I16, I32, I64, I128, F32, F64, CHAR,
    STR, BYTES, SEQ, MAP,
}

/// What kind of content a variant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Unit = 0,
    Newtype = 1,
    Tuple = 2,
    Struct = 3,
}

impl Kind {
    /// The kind of a variant tag.
    #[inline]
    pub(super) fn of(tag: u64) -> Self {
        match tag & 3 {
            0 => Self::Unit,
            1 => Self::Newtype,
            2 => Self::Tuple,
            _ => Self::Struct,
        }
    }
}
