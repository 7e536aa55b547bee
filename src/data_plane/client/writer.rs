//! Responses in HTTP/1: framing, and gathering what goes out until a send is worth it.

use std::time::Duration;

use crate::{
    data_plane::{
        client::{
            send::{deliver, deliver_at_once},
            splice::{self, Destination},
        },
        core::Core,
        exchange::client::{ClientGone, Cut, ResponseWriter, Start},
        upstream::body::{Body, Passage},
    },
    protocol::http1::{
        BodyLength, CHUNK_END, ClientFraming, LAST_CHUNK, PROXY_NAME, RequestHead, ResponseHead,
        Version, append_connection, append_field, append_framing, client_framing,
        encode_chunk_head,
    },
    protocol::text::append::append_all,
    system::{
        buffers::{LARGE_BYTES, Scratch},
        reactor::Presence,
        stream::Stream,
    },
};

/// Frames up to this length, in bytes, are gathered with the head or with others into one plain
/// send: copying so little costs less than the kernel's handling of a second slice. Longer ones
/// are sent from where they are.
const GATHER_BYTES_MAX: usize = 4_096;

/// Length, in bytes, at which gathered bytes go out.
const COALESCED_BYTES: usize = 16_384;

/// Length, in bytes, of a frame to a TLS client. Encrypting costs so much that fewer reads would
/// save little, and a slow client holds records besides the frame.
const TLS_FRAME_BYTES_MAX: usize = 131_072;

/// The request that a response is for, as far as its framing depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RespondTo {
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    /// Set if the client asked for the connection to end with the response.
    pub(crate) close: bool,
}

impl RespondTo {
    pub(crate) fn request(head: &RequestHead) -> Self {
        Self {
            version: head.version,
            is_head: head.method == crate::protocol::http1::Method::Head,
            close: head.close,
        }
    }
}

/// The response to one request on a plain connection.
#[derive(Debug)]
pub(crate) struct Writer<'w> {
    core: &'w Core,
    stream: &'w Stream,
    client_write: Duration,
    to: RespondTo,
    keep_alive: bool,
    /// Goes out next. None is held before there is a response.
    out: Option<Scratch<'w>>,
    status: u16,
    /// Place in `out` of the first field.
    fields_at: usize,
    framing: ClientFraming,
    /// Set while the end of a chunk is still to be written.
    open_chunk: bool,
    start: Start,
    /// Body bytes in `out`.
    gathered: usize,
    /// Body bytes that the client's socket took.
    sent: u64,
}

impl<'w> Writer<'w> {
    /// A response to a client that has `client_write` to take a part of it.
    pub(crate) fn new(
        core: &'w Core,
        stream: &'w Stream,
        client_write: Duration,
        to: RespondTo,
    ) -> Self {
        Self {
            core,
            stream,
            client_write,
            to,
            keep_alive: !to.close,
            out: None,
            status: 0,
            fields_at: 0,
            framing: ClientFraming::None,
            open_chunk: false,
            start: Start::default(),
            gathered: 0,
            sent: 0,
        }
    }

    /// True if the connection may serve another request after this response.
    pub(super) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Tries once to send the head and this body behind it, without waiting.
    pub(super) fn send_once(&mut self, body: &[u8]) {
        let body = if self.has_body() { body } else { &[] };
        let _ = self.stream.try_write(self.out(), body);
    }

    fn out(&mut self) -> &mut Vec<u8> {
        let core = self.core;
        self.out.get_or_insert_with(|| core.buffers.scratch())
    }

    fn chunk_head(&mut self, length: usize) {
        if self.framing == ClientFraming::Chunked {
            self.close_chunk();
            encode_chunk_head(length, self.out());
            self.open_chunk = true;
        }
    }

    fn close_chunk(&mut self) {
        if self.open_chunk {
            self.out().extend_from_slice(CHUNK_END);
            self.open_chunk = false;
        }
    }

    /// Sends what was gathered and `more`: the last bytes on the connection if `ends` is set.
    fn send(&mut self, more: &[u8], ends: bool) -> impl Future<Output = Result<(), ClientGone>> {
        async move {
            let Some(out) = self.out.as_deref_mut() else { return Ok(()) };
            if out.is_empty() && more.is_empty() {
                return Ok(());
            }
            self.start.make(&self.core.reactor.clock);
            let body = self.gathered + more.len();
            let framing = out.len() - self.gathered;
            let mut taken = 0;
            let at_once = deliver_at_once(self.stream, out, more, ends, &mut taken);
            let delivered = if let Some(delivered) = at_once {
                delivered
            } else {
                let rest = deliver(self.stream, self.client_write, out, more, ends, taken).await;
                taken = rest.1;
                rest.0
            };
            // Head and chunk sizes go before the body, so what was taken of a part is body last.
            self.sent += taken.saturating_sub(framing).min(body) as u64;
            self.gathered = 0;
            out.clear();
            delivered
        }
    }
}

impl ResponseWriter for Writer<'_> {
    fn presence(&self) -> Presence {
        // A client that asked for a last response may finish sending and wait for it (RFC 9112
        // section 9.6).
        self.stream.registration().presence(self.to.close)
    }

    fn end_connection(&mut self) {
        self.keep_alive = false;
    }

    fn give_up(&mut self) {
        // A reset says all that there is to say.
    }

    fn begin(&mut self, status: u16, reason: &[u8]) {
        if self.framing.must_close() {
            self.stream.set_abortive(false);
            self.framing = ClientFraming::None;
        }
        self.status = status;
        (self.open_chunk, self.gathered) = (false, 0);
        let digit = |of: u16| b'0' + u8::try_from(of % 10).unwrap_or(0);
        let out = self.out();
        out.clear();
        let digits = [digit(status / 100), digit(status / 10), digit(status)];
        append_all(&[b"HTTP/1.1 ", &digits, b" ", reason, b"\r\n"], out);
        self.fields_at = out.len();
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        append_field(name, value, self.out());
    }

    fn fields_of(&mut self, head: &ResponseHead, message: &[u8]) {
        let out = self.out();
        head.copy_end_to_end(message, out);
        head.append_via(message, PROXY_NAME, out);
    }

    fn field_lines(&mut self) -> (&mut Vec<u8>, usize) {
        let start = self.fields_at;
        (self.out(), start)
    }

    fn end_head(&mut self, length: BodyLength, declared: Option<u64>) {
        let (version, status) = (self.to.version, self.status);
        let framing = match status {
            // RFC 9110 section 15.3.5
            204 => ClientFraming::None,
            _ => client_framing(version, self.to.is_head, length),
        };
        self.framing = framing;
        if framing.must_close() {
            // To this client the end of the connection is the end of the body: until it is
            // complete, every end, that of the process included, must be a reset.
            self.keep_alive = false;
            self.stream.set_abortive(true);
        }
        self.keep_alive &= !self.core.is_closing();
        let close = !self.keep_alive;
        let out = self.out();
        append_framing(framing, status, declared, out);
        append_connection(version, close, out);
        out.extend_from_slice(b"\r\n");
    }

    fn has_body(&self) -> bool {
        self.framing != ClientFraming::None
    }

    fn room(&self) -> Option<usize> {
        // The rest of a frame waits for the client's socket, in the one buffer of the connection.
        Some(match self.stream {
            Stream::Plain(_) => LARGE_BYTES,
            Stream::Tls(_) => TLS_FRAME_BYTES_MAX,
        })
    }

    async fn wait_for_room(&mut self) -> Result<(), ClientGone> {
        Ok(())
    }

    fn gather(&mut self, frame: &[u8]) -> bool {
        let held = self.out.as_ref().map_or(0, |out| out.len());
        if frame.len() > GATHER_BYTES_MAX || held + frame.len() >= COALESCED_BYTES {
            return false;
        }
        self.chunk_head(frame.len());
        self.gathered += frame.len();
        self.out().extend_from_slice(frame);
        true
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), ClientGone> {
        if self.gather(frame) {
            return Ok(());
        }
        self.chunk_head(frame.len());
        if frame.len() > GATHER_BYTES_MAX {
            return self.send(frame, false).await;
        }
        self.gathered += frame.len();
        self.out().extend_from_slice(frame);
        self.send(&[], false).await
    }

    fn flush(&mut self) -> impl Future<Output = Result<(), ClientGone>> {
        async move { self.send(&[], false).await }
    }

    fn finish(&mut self) -> impl Future<Output = Result<(), ClientGone>> {
        async move {
            if self.framing == ClientFraming::Chunked {
                self.close_chunk();
                self.out().extend_from_slice(LAST_CHUNK);
            }
            self.send(&[], !self.keep_alive).await?;
            if self.framing.must_close() {
                self.stream.set_abortive(false);
            }
            Ok(())
        }
    }

    fn passage(&self) -> Passage {
        match self.stream {
            Stream::Plain(_) => Passage::Spliced,
            Stream::Tls(_) => Passage::Copied,
        }
    }

    async fn splice(&mut self, body: &mut Body<'_>) -> Result<bool, Cut> {
        let client = Destination {
            stream: self.stream,
            client_write: self.client_write,
            sent: &mut self.sent,
        };
        splice::relay(self.core, body, client).await
    }

    fn start(&mut self) -> &mut Start {
        &mut self.start
    }

    fn body_bytes(&self) -> u64 {
        self.sent
    }
}
