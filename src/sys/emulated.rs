//! System calls that an emulator around this process does not know: valgrind before 3.22 answers
//! `pidfd_open` and its like with `ENOSYS`, whatever the kernel has.
//!
//! Valgrind runs a function on the real processor when a program asks for it by a sequence of
//! instructions that does nothing elsewhere. The call is made there.
#![allow(unsafe_code)] // a system call, and valgrind's instructions

use std::io;

use libc::c_long;

/// Makes system call `number`, on the real processor where an emulator does not know it.
///
/// # Errors
///
/// What the kernel says; `ENOSYS` if neither knows the call.
///
/// # Safety
///
/// As of the call; it must not end or copy the calling thread.
pub(super) unsafe fn system_call(number: c_long, [a, b, c, d]: [c_long; 4]) -> io::Result<c_long> {
    // SAFETY: the caller vouches for the call.
    let result = unsafe { libc::syscall(number, a, b, c, d) };
    if result != -1 {
        return Ok(result);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    // SAFETY: as before.
    match unsafe { native::system_call([number, a, b, c, d]) } {
        result @ 0.. => Ok(result),
        failed => Err(io::Error::from_raw_os_error(failed.wrapping_neg() as i32)),
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod native {
    use std::arch::asm;

    use super::c_long;

    /// `VG_USERREQ__CLIENT_CALL1`: run a function with one argument on the real processor.
    const CALL_WITH_ONE: usize = 0x1102;

    /// Returns what the call returns on the real processor, an error as a negative number.
    ///
    /// # Safety
    ///
    /// As of the call.
    pub(super) unsafe fn system_call(call: [c_long; 5]) -> c_long {
        let function = bare as *const () as usize;
        let request = [CALL_WITH_ONE, function, (&raw const call).addr(), 0, 0, 0];
        let mut result = -c_long::from(libc::ENOSYS);
        // SAFETY: rotations by 64 in all, and an exchange of a register with itself. Under valgrind
        // they run `bare` with the address of `call`, which lives that long.
        unsafe {
            asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") request.as_ptr(),
                inout("rdx") result,
            );
        }
        result
    }

    /// Makes the call and nothing else: no variable of the C library is the thread's own there.
    ///
    /// # Safety
    ///
    /// As of the call; valgrind gives the thread's number and the argument.
    unsafe extern "C" fn bare(_: usize, call: *const [c_long; 5]) -> c_long {
        // SAFETY: `system_call` above gives the address of five numbers.
        let [number, a, b, c, d] = unsafe { *call };
        let result;
        // SAFETY: the caller vouches for the call; the kernel changes these registers only.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                in("r10") d,
                out("rcx") _,
                out("r11") _,
            );
        }
        result
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod native {
    use super::c_long;

    /// Knows no way around an emulator.
    pub(super) unsafe fn system_call(_: [c_long; 5]) -> c_long {
        -c_long::from(libc::ENOSYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_the_kernel_knows() {
        // SAFETY: takes nothing.
        let pid = unsafe { system_call(libc::SYS_getpid, [0; 4]) }.unwrap();
        assert_eq!(pid, c_long::from(std::process::id()));
        // SAFETY: no system has a call of that number.
        let unknown = unsafe { system_call(100_000, [0; 4]) }.unwrap_err();
        assert_eq!(unknown.raw_os_error(), Some(libc::ENOSYS));
    }
}
