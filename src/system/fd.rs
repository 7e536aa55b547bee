//! Calls on a socket by its number, for those who know that it is open and do not own it.

use std::{hint::cold_path, io, os::fd::RawFd};

/// Flags of a send that neither waits nor raises a signal.
pub(super) const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

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

// glibc's own `recv` and `send` are thread cancellation points and pay for that on every call in a
// process with threads; nobody cancels threads here.

/// Receives what is there: `None` when that is nothing.
pub(super) fn recv(fd: RawFd, into: &mut [u8], flags: libc::c_int) -> io::Result<Option<usize>> {
    let no_address = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the pointer and length are those of a live mutable slice, and the arguments are those
    // of recvfrom(2); null for the address means that none is wanted.
    #[expect(unsafe_code, reason = "recv with MSG_DONTWAIT has no safe wrapper in std")]
    let mut call = || unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            fd,
            into.as_mut_ptr(),
            into.len(),
            flags,
            no_address,
            no_address,
        )
    };
    would_block_is_none(|| isize::try_from(call()).unwrap_or(-1))
}

/// Sends what fits: `None` when nothing fits.
pub(super) fn send(fd: RawFd, from: &[u8]) -> io::Result<Option<usize>> {
    let no_address = std::ptr::null::<libc::c_void>();
    // SAFETY: the pointer and length are those of a live slice, and the arguments are those of
    // sendto(2); null for the address means the connected peer.
    #[expect(unsafe_code, reason = "send with MSG_DONTWAIT has no safe wrapper in std")]
    let call = || unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd,
            from.as_ptr(),
            from.len(),
            SEND_FLAGS,
            no_address,
            0_usize,
        )
    };
    would_block_is_none(|| isize::try_from(call()).unwrap_or(-1))
}

/// The result of a call that does not block: `None` when it would have. A signal makes it be called
/// again, for "would block" is remembered until the kernel reports a change.
pub(super) fn would_block_is_none(mut call: impl FnMut() -> isize) -> io::Result<Option<usize>> {
    loop {
        if let Ok(n) = usize::try_from(call()) {
            return Ok(Some(n));
        }
        cold_path();
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}
