//! One connection to an S3 endpoint.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use crate::{
    data_plane::upstream::pool::Pool,
    system::{
        buffers::Buffers,
        socket::Socket,
        tls::TlsSession,
        watch::{Client, Ended, Shut, Watches},
    },
    telemetry::{
        cells::BucketCells,
        labels::{ConnectionState, UpstreamError},
    },
};

/// Bytes of a long body over TLS that are let come together. The kernel wakes up a reader for every
/// record or two otherwise, which costs more than decrypting them.
const GATHERED_BYTES: usize = 131_072;

/// An open connection, in use or idle.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    tls: Option<Box<TlsSession>>,
    /// The bucket that it is counted for.
    cells: Arc<BucketCells>,
    /// Whether an earlier request was answered on it.
    pub(crate) reused: bool,
}

impl Connection {
    /// Connects to the first address of the pool's endpoint that answers, within `timeout`
    /// altogether, TLS handshake included. None when the client that waits is gone.
    pub(crate) async fn open(
        pool: &Pool,
        timeout: Duration,
        client: Client,
        watches: &Rc<Watches>,
        buffers: &Rc<Buffers>,
        cells: &Arc<BucketCells>,
    ) -> Result<Option<Self>, UpstreamError> {
        let addresses = pool.addresses();
        let deadline = watches.clock.refresh().plus(timeout);
        let mut last = UpstreamError::NoAddress;
        for (number, address) in addresses.iter().enumerate() {
            let left = Duration::from_nanos(deadline.since(watches.clock.refresh()));
            if left.is_zero() {
                return Err(UpstreamError::ConnectTimeout);
            }
            // One that is silent must leave time for those behind it.
            let behind = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
            match Socket::connect(*address, left / behind.max(1), client, watches).await {
                Ok(socket) => {
                    if number > 0 {
                        pool.prefer(*address);
                    }
                    cells.upstream.connections(ConnectionState::Active).inc();
                    let mut connection =
                        Self { socket, tls: None, cells: Arc::clone(cells), reused: false };
                    if let Some(tls) = pool.tls() {
                        connection.socket.watch().waits_for_client(Some(client));
                        let left = Duration::from_nanos(deadline.since(watches.clock.refresh()));
                        connection.socket.watch().arm(left, Shut::Both);
                        let session = TlsSession::connect(&tls, &connection.socket, buffers).await;
                        connection.socket.watch().disarm();
                        match session {
                            Ok(session) => connection.tls = Some(Box::new(session)),
                            Err(_) if connection.ended() == Ended::Deadline => {
                                return Err(UpstreamError::ConnectTimeout);
                            }
                            Err(_) if connection.ended() == Ended::ClientGone => return Ok(None),
                            Err(error) => {
                                if pool.may_warn(watches.clock.coarse()) {
                                    tracing::warn!(endpoint = &*pool.key(), %error, "TLS handshake failed");
                                }
                                return Err(UpstreamError::Tls);
                            }
                        }
                    }
                    return Ok(Some(connection));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    last = UpstreamError::ConnectTimeout;
                }
                Err(_) => last = UpstreamError::Refused,
            }
        }
        Err(last)
    }

    /// Counts the connection for another bucket from now on.
    pub(crate) fn taken_for(&mut self, cells: &Arc<BucketCells>) {
        self.cells.upstream.connections(ConnectionState::Idle).dec();
        if !Arc::ptr_eq(&self.cells, cells) {
            self.cells = Arc::clone(cells);
        }
        self.cells.upstream.connections(ConnectionState::Active).inc();
        self.reused = true;
    }

    /// Counts the connection as idle.
    pub(crate) fn given_back(&self) {
        self.cells.upstream.connections(ConnectionState::Active).dec();
        self.cells.upstream.connections(ConnectionState::Idle).inc();
    }

    /// Ends the counting of an idle connection that is about to be dropped as an active one.
    pub(crate) fn leave_idle(&self) {
        self.cells.upstream.connections(ConnectionState::Idle).dec();
        self.cells.upstream.connections(ConnectionState::Active).inc();
    }

    /// Whether nothing arrived on it since its last answer, and it is open.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match &mut self.tls {
            None => self.socket.is_quiet(),
            Some(session) => session.is_quiet(&self.socket),
        }
    }

    /// Whether something arrived behind the last response that is kept in memory: decrypted bytes, or
    /// a part of a record.
    pub(crate) fn has_leftover(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.has_leftover())
    }

    /// The socket, for its deadline, and for splicing when [`Connection::is_plain`].
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether bytes on the socket are the bytes of the message.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Why it was ended from this side, if it was.
    pub(crate) fn ended(&self) -> Ended {
        self.socket.watch().ended()
    }

    /// Sends all of `bytes`.
    pub(crate) async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.socket.send_all(bytes, &[], || ()).await,
            Some(session) => session.send_all(&self.socket, bytes).await,
        }
    }

    /// Waits until [`Connection::recv`] is likely to return at once, without holding a buffer.
    pub(crate) async fn wait(&self) {
        // Decrypted bytes may wait inside the session while the socket is silent.
        if !self.tls.as_ref().is_some_and(|session| session.has_bytes()) {
            self.socket.readable().await;
        }
    }

    /// The same, where `left` bytes of a body are known to follow: lets some come together, so that
    /// waking up for them is worth it.
    pub(crate) async fn wait_for_body(&self, left: u64) {
        if self.tls.is_some() {
            let is_long = left >= 2 * GATHERED_BYTES as u64;
            self.socket.watch().gather(if is_long { GATHERED_BYTES } else { 1 });
        }
        self.wait().await;
    }

    /// Reads at least one byte, or 0 at the end.
    pub(crate) async fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.recv(into).await,
            Some(session) => session.recv(&self.socket, into).await,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cells.upstream.connections(ConnectionState::Active).dec();
        if let Some(session) = &mut self.tls
            && self.socket.watch().ended() == Ended::No
        {
            session.close(&self.socket);
        }
    }
}
