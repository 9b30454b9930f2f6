//! The first bytes of a control region: what it is and what shape it has.
#![forbid(unsafe_code)]

use crate::shm::Region;
use crate::sync::atomic::Ordering::Relaxed;

use super::layout::{HEADER, Shape};

/// `"aiopool"` and a byte, little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"aiopool\0");

/// Grows with every change of what is where in a control region or an arena, of a word's bits and
/// of what they mean, in the same commit: host and workers may be of two builds of one version of
/// this crate. `layout.txt` has the layout of this version, and a test compares them.
///
/// 2: the attention word counts the audit's questions beside the calls.
/// 3: a call says how many attempts were made, a report whose future is polled, a record how far
/// its task is.
/// 4: host and workers say on which processors they run.
/// 5: the attention word says that a task was assigned to the worker.
/// 6: a report says which program its worker runs.
/// 7: rings of timelines, and their switch; a queued record says when it was queued.
/// 8: a report says which task a loop of its own has begun.
pub(crate) const LAYOUT_VERSION: u64 = 8;

/// Writes the header of a new region.
pub(super) fn write(region: &Region, shape: Shape) {
    let fields = [
        MAGIC,
        LAYOUT_VERSION,
        u64::from(shape.capacity),
        u64::from(shape.slots),
        u64::from(shape.classes),
    ];
    // Relaxed: written before the region's descriptor is shared.
    region
        .words(0, fields.len())
        .iter()
        .zip(fields)
        .for_each(|(word, field)| word.store(field, Relaxed));
}

/// Reads and checks the header of a region that another process made.
pub(super) fn read(region: &Region) -> Result<Shape, String> {
    if region.len() < HEADER {
        return Err(format!("a region of {} bytes has no header", region.len()));
    }
    let [magic, version, capacity, slots, classes] =
        std::array::from_fn(|i| region.words(0, 5)[i].load(Relaxed));
    if magic != MAGIC {
        return Err(format!("{magic:#x} is not the magic word of a control region"));
    }
    if version != LAYOUT_VERSION {
        return Err(format!("layout version {version} where {LAYOUT_VERSION} is expected"));
    }
    let shape = Shape { capacity: capacity as u32, slots: slots as u32, classes: classes as u32 };
    shape.check(region.len())?;
    Ok(shape)
}
