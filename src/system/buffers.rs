//! Byte buffers that one core reuses.

use std::{cell::RefCell, rc::Rc};

/// A buffer for request heads and small responses, in bytes. One head of an ordinary client or
/// S3 server fits, and so does a small object together with its head.
pub const SMALL_BYTES: usize = 16 * 1024;

/// A buffer for streaming bodies, in bytes: large enough that the cost of a system call is small
/// against the cost of copying.
pub const LARGE_BYTES: usize = 256 * 1024;

/// A buffer for TLS records, in bytes: a whole number of the longest ones (RFC 5246 section 6.2.3;
/// 16 KiB of plaintext, 5 bytes of header, at most 24 for nonce and tag).
pub const RECORDS_BYTES: usize = 4 * (16_384 + 5 + 24);

/// Free buffers kept of each size, per core; more are given back to the allocator.
const SMALL_FREE_MAX: usize = 512;
const LARGE_FREE_MAX: usize = 16;
const RECORDS_FREE_MAX: usize = 64;

/// First capacity of a buffer to append to, in bytes: an ordinary head fits.
pub(super) const SCRATCH_BYTES: usize = 2_048;

/// A per-core free list of buffers. Buffers keep their full length, so that they are zeroed once
/// in their life and never hold uninitialised memory.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
    records: RefCell<Vec<Vec<u8>>>,
    scratch: RefCell<Vec<Vec<u8>>>,
}

/// A buffer of a fixed length that goes back to its core's free list when dropped.
#[derive(Debug)]
pub struct PooledBuffer<'b> {
    buffer: Vec<u8>,
    home: &'b Buffers,
}

impl std::ops::Deref for PooledBuffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl std::ops::DerefMut for PooledBuffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl PooledBuffer<'_> {
    /// Makes the buffer at least `length` bytes long; a longer one than the usual is freed after
    /// use.
    pub fn grow(&mut self, length: usize) {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
    }
}

impl Drop for PooledBuffer<'_> {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

/// A buffer for TLS records that goes back to its core's free list when dropped. A connection may
/// keep it across waits, so it owns its way home.
#[derive(Debug)]
pub struct RecordBuffer {
    buffer: Vec<u8>,
    home: Rc<Buffers>,
}

impl std::ops::Deref for RecordBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl std::ops::DerefMut for RecordBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl RecordBuffer {
    /// Makes the buffer at least `length` bytes long; a longer one than the usual is freed after
    /// use.
    pub fn grow(&mut self, length: usize) {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
    }
}

impl Drop for RecordBuffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

/// An empty buffer to append to, which goes back to its core's free list when dropped.
#[derive(Debug)]
pub struct Scratch<'b> {
    buffer: Vec<u8>,
    home: &'b Buffers,
}

impl std::ops::Deref for Scratch<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl std::ops::DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        self.home.give_back_scratch(std::mem::take(&mut self.buffer));
    }
}

/// The same, for whoever keeps it across waits or gives it to others: it owns its way home.
#[derive(Debug)]
pub struct OwnedScratch {
    buffer: Vec<u8>,
    home: Rc<Buffers>,
}

impl std::ops::Deref for OwnedScratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl std::ops::DerefMut for OwnedScratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

impl Drop for OwnedScratch {
    fn drop(&mut self) {
        self.home.give_back_scratch(std::mem::take(&mut self.buffer));
    }
}

impl Buffers {
    /// A buffer of `SMALL_BYTES` length.
    pub fn small(&self) -> PooledBuffer<'_> {
        let buffer = self.small.borrow_mut().pop().unwrap_or_else(|| zeroed(SMALL_BYTES));
        PooledBuffer { buffer, home: self }
    }

    /// A buffer of `LARGE_BYTES` length.
    pub fn large(&self) -> PooledBuffer<'_> {
        let buffer = self.large.borrow_mut().pop().unwrap_or_else(|| zeroed(LARGE_BYTES));
        PooledBuffer { buffer, home: self }
    }

    /// A buffer of `RECORDS_BYTES` length.
    pub fn records(self: &Rc<Self>) -> RecordBuffer {
        let buffer = self.records.borrow_mut().pop().unwrap_or_else(|| zeroed(RECORDS_BYTES));
        RecordBuffer { buffer, home: Rc::clone(self) }
    }

    /// A buffer of the length of `bytes`, which it holds. For what has to be kept for long, and is
    /// little; it is freed after use.
    pub fn holding(self: &Rc<Self>, bytes: &[u8]) -> RecordBuffer {
        RecordBuffer { buffer: bytes.to_vec(), home: Rc::clone(self) }
    }

    /// An empty buffer to append to.
    pub fn scratch(&self) -> Scratch<'_> {
        Scratch { buffer: self.take_scratch(), home: self }
    }

    /// An empty buffer to append to, which may be kept and given away.
    pub fn owned_scratch(self: &Rc<Self>) -> OwnedScratch {
        OwnedScratch { buffer: self.take_scratch(), home: Rc::clone(self) }
    }

    #[inline(never)]
    fn take_scratch(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_else(new_scratch)
    }

    #[inline(never)]
    fn give_back(&self, buffer: Vec<u8>) {
        let (list, max) = match buffer.len() {
            SMALL_BYTES => (&self.small, SMALL_FREE_MAX),
            LARGE_BYTES => (&self.large, LARGE_FREE_MAX),
            RECORDS_BYTES => (&self.records, RECORDS_FREE_MAX),
            _ => return free(buffer),
        };
        keep(&mut list.borrow_mut(), max, buffer);
    }

    #[inline(never)]
    fn give_back_scratch(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() > SMALL_BYTES {
            return free(buffer);
        }
        buffer.clear();
        keep(&mut self.scratch.borrow_mut(), SMALL_FREE_MAX, buffer);
    }

    /// Lets go of free buffers, for a core that has nothing to do.
    pub fn shrink(&self) {
        self.large.borrow_mut().clear();
        self.records.borrow_mut().clear();
        self.small.borrow_mut().truncate(SMALL_FREE_MAX / 8);
        self.scratch.borrow_mut().truncate(SMALL_FREE_MAX / 8);
    }
}

#[inline]
fn keep(list: &mut Vec<Vec<u8>>, max: usize, buffer: Vec<u8>) {
    if list.len() < max {
        list.push(buffer);
    } else {
        free(buffer);
    }
}

// What happens seldom is kept out of the code of every request.

#[cold]
fn zeroed(length: usize) -> Vec<u8> {
    vec![0; length]
}

#[cold]
fn new_scratch() -> Vec<u8> {
    Vec::with_capacity(SCRATCH_BYTES)
}

#[cold]
fn free(buffer: Vec<u8>) {
    drop(buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_with_their_length() {
        let buffers = Buffers::default();
        let at = buffers.small().as_ptr();
        assert_eq!(buffers.small().as_ptr(), at);
        assert_eq!(buffers.large().len(), LARGE_BYTES);
        buffers.small().grow(SMALL_BYTES + 1);
        assert_eq!(buffers.small().len(), SMALL_BYTES);
        let buffers = Rc::new(buffers);
        let at = buffers.records().as_ptr();
        assert_eq!(buffers.records().as_ptr(), at);
        drop(buffers.holding(b"little"));
        assert_eq!(buffers.records().as_ptr(), at);
    }

    #[test]
    fn no_more_are_kept_than_a_core_has_use_for() {
        let buffers = Buffers::default();
        let large: Vec<_> = (0..=LARGE_FREE_MAX).map(|_| buffers.large()).collect();
        drop(large);
        assert_eq!(buffers.large.borrow().len(), LARGE_FREE_MAX);
        let scratches: Vec<_> = (0..=SMALL_FREE_MAX).map(|_| buffers.scratch()).collect();
        drop(scratches);
        assert_eq!(buffers.scratch.borrow().len(), SMALL_FREE_MAX);
        buffers.scratch().reserve(SMALL_BYTES + 1);
        assert_eq!(buffers.scratch.borrow().len(), SMALL_FREE_MAX - 1);
    }

    #[test]
    fn scratch_comes_back_empty() {
        let buffers = Buffers::default();
        buffers.scratch().extend_from_slice(b"left over");
        assert!(buffers.scratch().is_empty());
        let buffers = Rc::new(buffers);
        let at = buffers.scratch().as_ptr();
        buffers.owned_scratch().extend_from_slice(b"left over");
        assert!(buffers.scratch().is_empty());
        assert_eq!(buffers.owned_scratch().as_ptr(), at);
    }
}
