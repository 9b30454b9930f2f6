//! Task functions with C's interface and in Rust, in one pool of a program in Rust.
//!
//! Without the test harness: `init` comes first thing in `main`, before there is a second thread.
#![allow(unsafe_code)] // functions with C's interface take what C gives

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use aiopool::ffi::{
    AIOPOOL_OK, AIOPOOL_PENDING, aiopool_function_register, aiopool_output, aiopool_output_write,
    aiopool_status, aiopool_task, aiopool_task_complete, aiopool_task_fn, aiopool_task_sleep,
};
use aiopool::{Pool, TaskError};

unsafe extern "C" fn upper(
    task: *mut aiopool_task,
    input: *const c_void,
    len: usize,
    output: *mut aiopool_output,
    user: *mut c_void,
) -> i32 {
    // SAFETY: the input is as long as it says.
    let input = unsafe { std::slice::from_raw_parts(input.cast::<u8>(), len) };
    if input.is_empty() {
        return 7;
    }
    let upper = input.to_ascii_uppercase();
    // SAFETY: the handles are those of the call.
    let written =
        unsafe { aiopool_output_write(NonNull::new(output), upper.as_ptr().cast(), upper.len()) };
    if written != AIOPOOL_OK || user.is_null() {
        return -1;
    }
    // SAFETY: as for the call before.
    let asked =
        unsafe { aiopool_task_sleep(NonNull::new(task), 1, Some(awake), std::ptr::null_mut()) };
    if asked == AIOPOOL_OK { AIOPOOL_PENDING } else { asked }
}

unsafe extern "C" fn awake(task: *mut aiopool_task, _: u32, _: *mut c_void) {
    // SAFETY: the handle is the task's, which is pending.
    let completed = unsafe { aiopool_task_complete(NonNull::new(task), 0) };
    assert_eq!(completed, AIOPOOL_OK);
}

fn register(name: &std::ffi::CStr, function: aiopool_task_fn) -> aiopool_status {
    static mut USER: c_char = 1;
    let mut number = MaybeUninit::uninit();
    // SAFETY: a name, a function, a pointer that lasts, and room for the number.
    unsafe {
        aiopool_function_register(
            name.as_ptr(),
            function,
            (&raw mut USER).cast(),
            Some(&mut number),
        )
    }
}

async fn double(x: u64) -> u64 {
    x * 2
}

fn main() {
    assert_eq!(register(c"upper", Some(upper)), AIOPOOL_OK);
    aiopool::init().unwrap();
    // For a snapshot that is taken later, by C.
    assert_eq!(register(c"late", Some(upper)), AIOPOOL_OK);

    let pool = Pool::builder().processes(2).build().unwrap();
    let c: Vec<_> = (0..200).map(|n| pool.apply_named("upper", format!("task {n}"))).collect();
    let rust: Vec<_> = (0..200).map(|n| pool.apply(double, n)).collect();
    for (n, task) in c.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), format!("TASK {n}"));
    }
    for (n, task) in rust.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), 2 * n as u64);
    }
    let failed = pool.apply_named("upper", "").wait().unwrap_err();
    assert!(matches!(&failed, TaskError::Failed(_)), "{failed}");
    assert_eq!(failed.to_string(), "the task function returned 7");
    let unknown = pool.apply_named("nobody", "").wait().unwrap_err();
    assert!(matches!(&unknown, TaskError::Refused(_)), "{unknown}");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
