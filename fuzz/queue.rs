//! libFuzzer decides what hostile workers write; `src/queue/fuzz` is what it drives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiopool::fuzz_queue(bytes);
});
