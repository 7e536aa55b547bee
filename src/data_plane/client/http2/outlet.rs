//! The sending side of a stream, which the response writer and the watch over the client share.

use std::task::{Context, Poll};

use h2::{Reason, SendStream, server::SendResponse};
use http::Response;

use crate::data_plane::{client::http2::chunk::Chunk, exchange::client::ClientGone};

/// The sending side of one stream.
#[derive(Debug)]
pub(super) struct Outlet {
    respond: SendResponse<Chunk>,
    /// There once the head is sent.
    body: Option<SendStream<Chunk>>,
}

impl Outlet {
    pub(super) fn new(respond: SendResponse<Chunk>) -> Self {
        Self { respond, body: None }
    }

    /// Sends the head; `is_all` if no body follows.
    pub(super) fn begin(&mut self, head: Response<()>, is_all: bool) -> Result<(), ClientGone> {
        self.body = Some(self.respond.send_response(head, is_all).map_err(|_| ClientGone)?);
        Ok(())
    }

    /// Sends a part of the body; the windows must have room for it.
    pub(super) fn send(&mut self, chunk: Chunk, is_last: bool) -> Result<(), ClientGone> {
        let body = self.body.as_mut().ok_or(ClientGone)?;
        body.send_data(chunk, is_last).map_err(|_| ClientGone)
    }

    /// Ready with the number of bytes that may be sent, at most `wanted`.
    pub(super) fn poll_room(
        &mut self,
        wanted: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, ClientGone>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Err(ClientGone)) };
        body.reserve_capacity(wanted);
        loop {
            match body.capacity() {
                0 => match body.poll_capacity(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(ClientGone)),
                    Poll::Pending => return Poll::Pending,
                },
                room => return Poll::Ready(Ok(room.min(wanted))),
            }
        }
    }

    /// Ready once the client has reset the stream, or the connection is over.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.body {
            Some(body) => body.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        reset.map(|_| ())
    }

    /// Ends the stream before its time.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }
}
