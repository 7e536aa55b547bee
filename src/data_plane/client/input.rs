//! Bytes from a client that nothing has used yet.

use crate::{
    data_plane::core::Core,
    system::{buffers::PooledBuffer, stream::Stream},
};

/// A read buffer that holds no memory while there is nothing in it.
#[derive(Debug, Default)]
pub(super) struct Input<'c> {
    buffer: Option<PooledBuffer<'c>>,
    start: usize,
    end: usize,
}

impl<'c> Input<'c> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().and_then(|b| b.get(self.start..self.end)).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops what was used, and the buffer when nothing is left in it.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Puts bytes behind those that are there, as if they had just arrived.
    pub(super) fn append(&mut self, core: &'c Core, bytes: &[u8]) {
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

    /// Takes in what the stream holds: `None` when that is nothing yet, `Some(0)` at the end.
    pub(super) fn try_fill(
        &mut self,
        core: &'c Core,
        stream: &Stream,
    ) -> std::io::Result<Option<usize>> {
        let received = stream.try_read(self.room(core, 1));
        if let Ok(Some(count)) = received {
            self.end += count;
        }
        if self.is_empty() {
            *self = Self::default();
        }
        received
    }
}
