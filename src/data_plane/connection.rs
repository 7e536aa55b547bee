//! One client connection: request heads in, exchanges one after another, and the way it ends.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use crate::{
    data_plane::{
        core::{Core, open::ConnectionGuard},
        exchange::{self, Next, respond},
    },
    model::Fault,
    protocol::http1::{Progress, RequestError, RequestHead, parse_request},
    system::{
        buffers::Lent,
        socket::Socket,
        turn::TURN_REQUESTS,
        watch::{Ended, Shut},
    },
    telemetry::labels::ConnectionState,
};

/// How long a lingering close waits for the client to end its side. Long enough for what it was
/// still sending to arrive, since answering that with a reset could eat the tail of our answer
/// (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a lingering close reads and throws away at most.
const LINGER_BYTES_MAX: usize = 4 * 1_048_576;

/// Bytes from the client that no exchange has used yet. Holds no buffer while there are none.
#[derive(Debug, Default)]
pub(crate) struct Input<'c> {
    buffer: Option<Lent<'c>>,
    start: usize,
    end: usize,
}

impl<'c> Input<'c> {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().and_then(|b| b.get(self.start..self.end)).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops what an exchange has used, and the buffer when nothing is left in it.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Puts bytes behind those that are there, as if they had just arrived.
    pub(crate) fn append(&mut self, core: &'c Core, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.room(core, bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }

    /// Room for at least `least` more bytes.
    fn room(&mut self, core: &'c Core, least: usize) -> &mut [u8] {
        let buffer = self.buffer.get_or_insert_with(|| core.buffers.small());
        if buffer.len() - self.end < least {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if buffer.len() - self.end < least {
                let length = (buffer.len() * 2).max(self.end + least);
                buffer.grow(length);
            }
        }
        &mut buffer[self.end..]
    }

    /// Takes in what the socket holds: `None` when that is nothing yet, `Some(0)` at the end.
    fn try_fill(&mut self, core: &'c Core, socket: &Socket) -> std::io::Result<Option<usize>> {
        let received = socket.try_recv(self.room(core, 1));
        if let Ok(Some(count)) = received {
            self.end += count;
        }
        if self.is_empty() {
            *self = Self::default();
        }
        received
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    core: &Rc<Core>,
    socket: Socket,
    peer: SocketAddr,
    guard: &ConnectionGuard,
) {
    let mut input = Input::default();
    let mut first = true;
    let mut head = RequestHead::default();
    let mut this_turn = 0;
    loop {
        let next = match read_head(core, &socket, &mut input, &mut head, first, guard).await {
            Ok(()) => exchange::run(core, &socket, peer, guard.role(), &mut input, &head).await,
            Err(Some(fault)) => {
                respond::refuse_head(core, &socket, peer, input.bytes(), fault).await
            }
            Err(None) => break,
        };
        first = false;
        match next {
            Next::KeepAlive => {}
            Next::Close => {
                linger(core, &socket).await;
                break;
            }
            Next::Abort => {
                socket.set_abortive(true);
                break;
            }
        }
        this_turn += 1;
        if this_turn == TURN_REQUESTS {
            core.watches.turns.next().await;
            this_turn = 0;
        }
    }
}

/// Reads until `head` is complete.
///
/// # Errors
/// A fault to answer with, or `None` when the connection is to be closed without a word.
async fn read_head<'c>(
    core: &'c Core,
    socket: &Socket,
    input: &mut Input<'c>,
    head: &mut RequestHead,
    first: bool,
    guard: &ConnectionGuard,
) -> Result<(), Option<Fault>> {
    let timeouts = core.current().timeouts;
    // One absolute deadline for the head, from accept or from its first byte.
    let mut started = !input.is_empty();
    let mut most = if started || first { timeouts.client_header } else { timeouts.client_idle };
    if core.is_closing() && !started {
        // A request may still be on its way.
        most = most.min(timeouts.drain_idle);
    }
    socket.watch().arm(most, Shut::Neither);
    loop {
        if started {
            let local = core.current();
            match parse_request(input.bytes(), &local.limits, head) {
                Ok(Progress::Complete) => {
                    socket.watch().disarm();
                    return Ok(());
                }
                // The process ends: there is no time left for the rest of it.
                Ok(Progress::Partial) if socket.watch().ended() == Ended::ClientGone => {
                    return Err(None);
                }
                // A client that keeps sending slowly never leaves the socket without bytes.
                Ok(Progress::Partial) if is_over(socket) => return Err(Some(Fault::HeadTimeout)),
                Ok(Progress::Partial) => {}
                Err(error) => return Err(Some(fault_of(&error))),
            }
            socket.readable().await;
        } else {
            socket.watch().set_idle(true);
            if !first {
                guard.set_state(ConnectionState::Idle);
            }
            socket.readable().await;
            guard.set_state(ConnectionState::Active);
            socket.watch().set_idle(false);
        }
        match input.try_fill(core, socket) {
            Ok(Some(0)) | Err(_) => return Err(None),
            Ok(Some(_)) if !started => {
                started = true;
                if !first || core.is_closing() {
                    socket.watch().arm(timeouts.client_header, Shut::Neither);
                }
            }
            Ok(None) if !started && is_over(socket) => return Err(None),
            Ok(_) => {}
        }
    }
}

/// Whether the time for what is being read has passed, or the process ends.
fn is_over(socket: &Socket) -> bool {
    socket.watch().ended() != Ended::No
}

fn fault_of(error: &RequestError) -> Fault {
    match error {
        RequestError::Malformed(_) => Fault::BadRequest,
        RequestError::UnknownTransferCoding => Fault::UnknownTransferCoding,
        RequestError::UriTooLong => Fault::UriTooLong,
        RequestError::HeadTooLarge => Fault::HeadTooLarge,
        RequestError::VersionNotSupported => Fault::VersionNotSupported,
        RequestError::ExpectationFailed => Fault::ExpectationFailed,
    }
}

/// Ends our side, then reads and discards until the client has ended its own.
async fn linger(core: &Core, socket: &Socket) {
    socket.finish();
    socket.watch().arm(LINGER, Shut::Neither);
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX && !is_over(socket) {
        socket.readable().await;
        let mut buffer = core.buffers.small();
        match socket.try_recv(&mut buffer) {
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(count)) => discarded += count,
            Ok(None) => {}
        }
    }
}
