//! TCP sockets by readiness.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    rc::Rc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::system::reactor::{Presence, Reactor, Registration};

/// A connected, non-blocking stream socket that belongs to this core.
#[derive(Debug)]
pub struct Socket {
    // Declared before the descriptor, so that the registration is gone before that is closed.
    registration: Registration,
    fd: OwnedFd,
}

impl Socket {
    /// Takes over a connected non-blocking descriptor.
    ///
    /// # Errors
    /// When the event loop cannot register it.
    pub fn new(fd: OwnedFd, reactor: &Rc<Reactor>) -> io::Result<Self> {
        Ok(Self { registration: Registration::new(reactor, fd.as_raw_fd())?, fd })
    }

    /// Takes over an accepted connection, whose first bytes may have arrived before it.
    ///
    /// # Errors
    /// As [`Socket::new`].
    pub fn accepted(fd: OwnedFd, reactor: &Rc<Reactor>) -> io::Result<Self> {
        let socket = Self::new(fd, reactor)?;
        socket.registration.readiness.just_accepted();
        Ok(socket)
    }

    /// Connects to `address`, on behalf of `client` if there is one.
    ///
    /// # Errors
    /// What `connect(2)` reports; `TimedOut` when `within` passed, `ConnectionAborted` when the
    /// client is gone.
    pub async fn connect(
        address: SocketAddr,
        within: Duration,
        client: Option<Presence>,
        reactor: &Rc<Reactor>,
    ) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        let in_progress = match socket.connect(&address.into()) {
            Ok(()) => false,
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => true,
            Err(e) => return Err(e),
        };
        let socket = Self::new(OwnedFd::from(socket), reactor)?;
        if in_progress {
            let registration = socket.registration();
            let _deadline = registration.deadline(within);
            registration.waits_for(client);
            registration.readiness.connecting();
            socket.writable().await;
            registration.check_open()?;
            if let Some(error) = SockRef::from(&socket.fd).take_error()? {
                return Err(error);
            }
        }
        Ok(socket)
    }

    /// The registration with the core's reactor.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Waits until reading is likely not to block.
    pub async fn readable(&self) {
        self.registration.readable().await;
    }

    /// Waits until writing is likely not to block.
    pub async fn writable(&self) {
        self.registration.writable().await;
    }

    /// Reads what is there: `None` when that is nothing yet, `Some(0)` at the end.
    pub fn try_recv(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let received = recv(self.raw(), into, libc::MSG_DONTWAIT)?;
        self.registration.readiness.read(received, into.len());
        Ok(received)
    }

    /// Looks at what is there and leaves it there: `None` when that is nothing yet, `Some(0)` at
    /// the end.
    pub fn try_peek(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let peeked = recv_peek(self.raw(), into)?;
        self.registration.readiness.peeked(peeked);
        Ok(peeked)
    }

    /// Reads at least one byte, or 0 at the end. Tries before it waits.
    pub async fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(n) = self.try_recv(into)? {
                return Ok(n);
            }
            self.readable().await;
        }
    }

    /// Sends what fits, of two slices as if they were one: `None` when nothing fits.
    pub fn try_send(&self, first: &[u8], second: &[u8]) -> io::Result<Option<usize>> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = if second.is_empty() {
            send(self.raw(), first, flags)?
        } else {
            let slices = [io::IoSlice::new(first), io::IoSlice::new(second)];
            match SockRef::from(&self.fd).send_vectored_with_flags(&slices, flags) {
                Ok(n) => Some(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                Err(e) => return Err(e),
            }
        };
        self.registration.readiness.wrote(sent);
        Ok(sent)
    }

    /// Returns true if something may have arrived that was not read, as far as is known.
    pub fn may_read(&self) -> bool {
        self.registration.readiness.may_read()
    }

    /// Returns true if an idle connection is still usable: open, and nothing has arrived on it up
    /// to the last turn of the event loop.
    pub fn is_quiet(&self) -> bool {
        if !self.registration.readiness.may_read() {
            return true;
        }
        matches!(self.try_peek(&mut [0]), Ok(None))
    }

    /// Ends sending; the peer sees the end of the stream after everything that was sent.
    pub fn finish(&self) {
        let _ = SockRef::from(&self.fd).shutdown(std::net::Shutdown::Write);
    }

    /// Makes closing send a reset, so that the peer can't take what it got for a whole message; or
    /// an orderly end again. Holds for the end of the process too.
    pub fn set_abortive(&self, abortive: bool) {
        let linger = abortive.then_some(Duration::ZERO);
        let _ = SockRef::from(&self.fd).set_linger(linger);
    }

    /// The descriptor, for watching and splicing.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn recv_peek(fd: RawFd, into: &mut [u8]) -> io::Result<Option<usize>> {
    recv(fd, into, libc::MSG_PEEK | libc::MSG_DONTWAIT)
}

// glibc's own `recv` and `send` are thread cancellation points and pay for that on every call in a
// process with threads; nobody cancels threads here.

fn recv(fd: RawFd, into: &mut [u8], flags: libc::c_int) -> io::Result<Option<usize>> {
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

fn send(fd: RawFd, from: &[u8], flags: libc::c_int) -> io::Result<Option<usize>> {
    let no_address = std::ptr::null::<libc::c_void>();
    // SAFETY: the pointer and length are those of a live slice, and the arguments are those of
    // sendto(2); null for the address means the connected peer.
    #[expect(unsafe_code, reason = "send with MSG_DONTWAIT has no safe wrapper in std")]
    let call = || unsafe {
        libc::syscall(libc::SYS_sendto, fd, from.as_ptr(), from.len(), flags, no_address, 0_usize)
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
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

/// One connection accepted without blocking.
#[derive(Debug)]
pub struct Accepted {
    /// The new descriptor: non-blocking, close-on-exec.
    pub fd: OwnedFd,
    /// The address that connected.
    pub peer: SocketAddr,
}

/// Accepts one connection: `None` when the queue is empty.
pub(super) fn try_accept(listener: RawFd) -> io::Result<Option<Accepted>> {
    // SAFETY: a zeroed sockaddr_storage is a valid value.
    #[expect(unsafe_code, reason = "std does not make one")]
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let whole = socklen(size_of::<libc::sockaddr_storage>());
    let (mut length, mut fd) = (whole, -1);
    let accepted = would_block_is_none(|| {
        length = whole;
        // SAFETY: both pointers are to live values, and the kernel writes at most `length` bytes of
        // the first.
        #[expect(unsafe_code, reason = "accept4 has no safe wrapper in std")]
        let accepted = unsafe {
            libc::accept4(
                listener,
                (&raw mut storage).cast(),
                &raw mut length,
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        fd = accepted;
        accepted as isize
    })?;
    if accepted.is_none() {
        return Ok(None);
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    #[expect(unsafe_code, reason = "takes ownership of the accepted descriptor")]
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let peer =
        peer_address(&storage, length).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    Ok(Some(Accepted { fd, peer }))
}

fn peer_address(storage: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    let mut address = socket2::SockAddrStorage::zeroed();
    // SAFETY: both are sockaddr_storage; the kernel has filled in `length` bytes of the source.
    #[expect(unsafe_code, reason = "socket2 takes a filled-in sockaddr_storage only this way")]
    let address = unsafe {
        *address.view_as::<libc::sockaddr_storage>() = *storage;
        socket2::SockAddr::new(address, length)
    };
    address.as_socket()
}

fn socklen(n: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(n).unwrap_or(libc::socklen_t::MAX)
}

/// A pair of connected local sockets, the first for this core's event loop.
///
/// # Errors
/// When the kernel has no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = std::os::unix::net::UnixStream::pair()?;
    a.set_nonblocking(true)?;
    b.set_nonblocking(true)?;
    Ok((OwnedFd::from(a), OwnedFd::from(b)))
}

#[cfg(test)]
mod tests;
