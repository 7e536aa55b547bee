//! Chunked transfer coding (RFC 9112 section 7.1), decoded strictly and written plainly.

use std::ops::Range;

use super::fields::is_value_byte;
use crate::protocol::text::{hex, token::is_token_byte};

/// Longest line with a chunk's size and extensions, in bytes without its line end. No S3 server
/// sends extensions; the longest in the field (signatures of signed uploads) have about 90 bytes.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Longest trailer section, in bytes. S3 sends none, or a checksum of below 100 bytes.
pub const CHUNK_TRAILER_BYTES_MAX: usize = 8_192;

/// The chunk that ends a body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Line end after the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Appends the size line of a chunk of `len` bytes. The data and [`CHUNK_END`] must follow;
/// `len` must not be 0, for that would end the body.
pub fn encode_chunk_head(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0);
    let digits = hex::lower_u64(len as u64);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    out.extend_from_slice(&digits[zeros.min(hex::U64_DIGITS - 1)..]);
    out.extend_from_slice(CHUNK_END);
}

/// Breach of RFC 9112 section 7.1 in a chunked body. Nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A chunk size that is not hexadecimal digits and nothing else.
    Size,
    /// A chunk size of 2^64 or more.
    SizeTooLarge,
    /// A size line over [`CHUNK_LINE_BYTES_MAX`].
    LineTooLong,
    /// A control character in a chunk extension.
    Extension,
    /// A line, or a chunk's data, that does not end in CRLF.
    LineEnd,
    /// A trailer that is not a field line.
    Trailer,
    /// Trailers over [`CHUNK_TRAILER_BYTES_MAX`].
    TrailersTooLong,
}

/// Result of one step over its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkStep {
    /// Bytes of the input that were read; the next step starts after them.
    pub consumed: usize,
    /// The part of the input that is body data; may be empty.
    pub data: Range<usize>,
    /// Set when the body is complete. Bytes after `consumed` are not part of it.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// Decodes a chunked body, however its bytes arrive. Trailers are checked and dropped.
#[derive(Clone, Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of data that the present chunk still has.
    remaining: u64,
    line_bytes: usize,
    trailer_bytes: usize,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns true once the last chunk and its trailers have been read.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes of data that the present chunk is known to have and that were not read yet. Grows with
    /// each digit of its size.
    pub const fn announced(&self) -> u64 {
        self.remaining
    }

    /// Reads on in the body. Call it again with the input after [`ChunkStep::consumed`].
    ///
    /// A step gives at most one run of data and otherwise consumes all of its input. One that
    /// consumes nothing and is not done needs more input.
    ///
    /// # Errors
    /// The body is broken; the decoder must not be used again.
    pub fn step(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let mut at = 0;
        while self.state != State::Done && at < input.len() {
            if self.state == State::Data {
                let available = input.len() - at;
                let len = usize::try_from(self.remaining).unwrap_or(available).min(available);
                self.remaining -= len as u64;
                if self.remaining == 0 {
                    self.state = State::DataCarriageReturn;
                }
                return Ok(ChunkStep { consumed: at + len, data: at..at + len, done: false });
            }
            self.state = self.next_state(input[at])?;
            at += 1;
        }
        Ok(ChunkStep { consumed: at, data: at..at, done: self.is_done() })
    }

    /// The state after one byte that is not data.
    fn next_state(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::SizeStart => {
                self.line_bytes = 0;
                self.remaining = 0;
                self.add_size_digit(byte)
            }
            State::Size => match byte {
                b'\r' => Ok(State::SizeLineFeed),
                b';' => self.count_line_byte(State::Extension),
                _ => self.add_size_digit(byte),
            },
            State::Extension => match byte {
                b'\r' => Ok(State::SizeLineFeed),
                b'\n' => Err(ChunkError::LineEnd),
                _ if is_value_byte(byte) => self.count_line_byte(State::Extension),
                _ => Err(ChunkError::Extension),
            },
            State::SizeLineFeed => {
                let next = if self.remaining == 0 { State::TrailerStart } else { State::Data };
                line_feed(byte, next)
            }
            State::DataCarriageReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataCarriageReturn => Err(ChunkError::LineEnd),
            State::DataLineFeed => line_feed(byte, State::SizeStart),
            State::LastLineFeed => line_feed(byte, State::Done),
            State::TrailerStart if byte == b'\r' => Ok(State::LastLineFeed),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed => self.next_trailer_state(byte),
            // `step` never calls this in these states.
            State::Data | State::Done => Ok(self.state),
        }
    }

    fn next_trailer_state(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > CHUNK_TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailersTooLong);
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            (State::TrailerLineFeed, _) => Err(ChunkError::LineEnd),
            _ => Err(ChunkError::Trailer),
        }
    }

    fn add_size_digit(&mut self, byte: u8) -> Result<State, ChunkError> {
        let digit = hex::value(byte).ok_or(ChunkError::Size)?;
        if self.remaining >> 60 != 0 {
            return Err(ChunkError::SizeTooLarge);
        }
        self.remaining = self.remaining << 4 | u64::from(digit);
        self.count_line_byte(State::Size)
    }

    fn count_line_byte(&mut self, next: State) -> Result<State, ChunkError> {
        self.line_bytes += 1;
        if self.line_bytes > CHUNK_LINE_BYTES_MAX {
            return Err(ChunkError::LineTooLong);
        }
        Ok(next)
    }
}

fn line_feed(byte: u8, next: State) -> Result<State, ChunkError> {
    if byte == b'\n' { Ok(next) } else { Err(ChunkError::LineEnd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire`, `step` bytes at a time: the body, and the number of bytes left over.
    fn decode(wire: &[u8], step: usize) -> Result<(Vec<u8>, usize), ChunkError> {
        let mut decoder = ChunkedDecoder::new();
        let mut body = Vec::new();
        let mut at = 0;
        while at < wire.len() {
            let input = &wire[at..(at + step).min(wire.len())];
            let found = decoder.step(input)?;
            body.extend_from_slice(&input[found.data.clone()]);
            at += found.consumed;
            if found.done {
                return Ok((body, wire.len() - at));
            }
            assert!(found.consumed > 0, "no progress on {input:?}");
        }
        assert!(!decoder.is_done());
        Ok((body, usize::MAX))
    }

    #[test]
    fn chunks_become_a_body_however_they_arrive() {
        let wire =
            b"4\r\nWiki\r\n6;a=b\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n000\r\nX: y\r\n\r\nGET";
        for step in 1..=wire.len() {
            let (body, left) = decode(wire, step).unwrap();
            assert_eq!(body, b"Wikipedia in \r\n\r\nchunks.", "{step} at a time");
            assert_eq!(left, 3);
        }
    }

    #[test]
    fn a_step_without_input_needs_more_and_a_finished_one_takes_nothing() {
        let mut decoder = ChunkedDecoder::new();
        assert_eq!(decoder.step(b""), Ok(ChunkStep { consumed: 0, data: 0..0, done: false }));
        assert_eq!(decoder.step(LAST_CHUNK), Ok(ChunkStep { consumed: 5, data: 5..5, done: true }));
        assert_eq!(decoder.step(b"GET"), Ok(ChunkStep { consumed: 0, data: 0..0, done: true }));
    }

    #[test]
    fn chunk_sizes_are_strict_hex() {
        for bad in [
            "g\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n", "1 \r\n", "\r\n", ";a\r\n", "1_\r\n",
            "1\t\r\n",
        ] {
            assert_eq!(decode(bad.as_bytes(), 99), Err(ChunkError::Size), "{bad:?}");
        }
        assert_eq!(decode(b"10000000000000000\r\n", 99), Err(ChunkError::SizeTooLarge));
        let mut decoder = ChunkedDecoder::new();
        assert!(decoder.step(b"fFfFffffffffffff\r\nx").is_ok());
        assert_eq!(decoder.remaining, u64::MAX - 1);
    }

    #[test]
    fn chunk_lines_end_in_crlf_only() {
        for (bad, error) in [
            ("1\nx\r\n0\r\n\r\n", ChunkError::Size),
            ("1;a\nx\r\n", ChunkError::LineEnd),
            ("1\rx\r\n", ChunkError::LineEnd),
            ("1\r\nx\n0\r\n\r\n", ChunkError::LineEnd),
            ("1\r\nxy\r\n", ChunkError::LineEnd),
            ("1\r\nxy\n0\r\n\r\n", ChunkError::LineEnd),
            ("1\r\nx\n\n0\r\n\r\n", ChunkError::LineEnd),
            ("1\r\nx\r0\r\n", ChunkError::LineEnd),
            ("0\r\n\n", ChunkError::Trailer),
            ("0\r\n\rx", ChunkError::LineEnd),
        ] {
            assert_eq!(decode(bad.as_bytes(), 99), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn chunk_extensions_are_bounded_and_hold_no_controls() {
        let line = |len: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(len - 2));
        assert!(decode(line(CHUNK_LINE_BYTES_MAX).as_bytes(), 7).is_ok());
        let too_long = line(CHUNK_LINE_BYTES_MAX + 1);
        assert_eq!(decode(too_long.as_bytes(), 7), Err(ChunkError::LineTooLong));
        let zeros = format!("{}1\r\n", "0".repeat(CHUNK_LINE_BYTES_MAX));
        assert_eq!(decode(zeros.as_bytes(), 7), Err(ChunkError::LineTooLong));
        assert_eq!(decode(b"1;a\0\r\n", 99), Err(ChunkError::Extension));
        assert_eq!(decode(b"1;a\x7f\r\n", 99), Err(ChunkError::Extension));
    }

    #[test]
    fn trailers_are_field_lines_and_bounded() {
        assert_eq!(decode(b"0\r\nA: b\r\nC:\r\n\r\n", 1), Ok((Vec::new(), 0)));
        for bad in [
            "0\r\n a\r\n",
            "0\r\nab\r\n",
            "0\r\na b: c\r\n",
            "0\r\n: c\r\n",
            "0\r\na: \0\r\n",
            "0\r\na: b\n\r\n",
        ] {
            assert_eq!(decode(bad.as_bytes(), 99), Err(ChunkError::Trailer), "{bad:?}");
        }
        assert_eq!(decode(b"0\r\na: b\rc\r\n", 99), Err(ChunkError::LineEnd));
        let endless = format!("0\r\na: {}", "b".repeat(CHUNK_TRAILER_BYTES_MAX));
        assert_eq!(decode(endless.as_bytes(), 99), Err(ChunkError::TrailersTooLong));
        let many = format!("0\r\n{}", "a: b\r\n".repeat(CHUNK_TRAILER_BYTES_MAX / 6 + 1));
        assert_eq!(decode(many.as_bytes(), 99), Err(ChunkError::TrailersTooLong));
    }

    #[test]
    fn chunk_heads_are_plain_hex() {
        for (len, expected) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (262_144, "40000\r\n")]
        {
            let mut out = Vec::new();
            encode_chunk_head(len, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
        let mut out = Vec::new();
        encode_chunk_head(usize::MAX, &mut out);
        assert_eq!(out, format!("{:x}\r\n", usize::MAX).as_bytes());
    }
}
