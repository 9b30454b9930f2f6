//! Bytes in the making, and the names that are among them.
#![forbid(unsafe_code)]

use super::depth::Depth;
use super::tag::{self, Kind};

/// Appends values to bytes; `DESCRIBED` ones with what they are.
pub(super) struct Writer<'o, const DESCRIBED: bool> {
    pub(super) out: &'o mut Vec<u8>,
    /// The fields that `skip_serializing_if` has left out; what reads them makes them anew.
    pub(super) left_out: Vec<&'static str>,
    names: Names,
    pub(super) depth: Depth,
}

impl<'o, const DESCRIBED: bool> Writer<'o, DESCRIBED> {
    #[inline]
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        let names = Names { first: None, more: Vec::new() };
        Self { out, left_out: Vec::new(), names, depth: Depth::here() }
    }

    #[inline(always)]
    pub(super) fn tag(&mut self, tag: u8) {
        if DESCRIBED {
            self.out.push(tag);
        }
    }

    #[inline]
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    pub(super) fn wide(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn variant(&mut self, kind: Kind, name: &'static str) {
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
