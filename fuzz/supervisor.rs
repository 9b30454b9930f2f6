//! libFuzzer decides what workers say of themselves; `src/supervisor/fuzz.rs` is what it drives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiopool::fuzz_supervisor(bytes);
});
