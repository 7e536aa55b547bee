//! Object keys, and the values of a query, on the wire.

use crate::protocol::text::{class::prefix_len, hex};

/// Returns true for each byte that `UriEncode` leaves alone in a key: the unreserved characters of
/// RFC 3986 section 2.3, and `/`, which separates the parts of an object key.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
const fn is_kept_in_key(byte: u8) -> bool {
    // From `-` to `9` stand `-`, `.`, `/` and the digits.
    ((byte | 0x20).wrapping_sub(b'a') < 26)
        | (byte.wrapping_sub(b'-') <= b'9' - b'-')
        | (byte == b'_')
        | (byte == b'~')
}

/// The same for a value of a query, where `/` is encoded.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
const fn is_kept_in_value(byte: u8) -> bool {
    is_kept_in_key(byte) & (byte != b'/')
}

/// Appends `key` to `out`, URI-encoded once as `SigV4` wants it: `A-Z a-z 0-9 - . _ ~ /` are kept,
/// every other byte becomes `%XX` with upper-case digits.
///
/// The result goes over the wire and is the canonical URI that is signed, so that the two cannot
/// differ. Source: Amazon S3 API Reference, "Signature Calculations for the
/// Authorization Header", the `UriEncode` function.
pub fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    encode(key, is_kept_in_key, out);
}

/// Appends a value of a query to `out`, encoded like a key, but for `/`, which becomes `%2F`.
pub(super) fn encode_value(value: &[u8], out: &mut Vec<u8>) {
    encode(value, is_kept_in_value, out);
}

#[inline]
fn encode(text: &[u8], is_kept: impl Fn(u8) -> bool + Copy, out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut rest = text;
    loop {
        let (kept, other) = rest.split_at(prefix_len(rest, is_kept));
        out.extend_from_slice(kept);
        let [byte, after @ ..] = other else { break };
        let [high, low] = hex::upper(*byte);
        out.extend_from_slice(&[b'%', high, low]);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn encoded(key: &[u8]) -> String {
        let mut out = b"/bucket/".to_vec();
        encode_key(key, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("/bucket/").unwrap().to_owned()
    }

    #[test]
    fn keys_that_break_other_proxies_are_encoded_once() {
        for (key, wire) in [
            ("", ""),
            ("plain-key_1.2~/x", "plain-key_1.2~/x"),
            ("a b", "a%20b"),
            ("a+b", "a%2Bb"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
            ("f(1).txt", "f%281%29.txt"),
            ("u@h", "u%40h"),
            ("c\\d", "c%5Cd"),
            ("a//b", "a//b"),
            ("/lead", "/lead"),
            ("?acl&x=1#f", "%3Facl%26x%3D1%23f"),
            ("!*'();:@&=+$,[]", "%21%2A%27%28%29%3B%3A%40%26%3D%2B%24%2C%5B%5D"),
            ("八", "%E5%85%AB"),
            ("\u{1f426}", "%F0%9F%90%A6"),
        ] {
            assert_eq!(encoded(key.as_bytes()), wire, "{key}");
        }
    }

    #[test]
    fn every_byte_is_kept_or_encoded_as_the_aws_text_says() {
        let unreserved =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/".as_bytes();
        for byte in 0..=255u8 {
            let expected = if unreserved.contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            };
            assert_eq!(encoded(&[byte]), expected);
        }
    }

    proptest! {
        #[test]
        fn runs_are_encoded_like_single_bytes(key in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut expected = String::new();
            for &byte in &key {
                write!(expected, "{}", encoded(&[byte])).unwrap();
            }
            prop_assert_eq!(encoded(&key), expected);
        }
    }
}
