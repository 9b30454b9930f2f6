//! Leaving a process in order, without what `exit` would do to the host's memory and files.
#![allow(unsafe_code)] // calls into libc and into hooks of the tool chain

use std::io::Write;

/// The address of a C function if this image or one it loads has it, else null.
///
/// A weak reference resolves where `dlsym` cannot: the tool chain's hooks are hidden symbols of
/// the executable. Without a definition the linker or loader leaves null.
macro_rules! weak_function {
    ($name:literal) => {{
        let address: *const ();
        // SAFETY: reads one word of the global offset table; no memory, flags or stack touched.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {0}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(pure, readonly, preserves_flags, nostack),
            );
        }
        // SAFETY: reads one word of the global offset table; no memory, flags or stack touched.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address,
                options(pure, readonly, preserves_flags, nostack),
            );
        }
        address
    }};
}

/// Ends this process with `status`: flushes Rust's and C's output, lets the tool chain write what
/// it collected (coverage, leaks), and leaves.
///
/// Exit handlers and destructors do not run: in a forked process they are the host's, and would
/// remove its files and stop its threads a second time.
pub(crate) fn orderly_exit(status: i32) -> ! {
    // Nothing can be done about output that has no reader any more.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    flush_c();
    let linked = [weak_function!("__llvm_profile_write_file"), weak_function!("__gcov_dump")];
    linked.into_iter().for_each(call);
    super::instruments::write_out(&linked.map(|hook| hook as usize));
    // Last: it leaves by itself, with a status of its own, when it found a leak.
    call(weak_function!("__lsan_do_leak_check"));
    exit_now(status)
}

/// Writes out what C's streams have buffered.
pub(crate) fn flush_c() {
    // SAFETY: a null stream means all that have output pending.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Ends this process with `status`, at once.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes a number and does not come back.
    unsafe { libc::_exit(status) }
}

fn call(hook: *const ()) {
    if !hook.is_null() {
        // SAFETY: the hooks above are C functions without parameters; their result, a number or
        // nothing, comes in a register and is not looked at.
        let hook: extern "C" fn() = unsafe { std::mem::transmute(hook) };
        hook();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn weak_functions_are_found_or_null() {
        assert_eq!(weak_function!("getppid"), libc::getppid as *const ());
        assert!(weak_function!("aiopool_no_such_function").is_null());
    }
}
