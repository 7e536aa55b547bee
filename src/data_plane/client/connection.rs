//! One client connection: request heads in, exchanges one after another, and the way it ends.

use std::{net::SocketAddr, rc::Rc};

use crate::{
    data_plane::{
        client::{
            body::Body,
            http2,
            input::Input,
            linger::linger,
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
            record::Refusal,
            request::Request,
        },
    },
    model::Fault,
    protocol::{
        http1::{Progress, RequestHead, parse_request},
        http2::{Begins, begins},
    },
    system::{reactor::CloseReason, stream::Stream, tls::Alpn, turn::TURN_REQUESTS},
    telemetry::labels::ConnectionState,
};

/// Longest body, in bytes, behind which a connection is closed without lingering. It leaves at once
/// with its head, in the ten segments that may be under way on a new connection (RFC 6928), so that
/// no reset can overtake it.
const CLOSED_AT_ONCE_BYTES_MAX: u64 = 8_192;

/// The next step for the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed once the client has stopped sending.
    Close,
    /// It is closed at once: the client asked for it, and nothing that either side has sent can be
    /// lost.
    CloseAtOnce,
    /// It is reset, so that a cut-short body can't be taken for a whole one.
    Abort,
}

/// Beginning of what a client sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// A request, whose head is complete.
    Request,
    /// HTTP/2, by prior knowledge (RFC 9113 section 3.3).
    Http2,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    core: &Rc<Core>,
    stream: Stream,
    peer: SocketAddr,
    guard: &ConnectionGuard,
) {
    let mut input = Input::default();
    if stream.negotiated().is_some_and(|tls| tls.alpn == Alpn::Http2) {
        // In a box, so that a connection of HTTP/1 is not larger for it.
        Box::pin(http2::connection::serve(core, stream, peer, guard, input)).await;
        return;
    }
    let mut first = true;
    let mut head = RequestHead::default();
    let mut this_turn = 0;
    loop {
        let next = match read_head(core, &stream, &mut input, &mut head, first, guard).await {
            Ok(Started::Request) => {
                serve_request(core, &stream, peer, guard.role(), &mut input, &head).await
            }
            Ok(Started::Http2) => {
                Box::pin(http2::connection::serve(core, stream, peer, guard, input)).await;
                return;
            }
            Err(Some(refusal)) => {
                match refusal::refuse_head(core, &stream, peer, input.bytes(), refusal).await {
                    End::Complete => Next::Close,
                    End::Cut => Next::Abort,
                }
            }
            Err(None) => {
                stream.say_end();
                break;
            }
        };
        first = false;
        match next {
            Next::KeepAlive => {}
            Next::Close => {
                linger(core, &stream).await;
                break;
            }
            Next::CloseAtOnce => break,
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
fn serve_request<'c>(
    core: &'c Rc<Core>,
    stream: &Stream,
    peer: SocketAddr,
    role: Role,
    input: &mut Input<'c>,
    head: &RequestHead,
) -> impl Future<Output = Next> {
    async move {
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
        let tls = stream.negotiated();
        let request = Request { local, role, peer, tls, head, bytes };
        let mut next = match exchange::run(core, &request, &mut body, &mut response).await {
            End::Complete if response.keeps_alive() => Next::KeepAlive,
            End::Complete => Next::Close,
            End::Cut => Next::Abort,
        };
        let is_short = response.body_bytes() <= CLOSED_AT_ONCE_BYTES_MAX;
        drop(response);
        // After an early response, what is left of the body must not be read as the next request.
        if next == Next::KeepAlive && !body.is_over() && body.discard().await.is_err() {
            next = Next::Close;
        }
        // A client that asks for the end must not send anything after it (RFC 9112 section 9.6).
        let is_last = head.close && body.is_read() && is_short;
        input.consume(head.head_len + body.consumed());
        input.append(core, body.surplus());
        if next == Next::Close && is_last && input.is_empty() && stream.may_close_at_once() {
            next = Next::CloseAtOnce;
        }
        next
    }
}

/// Reads until `head` is complete, or the client has started HTTP/2.
///
/// # Errors
/// A refusal to respond with, or `None` when the connection is to be closed without a word.
fn read_head<'c>(
    core: &'c Core,
    stream: &Stream,
    input: &mut Input<'c>,
    head: &mut RequestHead,
    first: bool,
    guard: &ConnectionGuard,
) -> impl Future<Output = Result<Started, Option<Refusal>>> {
    async move {
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
                let may_be_http2 = first
                    && local.http2.cleartext
                    && guard.role() == Role::Main
                    && stream.negotiated().is_none();
                let begins = if may_be_http2 { begins(input.bytes()) } else { Begins::Otherwise };
                let parsed = match begins {
                    Begins::Http2 => return Ok(Started::Http2),
                    Begins::Unknown => Ok(Progress::Partial),
                    Begins::Otherwise => parse_request(input.bytes(), &local.limits, head),
                };
                match parsed {
                    Ok(Progress::Complete) => return Ok(Started::Request),
                    // The process ends: there is no time left for the rest of it.
                    Ok(Progress::Partial)
                        if stream.registration().close_reason() == CloseReason::ClientGone =>
                    {
                        return Err(None);
                    }
                    // A client that keeps sending slowly never leaves the socket without bytes.
                    Ok(Progress::Partial) if is_over(stream) => {
                        let reason = "the head was not complete in server.timeouts.client_header";
                        return Err(Some(Refusal { fault: Fault::HeadTimeout, reason }));
                    }
                    Ok(Progress::Partial) => {}
                    Err(error) => return Err(Some(refusal::refusal_of(&error, input.bytes()))),
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
