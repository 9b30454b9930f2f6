//! A round trip without a copy, by the C API, which is where payloads are borrowed: the host writes
//! its input where the worker reads it, the worker its output where the host reads it.

#![allow(unsafe_code)] // An island: pointers as C gives and takes them.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, from_ref, null_mut};
use std::time::{Duration, Instant};

use aiopool::ffi::*;

const NAME: &std::ffi::CStr = c"bench_lent";
/// Long enough for any round trip, in milliseconds.
const LIMIT: u64 = 10_000;

/// A pool of one worker that takes borrowed inputs and gives borrowed outputs of `len` bytes.
pub struct Loans {
    pool: *mut aiopool_pool,
    function: u32,
    len: usize,
}

/// Makes the worker's function known; before `aiopool::init`.
pub fn register() -> io::Result<u32> {
    let mut number = MaybeUninit::uninit();
    // SAFETY: a name that lasts, a function, no pointer for it, and room for the number.
    let status = unsafe {
        aiopool_function_register(NAME.as_ptr(), Some(answer), null_mut(), Some(&mut number))
    };
    check(status)?;
    // SAFETY: written, as the status says.
    Ok(unsafe { number.assume_init() })
}

/// Looks at the input's first byte and writes that of as long an output.
unsafe extern "C" fn answer(
    _: *mut aiopool_task,
    input: *const c_void,
    len: usize,
    output: *mut aiopool_output,
    _: *mut c_void,
) -> i32 {
    let mut data = MaybeUninit::uninit();
    // SAFETY: the handle is the call's; the memory is `len` bytes, as is the input.
    unsafe {
        let status = aiopool_output_loan(NonNull::new(output), len, Some(&mut data));
        if status != AIOPOOL_OK {
            return status;
        }
        data.assume_init().cast::<u8>().write(input.cast::<u8>().read());
    }
    0
}

fn check(status: aiopool_status) -> io::Result<()> {
    if status == AIOPOOL_OK {
        return Ok(());
    }
    Err(io::Error::other(format!("the C API says {status}")))
}

impl Loans {
    /// `function` is what [`register`] gave.
    pub fn new(function: u32, len: usize) -> io::Result<Self> {
        let (mut options, mut pool) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: room for each; the options are written when the first call has returned, and
        // the pool when the second has.
        unsafe {
            check(aiopool_pool_options_init(Some(&mut options)))?;
            let mut options: aiopool_pool_options = options.assume_init();
            options.processes = 1;
            check(aiopool_pool_start(&raw const options, Some(&mut pool)))?;
            Ok(Self { pool: pool.assume_init(), function, len })
        }
    }

    /// Makes `operations` round trips, one after the other.
    pub fn block(&mut self, operations: u64) -> io::Result<Duration> {
        for i in 0..operations.min(8) {
            self.once(i as u8)?;
        }
        let start = Instant::now();
        for i in 0..operations {
            self.once(i as u8)?;
        }
        Ok(start.elapsed())
    }

    fn once(&mut self, value: u8) -> io::Result<()> {
        let (mut data, mut loan) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let (mut call, mut outcome) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the pool is there until this is dropped; what a call writes is read when it has
        // returned `AIOPOOL_OK`; the loan and the outcome's data are `len` bytes, the latter until
        // its release.
        unsafe {
            let pool = NonNull::new(self.pool);
            check(aiopool_pool_loan(pool, self.len, Some(&mut data), Some(&mut loan)))?;
            let data: *mut c_void = data.assume_init();
            data.cast::<u8>().write(value);
            check(aiopool_call_init(Some(&mut call)))?;
            let mut call: aiopool_call = call.assume_init();
            call.function = self.function;
            call.flags = AIOPOOL_CALL_BORROW_OUTPUT;
            call.loan = loan.assume_init();
            check(aiopool_pool_submit(pool, from_ref(&call), LIMIT, None))?;
            check(aiopool_pool_wait(pool, LIMIT, Some(&mut outcome)))?;
            let outcome: *mut aiopool_outcome = outcome.assume_init();
            check(aiopool_outcome_kind(outcome.as_ref()))?;
            assert_eq!(aiopool_outcome_len(outcome.as_ref()), self.len);
            assert_eq!(aiopool_outcome_data(outcome.as_ref()).cast::<u8>().read(), value);
            check(aiopool_outcome_release(NonNull::new(outcome)))
        }
    }
}

impl Drop for Loans {
    fn drop(&mut self) {
        // SAFETY: a pool of ours, freed once.
        let _ = unsafe { aiopool_pool_free(NonNull::new(self.pool)) };
    }
}
