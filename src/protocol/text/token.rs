//! Tokens: the characters of field names, methods and cookie names.

/// Returns true for the bytes that a token may hold (RFC 9110 section 5.6.2).
pub const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
        | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// [`is_token_byte`] of each byte.
static TOKEN_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0_u8;
    // None above ASCII is one.
    while byte < 0x80 {
        bytes[byte as usize] = is_token_byte(byte);
        byte += 1;
    }
    bytes
};

/// Number of bytes before the first that no token may hold.
// One copy for all readers of names takes less of the instruction cache.
#[inline(never)]
pub fn token_len(bytes: &[u8]) -> usize {
    // Byte by byte: faster, for names as fields have them, than eight or sixteen together.
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut len = 0;
    for block in blocks {
        if let Some(at) = block.iter().position(|byte| !TOKEN_BYTES[usize::from(*byte)]) {
            return len + at;
        }
        len += block.len();
    }
    len + rest.iter().take_while(|byte| TOKEN_BYTES[usize::from(**byte)]).count()
}

/// Returns true for a whole token, which has at least one byte.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_visible_ascii_without_delimiters() {
        let delimiters = b"\"(),/:;<=>?@[\\]{}";
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_graphic() && !delimiters.contains(&byte);
            assert_eq!(is_token_byte(byte), expected, "{byte:#x}");
            assert_eq!(token_len(&[b'a', byte, b'a', b' ']), if expected { 3 } else { 1 });
        }
        assert!(is_token(b"x-auth"));
        assert_eq!((token_len(b""), token_len(b"abc")), (0, 3));
        assert!(!is_token(b"") && !is_token(b"x auth"));
    }
}
