//! TLS over one socket.

use std::{io, rc::Rc, sync::Arc};

use rustls::client::UnbufferedClientConnection;

use crate::system::{
    buffers::Buffers,
    socket::Socket,
    tls::{client::TlsClient, records::Records},
};

/// The TLS state of one upstream connection. The socket is passed to each call, and no call waits:
/// what has arrived and what is still to be sent stays here.
#[derive(Debug)]
pub(in crate::system) struct TlsSession {
    records: Records<UnbufferedClientConnection>,
}

/// Reads of the socket in a row that may bring records without data before others get their turn.
const SILENT_READS_MAX: usize = 16;

/// Result of a read of the socket.
enum Filled {
    Bytes,
    Nothing,
    /// The end of the stream.
    End,
}

/// Progress of a handshake, and what it waits for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::system) enum Handshake {
    Done,
    /// Until the socket can be read.
    Reads,
    /// Until the socket can be written.
    Writes,
}

impl TlsSession {
    /// A session that has not shaken hands yet.
    pub(in crate::system) fn new(client: &TlsClient, buffers: &Rc<Buffers>) -> io::Result<Self> {
        let (config, name) = (Arc::clone(&client.config), client.server_name.clone());
        let side = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut session = Self { records: Records::new(side, buffers) };
        session.records.start();
        Ok(session)
    }

    /// Goes on with the handshake as far as the socket lets it.
    ///
    /// # Errors
    /// Certificate and protocol errors as `InvalidData`; what the socket reports otherwise.
    pub(in crate::system) fn shake_hands(&mut self, socket: &Socket) -> io::Result<Handshake> {
        loop {
            if !self.flush(socket)? {
                return Ok(Handshake::Writes);
            }
            if let Some(error) = self.records.failure() {
                return Err(error);
            }
            if !self.records.is_handshaking() {
                return Ok(Handshake::Done);
            }
            match self.fill(socket)? {
                Filled::Bytes => {}
                Filled::Nothing => return Ok(Handshake::Reads),
                Filled::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Plain bytes that have arrived, as many as there are and fit: `None` when that is none yet, 0
    /// at a proper end (`close_notify`). None too, with the socket still readable, after many
    /// records without data, which a peer can send for ever.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed without `close_notify`: the body may be cut short.
    pub(in crate::system) fn try_read(
        &mut self,
        socket: &Socket,
        into: &mut [u8],
    ) -> io::Result<Option<usize>> {
        let mut filled = 0;
        let mut silent_reads = 0;
        loop {
            filled += self.read(into.get_mut(filled..).unwrap_or_default());
            let is_full = filled == into.len() || !self.records.plain().is_empty();
            if is_full || self.records.is_closed() {
                return Ok(Some(filled));
            }
            if silent_reads == SILENT_READS_MAX {
                return Ok((filled > 0).then_some(filled));
            }
            // Whatever follows the bytes that there are is found again by the next call.
            let next = match self.records.failure() {
                None if filled > 0 && !socket.may_read() => return Ok(Some(filled)),
                None => self.fill(socket),
                Some(error) => Err(error),
            };
            match next {
                Ok(Filled::Bytes) => silent_reads += 1,
                _ if filled > 0 => return Ok(Some(filled)),
                Ok(Filled::Nothing) => return Ok(None),
                Ok(Filled::End) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Encrypts what fits of two slices and sends of it what the socket takes: `None` when it has
    /// not taken what was encrypted before.
    pub(in crate::system) fn try_write(
        &mut self,
        socket: &Socket,
        first: &[u8],
        second: &[u8],
    ) -> io::Result<Option<usize>> {
        if !self.flush(socket)? {
            return Ok(None);
        }
        let mut taken = self.records.encrypt(first)?;
        if taken == first.len() {
            taken += self.records.encrypt(second)?;
        }
        self.flush(socket)?;
        Ok(Some(taken))
    }

    /// Returns true if the next read needs nothing from the socket: bytes or the end have been
    /// decrypted.
    pub(in crate::system) fn has_bytes(&self) -> bool {
        let records = &self.records;
        !records.plain().is_empty() || records.is_closed() || records.failure().is_some()
    }

    /// Bytes that have arrived and were not read, decrypted or not.
    pub(in crate::system) fn held_bytes(&self) -> usize {
        self.records.held_bytes()
    }

    /// Returns true if something arrived that was not read, not even by decrypting it.
    pub(in crate::system) fn has_leftover(&self) -> bool {
        !self.records.is_quiet()
    }

    /// Returns true if nothing waits that nobody asked for, up to the last turn of the event loop.
    /// Takes in what the socket holds: session tickets may arrive on an idle connection. A part of
    /// a record counts as something, for it may become anything, and so does a flood of them.
    pub(in crate::system) fn is_quiet(&mut self, socket: &Socket) -> bool {
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

    /// Tells the peer that this is the end, if the socket takes it at once and nothing is half
    /// sent.
    pub(in crate::system) fn close(&mut self, socket: &Socket) {
        if self.records.unsent().is_empty() && self.records.close().is_ok() {
            let _ = self.flush(socket);
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
        // A reply to it is worth sending, an alert above all; it may not fit, and that is fine.
        let _ = self.flush(socket);
        Ok(match received? {
            Some(0) => Filled::End,
            Some(_) => Filled::Bytes,
            None => Filled::Nothing,
        })
    }

    /// Sends what was encrypted; whether that was all.
    pub(in crate::system) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while !self.records.unsent().is_empty() {
            match socket.try_send(self.records.unsent(), &[])? {
                Some(count) => self.records.sent(count),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
