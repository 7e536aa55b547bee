//! Listening sockets, one per worker, and accepting without leaking descriptors.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    rc::Rc,
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::system::{
    reactor::{Reactor, Registration},
    socket::{self, Accepted},
};

/// Queue of connections that the kernel completed and nobody accepted yet. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Opens `count` listeners on one address, of which each gets a share of the connections
/// (`SO_REUSEPORT`, `socket(7)`).
///
/// The first one is bound and listens before it allows others beside it: of two processes that want
/// the same address one is refused, instead of silently taking a share of the other's connections.
/// Port 0 takes any free port.
///
/// # Errors
/// When the address is in use, or may not or cannot be bound.
pub fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    let mut address = address;
    for number in 0..count {
        let socket = new_socket(address)?;
        socket.set_reuse_port(number > 0)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_reuse_port(true)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Inherited by accepted sockets on Linux, which saves a system call for each of them.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// A listener that belongs to this core's event loop.
#[derive(Debug)]
pub struct CoreListener {
    // Declared before the descriptor, so that the registration is gone before that is closed.
    registration: Registration,
    inner: TcpListener,
}

impl CoreListener {
    /// Hands a listener to the event loop of the calling thread.
    ///
    /// # Errors
    /// When the event loop cannot register it.
    pub fn new(listener: TcpListener, reactor: &Rc<Reactor>) -> io::Result<Self> {
        Ok(Self {
            registration: Registration::new(reactor, listener.as_raw_fd())?,
            inner: listener,
        })
    }

    /// Waits until a connection is there to be accepted.
    pub async fn readable(&self) {
        self.registration.readable().await;
    }

    /// Makes the kernel ignore further attempts to connect (`SO_ATTACH_FILTER`, `socket(7)`), while
    /// handshakes that are under way come to their end. Closing a listener resets what has arrived
    /// in its queue since the last look; after this, and the time of a handshake, nothing arrives.
    /// A client tries again a second later, and is refused or finds another listener then. Accepted
    /// connections inherit the filter, to which none of their packets is of interest.
    ///
    /// # Errors
    /// When the kernel knows no such filters.
    pub fn ignore_new(&self) -> io::Result<()> {
        const TCP_FLAGS_AT: u32 = 13;
        const SYN_WITHOUT_ACK: [u32; 2] = [0x12, 0x02];
        let [mask, syn] = SYN_WITHOUT_ACK;
        // The packet starts with the TCP header (RFC 9293 section 3.1). A result of 0 drops it.
        let program = [
            filter_step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, [0, 0], TCP_FLAGS_AT),
            filter_step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, [0, 0], mask),
            filter_step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, [0, 1], syn),
            filter_step(libc::BPF_RET | libc::BPF_K, [0, 0], 0),
            filter_step(libc::BPF_RET | libc::BPF_K, [0, 0], u32::MAX),
        ];
        SockRef::from(&self.inner).attach_filter(&program)
    }

    /// Accepts one connection; `None` when the queue is empty.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors are exhausted; a connection that was reset in the
    /// queue (`ECONNABORTED`) is an error too.
    pub fn try_accept(&self) -> io::Result<Option<Accepted>> {
        let accepted = socket::try_accept(self.inner.as_raw_fd())?;
        self.registration.readiness.accepted(accepted.is_some());
        Ok(accepted)
    }
}

/// One instruction: what it does, how far it jumps when true and when false, and its operand.
fn filter_step(code: u32, [jump_true, jump_false]: [u8; 2], operand: u32) -> SockFilter {
    let code = u16::try_from(code).unwrap_or_default();
    SockFilter::new(code, jump_true, jump_false, operand)
}

/// Returns true if an accept error means that descriptors or memory are exhausted, so that trying
/// again at once would only spin.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpStream},
        sync::Barrier,
        thread,
        time::Duration,
    };

    use super::*;
    use crate::system::event_loop;

    #[test]
    fn a_listener_that_ignores_new_connections_still_gives_those_in_its_queue() {
        event_loop::run(|| async {
            let reactor = Reactor::start().unwrap();
            let listener = open(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap().remove(0);
            let address = listener.local_addr().unwrap();
            let listener = CoreListener::new(listener, &reactor).unwrap();
            let mut before = TcpStream::connect(address).unwrap();
            listener.ignore_new().unwrap();
            let error = TcpStream::connect_timeout(&address, Duration::from_millis(300));
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
            let accepted = listener.try_accept().unwrap().unwrap();
            assert_eq!(accepted.peer, before.local_addr().unwrap());
            assert!(listener.try_accept().unwrap().is_none());
            // The connection itself carries bytes.
            let mut accepted = TcpStream::from(accepted.fd);
            io::Write::write_all(&mut before, b"abc").unwrap();
            accepted.set_nonblocking(false).unwrap();
            let mut read = [0; 3];
            io::Read::read_exact(&mut accepted, &mut read).unwrap();
            assert_eq!(&read, b"abc");
        })
        .unwrap();
    }

    #[test]
    fn of_several_that_open_one_address_at_once_one_gets_it() {
        for _ in 0..50 {
            let free = open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).unwrap();
            let address = free[0].local_addr().unwrap();
            drop(free);
            let start = Barrier::new(4);
            let opened: Vec<_> = thread::scope(|scope| {
                let rivals: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            open(address, 2)
                        })
                    })
                    .collect();
                rivals.into_iter().map(|rival| rival.join().unwrap()).collect()
            });
            let winners = opened.iter().filter(|opened| opened.is_ok()).count();
            assert_eq!(winners, 1, "{opened:?}");
        }
    }

    #[test]
    fn each_listener_gets_a_share_of_the_connections() {
        let listeners = open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut shares = Vec::new();
        for listener in &listeners {
            let mut share = 0;
            while socket::try_accept(listener.as_raw_fd()).unwrap().is_some() {
                share += 1;
            }
            shares.push(share);
        }
        assert_eq!(shares.iter().sum::<i32>(), 200);
        assert!(shares.iter().all(|share| *share > 20), "{shares:?}");
        drop(clients);
    }
}
