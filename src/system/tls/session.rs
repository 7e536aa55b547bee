//! TLS over one socket.

use std::{io, rc::Rc, sync::Arc};

use rustls::client::UnbufferedClientConnection;

use crate::system::{
    buffers::Buffers,
    socket::Socket,
    tls::{client::TlsClient, records::Records},
};

/// The TLS state of one upstream connection. The socket is passed to each call. Each wait may be
/// dropped: what has arrived and what is still to be sent stays here.
#[derive(Debug)]
pub struct TlsSession {
    records: Records<UnbufferedClientConnection>,
}

/// Reads of the socket in a row that may bring records without data before others get their turn.
const SILENT_READS_MAX: usize = 16;

/// What a read of the socket brought.
enum Filled {
    Bytes,
    Nothing,
    /// The end of the stream.
    End,
}

impl TlsSession {
    /// Shakes hands over a connected socket.
    ///
    /// # Errors
    /// Certificate and protocol errors as `InvalidData`; what the socket reports otherwise.
    pub async fn connect(
        client: &TlsClient,
        socket: &Socket,
        buffers: &Rc<Buffers>,
    ) -> io::Result<Self> {
        let (config, name) = (Arc::clone(&client.config), client.server_name.clone());
        let side = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut session = Self { records: Records::new(side, buffers) };
        session.records.start();
        loop {
            session.flush(socket).await?;
            if let Some(error) = session.records.failure() {
                return Err(error);
            }
            if !session.records.is_handshaking() {
                return Ok(session);
            }
            match session.fill(socket)? {
                Filled::Bytes => {}
                Filled::Nothing => socket.readable().await,
                Filled::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Plain bytes that have arrived, as many as there are and fit, at least one; or 0 at a proper
    /// end (`close_notify`).
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed without `close_notify`: the body may be cut short.
    pub async fn recv(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        let mut silent_reads = 0;
        loop {
            if silent_reads == SILENT_READS_MAX {
                silent_reads = 0;
                socket.watch().take_turn().await;
            }
            filled += self.read(into.get_mut(filled..).unwrap_or_default());
            let is_full = filled == into.len() || !self.records.plain().is_empty();
            if is_full || self.records.is_closed() {
                return Ok(filled);
            }
            // Whatever follows the bytes that there are is found again by the next call.
            let next = match self.records.failure() {
                None if filled > 0 && !socket.may_read() => return Ok(filled),
                None => self.fill(socket),
                Some(error) => Err(error),
            };
            match next {
                Ok(Filled::Bytes) => silent_reads += 1,
                _ if filled > 0 => return Ok(filled),
                Ok(Filled::Nothing) => socket.readable().await,
                Ok(Filled::End) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends all of `bytes`.
    pub async fn send_all(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.records.encrypt(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
            self.flush(socket).await?;
        }
        Ok(())
    }

    /// Whether the next read needs nothing from the socket: bytes or the end have been decrypted.
    pub fn has_bytes(&self) -> bool {
        let records = &self.records;
        !records.plain().is_empty() || records.is_closed() || records.failure().is_some()
    }

    /// Whether something arrived that was not read, not even by decrypting it.
    pub fn has_leftover(&self) -> bool {
        !self.records.is_quiet()
    }

    /// Whether nothing waits that nobody asked for, up to the last turn of the event loop. Takes in
    /// what the socket holds: session tickets may arrive on an idle connection. A part of a record
    /// counts as something, for it may become anything, and so does a flood of them.
    pub fn is_quiet(&mut self, socket: &Socket) -> bool {
        for _ in 0..SILENT_READS_MAX {
            if !self.records.is_quiet() {
                return false;
            }
            if !socket.may_read() {
                return true;
            }
            match self.fill(socket) {
                Ok(Filled::Bytes) => {}
                Ok(Filled::Nothing) => return true,
                Ok(Filled::End) | Err(_) => return false,
            }
        }
        false
    }

    /// Tells the peer that this is the end, if the socket takes it at once and nothing is half sent.
    pub fn close(&mut self, socket: &Socket) {
        if self.records.unsent().is_empty() && self.records.close().is_ok() {
            self.try_flush(socket);
        }
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let mut filled = 0;
        loop {
            let plain = self.records.plain();
            let room = into.get_mut(filled..).unwrap_or_default();
            let count = plain.len().min(room.len());
            if count == 0 {
                return filled;
            }
            room[..count].copy_from_slice(&plain[..count]);
            self.records.consume(count);
            filled += count;
        }
    }

    /// Takes in what the socket holds.
    fn fill(&mut self, socket: &Socket) -> io::Result<Filled> {
        let received = socket.try_recv(self.records.room()?);
        self.records.received(received.as_ref().ok().copied().flatten().unwrap_or(0));
        // An answer to it is worth sending, an alert above all; it may not fit, and that is fine.
        self.try_flush(socket);
        Ok(match received? {
            Some(0) => Filled::End,
            Some(_) => Filled::Bytes,
            None => Filled::Nothing,
        })
    }

    fn try_flush(&mut self, socket: &Socket) {
        while !self.records.unsent().is_empty() {
            match socket.try_send(self.records.unsent(), &[]) {
                Ok(Some(count)) => self.records.sent(count),
                Ok(None) | Err(_) => return,
            }
        }
    }

    async fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.records.unsent().is_empty() {
            match socket.try_send(self.records.unsent(), &[])? {
                Some(count) => self.records.sent(count),
                None => socket.writable().await,
            }
        }
        Ok(())
    }
}
