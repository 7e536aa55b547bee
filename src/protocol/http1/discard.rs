//! Discards a request body that has no use, within a bound.
//!
//! A body that is left unread must never be parsed as the next request: it is read to its
//! end, or the connection is closed.

use super::chunked::{ChunkError, ChunkedDecoder};
use super::request::RequestFraming;

/// Most bytes that chunking may add to a body, on top of the limit on the body itself. Without
/// it one-byte chunks with long extensions would multiply that limit.
pub const CHUNK_OVERHEAD_BYTES_MAX: u64 = 16_384;

/// Reason to stop before the end of the body. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardError {
    /// The body, or the chunking around it, is over the limit (413).
    TooLarge,
    /// The chunking is broken (400).
    Malformed(ChunkError),
}

/// Share of the body in the bytes that were fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Bytes that belong to the body; the next request starts after them.
    pub consumed: usize,
    /// Set when the body is complete.
    pub done: bool,
}

#[derive(Clone, Debug)]
enum State {
    Fixed { remaining: u64 },
    Chunked { decoder: ChunkedDecoder, body_bytes: u64, overhead_bytes: u64 },
}

/// Reads one request body without keeping it.
#[derive(Clone, Debug)]
pub struct BodyDiscard {
    state: State,
    body_bytes_max: u64,
}

impl BodyDiscard {
    /// Begins with a body framed like this, of at most `body_bytes_max` bytes
    /// (`limits.body_bytes`).
    ///
    /// # Errors
    /// [`DiscardError::TooLarge`] if the declared length is already over the limit.
    pub fn new(framing: RequestFraming, body_bytes_max: u64) -> Result<Self, DiscardError> {
        let state = match framing {
            RequestFraming::None => State::Fixed { remaining: 0 },
            RequestFraming::Fixed(length) if length > body_bytes_max => {
                return Err(DiscardError::TooLarge);
            }
            RequestFraming::Fixed(remaining) => State::Fixed { remaining },
            RequestFraming::Chunked => {
                State::Chunked { decoder: ChunkedDecoder::new(), body_bytes: 0, overhead_bytes: 0 }
            }
        };
        Ok(Self { state, body_bytes_max })
    }

    /// Returns true once the body is complete, and from the start when there is none.
    pub const fn is_done(&self) -> bool {
        match &self.state {
            State::Fixed { remaining } => *remaining == 0,
            State::Chunked { decoder, .. } => decoder.is_done(),
        }
    }

    /// Consumes the part of `input` that belongs to the body: all of it unless the body ends.
    ///
    /// # Errors
    /// See [`DiscardError`].
    pub fn feed(&mut self, input: &[u8]) -> Result<Discarded, DiscardError> {
        let mut consumed = 0;
        match &mut self.state {
            State::Fixed { remaining } => {
                consumed = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                *remaining -= consumed as u64;
            }
            State::Chunked { decoder, body_bytes, overhead_bytes } => {
                while !decoder.is_done() && consumed < input.len() {
                    let step = decoder.step(&input[consumed..]).map_err(DiscardError::Malformed)?;
                    *body_bytes += step.data.len() as u64;
                    *overhead_bytes += (step.consumed - step.data.len()) as u64;
                    consumed += step.consumed;
                    let overhead_max = self.body_bytes_max.saturating_add(CHUNK_OVERHEAD_BYTES_MAX);
                    let declared = body_bytes.saturating_add(decoder.announced());
                    if declared > self.body_bytes_max || *overhead_bytes > overhead_max {
                        return Err(DiscardError::TooLarge);
                    }
                }
            }
        }
        Ok(Discarded { consumed, done: self.is_done() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_discarded_up_to_the_next_request() {
        let mut discard = BodyDiscard::new(RequestFraming::Fixed(5), 10).unwrap();
        assert_eq!(discard.feed(b"he"), Ok(Discarded { consumed: 2, done: false }));
        assert_eq!(discard.feed(b"lloGET /"), Ok(Discarded { consumed: 3, done: true }));
        assert_eq!(discard.feed(b"GET /"), Ok(Discarded { consumed: 0, done: true }));

        let wire = b"5\r\nhello\r\n0\r\n\r\nGET /";
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 10).unwrap();
        assert_eq!(discard.feed(&wire[..7]), Ok(Discarded { consumed: 7, done: false }));
        assert_eq!(discard.feed(&wire[7..]), Ok(Discarded { consumed: 8, done: true }));
    }

    #[test]
    fn no_body_is_done_at_once() {
        let discard = BodyDiscard::new(RequestFraming::None, 0).unwrap();
        assert!(discard.is_done());
        assert!(BodyDiscard::new(RequestFraming::Fixed(0), 0).unwrap().is_done());
    }

    #[test]
    fn the_bound_holds_for_both_framings() {
        assert!(BodyDiscard::new(RequestFraming::Fixed(10), 10).is_ok());
        assert_eq!(
            BodyDiscard::new(RequestFraming::Fixed(11), 10).unwrap_err(),
            DiscardError::TooLarge
        );
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 4).unwrap();
        assert_eq!(discard.feed(b"4\r\nabcd\r\n0\r\n\r\n").unwrap().consumed, 14);
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 4).unwrap();
        assert_eq!(discard.feed(b"5\r\nabcde\r\n"), Err(DiscardError::TooLarge));
    }

    #[test]
    fn a_chunk_that_is_announced_over_the_bound_ends_it_before_it_comes() {
        for size in ["fffffffffffffffd\r\n", "fffffffffffffffd", "5"] {
            let mut discard = BodyDiscard::new(RequestFraming::Chunked, 4).unwrap();
            assert_eq!(discard.feed(size.as_bytes()), Err(DiscardError::TooLarge), "{size}");
        }
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 4).unwrap();
        assert!(discard.feed(b"3\r\nabc\r\n").is_ok());
        assert_eq!(discard.feed(b"2"), Err(DiscardError::TooLarge));
    }

    #[test]
    fn extensions_cannot_multiply_the_bound() {
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 1_000).unwrap();
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(200));
        let mut fed = 0;
        while discard.feed(chunk.as_bytes()).is_ok() {
            fed += chunk.len() as u64;
            assert!(fed < 1_000 + 2 * CHUNK_OVERHEAD_BYTES_MAX);
        }
    }

    #[test]
    fn broken_chunks_end_the_discard() {
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 4).unwrap();
        assert_eq!(discard.feed(b"x\r\n"), Err(DiscardError::Malformed(ChunkError::Size)));
    }
}
