//! Classes of bytes, looked at many at a time, and names that are compared in any case.
//!
//! A class is a function without branches, so that the compiler can apply it to a whole block at
//! once. It inlines into its callers, each of which knows its class.

/// Bytes that are looked at together: those of the smallest vector register of every processor that
/// this is built for.
const BLOCK: usize = 16;

/// Returns true if all bytes are of the class.
#[inline]
pub fn all_are(bytes: &[u8], class: impl Fn(u8) -> bool + Copy) -> bool {
    // What is left of the last whole block is looked at with bytes before it once more.
    if let Some(last) = bytes.last_chunk::<BLOCK>() {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        return blocks.iter().all(|block| is_whole(block, class)) && is_whole(last, class);
    }
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => is_whole(first, class) && is_whole(last, class),
        _ => bytes.iter().all(|byte| class(*byte)),
    }
}

/// Number of bytes before the first that is not of the class.
#[inline]
pub fn prefix_len(bytes: &[u8], class: impl Fn(u8) -> bool + Copy) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let mut whole = blocks.iter().take_while(|block| is_whole(block, class)).count() * BLOCK;
    if bytes[whole..].first_chunk::<8>().is_some_and(|half| is_whole(half, class)) {
        whole += 8;
    }
    let rest = &bytes[whole..];
    whole + rest.iter().position(|byte| !class(*byte)).unwrap_or(rest.len())
}

#[inline]
fn is_whole<const N: usize>(block: &[u8; N], class: impl Fn(u8) -> bool) -> bool {
    block.iter().fold(true, |all, byte| all & class(*byte))
}

/// Compares a token (RFC 9110 section 5.6.2) with a name of letters, digits and `-`, given in
/// lower case.
#[inline]
pub fn is_name<const N: usize>(token: &[u8], name_lower: &[u8; N]) -> bool {
    debug_assert!(
        name_lower.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    );
    let Ok(token) = <&[u8; N]>::try_from(token) else { return false };
    // The bit that tells the case of letters is set in digits and in `-` too. What has it not, and
    // would become one of those, is a control character, which no token holds.
    let differences = token.iter().zip(name_lower).map(|(byte, lower)| (byte | 0x20) ^ lower);
    differences.fold(0, |all, difference| all | difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::text::token::is_token_byte;

    #[test]
    fn one_byte_of_another_class_is_found_wherever_it_is() {
        let is_a = |byte| byte == b'a';
        for len in 0..70 {
            let mut bytes = vec![b'a'; len];
            assert!(all_are(&bytes, is_a), "{len}");
            assert_eq!(prefix_len(&bytes, is_a), len);
            for at in 0..len {
                bytes[at] = b'b';
                assert!(!all_are(&bytes, is_a), "{at} of {len}");
                assert_eq!(prefix_len(&bytes, is_a), at);
                bytes[at] = b'a';
            }
        }
    }

    #[test]
    fn names_are_compared_in_any_case() {
        assert!(is_name(b"X-Request-Id", b"x-request-id"));
        assert!(!is_name(b"X-Request-I", b"x-request-id"));
        for token in (0..=u8::MAX).filter(|byte| is_token_byte(*byte)) {
            for known in *b"abcdefghijklmnopqrstuvwxyz-0123456789" {
                let expected = token.eq_ignore_ascii_case(&known);
                assert_eq!(is_name(&[b'a', token], &[b'a', known]), expected, "{token} {known}");
            }
        }
    }
}
