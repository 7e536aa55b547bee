//! TLS over one socket.

use std::{fmt, io, rc::Rc, sync::Arc};

use rustls::{
    client::UnbufferedClientConnection, pki_types::UnixTime, server::UnbufferedServerConnection,
};

use crate::system::{
    buffers::Buffers,
    socket::Socket,
    tls::{
        client::TlsClient,
        negotiated::Negotiated,
        records::{Records, Side},
        server::{TlsServer, take_name},
    },
};

/// The TLS state of one connection. The socket is passed to each call, and no call waits: what has
/// arrived and what is still to be sent stays here.
pub(in crate::system) struct TlsSession<S> {
    records: Records<S>,
    /// The first bytes that arrived, as far as they have.
    greeting: Greeting,
}

impl<S> fmt::Debug for TlsSession<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").field("records", &self.records).finish_non_exhaustive()
    }
}

/// A session with this server.
pub(in crate::system) type ClientSession = TlsSession<UnbufferedClientConnection>;

/// A session with a client.
pub(in crate::system) type ServerSession = TlsSession<UnbufferedServerConnection>;

/// Reads of the socket in a row that may bring records without data before others get their turn.
const SILENT_READS_MAX: usize = 16;

/// Length of a record's header, in bytes (RFC 8446 section 5.1).
const HEADER_BYTES: usize = 5;

/// The part of what arrived first that a record's header would take.
#[derive(Clone, Copy, Debug, Default)]
struct Greeting {
    bytes: [u8; HEADER_BYTES],
    length: u8,
}

impl Greeting {
    fn arrived(&mut self, bytes: &[u8]) {
        let from = usize::from(self.length);
        for (place, byte) in self.bytes.iter_mut().skip(from).zip(bytes) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

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

/// A session that has shaken hands, whichever end of the connection this is.
pub(in crate::system) trait Session: fmt::Debug {
    /// Plain bytes that have arrived, as many as there are and fit: `None` when that is none yet,
    /// 0 at a proper end (`close_notify`). None too, with the socket still readable, after many
    /// records without data, which a peer can send for ever.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed without `close_notify`: the body may be cut short.
    fn try_read(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>>;

    /// Encrypts what fits of two slices and sends of it what the socket takes: `None` when there is
    /// no room before the socket takes what was encrypted before. Where `ends` is set nothing
    /// follows, which the peer is told together with the last bytes.
    fn try_write(
        &mut self,
        socket: &Socket,
        slices: [&[u8]; 2],
        ends: bool,
    ) -> io::Result<Option<usize>>;

    /// Sends what was encrypted; whether that was all.
    fn flush(&mut self, socket: &Socket) -> io::Result<bool>;

    /// Prepares for a wait for the peer: sends what was kept back, and holds as little as possible.
    /// Returns true if the next read needs nothing from the socket: bytes or the end have been
    /// decrypted.
    fn rest(&mut self, socket: &Socket) -> bool;

    /// Bytes that were encrypted and not sent.
    fn unsent_bytes(&self) -> usize;

    /// Bytes that have arrived and were not read, decrypted or not.
    fn held_bytes(&self) -> usize;

    /// Returns true if something arrived that was not read, not even by decrypting it.
    fn has_leftover(&self) -> bool;

    /// Returns true if nothing waits that nobody asked for, up to the last turn of the event loop.
    /// Takes in what the socket holds: session tickets may arrive on an idle connection. A part of
    /// a record counts as something, for it may become anything, and so does a flood of them.
    fn is_quiet(&mut self, socket: &Socket) -> bool;

    /// Tells the peer that this is the end, if the socket takes it at once and nothing is half
    /// sent.
    fn close(&mut self, socket: &Socket);
}

impl ClientSession {
    /// A session that has not shaken hands yet.
    pub(in crate::system) fn new(client: &TlsClient, buffers: &Rc<Buffers>) -> io::Result<Self> {
        let (config, name) = (Arc::clone(&client.config), client.server_name.clone());
        let side = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut session = Self::over(side, buffers);
        session.records.start();
        Ok(session)
    }
}

impl ServerSession {
    /// A session that has not shaken hands yet.
    pub(in crate::system) fn accept(server: &TlsServer, buffers: &Rc<Buffers>) -> io::Result<Self> {
        Ok(Self::over(server.connection().map_err(io::Error::other)?, buffers))
    }

    /// Goes on with the handshake as far as the socket lets it. Puts the host name that the client
    /// asks for into `name`, once it is known.
    ///
    /// # Errors
    /// As [`TlsSession::shake_hands`], and when the certificate of a resumed client is not good any
    /// more.
    pub(in crate::system) fn shake_hands_as(
        &mut self,
        server: &TlsServer,
        socket: &Socket,
        name: &mut Option<Box<str>>,
    ) -> io::Result<Handshake> {
        let progress = self.shake_hands(socket);
        if let Some(asked_for) = take_name() {
            *name = Some(asked_for);
        }
        if matches!(progress, Ok(Handshake::Done)) {
            let common = self.records.common();
            if Negotiated::is_resumed(common)
                && let Err(error) = server.judge_again(common.peer_certificates(), UnixTime::now())
            {
                self.close(socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        progress
    }

    /// Everything that was agreed on with a client that asked for this name.
    pub(in crate::system) fn negotiated(&self, name: Option<Box<str>>) -> Negotiated {
        Negotiated::of(self.records.common(), name)
    }
}

impl<S: Side> TlsSession<S> {
    fn over(side: S, buffers: &Rc<Buffers>) -> Self {
        Self { records: Records::new(side, buffers), greeting: Greeting::default() }
    }

    /// The first bytes of a peer that speaks HTTP instead of TLS.
    pub(in crate::system) fn plain_greeting(&self) -> Option<&[u8]> {
        let bytes = self.greeting.bytes();
        bytes.first().is_some_and(u8::is_ascii_uppercase).then_some(bytes)
    }

    /// Goes on with the handshake as far as the socket lets it.
    ///
    /// # Errors
    /// Certificate and protocol errors as `InvalidData`; what the socket reports otherwise.
    pub(in crate::system) fn shake_hands(&mut self, socket: &Socket) -> io::Result<Handshake> {
        loop {
            if let Some(error) = self.records.failure() {
                // The alert that says why, to a peer that can read it.
                if self.plain_greeting().is_none() {
                    let _ = self.flush(socket);
                }
                return Err(error);
            }
            let is_done = !self.records.is_handshaking();
            // A ticket goes out with the response to a request that has come already.
            if is_done && !self.records.plain().is_empty() {
                return Ok(Handshake::Done);
            }
            if !self.flush(socket)? {
                return Ok(Handshake::Writes);
            }
            if is_done {
                return Ok(Handshake::Done);
            }
            if self.records.is_closed() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match self.receive(socket)? {
                Filled::Bytes => {}
                Filled::Nothing => {
                    self.records.stow();
                    return Ok(Handshake::Reads);
                }
                Filled::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
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

    /// Takes in what the socket holds, and sends what that calls for.
    fn fill(&mut self, socket: &Socket) -> io::Result<Filled> {
        let filled = self.receive(socket);
        // An alert above all; it may not fit, and that is fine. What comes with a request waits
        // for the response.
        if self.records.plain().is_empty() || self.records.failure().is_some() {
            let _ = self.flush(socket);
        }
        filled
    }

    fn receive(&mut self, socket: &Socket) -> io::Result<Filled> {
        let room = self.records.room()?;
        let received = socket.try_recv(room);
        let count = received.as_ref().ok().copied().flatten().unwrap_or(0);
        if usize::from(self.greeting.length) < HEADER_BYTES {
            self.greeting.arrived(room.get(..count).unwrap_or_default());
        }
        self.records.received(count);
        Ok(match received? {
            Some(0) => Filled::End,
            Some(_) => Filled::Bytes,
            None => Filled::Nothing,
        })
    }
}

impl<S: Side> Session for TlsSession<S> {
    fn try_read(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
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

    fn try_write(
        &mut self,
        socket: &Socket,
        [first, second]: [&[u8]; 2],
        ends: bool,
    ) -> io::Result<Option<usize>> {
        loop {
            // Behind what the handshake has left to send, or an earlier call.
            let mut taken = self.records.encrypt(first)?;
            if taken == first.len() {
                taken += self.records.encrypt(second)?;
            }
            if ends && taken == first.len() + second.len() {
                self.records.close()?;
            }
            let is_sent = self.flush(socket)?;
            if taken > 0 || first.len() + second.len() == 0 {
                return Ok(Some(taken));
            }
            if !is_sent {
                return Ok(None);
            }
        }
    }

    fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while !self.records.unsent().is_empty() {
            match socket.try_send(self.records.unsent(), &[])? {
                Some(count) => self.records.sent(count),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn rest(&mut self, socket: &Socket) -> bool {
        let records = &self.records;
        if !records.plain().is_empty() || records.is_closed() || records.failure().is_some() {
            return true;
        }
        // What cannot be sent is reported by whoever writes next.
        let _ = self.flush(socket);
        if S::IS_OPEN_TO_ALL {
            self.records.stow();
        }
        false
    }

    fn unsent_bytes(&self) -> usize {
        self.records.unsent().len()
    }

    fn held_bytes(&self) -> usize {
        self.records.held_bytes()
    }

    fn has_leftover(&self) -> bool {
        !self.records.is_quiet()
    }

    fn is_quiet(&mut self, socket: &Socket) -> bool {
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

    fn close(&mut self, socket: &Socket) {
        if matches!(self.flush(socket), Ok(true)) && self.records.close().is_ok() {
            let _ = self.flush(socket);
        }
    }
}
