//! The names of a struct's fields as a word: what the writer wrote is what the reader reads.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// A hash over names. All of it is arithmetic on what the compiler knows where names are literals,
/// so a derived `Serialize` pays for the result only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape(u64);

/// An odd number with bits all over (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Shape {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self(SPREAD)
    }

    #[inline(always)]
    pub(super) fn add(&mut self, name: &str) {
        let bytes = name.as_bytes();
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            self.mix(u64::from_le_bytes(*eight));
        }
        // At most seven bytes, and the length in the eighth: no two names have the same words.
        let mut last = bytes.len() as u64;
        for &byte in rest {
            last = last << 8 | u64::from(byte);
        }
        self.mix(last);
    }

    #[inline(always)]
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(SPREAD);
    }

    /// 31 bits of it.
    #[inline(always)]
    pub(super) fn word(self) -> u32 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(SPREAD);
        (folded >> 33) as u32
    }
}

/// The shape word of names in their order.
fn word<'n>(names: impl IntoIterator<Item = &'n str>) -> u32 {
    let mut shape = Shape::new();
    for name in names {
        shape.add(name);
    }
    shape.word()
}

/// Where a list of names lies, how long it is, and its word.
type Known = (usize, usize, u32);
const PLACES: usize = 32;

thread_local! {
    static KNOWN: [Cell<Known>; PLACES] = const { [const { Cell::new((0, 0, 0)) }; PLACES] };
}

/// The shape word of all of `fields`, which a struct's type has once and for ever.
#[inline]
pub(super) fn of(fields: &'static [&'static str]) -> u32 {
    let (at, len) = (fields.as_ptr() as usize, fields.len());
    KNOWN.with(|known| {
        let place = &known[at / 16 % PLACES];
        match place.get() {
            (there, as_long, word) if there == at && as_long == len => word,
            _ => {
                let word = word(fields.iter().copied());
                place.set((at, len, word));
                word
            }
        }
    })
}

/// How many selections of names are tried.
const TRIES: usize = 4096;

/// The selection of `fields`, in their order, whose word is `wanted`: those with the fewest left
/// out come first.
pub(super) fn find(fields: &'static [&'static str], wanted: u32) -> Option<Vec<&'static str>> {
    let mut tries = TRIES;
    let mut left_out = Vec::new();
    (0..=fields.len()).find_map(|number| {
        left_out.clear();
        pick(fields, number, 0, &mut left_out, wanted, &mut tries)
    })
}

/// Leaves `number` more names out, none before `from`.
fn pick(
    fields: &'static [&'static str],
    number: usize,
    from: usize,
    left_out: &mut Vec<usize>,
    wanted: u32,
    tries: &mut usize,
) -> Option<Vec<&'static str>> {
    if number == 0 {
        *tries = tries.checked_sub(1)?;
        let kept = || {
            let kept = fields.iter().enumerate().filter(|(i, _)| !left_out.contains(i));
            kept.map(|(_, name)| *name)
        };
        return (word(kept()) == wanted).then(|| kept().collect());
    }
    for at in from..=fields.len() - number {
        left_out.push(at);
        let found = pick(fields, number - 1, at + 1, left_out, wanted, tries);
        left_out.pop();
        if found.is_some() || *tries == 0 {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_order_make_the_word() {
        let lists: &[&[&str]] = &[
            &[],
            &[""],
            &["a"],
            &["ab"],
            &["a", "b"],
            &["b", "a"],
            &["a", "b", ""],
            &["eightlet"],
            &["eightlet", ""],
            &["eightlets"],
            &["eightlets and more of it"],
        ];
        for (i, one) in lists.iter().enumerate() {
            for (j, other) in lists.iter().enumerate() {
                let same = word(one.iter().copied()) == word(other.iter().copied());
                assert_eq!(same, i == j, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_selection_is_found_by_its_word() {
        const FIELDS: &[&str] = &["a", "alpha", "b", "c", "d"];
        for kept in [FIELDS, &["a", "b", "c", "d"], &["alpha", "d"], &["c"], &[]] {
            assert_eq!(find(FIELDS, word(kept.iter().copied())).as_deref(), Some(kept));
        }
        assert_eq!(find(FIELDS, word(["b", "a"])), None);
        assert_eq!(of(FIELDS), word(FIELDS.iter().copied()));
        assert_eq!(of(FIELDS), of(FIELDS));
    }
}
