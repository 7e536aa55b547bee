//! Calls on a socket by its number, for those who know that it is open and do not own it.

use std::os::fd::RawFd;

/// Bytes that were sent on `fd` and that its peer has not acknowledged (`SIOCOUTQ`, `tcp(7)`).
pub(super) fn unacknowledged_bytes(fd: RawFd) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the pointer is to a live integer, which is what this request writes.
    #[expect(unsafe_code, reason = "SIOCOUTQ has no safe wrapper in std")]
    let done = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| done == 0)
}

/// Makes the kernel report `fd` readable from so many bytes on, or at its end. What is there
/// already is reported.
pub(super) fn set_receive_low_water(fd: RawFd, bytes: usize) {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the pointer is to a live integer, whose length is given.
    #[expect(unsafe_code, reason = "SO_RCVLOWAT has no safe wrapper in std")]
    let _ = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const bytes).cast(), length)
    };
}
