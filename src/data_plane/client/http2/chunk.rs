//! Body bytes on their way to a stream, in a buffer that goes back to its core when `h2` has
//! written them.

use bytes::Buf;

use crate::system::buffers::OwnedScratch;

/// Bytes of a body that go into one frame: with its head they fill a TLS record (RFC 8446 section
/// 5.1), and no client has a smaller limit on frames (RFC 9113 section 4.2).
pub(super) const CHUNK_BYTES: usize = 16_384 - 9;

/// A part of a body.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Option<OwnedScratch>,
    at: usize,
}

impl From<OwnedScratch> for Chunk {
    fn from(bytes: OwnedScratch) -> Self {
        Self { bytes: Some(bytes), at: 0 }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.as_ref().and_then(|bytes| bytes.get(self.at..)).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
    }
}
