//! One stream: its request, the exchange, and the way it ends.

use std::{cell::RefCell, future::poll_fn, panic::AssertUnwindSafe, pin::pin, rc::Rc, task::Poll};

use h2::{Reason, RecvStream, server::SendResponse};
use http::Request as Message;

use crate::{
    data_plane::{
        client::{
            http2::{
                body::Body,
                chunk::Chunk,
                outlet::Outlet,
                shared::{OpenStream, Shared},
                writer::Writer,
            },
            refusal::fault_of,
        },
        exchange::{self, End, client::RequestBody as _, request::Request},
    },
    protocol::{
        http1::{Progress, RequestError, RequestHead, Version, parse_request},
        http2::append_head,
    },
    system::{panic, substream::Substream},
    telemetry::labels::Http2Reset,
};

/// Serves a request in a task of its own.
pub(super) fn spawn(
    shared: &Rc<Shared>,
    message: Message<RecvStream>,
    respond: SendResponse<Chunk>,
) {
    let open = OpenStream::new(shared);
    monoio::spawn(async move {
        let shared = &open.0;
        // Boxed where it is made: a task moves what it runs several times.
        let served = Box::pin(serve(shared, message, respond));
        if panic::caught(AssertUnwindSafe(served)).await.is_err() {
            shared.core.cells.panics.inc();
            tracing::error!(
                worker = shared.core.worker,
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
    /// It is reset, for this reason.
    Reset(Reason, Http2Reset),
}

async fn serve(shared: &Shared, message: Message<RecvStream>, respond: SendResponse<Chunk>) {
    let outlet = RefCell::new(Outlet::new(respond));
    match respond_to(shared, message, &outlet).await {
        Ended::Complete => shared.budget.borrow_mut().responded(),
        Ended::Left => shared.count_reset(Http2Reset::Client),
        Ended::Reset(reason, why) => {
            shared.count_reset(why);
            outlet.borrow_mut().reset(reason);
        }
    }
}

/// Reads the head and responds.
async fn respond_to(
    shared: &Shared,
    message: Message<RecvStream>,
    outlet: &RefCell<Outlet>,
) -> Ended {
    let core = &shared.core;
    let (parts, stream) = message.into_parts();
    let substream = Substream::new(&core.reactor);
    let local = core.current();
    let mut text = core.buffers.scratch();
    let mut head = RequestHead::default();
    let parsed = append_head(&parts.method, parts.uri, &parts.headers, &mut text)
        .map_err(|malformed| RequestError::Malformed(malformed.0))
        .and_then(|is_https| {
            let progress = parse_request(&text, &local.limits, &mut head)?;
            Ok((progress, is_https))
        });
    drop(parts.headers);
    let is_head = parts.method == http::Method::HEAD;
    let client_write = local.timeouts.client_write;
    let mut response = Writer::new(core, &substream, outlet, client_write, is_head);
    let end = match parsed {
        Ok((Progress::Complete, is_https)) => {
            head.version = Version::Http2;
            head.https = is_https;
            let bounds = (local.limits.body_bytes, local.timeouts.client_header);
            let mut body = Body::new(stream, &substream, bounds, &head);
            let (role, peer, tls) = (shared.role, shared.peer, shared.tls.as_ref());
            let request = Request { local, role, peer, tls, head: &head, bytes: &text };
            let run = exchange::run(core, &request, &mut body, &mut response);
            let (end, is_gone) = watch(&substream, outlet, run).await;
            if end == End::Complete && !response.ends() && !body.is_over() {
                // A client that is told to stop sending may take the response for a failure.
                let _ = body.discard().await;
            }
            (end, is_gone)
        }
        // A malformed request is a stream error (RFC 9113 section 8.1.1).
        Ok((Progress::Partial, _)) | Err(RequestError::Malformed(_)) => {
            return Ended::Reset(Reason::PROTOCOL_ERROR, Http2Reset::Malformed);
        }
        Err(error) => {
            let refuse = exchange::refuse(
                core,
                (shared.peer, shared.tls.as_ref()),
                Some(Version::Http2),
                fault_of(&error),
                &mut response,
            );
            watch(&substream, outlet, refuse).await
        }
    };
    match end {
        (End::Complete, _) => Ended::Complete,
        (End::Cut, true) => Ended::Left,
        (End::Cut, false) if response.is_stalled() => {
            Ended::Reset(Reason::CANCEL, Http2Reset::Stalled)
        }
        (End::Cut, false) => Ended::Reset(Reason::INTERNAL_ERROR, Http2Reset::Cut),
    }
}

/// Runs an exchange, and tells what waits on behalf of the client when that is gone. Returns
/// whether it was, too.
async fn watch(
    substream: &Substream,
    outlet: &RefCell<Outlet>,
    exchange: impl Future<Output = End>,
) -> (End, bool) {
    let mut exchange = pin!(exchange);
    let mut is_gone = false;
    poll_fn(|context| {
        let mut polled = exchange.as_mut().poll(context);
        if polled.is_pending() && !is_gone && outlet.borrow_mut().poll_gone(context).is_ready() {
            is_gone = true;
            substream.leave();
            polled = exchange.as_mut().poll(context);
        }
        // The exchange may have been the first to find out.
        if polled == Poll::Ready(End::Cut) {
            is_gone |= outlet.borrow_mut().poll_gone(context).is_ready();
        }
        polled.map(|end| (end, is_gone))
    })
    .await
}
