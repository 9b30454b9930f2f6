//! The table of function entries, at the start of the request arena: only the host can write it,
//! so what a worker calls never comes from memory that another worker could have scribbled on.

use crate::shm::Region;
use crate::view::cut;

use super::address::ImageAddress;
use super::entry::{Target, Vtable};

/// Bytes at the start of the request arena that the table takes.
pub(crate) const TABLE: usize = 256 << 10;

/// The most functions that one pool can have been given.
pub(crate) const MAX_FUNCTIONS: u32 = (TABLE / ENTRY) as u32;

/// The longest name, in bytes.
pub(crate) const MAX_NAME: usize = ENTRY - NAME_AT;

const ENTRY: usize = 256;
const NAME_AT: usize = 32;

/// One function as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FunctionEntry {
    /// Its vtable; none if workers know it by name only.
    pub(crate) vtable: Option<ImageAddress<Vtable>>,
    /// For functions of other languages.
    pub(crate) target: Target,
    /// Its name; may be cut off where the vtable is known.
    pub(crate) name: String,
}

/// Writes entry `number`; the host alone, before any task names it.
pub(crate) fn write(requests: &Region, number: u32, entry: &FunctionEntry) {
    let at = number as usize * ENTRY;
    assert!(at + ENTRY <= TABLE);
    let name = cut(&entry.name, MAX_NAME);
    let mut bytes = [0; ENTRY];
    let vtable = entry.vtable.map_or(0, ImageAddress::to_raw);
    let head = [vtable, entry.target.address, entry.target.user, name.len() as u64 | PRESENT];
    for (slot, field) in bytes.chunks_mut(8).zip(head) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    requests.write(at, &bytes);
}

/// Reads entry `number`, or `None` if the host never wrote it.
pub(crate) fn read(requests: &Region, number: u32) -> Option<FunctionEntry> {
    if number >= MAX_FUNCTIONS {
        return None;
    }
    let mut bytes = [0; ENTRY];
    requests.read(number as usize * ENTRY, &mut bytes);
    let field = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("8 bytes"));
    if field(3) & PRESENT == 0 {
        return None;
    }
    let len = (field(3) & !PRESENT) as usize;
    let name = bytes.get(NAME_AT..NAME_AT + len)?;
    Some(FunctionEntry {
        vtable: ImageAddress::from_raw(field(0)),
        target: Target { address: field(1), user: field(2) },
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

const PRESENT: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_missing_ones_are_none() {
        let region = Region::create(c"test", 1 << 20).unwrap();
        let entry = FunctionEntry {
            vtable: ImageAddress::from_raw(u64::MAX),
            target: Target { address: 1, user: 2 },
            name: "fetch".to_owned(),
        };
        write(&region, 5, &entry);
        assert_eq!(read(&region, 5), Some(entry));
        assert_eq!(read(&region, 4), None);
        assert_eq!(read(&region, MAX_FUNCTIONS), None);
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let region = Region::create(c"test", 1 << 20).unwrap();
        let entry =
            FunctionEntry { vtable: None, target: Target::default(), name: "£".repeat(MAX_NAME) };
        write(&region, MAX_FUNCTIONS - 1, &entry);
        let back = read(&region, MAX_FUNCTIONS - 1).unwrap();
        assert_eq!(back.name, "£".repeat(MAX_NAME / 2));
    }
}
