//! The records of one TLS connection, without its socket: ciphertext in and plaintext out, and
//! back.
//!
//! Both directions have a pooled buffer, and only while there is something in it. Records are
//! decrypted in the buffer that they arrived in, all that are complete at once, and their plaintext
//! is read there. What is sent is encrypted into the other buffer, several records behind each
//! other.
//!
//! A client and a server differ in one call ([`Side`]).

use std::{collections::VecDeque, fmt, io, ops::Range, rc::Rc};

use rustls::{
    CommonState, Error,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
        UnbufferedStatus, WriteTraffic,
    },
};

use crate::system::{
    buffers::{Buffers, RECORDS_BYTES, RecordBuffer},
    tls::in_place,
};

/// Plaintext of one record, in bytes, at most (RFC 8446 section 5.1).
const RECORD_PLAIN_BYTES_MAX: usize = 16_384;

/// Bytes that a record adds to its plaintext, at most: header, explicit nonce, inner content type
/// and tag.
const RECORD_EXTRA_BYTES_MAX: usize = 5 + 8 + 1 + 16;

/// Room for what rustls may put before the first record of data, in bytes: a key update.
const KEY_UPDATE_BYTES_MAX: usize = 128;

/// A handshake message is at most 64 KiB long here, and comes in records that are not all full.
const INCOMING_BYTES_MAX: usize = 4 * 65_536;

/// Places of plaintext that an idle connection keeps memory for.
const PLACES_KEPT_MAX: usize = 32;

/// One end of a connection.
pub(in crate::system) trait Side: 'static {
    type Data;

    /// True if anybody may connect and let the rest of a record wait, many at a time.
    const IS_OPEN_TO_ALL: bool;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn common(&self) -> &CommonState;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    const IS_OPEN_TO_ALL: bool = false;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    const IS_OPEN_TO_ALL: bool = true;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

/// The last word of the peer.
#[derive(Debug)]
enum Peer {
    Open,
    /// `close_notify`: there will be no more.
    Closed,
    /// Something that ends the connection.
    Failed(Error),
}

/// The record layer of one connection.
pub(super) struct Records<S> {
    side: S,
    buffers: Rc<Buffers>,
    /// Holds `plain` and `cipher`; none while both are empty.
    incoming: Option<RecordBuffer>,
    /// Decrypted and not yet read, in order. Lies before `cipher`.
    plain: VecDeque<Range<usize>>,
    /// Not yet decrypted.
    cipher: Range<usize>,
    /// Bytes at the start of `cipher` that rustls has seen: the start of a record, or of a
    /// handshake message in several.
    seen: usize,
    /// Length in bytes of the last record of data, with its header.
    record: usize,
    outgoing: Outgoing,
    peer: Peer,
}

impl<S> fmt::Debug for Records<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plain, cipher, outgoing, peer, .. } = self;
        f.debug_struct("Records")
            .field("plain", plain)
            .field("cipher", cipher)
            .field("outgoing", &outgoing.unsent)
            .field("peer", peer)
            .finish_non_exhaustive()
    }
}

/// Encrypted records that wait to be sent.
struct Outgoing {
    buffer: Option<RecordBuffer>,
    unsent: Range<usize>,
    buffers: Rc<Buffers>,
}

impl Outgoing {
    /// Room behind what waits.
    fn room(&mut self, least: usize) -> &mut [u8] {
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.records());
        buffer.grow(self.unsent.end + least);
        buffer.get_mut(self.unsent.end..).unwrap_or_default()
    }

    fn encode<D>(&mut self, mut data: EncodeTlsData<'_, D>) -> Result<(), Error> {
        let written = match data.encode(self.room(0)) {
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                data.encode(self.room(required_size))
            }
            written => written,
        };
        self.unsent.end += written.map_err(|error| Error::General(error.to_string()))?;
        Ok(())
    }

    /// `write` gets room for `least` bytes, and once more for as many as it says that it needs.
    fn write(
        &mut self,
        least: usize,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        let written = match write(self.room(least)) {
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                write(self.room(required_size))
            }
            written => written,
        };
        self.unsent.end += written.map_err(|error| Error::General(error.to_string()))?;
        Ok(())
    }
}

impl<S: Side> Records<S> {
    pub(super) fn new(side: S, buffers: &Rc<Buffers>) -> Self {
        let outgoing = Outgoing { buffer: None, unsent: 0..0, buffers: Rc::clone(buffers) };
        Self {
            side,
            buffers: Rc::clone(buffers),
            incoming: None,
            plain: VecDeque::new(),
            cipher: 0..0,
            seen: 0,
            record: 1,
            outgoing,
            peer: Peer::Open,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.side.common().is_handshaking()
    }

    /// Returns true if the peer has said that it sends nothing more.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.peer, Peer::Closed)
    }

    /// The error in what has arrived, if there is one.
    pub(super) fn failure(&self) -> Option<io::Error> {
        match &self.peer {
            Peer::Failed(error) => Some(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
            Peer::Open | Peer::Closed => None,
        }
    }

    /// Returns true if nothing has arrived that was not used, not even a part of a record.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.peer, Peer::Open) && self.incoming.is_none()
    }

    /// Bytes that have arrived and were not read, decrypted or not.
    pub(super) fn held_bytes(&self) -> usize {
        self.plain.iter().map(Range::len).sum::<usize>() + self.cipher.len()
    }

    /// Room for ciphertext, behind what has arrived. All plaintext must have been read.
    ///
    /// # Errors
    /// A handshake message that is too long.
    pub(super) fn room(&mut self) -> io::Result<&mut [u8]> {
        debug_assert!(self.plain.is_empty(), "plaintext would be moved");
        let buffer = self.incoming.get_or_insert_with(|| self.buffers.records());
        if buffer.len() < RECORDS_BYTES {
            // What was stowed away.
            let mut whole = self.buffers.records();
            let stowed = buffer.get(self.cipher.clone()).unwrap_or_default();
            whole.get_mut(..stowed.len()).unwrap_or_default().copy_from_slice(stowed);
            self.cipher = 0..stowed.len();
            *buffer = whole;
        }
        if self.cipher.start > 0 {
            buffer.copy_within(self.cipher.clone(), 0);
            self.cipher = 0..self.cipher.len();
        }
        if self.cipher.end == buffer.len() {
            if buffer.len() >= INCOMING_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "handshake too long"));
            }
            let longer = buffer.len() * 2;
            buffer.grow(longer);
        }
        // A read that ends where a record does leaves no part of one behind that has to be moved.
        let whole = buffer.len() - buffer.len() % self.record;
        let end = if self.cipher.end < whole { whole } else { buffer.len() };
        Ok(buffer.get_mut(self.cipher.end..end).unwrap_or_default())
    }

    /// Notes that so many bytes were put into the room, and decrypts the records that are complete.
    /// What comes of it is told by the other methods.
    pub(super) fn received(&mut self, count: usize) {
        self.cipher.end += count;
        if !matches!(self.peer, Peer::Open) {
            // RFC 8446 section 6.1: what follows a closure is ignored.
            self.cipher.start = self.cipher.end;
        } else if let Err(error) = self.drive(self.cipher.len(), |_, _| Ok(())) {
            self.fail(error);
        }
        self.seen = self.cipher.len();
        self.release();
    }

    /// Gives the buffer back, and keeps a part of a record in memory of its own size: for the time
    /// until the rest arrives, which may be long.
    pub(super) fn stow(&mut self) {
        if !self.plain.is_empty() {
            return;
        }
        let part = self.cipher.clone();
        let whole = self.incoming.take_if(|buffer| part.len() < buffer.len());
        let stowed = whole.as_deref().and_then(|buffer| buffer.get(part));
        if let Some(stowed) = stowed.filter(|stowed| !stowed.is_empty()) {
            self.cipher = 0..stowed.len();
            self.incoming = Some(self.buffers.holding(stowed));
        }
    }

    /// The state of the connection, as rustls knows it.
    pub(super) fn common(&self) -> &CommonState {
        self.side.common()
    }

    /// Memory that is held for what arrives, in bytes.
    #[cfg(test)]
    pub(super) fn incoming_bytes(&self) -> usize {
        self.incoming.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// Begins the handshake of a client.
    pub(super) fn start(&mut self) {
        self.received(0);
    }

    /// The first decrypted bytes that were not read; empty when there are none.
    pub(super) fn plain(&self) -> &[u8] {
        let first = self.plain.front().cloned().unwrap_or_default();
        self.incoming.as_ref().and_then(|buffer| buffer.get(first)).unwrap_or_default()
    }

    /// Notes that so many of the bytes of [`Records::plain`] were read.
    pub(super) fn consume(&mut self, count: usize) {
        if let Some(first) = self.plain.front_mut() {
            first.start += count;
            if first.start >= first.end {
                self.plain.pop_front();
                self.release();
            }
        }
    }

    /// Encrypts the first bytes of `plain` behind what waits to be sent, and returns how many: 0
    /// when there is no room for more before something was sent.
    ///
    /// # Errors
    /// The handshake is not over, or no more may be encrypted with its keys.
    pub(super) fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        let room = RECORDS_BYTES.saturating_sub(self.outgoing.unsent.end + KEY_UPDATE_BYTES_MAX);
        let records = room / (RECORD_PLAIN_BYTES_MAX + RECORD_EXTRA_BYTES_MAX);
        let count = plain.len().min(records * RECORD_PLAIN_BYTES_MAX);
        let Some(part) = plain.get(..count).filter(|part| !part.is_empty()) else { return Ok(0) };
        let extra = count.div_ceil(RECORD_PLAIN_BYTES_MAX) * RECORD_EXTRA_BYTES_MAX;
        let least = count + extra + KEY_UPDATE_BYTES_MAX;
        self.write(|traffic, outgoing| outgoing.write(least, |room| traffic.encrypt(part, room)))?;
        Ok(count)
    }

    /// Says that nothing more will be sent, unless that or an alert was said before.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.write(|traffic, outgoing| {
            outgoing.write(KEY_UPDATE_BYTES_MAX, |room| traffic.queue_close_notify(room))
        })
    }

    /// Ciphertext that waits to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        let Outgoing { buffer, unsent, .. } = &self.outgoing;
        buffer.as_ref().and_then(|buffer| buffer.get(unsent.clone())).unwrap_or_default()
    }

    /// Notes that so many of the bytes of [`Records::unsent`] were sent.
    pub(super) fn sent(&mut self, count: usize) {
        let outgoing = &mut self.outgoing;
        outgoing.unsent.start += count;
        if outgoing.unsent.start >= outgoing.unsent.end {
            outgoing.unsent = 0..0;
            outgoing.buffer = None;
        }
    }

    fn write(
        &mut self,
        write: impl FnMut(&mut WriteTraffic<'_, S::Data>, &mut Outgoing) -> Result<(), Error>,
    ) -> io::Result<()> {
        // A failure threw away bytes that rustls still refers to, so it must not look for them.
        if matches!(self.peer, Peer::Failed(_)) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Of what has arrived rustls sees again what it has seen: it finds nothing new to decrypt.
        let before = self.cipher.len() - self.seen;
        let written = self.drive(self.seen, write);
        self.seen = self.cipher.len() - before;
        match written {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::ErrorKind::NotConnected.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Lets rustls work on the first bytes of `cipher`, until it needs more of them or is ready to
    /// send. Returns whether it was, and `write` called.
    fn drive(
        &mut self,
        mut length: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_, S::Data>, &mut Outgoing) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        loop {
            let from = self.cipher.start;
            let incoming = self.incoming.as_mut();
            let bytes = incoming.and_then(|b| b.get_mut(from..from + length)).unwrap_or_default();
            let (status, place) = in_place::noting(|| self.side.process(bytes));
            let UnbufferedStatus { discard, state } = status;
            let mut done = None;
            let mut records = 0;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        record?;
                        records += 1;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => self.outgoing.encode(data)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer = Peer::Closed,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    write(&mut traffic, &mut self.outgoing)?;
                    done = Some(true);
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    done = Some(false);
                }
                Ok(_) => return Err(Error::General("unexpected state of the session".to_owned())),
                Err(error) => return Err(error),
            }
            let discard = discard.min(length);
            self.cipher.start += discard;
            length -= discard;
            match place {
                Some(place) if records == 1 => {
                    let buffer = self.incoming.as_deref().unwrap_or_default();
                    let start = place.offset_in(buffer).ok_or(OUT_OF_STEP)?;
                    self.plain.push_back(start..start + place.length);
                    self.record = discard.clamp(1, RECORDS_BYTES);
                }
                None if records == 0 => {}
                _ => return Err(OUT_OF_STEP),
            }
            if matches!(self.peer, Peer::Closed) {
                self.cipher.start = self.cipher.end;
                length = 0;
            }
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    /// Ends the connection, and queues the alert that tells the peer why.
    fn fail(&mut self, error: Error) {
        self.peer = Peer::Failed(error);
        self.cipher.start = self.cipher.end;
        while self.side.common().wants_write() {
            // What is to be sent comes before anything is read.
            let state = self.side.process(&mut []).state;
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { break };
            if self.outgoing.encode(data).is_err() {
                break;
            }
        }
    }

    fn release(&mut self) {
        if self.plain.is_empty() && self.cipher.is_empty() {
            self.incoming = None;
            self.cipher = 0..0;
            self.seen = 0;
            self.plain.shrink_to(PLACES_KEPT_MAX);
        }
    }
}

/// Plaintext that rustls reports is not where the decrypter left it: none of it can be trusted.
const OUT_OF_STEP: Error = Error::HandshakeNotComplete;
