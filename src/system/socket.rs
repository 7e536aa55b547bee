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

    /// Connects to `address` on behalf of `client`.
    ///
    /// # Errors
    /// What `connect(2)` reports; `TimedOut` when `within` passed, `ConnectionAborted` when the
    /// client is gone.
    pub async fn connect(
        address: SocketAddr,
        within: Duration,
        client: Presence,
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
            socket.registration().arm(within);
            socket.registration().waits_for(Some(client));
            socket.registration().readiness.connecting();
            socket.writable().await;
            socket.registration().check_open()?;
            socket.registration().disarm();
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
        let mut byte = [0_u8; 1];
        let peeked = recv_peek(self.raw(), &mut byte);
        if let Ok(peeked) = peeked {
            self.registration.readiness.peeked(peeked);
        }
        matches!(peeked, Ok(None))
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

fn recv_peek(fd: RawFd, byte: &mut [u8; 1]) -> io::Result<Option<usize>> {
    recv(fd, byte, libc::MSG_PEEK | libc::MSG_DONTWAIT)
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
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::system::{
        reactor::CloseReason,
        ring::{self, IoChoice},
    };

    /// Runs `test` on each kind of event loop.
    fn with_reactor<F: Future<Output = ()>>(test: impl Fn(Rc<Reactor>) -> F) {
        for choice in [IoChoice::Auto, IoChoice::Epoll] {
            ring::run(choice, |_, _| async { test(Reactor::start().unwrap()).await }).unwrap();
        }
    }

    /// Runs `test` with a watched socket and its peer.
    fn with_pair<F: Future<Output = ()>>(test: impl Fn(Rc<Socket>, std::fs::File) -> F) {
        with_reactor(|reactor| {
            let (ours, theirs) = pair().unwrap();
            test(Rc::new(Socket::new(ours, &reactor).unwrap()), std::fs::File::from(theirs))
        });
    }

    #[test]
    fn what_arrives_after_a_short_read_is_reported() {
        with_pair(|socket, mut peer| async move {
            let mut into = [0; 8];
            for round in 0..3 {
                assert!(socket.is_quiet(), "round {round}");
                peer.write_all(b"abc").unwrap();
                socket.readable().await;
                assert!(!socket.is_quiet(), "round {round}");
                assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
            }
        });
    }

    #[test]
    fn what_a_read_left_behind_is_still_there_to_be_read() {
        with_pair(|socket, mut peer| async move {
            peer.write_all(b"abcd").unwrap();
            socket.readable().await;
            let mut into = [0; 2];
            for _ in 0..2 {
                assert!(!socket.is_quiet());
                socket.readable().await;
                assert_eq!(socket.try_recv(&mut into).unwrap(), Some(2));
            }
            // Whether there is more could not be known; asking finds out.
            assert!(socket.is_quiet());
            assert_eq!(socket.try_recv(&mut into).unwrap(), None);
        });
    }

    #[test]
    fn an_end_that_came_with_the_last_bytes_is_not_forgotten() {
        with_pair(|socket, mut peer| async move {
            peer.write_all(b"abc").unwrap();
            drop(peer);
            socket.readable().await;
            let mut into = [0; 8];
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
            assert!(!socket.is_quiet());
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(0));
        });
    }

    #[test]
    fn a_full_socket_is_waited_for_until_the_peer_has_read() {
        with_pair(|socket, peer| async move {
            let piece = [0; 8_192];
            let mut sent = 0;
            while let Some(count) = socket.try_send(&piece, &[]).unwrap() {
                sent += count;
            }
            let reader = std::thread::spawn(move || {
                let mut read = 0;
                let mut into = [0; 8_192];
                let mut peer = peer;
                while read < sent {
                    match peer.read(&mut into) {
                        Ok(count) => read += count,
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                        Err(e) => panic!("{e}"),
                    }
                }
                peer
            });
            socket.writable().await;
            let _peer = reader.join().unwrap();
            assert!(socket.try_send(&piece, &[]).unwrap().is_some());
        });
    }

    #[test]
    fn ending_a_socket_wakes_who_waits_for_it() {
        with_reactor(|reactor| async move {
            let (ours, _theirs) = pair().unwrap();
            let socket = Rc::new(Socket::new(ours, &reactor).unwrap());
            let waiting = Rc::clone(&socket);
            let task = monoio::spawn(async move {
                waiting.readable().await;
                waiting.registration().close_reason()
            });
            socket.registration().arm(Duration::ZERO);
            while socket.registration().close_reason() == CloseReason::Open {
                reactor.sleep(Duration::from_millis(1)).await;
                reactor.tick();
            }
            assert_eq!(task.await, CloseReason::Deadline);
        });
    }

    /// Lets the sweep run until `socket` was ended.
    async fn wait_ended(socket: &Socket, reactor: &Reactor) {
        while socket.registration().close_reason() == CloseReason::Open {
            reactor.sleep(Duration::from_millis(1)).await;
            reactor.tick();
        }
    }

    #[test]
    fn the_deadline_of_a_send_leaves_the_end_of_the_socket_to_its_owner() {
        with_reactor(|reactor| async move {
            let (ours, theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            let mut peer = std::fs::File::from(theirs);
            socket.registration().arm_sending(Duration::ZERO);
            wait_ended(&socket, &reactor).await;
            // Not an orderly end, which could make a cut body look whole.
            let end = peer.read(&mut [0; 8]).map_err(|error| error.kind());
            assert_eq!(end, Err(io::ErrorKind::WouldBlock));
        });
    }

    #[test]
    fn a_deadline_that_passes_as_bytes_arrive_takes_neither_them_nor_their_sender() {
        with_reactor(|reactor| async move {
            let (ours, theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            let mut peer = std::fs::File::from(theirs);
            socket.registration().arm(Duration::ZERO);
            peer.write_all(b"abc").unwrap();
            wait_ended(&socket, &reactor).await;
            assert_eq!(socket.try_recv(&mut [0; 8]).unwrap(), Some(3));
            assert!(!is_gone(&socket, false));
            socket.registration().arm(Duration::from_mins(1));
            assert_eq!(socket.registration().close_reason(), CloseReason::Open);
        });
    }

    /// Returns true if a wait on behalf of the socket's peer would end.
    fn is_gone(socket: &Socket, may_finish: bool) -> bool {
        let context = std::task::Context::from_waker(std::task::Waker::noop());
        socket.registration().readiness.poll_gone(may_finish, &context).is_ready()
    }

    #[test]
    fn a_wait_on_behalf_of_a_client_ends_with_it_whatever_it_left_unread() {
        with_reactor(|reactor| async move {
            let (client, theirs) = pair().unwrap();
            let client = Socket::new(client, &reactor).unwrap();
            let (upstream, _silent) = pair().unwrap();
            let upstream = Rc::new(Socket::new(upstream, &reactor).unwrap());
            let waiting = Rc::clone(&upstream);
            upstream.registration().waits_for(Some(client.registration().presence(false)));
            let task = monoio::spawn(async move {
                waiting.readable().await;
                waiting.registration().close_reason()
            });
            std::fs::File::from(theirs).write_all(b"the next request").unwrap();
            // No tick is needed.
            assert_eq!(task.await, CloseReason::ClientGone);
        });
    }

    #[test]
    fn a_client_that_may_finish_is_gone_only_when_it_has_hung_up() {
        with_pair(|socket, peer| async move {
            assert!(!is_gone(&socket, false));
            SockRef::from(&peer).shutdown(std::net::Shutdown::Write).unwrap();
            socket.readable().await;
            assert!(is_gone(&socket, false));
            assert!(!is_gone(&socket, true));
            drop(peer);
            while !is_gone(&socket, true) {
                socket.registration().reactor.turns.next().await;
            }
        });
    }

    #[test]
    fn only_the_time_of_idle_connections_is_shortened_and_never_lengthened() {
        with_reactor(|reactor| async move {
            let [busy, idle, nearly_over] = [false, true, true].map(|is_idle| {
                let (ours, theirs) = pair().unwrap();
                let socket = Socket::new(ours, &reactor).unwrap();
                socket.registration().arm(Duration::from_mins(1));
                socket.registration().set_idle(is_idle);
                (socket, theirs)
            });
            nearly_over.0.registration().arm(Duration::ZERO);
            reactor.shorten_idle(Duration::from_mins(1));
            wait_ended(&nearly_over.0, &reactor).await;
            assert_eq!(idle.0.registration().close_reason(), CloseReason::Open);
            reactor.shorten_idle(Duration::ZERO);
            wait_ended(&idle.0, &reactor).await;
            assert_eq!(busy.0.registration().close_reason(), CloseReason::Open);
        });
    }

    #[test]
    fn a_deadline_that_passes_while_the_process_ends_does_not_hide_the_end() {
        with_reactor(|reactor| async move {
            let (ours, _theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            reactor.end_all();
            assert_eq!(socket.try_recv(&mut [0; 8]).unwrap(), None);
            socket.registration().arm(Duration::ZERO);
            while !socket.may_read() {
                reactor.sleep(Duration::from_millis(1)).await;
                reactor.tick();
            }
            assert_eq!(socket.registration().close_reason(), CloseReason::ClientGone);
        });
    }

    /// Runs `test` with a socket over TCP and its peer.
    fn with_tcp<F: Future<Output = ()>>(
        test: impl Fn(Rc<Reactor>, Socket, std::net::TcpStream) -> F,
    ) {
        with_reactor(|reactor| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (ours, _) = listener.accept().unwrap();
            ours.set_nonblocking(true).unwrap();
            let socket = Socket::new(OwnedFd::from(ours), &reactor).unwrap();
            test(reactor, socket, peer)
        });
    }

    #[test]
    fn bytes_come_together_before_they_are_reported() {
        with_tcp(|reactor, socket, mut peer| async move {
            let mut into = [0; 2_000];
            for _ in 0..3 {
                socket.registration().coalesce(1_000);
                peer.write_all(&[0; 500]).unwrap();
                while !has_arrived(&socket) {
                    reactor.turns.next().await;
                }
                reactor.turns.next().await;
                assert!(!socket.may_read(), "half of them is not enough");
                peer.write_all(&[0; 600]).unwrap();
                socket.readable().await;
                assert_eq!(socket.try_recv(&mut into).unwrap(), Some(1_100));
                // And no more of it.
                socket.registration().coalesce(1);
                peer.write_all(b"x").unwrap();
                socket.readable().await;
                assert_eq!(socket.try_recv(&mut into).unwrap(), Some(1));
            }
            socket.registration().coalesce(1_000);
            drop(peer);
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(0));
        });
    }

    #[test]
    fn bytes_that_do_not_come_together_are_reported_after_two_ticks() {
        with_tcp(|reactor, socket, mut peer| async move {
            let mut into = [0; 2_000];
            socket.registration().coalesce(1_000);
            peer.write_all(b"few").unwrap();
            reactor.tick();
            reactor.turns.next().await;
            assert!(!socket.may_read());
            reactor.tick();
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
            // Not waited for again, until it was ended.
            socket.registration().coalesce(1_000);
            peer.write_all(b"few").unwrap();
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
            socket.registration().coalesce(1);
            socket.registration().coalesce(1_000);
            peer.write_all(b"few").unwrap();
            while !has_arrived(&socket) {
                reactor.turns.next().await;
            }
            reactor.turns.next().await;
            assert!(!socket.may_read());
        });
    }

    fn has_arrived(socket: &Socket) -> bool {
        matches!(recv_peek(socket.raw(), &mut [0]), Ok(Some(_)))
    }
}
