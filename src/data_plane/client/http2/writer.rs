//! Responses in HTTP/2: a head, and frames of body as the client's windows let them go.

use std::{cell::RefCell, future::poll_fn, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
};

use crate::{
    data_plane::{
        client::http2::{
            chunk::{CHUNK_BYTES, Chunk},
            outlet::Outlet,
        },
        core::Core,
        exchange::client::{ClientGone, Cut, ResponseWriter},
        upstream::body::Body,
    },
    protocol::http1::{BodyLength, PROXY_NAME, ResponseHead, append_content_length, append_field},
    system::{
        buffers::{OwnedScratch, Scratch},
        reactor::{CloseReason, Presence},
        substream::Substream,
    },
};

/// Fields of a response of S3 with room for our own, so that the map grows once.
const FIELDS_USUAL: usize = 24;

/// Part of a body that a stream holds while the client's windows are closed, in bytes: many streams
/// may be slow at once.
const BODY_PART_BYTES_MAX: usize = 65_536;

/// The response on one stream.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a response")]
pub(super) struct Writer<'w> {
    core: &'w Core,
    substream: &'w Substream,
    outlet: &'w RefCell<Outlet>,
    client_write: Duration,
    is_head: bool,
    status: u16,
    /// The fields as lines of HTTP/1.1, until the head is complete.
    lines: Option<Scratch<'w>>,
    /// A complete head that was not sent.
    head: Option<Response<()>>,
    has_body: bool,
    /// Body bytes that were kept back.
    kept: Option<OwnedScratch>,
    started: bool,
    /// Set if the request's body is of no interest any more.
    ends: bool,
    stalled: bool,
    /// Body bytes that the client's windows had room for.
    sent: u64,
}

impl<'w> Writer<'w> {
    /// A response to a client that has `client_write` to take a part of it.
    pub(super) fn new(
        core: &'w Core,
        substream: &'w Substream,
        outlet: &'w RefCell<Outlet>,
        client_write: Duration,
        is_head: bool,
    ) -> Self {
        Self {
            core,
            substream,
            outlet,
            client_write,
            is_head,
            status: 0,
            lines: None,
            head: None,
            has_body: false,
            kept: None,
            started: false,
            ends: false,
            stalled: false,
            sent: 0,
        }
    }

    /// Returns true if the stream is to end with the response, whatever still comes on it.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    /// Returns true if the client took nothing for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    fn lines(&mut self) -> &mut Vec<u8> {
        let core = self.core;
        self.lines.get_or_insert_with(|| core.buffers.scratch())
    }

    /// Sends what was kept back, and the end behind it if this is all.
    async fn send(&mut self, is_all: bool) -> Result<(), ClientGone> {
        let is_bare = self.kept.is_none();
        if let Some(head) = self.head.take() {
            self.started = true;
            self.outlet.borrow_mut().begin(head, is_all && is_bare)?;
            if is_all && is_bare {
                return Ok(());
            }
        }
        if is_bare {
            let end = is_all.then(Chunk::default);
            return end.map_or(Ok(()), |end| self.outlet.borrow_mut().send(end, true));
        }
        while let Some(mut kept) = self.kept.take() {
            let room = self.room(kept.len()).await?;
            let chunk = if room < kept.len() {
                let mut first = self.core.buffers.owned_scratch();
                first.extend(kept.drain(..room));
                self.kept = Some(kept);
                first
            } else {
                kept
            };
            self.sent += chunk.len() as u64;
            let is_last = is_all && self.kept.is_none();
            self.outlet.borrow_mut().send(chunk.into(), is_last)?;
        }
        Ok(())
    }

    /// Waits until the client's windows have room for a part of `wanted` bytes.
    async fn room(&mut self, wanted: usize) -> Result<usize, ClientGone> {
        let mut waits = false;
        let room = poll_fn(|context| {
            let room = self.outlet.borrow_mut().poll_room(wanted, context);
            if room.is_ready() {
                return room;
            }
            if !std::mem::replace(&mut waits, true) {
                self.substream.arm(self.client_write);
            }
            self.substream.poll_over(context).map(|over| {
                self.stalled = over == CloseReason::Deadline;
                Err(ClientGone)
            })
        })
        .await;
        if waits {
            self.substream.disarm();
        }
        room
    }
}

impl ResponseWriter for Writer<'_> {
    fn presence(&self) -> Presence {
        self.substream.presence()
    }

    fn end_connection(&mut self) {
        self.ends = true;
    }

    fn begin(&mut self, status: u16, _reason: &[u8]) {
        self.status = status;
        (self.head, self.kept) = (None, None);
        self.lines().clear();
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        append_field(name, value, self.lines());
    }

    fn fields_of(&mut self, head: &ResponseHead, message: &[u8]) {
        let lines = self.lines();
        head.copy_end_to_end(message, lines);
        head.append_via(message, PROXY_NAME, lines);
    }

    fn field_lines(&mut self) -> (&mut Vec<u8>, usize) {
        (self.lines(), 0)
    }

    fn end_head(&mut self, length: BodyLength, declared: Option<u64>) {
        let (status, is_head) = (self.status, self.is_head);
        // As in HTTP/1, but for the framing, which is that of frames.
        let is_bodiless = is_head || status == 204 || length == BodyLength::None;
        let content_length = match length {
            _ if status == 204 => None,
            BodyLength::Fixed(length) if !is_head => Some(length),
            _ if is_bodiless => declared,
            _ => None,
        };
        if let Some(length) = content_length {
            append_content_length(length, self.lines());
        }
        self.has_body = !is_bodiless;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        if let Some(lines) = self.lines.take() {
            add_fields(&lines, response.headers_mut());
        }
        self.head = Some(response);
    }

    fn has_body(&self) -> bool {
        self.has_body
    }

    fn frame_bytes_max(&self) -> usize {
        BODY_PART_BYTES_MAX
    }

    async fn write(&mut self, mut frame: &[u8]) -> Result<(), ClientGone> {
        while !frame.is_empty() {
            let buffers = &self.core.buffers;
            let kept = self.kept.get_or_insert_with(|| buffers.owned_scratch());
            let count = frame.len().min(CHUNK_BYTES - kept.len());
            let (first, rest) = frame.split_at(count);
            kept.extend_from_slice(first);
            frame = rest;
            if kept.len() == CHUNK_BYTES && !frame.is_empty() {
                self.send(false).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ClientGone> {
        self.send(false).await
    }

    async fn finish(&mut self) -> Result<(), ClientGone> {
        self.send(true).await
    }

    async fn splice(&mut self, _body: &mut Body<'_>) -> Result<bool, Cut> {
        // The kernel cannot put frames around what it moves.
        Ok(false)
    }

    fn is_started(&self) -> bool {
        self.started
    }

    fn body_bytes(&self) -> u64 {
        self.sent
    }
}

/// Adds the fields of lines of HTTP/1.1. Their values share one allocation.
fn add_fields(lines: &[u8], fields: &mut HeaderMap) {
    fields.reserve(FIELDS_USUAL);
    let shared = Bytes::copy_from_slice(lines);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', lines) {
        let line = start..end.saturating_sub(1);
        start = end + 1;
        let Some(colon) = lines.get(line.clone()).and_then(|line| memchr::memchr(b':', line))
        else {
            continue;
        };
        let name = lines.get(line.start..line.start + colon).unwrap_or_default();
        let value = trimmed(lines, line.start + colon + 1..line.end);
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(shared.slice(value)))
        else {
            debug_assert!(false, "a line that is no field");
            continue;
        };
        // RFC 9113 section 8.2.2; a head of S3 has been freed of them.
        if ![CONNECTION, TE, TRANSFER_ENCODING, UPGRADE].contains(&name) {
            fields.append(name, value);
        }
    }
}

/// A range without the blanks at both ends.
fn trimmed(bytes: &[u8], mut range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let is_blank = |at: usize| matches!(bytes.get(at), Some(b' ' | b'\t'));
    while range.start < range.end && is_blank(range.start) {
        range.start += 1;
    }
    while range.start < range.end && is_blank(range.end - 1) {
        range.end -= 1;
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_fields_without_what_http2_forbids() {
        let mut fields = HeaderMap::new();
        let lines = "Content-Type: text/plain\r\nx-amz-meta-a:\t b c \r\nVia: 1.1 a\r\nvia: 1.1 b\r\n\
                     ETag: \"x:y\"\r\nEmpty:\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n";
        add_fields(lines.as_bytes(), &mut fields);
        let found: Vec<_> =
            fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            found,
            [
                ("content-type", "text/plain"),
                ("x-amz-meta-a", "b c"),
                ("via", "1.1 a"),
                ("via", "1.1 b"),
                ("etag", "\"x:y\""),
                ("empty", ""),
            ]
        );
    }
}
