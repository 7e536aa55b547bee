//! TCP sockets by readiness.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::system::{
    fd,
    outgoing::State,
    reactor::{Presence, Reactor, Registration},
};

/// Length of a send, in bytes, from which on it takes its time: others go first.
const LARGE_SEND_BYTES: usize = 16_384;

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
        let received = fd::recv(self.raw(), into, libc::MSG_DONTWAIT)?;
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

    /// Sends what fits, of two slices as if they were one, behind what was handed over before:
    /// `None` when nothing fits.
    pub fn try_send(&self, first: &[u8], second: &[u8]) -> io::Result<Option<usize>> {
        if !self.settle()? {
            return Ok(None);
        }
        self.send_now(first, second)
    }

    fn send_now(&self, first: &[u8], second: &[u8]) -> io::Result<Option<usize>> {
        if first.len() + second.len() >= LARGE_SEND_BYTES {
            self.registration.let_sends_go();
        }
        let sent = if second.is_empty() {
            fd::send(self.raw(), first)?
        } else {
            let slices = [io::IoSlice::new(first), io::IoSlice::new(second)];
            match SockRef::from(&self.fd).send_vectored_with_flags(&slices, fd::SEND_FLAGS) {
                Ok(n) => Some(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
                Err(e) => return Err(e),
            }
        };
        self.registration.readiness.wrote(sent);
        Ok(sent)
    }

    /// Returns true if nothing is sent together with what others send in this turn of the event
    /// loop.
    pub fn sends_alone(&self) -> bool {
        self.registration.reactor.sends.are_alone()
    }

    /// Sends all of `bytes` together with what others send in this turn of the event loop, and
    /// returns how many of them the socket took. The rest is left in `bytes`. None are taken where
    /// nothing is sent in that way.
    pub fn send_together(&self, bytes: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> {
        async move {
            let length = bytes.len();
            let outgoing = &self.registration.outgoing;
            let mut is_taken = false;
            poll_fn(|context| {
                if is_taken {
                    return if outgoing.state() == State::Queued {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    };
                }
                let sends = &self.registration.reactor.sends;
                is_taken = sends.push(&self.registration.registered, bytes, Some(context.waker()));
                if is_taken { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            if !is_taken {
                return Ok(0);
            }
            let Some(left) = outgoing.take_left() else { return Ok(length) };
            left.rest()?;
            let taken = left.taken;
            *bytes = left.bytes;
            bytes.drain(..taken.min(bytes.len()));
            Ok(taken)
        }
    }

    /// Sends all of `bytes` together with what others send in this turn of the event loop, without
    /// waiting for that. False, with nothing done, where nothing is sent in that way. What the
    /// socket does not take is sent while it is waited for with [`Socket::poll_readable`], and a
    /// failure is that of the next read.
    pub fn send_soon(&self, bytes: &mut Vec<u8>) -> bool {
        let sends = &self.registration.reactor.sends;
        sends.push(&self.registration.registered, bytes, None)
    }

    /// Ready once reading is worth a try, or what was handed over before could not be sent. One
    /// task at a time may wait.
    pub fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        if self.registration.outgoing.state() == State::Left {
            loop {
                match self.settle() {
                    Ok(true) => break,
                    Err(_) => return Poll::Ready(()),
                    Ok(false) => {
                        let full = self.registration.poll_writable(context).is_pending();
                        if full || self.registration.check_open().is_err() {
                            break;
                        }
                    }
                }
            }
        }
        self.registration.poll_readable(context)
    }

    /// Checks that what was handed over before has not failed.
    ///
    /// # Errors
    /// What a send of it reported.
    pub fn check_sent(&self) -> io::Result<()> {
        if self.registration.outgoing.state() != State::Left {
            return Ok(());
        }
        self.settle().map(|_| ())
    }

    /// Sends what was handed over before; whether that was all.
    pub(super) fn settle(&self) -> io::Result<bool> {
        let outgoing = &self.registration.outgoing;
        if outgoing.state() == State::Queued {
            self.registration.reactor.sends.submit();
        }
        if outgoing.state() == State::Settled {
            return Ok(true);
        }
        self.send_left()
    }

    #[cold]
    fn send_left(&self) -> io::Result<bool> {
        let outgoing = &self.registration.outgoing;
        let Some(mut left) = outgoing.take_left() else { return Ok(true) };
        let sent = match left.rest() {
            Ok(rest) => self.send_now(rest, &[]),
            Err(error) => Err(error),
        };
        match sent {
            Ok(count) => {
                left.taken += count.unwrap_or(0);
                let is_all = left.taken == left.bytes.len();
                if !is_all {
                    outgoing.leave(left);
                }
                Ok(is_all)
            }
            Err(error) => {
                left.fail(&error);
                outgoing.leave(left);
                Err(error)
            }
        }
    }

    /// Returns true if something may have arrived that was not read, as far as is known.
    pub fn may_read(&self) -> bool {
        self.registration.readiness.may_read()
    }

    /// Returns true if an idle connection is still usable: open, and nothing has arrived on it up
    /// to the last turn of the event loop.
    pub fn is_quiet(&self) -> bool {
        if self.registration.outgoing.state() != State::Settled {
            return false;
        }
        if !self.registration.readiness.may_read() {
            return true;
        }
        matches!(self.try_peek(&mut [0]), Ok(None))
    }

    /// Ends sending; the peer sees the end of the stream after everything that was sent.
    pub fn finish(&self) {
        let _ = self.settle();
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
    fd::recv(fd, into, libc::MSG_PEEK | libc::MSG_DONTWAIT)
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
    let accepted = fd::would_block_is_none(|| {
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
