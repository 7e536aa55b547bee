//! Frames that wait to be sent. They come together until the task of the connection sends them, so
//! that the streams of a connection share calls and TLS records.

use std::rc::Rc;

use crate::{
    protocol::http2::{FRAME_HEAD_BYTES, FrameHead},
    system::buffers::{Buffers, RECORDS_BYTES, RecordBuffer},
};

/// Length of what waits to be sent before streams have to wait, in bytes: what fits the buffer that
/// TLS encrypts at once.
pub(super) const OUTPUT_BYTES: usize = RECORDS_BYTES;

/// Frames that wait to be sent. No buffer is held while there are none.
#[derive(Debug)]
pub(super) struct Output {
    buffers: Rc<Buffers>,
    buffer: Option<RecordBuffer>,
    start: usize,
    end: usize,
}

impl Output {
    pub(super) fn new(buffers: &Rc<Buffers>) -> Self {
        Self { buffers: Rc::clone(buffers), buffer: None, start: 0, end: 0 }
    }

    /// Everything that waits.
    pub(super) fn waiting(&self) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.get(self.start..self.end)).unwrap_or_default()
    }

    /// Number of bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes that streams may append.
    pub(super) fn room(&self) -> usize {
        OUTPUT_BYTES.saturating_sub(self.len())
    }

    /// Notes that so many bytes were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            (self.buffer, self.start, self.end) = (None, 0, 0);
        }
    }

    /// Appends a frame, whatever room there is.
    pub(super) fn frame(&mut self, head: FrameHead, payload: &[u8]) {
        let needed = FRAME_HEAD_BYTES + payload.len();
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.records());
        if buffer.len() - self.end < needed && self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if buffer.len() - self.end < needed {
            let length = (buffer.len() * 2).max(self.end + needed);
            buffer.grow(length);
        }
        let mut append = |bytes: &[u8]| {
            if let Some(room) = buffer.get_mut(self.end..self.end + bytes.len()) {
                room.copy_from_slice(bytes);
                self.end += bytes.len();
            }
        };
        append(&head.bytes());
        append(payload);
    }
}
