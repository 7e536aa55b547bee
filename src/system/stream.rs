//! A byte stream to a client or to S3: a socket, in plain or through TLS.
//!
//! Whoever has a stream reads and writes the bytes of messages, whatever carries them. What belongs
//! to one kind only is asked for: [`Stream::splice_fd`] is none where the bytes of the message are
//! not those of the socket. All calls but the waits return at once, and a wait may be dropped: what
//! has arrived and what is still to be sent stays in the stream.
//!
//! A deadline ([`Registration`]) wakes the owner and does nothing else: the next call finds what
//! has arrived just before, and only then says that the time is over.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
};

use crate::system::{
    buffers::Buffers,
    reactor::Registration,
    socket::Socket,
    tls::{
        ClientSession, Handshake, HandshakeFailure, Negotiated, ServerSession, Session, TlsClient,
        TlsServer,
    },
};

/// Length, in bytes, from which on encrypting takes its time: the small sends of others go first.
const LARGE_WRITE_BYTES: usize = 4_096;

/// A connected stream that belongs to this core.
#[derive(Debug)]
pub enum Stream {
    /// The bytes of the message are those of the socket.
    Plain(Socket),
    /// They come in TLS records.
    Tls(Secured),
}

/// A socket and the TLS session that it carries.
#[derive(Debug)]
pub struct Secured(Box<Carried<dyn Session>>);

#[derive(Debug)]
struct Carried<S: ?Sized> {
    socket: Socket,
    /// The outcome of the handshake with a client.
    negotiated: Option<Negotiated>,
    // Never borrowed across a wait.
    session: RefCell<S>,
}

/// A client with which no TLS session came about.
#[derive(Debug)]
pub struct Refused {
    /// The reason, as a kind.
    pub failure: HandshakeFailure,
    /// The reason in detail.
    pub error: io::Error,
    /// The connection: to be closed, or for what is still to be said on it.
    pub socket: Socket,
    /// The first bytes of a client that speaks HTTP instead of TLS; it has been sent nothing.
    pub plain_greeting: Option<Box<[u8]>>,
}

impl Stream {
    /// Shakes hands with a TLS server over a connected socket.
    ///
    /// # Errors
    /// Certificate and protocol errors as `InvalidData`; `TimedOut` and `ConnectionAborted` as
    /// `Registered::check_open` says; what the socket reports otherwise.
    pub async fn secure(
        socket: Socket,
        client: &TlsClient,
        buffers: &Rc<Buffers>,
    ) -> io::Result<Self> {
        let mut session = ClientSession::new(client, buffers)?;
        loop {
            socket.registration().let_sends_go();
            if wait_for(&socket, &session.shake_hands(&socket)?).await? {
                break;
            }
        }
        Ok(Self::secured(socket, None, session))
    }

    /// Shakes hands with a TLS client over an accepted socket.
    ///
    /// # Errors
    /// The client is refused, or did not go on. It was told why if there is an alert for it.
    pub async fn accept_tls(
        socket: Socket,
        server: &TlsServer,
        buffers: &Rc<Buffers>,
    ) -> Result<Self, Refused> {
        let mut session = match ServerSession::accept(server, buffers) {
            Ok(session) => session,
            Err(error) => return Err(Refused::new(socket, error, None)),
        };
        let mut name = None;
        loop {
            socket.registration().let_sends_go();
            let progress = session.shake_hands_as(server, &socket, &mut name);
            let waited = match progress {
                Ok(progress) => wait_for(&socket, &progress).await,
                Err(error) => Err(error),
            };
            match waited {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => {
                    return Err(Refused::new(socket, error, session.plain_greeting()));
                }
            }
        }
        let negotiated = session.negotiated(name);
        Ok(Self::secured(socket, Some(negotiated), session))
    }

    fn secured(
        socket: Socket,
        negotiated: Option<Negotiated>,
        session: impl Session + 'static,
    ) -> Self {
        Self::Tls(Secured(Box::new(Carried { socket, negotiated, session: RefCell::new(session) })))
    }

    /// The outcome of the handshake, on the stream of a TLS client.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secured) => secured.0.negotiated.as_ref(),
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secured) => &secured.0.socket,
        }
    }

    /// Its registration with the core: deadline, and who waits on whose behalf.
    pub fn registration(&self) -> &Registration {
        self.socket().registration()
    }

    /// The socket, where its bytes are those of the message, so that the kernel may move them.
    pub fn splice_fd(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    /// Waits until [`Stream::try_read`] is likely to find something.
    pub fn readable(&self) -> impl Future<Output = ()> {
        async move {
            poll_fn(|context| self.poll_readable(context)).await;
        }
    }

    /// Ready once [`Stream::try_read`] is likely to find something. One task at a time may wait.
    pub fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        match self {
            // Decrypted bytes may wait inside the session while the socket is silent.
            Self::Tls(secured) if secured.0.rest() => Poll::Ready(()),
            Self::Tls(_) => self.registration().poll_readable(context),
            Self::Plain(socket) => socket.poll_readable(context),
        }
    }

    /// Ready once [`Stream::try_write`] is likely to take something. One task at a time may wait.
    pub fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        self.registration().poll_writable(context)
    }

    /// Waits until [`Stream::try_write`] is likely to take something.
    pub async fn writable(&self) {
        self.socket().writable().await;
    }

    /// Reads what is there: `None` when that is nothing yet, `Some(0)` at the end.
    ///
    /// # Errors
    /// `UnexpectedEof` when a TLS peer ended without `close_notify`: a body may be cut short.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(socket) => {
                socket.check_sent()?;
                socket.try_recv(into)
            }
            Self::Tls(secured) => secured.0.session.borrow_mut().try_read(&secured.0.socket, into),
        }
    }

    /// Reads at least one byte, or 0 at the end. Tries before it waits.
    ///
    /// # Errors
    /// As [`Stream::try_read`], and as `Registered::check_open` says when nothing came in time.
    pub fn read(&self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        async move {
            loop {
                if let Some(count) = self.try_read(into)? {
                    return Ok(count);
                }
                self.registration().check_open()?;
                if self.socket().may_read() {
                    // Records without data, which a peer can send for ever: others first.
                    self.registration().take_turn().await;
                } else {
                    self.readable().await;
                }
            }
        }
    }

    /// Takes what fits, of two slices as if they were one: `None` when nothing fits. A TLS session
    /// may keep the last records of what it took, to be sent with what comes next.
    pub fn try_write(&self, first: &[u8], second: &[u8]) -> io::Result<Option<usize>> {
        self.try_write_part(first, second, false)
    }

    /// The same, with the last bytes before [`Stream::finish`] if `ends` is set: a TLS peer is told
    /// of the end together with them.
    pub fn try_write_part(
        &self,
        first: &[u8],
        second: &[u8],
        ends: bool,
    ) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(socket) => socket.try_send(first, second),
            Self::Tls(secured) => {
                let Carried { socket, session, .. } = &*secured.0;
                if first.len() + second.len() >= LARGE_WRITE_BYTES {
                    socket.registration().let_sends_go();
                }
                session.borrow_mut().try_write(socket, [first, second], ends)
            }
        }
    }

    /// Returns true if what is sent now goes out by itself, and not with what others send in this
    /// turn of the event loop (see [`Stream::write_together`]).
    pub fn sends_alone(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.sends_alone(),
            Self::Tls(_) => true,
        }
    }

    /// Sends `bytes` together with what others send in this turn of the event loop, where that is
    /// worth it, and returns how many were taken. The rest is left in `bytes`: all of them where it
    /// is not worth it.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn write_together(&self, bytes: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> {
        async move {
            match self {
                Self::Plain(socket) => socket.send_together(bytes).await,
                Self::Tls(_) => Ok(0),
            }
        }
    }

    /// Sends all of `bytes`, which it may empty: where that is worth it, together with what others
    /// send in this turn of the event loop, without waiting for it. What the socket does not take
    /// is sent while the stream is waited for, and a failure is that of the next read.
    ///
    /// # Errors
    /// As [`Stream::write_all`].
    pub fn write_soon(&self, bytes: &mut Vec<u8>) -> impl Future<Output = io::Result<()>> {
        async move {
            match self {
                Self::Plain(socket) if socket.send_soon(bytes) => Ok(()),
                _ => self.write_all(bytes).await,
            }
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// What the socket reports, and as `Registered::check_open` says when it did not take them in
    /// time.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if let Some(taken) = self.try_write(bytes, &[])? {
                bytes = bytes.get(taken..).unwrap_or_default();
            } else {
                self.registration().check_open()?;
                self.writable().await;
            }
        }
        self.flush().await
    }

    /// Sends what a TLS session has taken and kept, as far as the socket takes it; whether that was
    /// all.
    pub fn try_flush(&self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(secured) => secured.0.session.borrow_mut().flush(&secured.0.socket),
        }
    }

    /// Sends what a TLS session has taken and kept.
    async fn flush(&self) -> io::Result<()> {
        while !self.try_flush()? {
            self.registration().check_open()?;
            self.writable().await;
        }
        Ok(())
    }

    /// Returns true if an idle stream is still usable: open, and nothing has arrived on it that
    /// nobody asked for, up to the last turn of the event loop.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(secured) => secured.0.session.borrow_mut().is_quiet(&secured.0.socket),
        }
    }

    /// Returns true if something has arrived that is kept in memory: decrypted bytes, or a part of
    /// a record.
    pub fn has_leftover(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secured) => secured.0.session.borrow().has_leftover(),
        }
    }

    /// Bytes that a TLS session has encrypted and the socket has not taken.
    pub fn unsent_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(secured) => secured.0.session.borrow().unsent_bytes(),
        }
    }

    /// Bytes that have arrived and are kept in memory, decrypted or not.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(secured) => secured.0.session.borrow().held_bytes(),
        }
    }

    /// Returns true if closing is an orderly end for a peer that is done sending: nothing of it is
    /// left unread, which the kernel would answer with a reset. A TLS peer may still send an end of
    /// its own (RFC 8446 section 6.1).
    pub fn may_close_at_once(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(_) => false,
        }
    }

    /// Ends sending in order; the peer sees the end of the stream after everything that was sent.
    pub fn finish(&self) {
        self.say_end();
        self.socket().finish();
    }

    /// Tells a TLS peer that this is the end (RFC 8446 section 6.1), for a stream that is dropped
    /// then. Dropping a plain one says so by itself.
    pub fn say_end(&self) {
        if let Self::Tls(secured) = self {
            secured.0.session.borrow_mut().close(&secured.0.socket);
        }
    }

    /// Makes closing send a reset, so that the peer can't take what it got for a whole message; or
    /// an orderly end again. Holds for the end of the process too.
    pub fn set_abortive(&self, abortive: bool) {
        self.socket().set_abortive(abortive);
    }

    /// Ends the stream with a reset.
    pub fn abort(self) {
        self.set_abortive(true);
    }
}

impl Carried<dyn Session> {
    fn rest(&self) -> bool {
        self.session.borrow_mut().rest(&self.socket)
    }
}

impl Refused {
    fn new(socket: Socket, error: io::Error, plain_greeting: Option<&[u8]>) -> Self {
        let failure = HandshakeFailure::of(&error);
        Self { failure, error, socket, plain_greeting: plain_greeting.map(Box::from) }
    }
}

/// Waits for what a handshake needs; whether that is nothing, for it is over.
async fn wait_for(socket: &Socket, progress: &Handshake) -> io::Result<bool> {
    match progress {
        Handshake::Done => return Ok(true),
        Handshake::Reads => {
            socket.registration().check_open()?;
            socket.readable().await;
        }
        Handshake::Writes => {
            socket.registration().check_open()?;
            socket.writable().await;
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        time::Duration,
    };

    use super::*;
    use crate::system::{event_loop, reactor::Reactor, socket::pair};

    /// Runs `test` with a stream whose peer is silent, and whose deadline passes at the next tick.
    fn with_silent_peer<F: Future<Output = ()>>(test: impl Fn(Socket, std::fs::File) -> F) {
        event_loop::run(|| async {
            let reactor = Reactor::start().unwrap();
            let beating = Rc::clone(&reactor);
            event_loop::spawn(async move { beating.every_tick(|| beating.tick()).await });
            let (ours, theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            socket.registration().arm(Duration::from_millis(1));
            test(socket, std::fs::File::from(theirs)).await;
        })
        .unwrap();
    }

    /// The peer's view: nothing yet, or an end.
    fn end_seen_by(peer: &mut std::fs::File) -> Result<usize, io::ErrorKind> {
        peer.read(&mut [0; 8]).map_err(|error| error.kind())
    }

    #[test]
    fn a_deadline_ends_a_read_and_leaves_the_socket_to_its_owner() {
        with_silent_peer(|socket, mut peer| async move {
            let stream = Stream::Plain(socket);
            let read = stream.read(&mut [0; 8]).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(end_seen_by(&mut peer), Err(io::ErrorKind::WouldBlock));
            stream.finish();
            assert_eq!(end_seen_by(&mut peer), Ok(0));
        });
    }

    #[test]
    fn a_deadline_ends_a_write_to_a_peer_that_takes_nothing() {
        with_silent_peer(|socket, peer| async move {
            let _open = peer;
            let stream = Stream::Plain(socket);
            let written = stream.write_all(&vec![0; 4_194_304]).await;
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_deadline_ends_a_handshake() {
        with_silent_peer(|socket, peer| async move {
            let _open = peer;
            let client = TlsClient::new("localhost", None).unwrap();
            let secured = Stream::secure(socket, &client, &Rc::default()).await;
            assert_eq!(secured.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn what_arrived_before_the_deadline_passed_is_read_after_it() {
        with_silent_peer(|socket, mut peer| async move {
            let stream = Stream::Plain(socket);
            stream.readable().await;
            peer.write_all(b"abc").unwrap();
            let mut into = [0; 8];
            assert_eq!(stream.read(&mut into).await.unwrap(), 3);
            let read = stream.read(&mut into).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }
}
