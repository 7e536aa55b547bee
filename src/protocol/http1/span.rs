//! A range of a buffer that does not borrow it.

/// Start and end offset of some bytes in the buffer that was parsed.
///
/// It stays meaningful as long as the bytes of that head stay at the front of the caller's
/// buffer. Offsets are 32 bits wide: heads are bounded far below that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes from `start` up to `end`, both offsets into the parsed buffer.
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Self {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: u32::try_from(end).unwrap_or(u32::MAX),
        }
    }

    /// The bytes themselves. `buf` must begin as the buffer that was parsed did; a buffer that
    /// is too short gives an empty slice.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Offset of the first byte.
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// Offset after the last byte.
    pub const fn end(self) -> usize {
        self.end as usize
    }

    /// Number of bytes.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Returns true if there are no bytes.
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_finds_its_bytes_again() {
        let buf = b"GET /key HTTP/1.1";
        let span = Span::new(4, 8);
        assert_eq!((span.start(), span.end(), span.len()), (4, 8, 4));
        assert_eq!(span.of(buf), b"/key");
        assert!(Span::default().is_empty());
    }

    #[test]
    fn a_shorter_buffer_gives_nothing_instead_of_a_panic() {
        assert_eq!(Span::new(4, 8).of(b"GET /"), b"");
    }
}
