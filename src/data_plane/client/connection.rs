//! One client connection: request heads in, exchanges one after another, and the way it ends.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use crate::{
    data_plane::{
        client::{
            body::Body,
            input::Input,
            refusal,
            writer::{RespondTo, Writer},
        },
        core::{
            Core,
            open::{ConnectionGuard, Role},
        },
        exchange::{
            self, End,
            client::{RequestBody as _, ResponseWriter as _},
            request::Request,
        },
    },
    model::Fault,
    protocol::http1::{Progress, RequestError, RequestHead, parse_request},
    system::{reactor::CloseReason, stream::Stream, turn::TURN_REQUESTS},
    telemetry::labels::ConnectionState,
};

/// Time that a lingering close waits for the client to end its side. Long enough for what it was
/// still sending to arrive, since answering that with a reset could eat the tail of our response
/// (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a lingering close reads and throws away at most.
const LINGER_BYTES_MAX: usize = 4 * 1_048_576;

/// The next step for the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed once the client has stopped sending.
    Close,
    /// It is reset, so that a cut-short body can't be taken for a whole one.
    Abort,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    core: &Rc<Core>,
    stream: Stream,
    peer: SocketAddr,
    guard: &ConnectionGuard,
) {
    let mut input = Input::default();
    let mut first = true;
    let mut head = RequestHead::default();
    let mut this_turn = 0;
    loop {
        let next = match read_head(core, &stream, &mut input, &mut head, first, guard).await {
            Ok(()) => serve_request(core, &stream, peer, guard.role(), &mut input, &head).await,
            Err(Some(fault)) => {
                match refusal::refuse_head(core, &stream, peer, input.bytes(), fault).await {
                    End::Complete => Next::Close,
                    End::Cut => Next::Abort,
                }
            }
            Err(None) => break,
        };
        first = false;
        match next {
            Next::KeepAlive => {}
            Next::Close => {
                linger(core, &stream).await;
                break;
            }
            Next::Abort => {
                stream.abort();
                break;
            }
        }
        this_turn += 1;
        if this_turn == TURN_REQUESTS {
            core.reactor.turns.next().await;
            this_turn = 0;
        }
    }
}

/// Serves one request whose head is complete and at the beginning of the input.
async fn serve_request<'c>(
    core: &'c Rc<Core>,
    stream: &Stream,
    peer: SocketAddr,
    role: Role,
    input: &mut Input<'c>,
    head: &RequestHead,
) -> Next {
    let local = core.current();
    let bytes = input.bytes();
    let rest = bytes.get(head.head_len..).unwrap_or_default();
    let bounds = (local.limits.body_bytes, local.timeouts.client_header);
    let mut body = Body::begin(core, stream, bounds, head, rest);
    let mut response =
        Writer::new(core, stream, local.timeouts.client_write, RespondTo::request(head));
    if body.ends_connection() {
        response.end_connection();
    }
    let request = Request { local, role, peer, head, bytes };
    let mut next = match exchange::run(core, &request, &mut body, &mut response).await {
        End::Complete if response.keeps_alive() => Next::KeepAlive,
        End::Complete => Next::Close,
        End::Cut => Next::Abort,
    };
    drop(response);
    // After an early response, what is left of the body must not be read as the next request.
    if next == Next::KeepAlive && !body.is_over() && body.discard().await.is_err() {
        next = Next::Close;
    }
    input.consume(head.head_len + body.consumed());
    input.append(core, body.surplus());
    next
}

/// Reads until `head` is complete.
///
/// # Errors
/// A fault to respond with, or `None` when the connection is to be closed without a word.
async fn read_head<'c>(
    core: &'c Core,
    stream: &Stream,
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
    let deadline = stream.registration().deadline(most);
    loop {
        if started {
            let local = core.current();
            match parse_request(input.bytes(), &local.limits, head) {
                Ok(Progress::Complete) => return Ok(()),
                // The process ends: there is no time left for the rest of it.
                Ok(Progress::Partial)
                    if stream.registration().close_reason() == CloseReason::ClientGone =>
                {
                    return Err(None);
                }
                // A client that keeps sending slowly never leaves the socket without bytes.
                Ok(Progress::Partial) if is_over(stream) => return Err(Some(Fault::HeadTimeout)),
                Ok(Progress::Partial) => {}
                Err(error) => return Err(Some(fault_of(&error))),
            }
            stream.readable().await;
        } else {
            let _idle = Idle::new(stream, guard, first);
            stream.readable().await;
        }
        match input.try_fill(core, stream) {
            Ok(Some(0)) | Err(_) => return Err(None),
            Ok(Some(_)) if !started => {
                started = true;
                if !first || core.is_closing() {
                    deadline.restart(timeouts.client_header);
                }
            }
            Ok(None) if !started && is_over(stream) => return Err(None),
            Ok(_) => {}
        }
    }
}

/// A connection that waits for a request, for as long as it does.
#[derive(Debug)]
struct Idle<'i> {
    stream: &'i Stream,
    guard: &'i ConnectionGuard,
}

impl<'i> Idle<'i> {
    fn new(stream: &'i Stream, guard: &'i ConnectionGuard, first: bool) -> Self {
        stream.registration().set_idle(true);
        if !first {
            guard.set_state(ConnectionState::Idle);
        }
        Self { stream, guard }
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.guard.set_state(ConnectionState::Active);
        self.stream.registration().set_idle(false);
    }
}

/// Returns true if the time for what is being read has passed, or the process ends.
fn is_over(stream: &Stream) -> bool {
    stream.registration().close_reason() != CloseReason::Open
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
async fn linger(core: &Core, stream: &Stream) {
    stream.finish();
    let _deadline = stream.registration().deadline(LINGER);
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX && !is_over(stream) {
        stream.readable().await;
        let mut buffer = core.buffers.small();
        match stream.try_read(&mut buffer) {
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(count)) => discarded += count,
            Ok(None) => {}
        }
    }
}
