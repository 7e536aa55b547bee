//! Passing a body on: pieces as they arrive from S3, framed for the client, gathered where that
//! saves a system call, moved inside the kernel where that is possible.

use crate::{
    data_plane::{
        exchange::{
            Exchange,
            respond::{Cut, deliver},
            splice,
        },
        upstream::{
            body::{Body, Frame},
            error::UpstreamError,
        },
    },
    protocol::http1::{CHUNK_END, ClientFraming, LAST_CHUNK, encode_chunk_head},
    system::turn::TURN_BYTES,
};

/// Pieces up to this length, in bytes, are gathered with the head or with others into one plain
/// send: copying so little costs less than the kernel's handling of a second slice. Longer ones
/// are sent from where they are.
const GATHER_BYTES_MAX: usize = 4_096;

/// What is gathered goes out when it has reached this length, in bytes.
const GATHERED_BYTES: usize = 16_384;

/// What goes to the client, gathered until a send is worth it. Starts with the head.
pub(crate) struct Sink<'o> {
    pub(crate) out: &'o mut Vec<u8>,
    pub(crate) framing: ClientFraming,
    /// Whether the end of a chunk is still to be written.
    pub(crate) open_chunk: bool,
    /// Whether anything was sent.
    pub(crate) begun: bool,
    /// Body bytes in `out`.
    gathered: usize,
    /// Body bytes that the client's socket took.
    pub(crate) sent: u64,
}

impl<'o> Sink<'o> {
    /// A body framed like this, behind the head that is in `out`.
    pub(crate) fn new(out: &'o mut Vec<u8>, framing: ClientFraming) -> Self {
        Self { out, framing, open_chunk: false, begun: false, gathered: 0, sent: 0 }
    }

    fn open_piece(&mut self, length: usize) {
        if self.framing == ClientFraming::Chunked {
            self.close_piece();
            encode_chunk_head(length, self.out);
            self.open_chunk = true;
        }
    }

    fn close_piece(&mut self) {
        if self.open_chunk {
            self.out.extend_from_slice(CHUNK_END);
            self.open_chunk = false;
        }
    }

    /// Adds a piece to what goes out next.
    pub(crate) fn gather(&mut self, piece: &[u8]) {
        self.open_piece(piece.len());
        self.out.extend_from_slice(piece);
        self.gathered += piece.len();
    }

    fn finish(&mut self) {
        if self.framing == ClientFraming::Chunked {
            self.close_piece();
            self.out.extend_from_slice(LAST_CHUNK);
        }
    }

    async fn flush(&mut self, exchange: &Exchange<'_>, more: &[u8]) -> Result<(), End> {
        if self.out.is_empty() && more.is_empty() {
            return Ok(());
        }
        self.begun = true;
        let body = self.gathered + more.len();
        let delivered = deliver(exchange, self.out, more).await;
        // Head and chunk sizes go before the body, so what was taken of a part is body last.
        let sent = match &delivered {
            Ok(()) => body,
            Err(Cut { taken }) => taken.saturating_sub(self.out.len() - self.gathered).min(body),
        };
        self.sent += sent as u64;
        self.gathered = 0;
        self.out.clear();
        delivered.map_err(|Cut { .. }| End::Client)
    }
}

/// Why a body was not passed on to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// The client is gone or does not read.
    Client,
    /// S3 failed.
    Upstream(UpstreamError),
}

/// Passes the rest of the body on, with what is gathered in the sink before it.
///
/// # Errors
/// Which side ended it.
pub(crate) async fn stream(
    exchange: &Exchange<'_>,
    body: &mut Body<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), End> {
    let mut this_turn = 0;
    loop {
        match body.buffered().map_err(End::Upstream)? {
            Frame::Data(piece) if piece.is_empty() => {}
            Frame::Data(piece) => {
                let bytes = body.bytes(piece);
                this_turn += bytes.len();
                if bytes.len() <= GATHER_BYTES_MAX {
                    sink.gather(bytes);
                    if sink.out.len() >= GATHERED_BYTES {
                        sink.flush(exchange, &[]).await?;
                    }
                } else {
                    sink.open_piece(bytes.len());
                    sink.flush(exchange, bytes).await?;
                }
            }
            Frame::Wait => {
                sink.flush(exchange, &[]).await?;
                if this_turn >= TURN_BYTES {
                    exchange.core.watches.turns.next().await;
                    this_turn = 0;
                }
                if !splice::relay(exchange, body, &mut sink.sent).await? {
                    body.wait().await.map_err(End::Upstream)?;
                }
            }
            Frame::End => {
                sink.finish();
                return sink.flush(exchange, &[]).await;
            }
        }
    }
}
