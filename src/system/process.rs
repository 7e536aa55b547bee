//! Facts and settings of this process.

use std::io;

/// The soft and hard limit on open files after the soft one was raised to the hard one.
pub fn raise_open_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call only writes.
    #[expect(unsafe_code, reason = "getrlimit has no safe wrapper in std")]
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a live rlimit that the call only reads.
        #[expect(unsafe_code, reason = "setrlimit has no safe wrapper in std")]
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Gives the calling thread a lower priority than the workers have (it gets this nice value, 0 to 19).
pub fn lower_priority(nice: i32) {
    // SAFETY: no pointers; on Linux a `who` of 0 means the calling thread only.
    #[expect(unsafe_code, reason = "setpriority has no safe wrapper in std")]
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// Fills at most 256 `bytes` with random bytes from the kernel. A library's generator would first
/// gather entropy of its own, which takes longer than the rest of a start.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live mutable slice.
    #[expect(unsafe_code, reason = "getrandom has no safe wrapper in std")]
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes come whole (getrandom(2)).
    if usize::try_from(got) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}
