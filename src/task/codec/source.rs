//! The front of bytes that are being read, and the names that came by.
#![forbid(unsafe_code)]

use super::depth::Depth;
use super::refusal::Refusal;
use super::tag::{self, Kind};

/// How many elements of a list may have no bytes: it takes some 10 ms to make them.
const WITHOUT_BYTES: usize = 1 << 24;

/// Takes values off the front of bytes; `DESCRIBED` ones with what they are.
pub(super) struct Reader<'de, const DESCRIBED: bool> {
    input: &'de [u8],
    /// The variants' names so far.
    first: Option<&'de str>,
    more: Vec<&'de str>,
    /// What comes is the key of a map.
    pub(super) key: bool,
    pub(super) depth: Depth,
}

impl<'de, const DESCRIBED: bool> Reader<'de, DESCRIBED> {
    #[inline]
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self { input, first: None, more: Vec::new(), key: false, depth: Depth::here() }
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.input.len()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Refusal> {
        let (&byte, rest) = self.input.split_first().ok_or_else(Refusal::short)?;
        self.input = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (&array, rest) = self.input.split_first_chunk().ok_or_else(Refusal::short)?;
        self.input = rest;
        Ok(array)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { Err(too_large()) } else { Ok(value) };
            }
        }
        Err(too_large())
    }

    pub(super) fn wide(&mut self) -> Result<u128, Refusal> {
        let mut value = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if shift == 126 && byte > 3 { Err(too_large()) } else { Ok(value) };
            }
        }
        Err(too_large())
    }

    #[inline]
    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Refusal> {
        T::try_from(self.varint()?).map_err(|_| too_large())
    }

    #[inline]
    pub(super) fn signed<T: TryFrom<i64>>(&mut self) -> Result<T, Refusal> {
        let value = self.varint()?;
        T::try_from((value >> 1) as i64 ^ -((value & 1) as i64)).map_err(|_| too_large())
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], Refusal> {
        let len = self.number()?;
        let (bytes, rest) = self.input.split_at_checked(len).ok_or_else(Refusal::short)?;
        self.input = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'de str, Refusal> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Refusal::new("a string that is not UTF-8"))
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Refusal> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Refusal::new(format!("{other} where 0 or 1 belongs"))),
        }
    }

    pub(super) fn character(&mut self) -> Result<char, Refusal> {
        let number = self.number::<u32>()?;
        char::from_u32(number).ok_or_else(|| Refusal::new(format!("{number} is no character")))
    }

    /// A variant's name and what kind of content follows.
    #[inline]
    pub(super) fn variant(&mut self) -> Result<(&'de str, Kind), Refusal> {
        let tag = self.varint()?;
        let kind = Kind::of(tag);
        let name = match tag >> 2 {
            0 => {
                let name = self.text()?;
                match self.first {
                    None => self.first = Some(name),
                    Some(_) => self.more.push(name),
                }
                Some(name)
            }
            1 => self.first,
            id => self.more.get(id as usize - 2).copied(),
        };
        name.map(|name| (name, kind)).ok_or_else(|| Refusal::new("a variant without a name"))
    }

    /// The key of a map, or the tag of an adjacently tagged enum, which is written as a variant.
    pub(super) fn identifier(&mut self) -> Result<&'de str, Refusal> {
        if std::mem::take(&mut self.key) {
            return self.text();
        }
        match self.variant()? {
            (name, Kind::Unit) => Ok(name),
            (name, _) => Err(Refusal::halves(name, "a variant is written, its name is read")),
        }
    }

    /// A variant's name as the described format has it: alone, or as the key of its content.
    pub(super) fn described_variant(&mut self) -> Result<(&'de str, Kind), Refusal> {
        match self.byte()? {
            tag::STR => Ok((self.text()?, Kind::Unit)),
            tag::MAP if self.byte()? == tag::STR => Ok((self.text()?, Kind::Newtype)),
            _ => Err(Refusal::new("something else where an enum belongs")),
        }
    }

    /// Whether nothing is left of the list that is being read.
    #[inline]
    pub(super) fn at_end(&self) -> Result<bool, Refusal> {
        Ok(*self.input.first().ok_or_else(Refusal::short)? == tag::END)
    }

    /// Takes the end of a list of which everything has been read.
    pub(super) fn end(&mut self) -> Result<(), Refusal> {
        if self.byte()? == tag::END { Ok(()) } else { Err(unread()) }
    }

    /// How many elements or pairs follow. Most have at least a byte each; a number that only
    /// damage explains must not keep the reader busy with values of no bytes.
    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, Refusal> {
        let len = self.number::<usize>()?;
        if len > self.input.len() + WITHOUT_BYTES {
            return Err(Refusal::short());
        }
        Ok(len)
    }
}

#[cold]
fn too_large() -> Refusal {
    Refusal::new("a number that its type cannot hold")
}

#[cold]
pub(super) fn unread() -> Refusal {
    Refusal::new("a Deserialize leaves values unread that Serialize has written")
}
