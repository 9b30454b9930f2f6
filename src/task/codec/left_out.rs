//! Fields that `skip_serializing_if` leaves out, and that the reader makes anew as `default` says.
//!
//! No byte says what was left out. But a field that is made anew as it was is left out again, so
//! the writer reads the value, writes that, and compares what is left out. Only values that leave
//! something out pay for it.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use super::sink::Writer;
use super::source::Reader;

/// Refuses `bytes`, a `T` without the fields `left_out`, if one of these would be read as another
/// value than it had.
///
/// Where `default` gives another value that is left out too, this does not see it.
#[cold]
#[inline(never)]
pub(super) fn check<T: Serialize + DeserializeOwned, const DESCRIBED: bool>(
    mut left_out: Vec<&'static str>,
    bytes: &[u8],
) -> Result<(), Refusal> {
    // The reader says best itself why it cannot read the value.
    let Ok(read) = T::deserialize(&mut Reader::<DESCRIBED>::new(bytes)) else { return Ok(()) };
    let mut again = Vec::with_capacity(bytes.len());
    let mut writer = Writer::<DESCRIBED>::new(&mut again);
    read.serialize(&mut writer)?;
    let mut left_out_again = writer.left_out;
    // Hash maps and sets come in another order each time.
    left_out.sort_unstable();
    left_out_again.sort_unstable();
    let mut others = left_out_again.into_iter().peekable();
    let is_missing = |name: &&'static str| {
        while others.next_if(|other| other < name).is_some() {}
        others.next_if_eq(name).is_none()
    };
    match left_out.into_iter().find(is_missing) {
        Some(field) => Err(Refusal::made_anew(field)),
        None => Ok(()),
    }
}
