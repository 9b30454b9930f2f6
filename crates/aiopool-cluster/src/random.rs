//! Numbers that nobody else has.

use std::io::Read;

/// Returns 128 random bits.
///
/// # Panics
///
/// On a system without `/dev/urandom`.
pub(crate) fn bits() -> u128 {
    let mut bytes = [0; 16];
    let file = std::fs::File::open("/dev/urandom");
    file.and_then(|mut file| file.read_exact(&mut bytes)).expect("the system has /dev/urandom");
    u128::from_le_bytes(bytes)
}

/// Returns the machine's name.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
