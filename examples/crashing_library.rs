//! A C library that crashes: each call in a worker that it may take down, confined and limited.
//!
//!     cargo run --example crashing_library

#![allow(unsafe_code)] // It calls C.

use aiopool::{Limits, Pool, TaskOptions, sync_fn};

unsafe extern "C" {
    fn strlen(text: *const std::ffi::c_char) -> usize;
}

/// Measures a C string at an address, as a careless binding would: the address is believed.
fn measure(address: usize) -> usize {
    let text = if address == 1 { c"a string".as_ptr() } else { address as *const _ };
    // SAFETY: none of it is, for any address but 1: that is what the worker is for.
    unsafe { strlen(text) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool =
        Pool::builder().processes(2).limits(Limits::new().cpu_seconds(60)).probation(10).build()?;
    // Nothing else runs beside a call, so a crash costs no other.
    let careful = pool.with(TaskOptions::new().alone(true));
    let addresses = [1, 1, 16, 1, 4096, 1];
    let (mut lengths, mut crashes) = (0, 0);
    for result in careful.map(sync_fn(measure), addresses).into_blocking_iter() {
        match result {
            Ok(length) => {
                assert_eq!(length, 8);
                lengths += 1;
            }
            Err(error) => {
                let lost = error.worker_lost().expect("only a crash ends a call");
                assert!(lost.suspect && !error.is_bystander());
                crashes += 1;
                println!("{error}");
            }
        }
    }
    println!("{lengths} lengths, {crashes} crashes, and the program goes on");
    Ok(())
}
