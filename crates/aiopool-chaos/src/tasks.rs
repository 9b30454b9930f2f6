//! The task functions. Each counts its run first.

use std::time::Duration;

use bytes::Bytes;

use crate::books;

/// The answer to a number.
pub fn answer(number: u32) -> u64 {
    u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA5
}

/// `len` bytes that no other task's output has.
pub fn pattern(number: u32, len: usize) -> Vec<u8> {
    let mut word = answer(number) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// As little as a task can do.
pub async fn small(number: u32) -> u64 {
    books::ran(number);
    answer(number)
}

/// A small input, an output of `len` bytes.
pub async fn make((number, len): (u32, usize)) -> Bytes {
    books::ran(number);
    pattern(number, len).into()
}

/// A large input: its length and the sum of its bytes.
pub async fn weigh((number, bytes): (u32, Vec<u8>)) -> (usize, u64) {
    books::ran(number);
    (bytes.len(), bytes.iter().map(|&byte| u64::from(byte)).sum())
}

/// A large input that comes back as a large output.
pub async fn mirror((number, bytes): (u32, Bytes)) -> Bytes {
    books::ran(number);
    bytes
}

/// Holds up its worker until the gate is opened.
pub async fn hold(number: u32) -> u64 {
    books::ran(number);
    books::stand_at_gate();
    answer(number)
}

/// Sleeps in the event loop.
pub async fn nap((number, millis): (u32, u64)) -> u64 {
    books::ran(number);
    tokio::time::sleep(Duration::from_millis(millis)).await;
    answer(number)
}

/// Sleeps and holds up its worker.
pub async fn block((number, millis): (u32, u64)) -> u64 {
    books::ran(number);
    std::thread::sleep(Duration::from_millis(millis));
    answer(number)
}

/// Ends with an error.
pub async fn fail(number: u32) -> Result<u64, String> {
    books::ran(number);
    Err(format!("no {number}"))
}

/// Panics.
pub async fn panic(number: u32) -> u64 {
    books::ran(number);
    panic!("at {number}")
}

/// Ends its worker.
pub async fn die(number: u32) -> u64 {
    books::ran(number);
    std::process::abort()
}
