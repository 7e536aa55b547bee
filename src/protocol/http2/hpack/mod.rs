//! HPACK (RFC 7541): field sections of requests are decoded with everything that the format has;
//! those of responses are encoded with the static table and without the dynamic one, which would
//! cost more time than the bytes that it saves, and memory for each client.

mod decoder;
mod encoder;
mod fixed;
mod huffman;

pub use decoder::Decoder;
pub use encoder::{append_lines, append_status, append_table_size_zero};

/// A field section that was not decoded to its end: the connection ends, for its state is lost (RFC
/// 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// It breaks RFC 7541.
    Malformed,
    /// It means more than it may.
    TooLong,
}
