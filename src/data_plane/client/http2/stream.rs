//! One stream: its request, the exchange, and the way it ends.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use crate::{
    data_plane::{
        client::{
            http2::{
                body::Body,
                lane::Lane,
                outlet::Outlet,
                shared::{OpenStream, Shared},
                writer::Writer,
            },
            refusal::{HEAD_TOO_LARGE, refusal_of},
        },
        exchange::{
            self, End,
            client::RequestBody as _,
            record::{Refusal, RefusedHead},
            request::Request,
        },
    },
    model::Fault,
    protocol::{
        http1::{Method, Progress, RequestError, RequestHead, Version, parse_request},
        http2::Code,
    },
    system::{buffers::OwnedScratch, event_loop, panic, substream::Substream},
    telemetry::labels::Http2Reset,
};

/// A stream that has begun.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) lane: Rc<Lane>,
    pub(super) asked: Asked,
}

/// A request as far as it was read.
#[derive(Debug)]
pub(super) enum Asked {
    /// A head in the form of HTTP/1.1.
    Request { text: OwnedScratch, is_https: bool },
    /// A head that is larger than was announced.
    TooMuch { text: OwnedScratch, is_head: bool },
}

/// Serves a request in a task of its own.
pub(super) fn spawn(shared: &Rc<Shared>, arrived: Arrived) {
    let Arrived { lane, asked } = arrived;
    let open = OpenStream::new(shared, lane);
    event_loop::spawn(async move {
        // Boxed where it is made: a task moves what it runs several times.
        let served = Box::pin(serve(&open, asked));
        if panic::caught(AssertUnwindSafe(served)).await.is_err() {
            open.shared.core.cells.panics.inc();
            tracing::error!(
                worker = open.shared.core.worker,
                "the task of an HTTP/2 stream panicked and was ended"
            );
        }
        drop(open);
    });
}

/// The end of a stream.
enum Ended {
    /// Its response is complete.
    Complete,
    /// The client is gone.
    Left,
    /// It is reset with this code.
    Reset(Code, Http2Reset),
}

async fn serve(open: &OpenStream, asked: Asked) {
    let shared = &*open.shared;
    let outlet = Outlet { shared, lane: &open.lane };
    let substream = Substream::new(&shared.core.reactor);
    let ended = match asked {
        Asked::Request { text, is_https } => respond_to(outlet, &substream, &text, is_https).await,
        Asked::TooMuch { text, is_head } => {
            let refusal = Refusal { fault: Fault::HeadTooLarge, reason: HEAD_TOO_LARGE };
            refuse(outlet, &substream, (refusal, &text), is_head).await
        }
    };
    match ended {
        Ended::Complete => {
            shared.budget.borrow_mut().responded();
            shared.wire.borrow_mut().forgive();
        }
        Ended::Left => shared.count_reset(Http2Reset::Client),
        Ended::Reset(code, why) => {
            shared.count_reset(why);
            if why == Http2Reset::Malformed {
                outlet.reset_for_error(code);
            } else {
                outlet.reset(code);
            }
        }
    }
}

/// Reads the head and responds.
async fn respond_to(
    outlet: Outlet<'_>,
    substream: &Substream,
    text: &[u8],
    is_https: bool,
) -> Ended {
    let Outlet { shared, lane } = outlet;
    let core = &shared.core;
    let local = core.current();
    let mut head = RequestHead::default();
    let parsed = parse_request(text, &local.limits, &mut head);
    match parsed {
        Ok(Progress::Complete) => {}
        // A malformed request is a stream error (RFC 9113 section 8.1.1).
        Ok(Progress::Partial) | Err(RequestError::Malformed(_)) => {
            let reason = match parsed {
                Err(RequestError::Malformed(reason)) => reason,
                _ => "the head is not complete",
            };
            log_malformed(shared, lane.id, reason);
            return Ended::Reset(Code::PROTOCOL_ERROR, Http2Reset::Malformed);
        }
        Err(error) => {
            let is_head = text.starts_with(b"HEAD ");
            let refusal = refusal_of(&error, text);
            return refuse(outlet, substream, (refusal, text), is_head).await;
        }
    }
    head.version = Version::Http2;
    head.https = is_https;
    let client_write = local.timeouts.client_write;
    let is_head = head.method == Method::Head;
    let mut response = Writer::new(core, substream, outlet, client_write, is_head);
    let bounds = (local.limits.body_bytes, local.timeouts.client_header);
    let mut body = Body::new(shared, lane, substream, bounds, &head);
    let (role, peer, tls) = (shared.role, shared.peer, shared.tls.as_ref());
    let request = Request { local, role, peer, tls, head: &head, bytes: text };
    let run = exchange::run(core, &request, &mut body, &mut response);
    let (end, is_gone) = watch(substream, outlet, pin!(run)).await;
    if end == End::Complete && !response.ends() && !body.is_over() {
        // A client that is told to stop sending may take the response for a failure.
        let _ = body.discard().await;
    }
    ended(end, is_gone, &response)
}

/// Logs the reason why a stream is reset for its request.
pub(super) fn log_malformed(shared: &Shared, stream: u32, reason: &str) {
    let (worker, peer) = (shared.core.worker, shared.peer);
    tracing::debug!(worker, %peer, stream, reason, "a malformed HTTP/2 request was reset");
}

/// Refuses a request that was not read, of which this text was.
async fn refuse(
    outlet: Outlet<'_>,
    substream: &Substream,
    (refusal, arrived): (Refusal, &[u8]),
    is_head: bool,
) -> Ended {
    let Outlet { shared, .. } = outlet;
    let core = &shared.core;
    let client_write = core.current().timeouts.client_write;
    let mut response = Writer::new(core, substream, outlet, client_write, is_head);
    let client = (shared.peer, shared.tls.as_ref());
    let refused = RefusedHead { refusal, version: Some(Version::Http2), arrived };
    let run = exchange::refuse(core, client, &refused, &mut response);
    let (end, is_gone) = watch(substream, outlet, pin!(run)).await;
    ended(end, is_gone, &response)
}

fn ended(end: End, is_gone: bool, response: &Writer<'_>) -> Ended {
    match end {
        End::Complete => Ended::Complete,
        End::Cut if is_gone => Ended::Left,
        End::Cut if response.is_stalled() => Ended::Reset(Code::CANCEL, Http2Reset::Stalled),
        End::Cut => Ended::Reset(Code::INTERNAL_ERROR, Http2Reset::Cut),
    }
}

/// Runs an exchange, and tells what waits on behalf of the client when that is gone. Returns
/// whether it was, too.
async fn watch(
    substream: &Substream,
    outlet: Outlet<'_>,
    mut exchange: Pin<&mut impl Future<Output = End>>,
) -> (End, bool) {
    let mut is_gone = false;
    poll_fn(|context| {
        let mut polled = exchange.as_mut().poll(context);
        if polled.is_pending() && !is_gone && outlet.poll_gone(context).is_ready() {
            is_gone = true;
            substream.leave();
            polled = exchange.as_mut().poll(context);
        }
        // The exchange may have been the first to find out.
        if polled == Poll::Ready(End::Cut) {
            is_gone |= outlet.is_gone();
        }
        polled.map(|end| (end, is_gone))
    })
    .await
}
