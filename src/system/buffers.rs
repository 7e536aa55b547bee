//! Byte buffers that one core reuses.

use std::cell::RefCell;

/// A buffer for request heads and small responses, in bytes. One head of an ordinary client or
/// S3 server fits, and so does a small object together with its head.
pub const SMALL_BYTES: usize = 16 * 1024;

/// A buffer for streaming bodies, in bytes: large enough that the cost of a system call is small
/// against the cost of copying.
pub const LARGE_BYTES: usize = 256 * 1024;

/// Free buffers kept of each size, per core; more are given back to the allocator.
const SMALL_FREE_MAX: usize = 512;
const LARGE_FREE_MAX: usize = 16;

/// A per-core free list of buffers. Buffers keep their full length, so that they are zeroed once
/// in their life and never hold uninitialised memory.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
    scratch: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer of `SMALL_BYTES` length.
    pub fn small(&self) -> Vec<u8> {
        self.small.borrow_mut().pop().unwrap_or_else(|| vec![0; SMALL_BYTES])
    }

    /// A buffer of `LARGE_BYTES` length.
    pub fn large(&self) -> Vec<u8> {
        self.large.borrow_mut().pop().unwrap_or_else(|| vec![0; LARGE_BYTES])
    }

    /// An empty buffer to append to.
    pub fn scratch(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2_048))
    }

    /// Takes back a buffer from [`Buffers::small`] or [`Buffers::large`].
    pub fn give_back(&self, buffer: Vec<u8>) {
        let (list, max) = match buffer.len() {
            SMALL_BYTES => (&self.small, SMALL_FREE_MAX),
            LARGE_BYTES => (&self.large, LARGE_FREE_MAX),
            _ => return,
        };
        let mut list = list.borrow_mut();
        if list.len() < max {
            list.push(buffer);
        }
    }

    /// Takes back a buffer from [`Buffers::scratch`].
    pub fn give_back_scratch(&self, mut buffer: Vec<u8>) {
        let mut list = self.scratch.borrow_mut();
        if list.len() < SMALL_FREE_MAX && buffer.capacity() <= SMALL_BYTES {
            buffer.clear();
            list.push(buffer);
        }
    }

    /// Lets go of free large buffers, for a core that has nothing to stream.
    pub fn shrink(&self) {
        self.large.borrow_mut().clear();
        self.small.borrow_mut().truncate(SMALL_FREE_MAX / 8);
        self.scratch.borrow_mut().truncate(SMALL_FREE_MAX / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_with_their_length() {
        let buffers = Buffers::default();
        let small = buffers.small();
        let at = small.as_ptr();
        buffers.give_back(small);
        assert_eq!(buffers.small().as_ptr(), at);
        assert_eq!(buffers.large().len(), LARGE_BYTES);
        buffers.give_back(vec![0; 3]);
        assert_eq!(buffers.small().len(), SMALL_BYTES);
    }
}
