//! Decoders of content codings, which tell a whole body from one that was cut short.

use std::io::Read as _;

/// Content codings that the proxy applies, as they are written.
pub(crate) const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// What could be decoded, and whether the coded body has its end.
pub(crate) fn decode(coding: &str, coded: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    let whole = match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(coded).read_to_end(&mut body).is_ok(),
        "br" => brotli::Decompressor::new(coded, 4_096).read_to_end(&mut body).is_ok(),
        "zstd" => zstd(coded, &mut body),
        _ => panic!("{coding}"),
    };
    (body, whole)
}

fn zstd(coded: &[u8], body: &mut Vec<u8>) -> bool {
    let mut context = zstd_safe::DCtx::create();
    let mut from = zstd_safe::InBuffer::around(coded);
    let mut part = vec![0; 65_536];
    loop {
        let mut to = zstd_safe::OutBuffer::around(&mut part[..]);
        let left = context.decompress_stream(&mut to, &mut from);
        let count = to.pos();
        let Ok(left) = left else { return false };
        body.extend_from_slice(&part[..count]);
        if from.pos() == coded.len() && (left == 0 || count < part.len()) {
            return left == 0;
        }
    }
}

/// The body, which must be whole.
#[track_caller]
pub(crate) fn decode_all(coding: &str, coded: &[u8]) -> Vec<u8> {
    let (body, whole) = decode(coding, coded);
    assert!(whole, "a {coding} body without its end, after {} bytes", body.len());
    body
}

/// Text of some length that compresses about as well as a page does.
pub(crate) fn page(length: usize) -> Vec<u8> {
    let mut seed = 7_u32;
    let mut text = Vec::with_capacity(length + 32);
    while text.len() < length {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("<p class=\"a\">{}</p>\n", seed >> 20).as_bytes());
    }
    text.truncate(length);
    text
}

/// Bytes that no coding makes shorter.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
