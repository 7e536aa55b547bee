//! Listening sockets, one per worker, and accepting without leaking descriptors.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    rc::Rc,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::system::{
    socket::{self, Accepted},
    watch::{Watched, Watches},
};

/// Queue of connections that the kernel completed and nobody accepted yet. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Opens `count` listeners on one address, of which each gets a share of the connections
/// (`SO_REUSEPORT`, `socket(7)`).
///
/// The address is first bound once without `SO_REUSEPORT`: a second process is refused there
/// instead of silently taking a share of the first one's connections. Port 0 takes any free port.
///
/// # Errors
/// When the address is in use, or may not or cannot be bound.
pub fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        let guard = new_socket(address)?;
        guard.bind(&address.into())?;
        // Bound sockets conflict even when nobody listens; this one goes before the real ones come.
        drop(guard);
    }
    let mut listeners = Vec::with_capacity(count);
    let mut address = address;
    for _ in 0..count {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
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
    // Declared before the descriptor, so that the watch is gone before that is closed.
    watched: Watched,
    inner: TcpListener,
}

impl CoreListener {
    /// Hands a listener to the event loop of the calling thread.
    ///
    /// # Errors
    /// When the event loop cannot register it.
    pub fn new(listener: TcpListener, watches: &Rc<Watches>) -> io::Result<Self> {
        Ok(Self { watched: Watched::new(watches, listener.as_raw_fd())?, inner: listener })
    }

    /// Waits until a connection is there to be accepted.
    pub async fn readable(&self) {
        self.watched.readable().await;
    }

    /// Accepts one connection; `None` when the queue is empty.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors are exhausted; a connection that was reset in the
    /// queue (`ECONNABORTED`) is an error too.
    pub fn try_accept(&self) -> io::Result<Option<Accepted>> {
        let accepted = socket::try_accept(self.inner.as_raw_fd())?;
        if accepted.is_none() {
            self.watched.readiness.would_block_reading();
        }
        Ok(accepted)
    }
}

/// Whether an accept error means that descriptors or memory are exhausted, so that trying again at
/// once would only spin.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
