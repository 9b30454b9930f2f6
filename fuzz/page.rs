//! libFuzzer decides what stands on another pool's stats page; `src/stats/reader.rs` reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiopool::fuzz_page(bytes);
});
