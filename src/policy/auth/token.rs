//! The compact serialization (RFC 7515 section 7.1) taken apart, before any key is chosen.
//!
//! Deliberately absent: every header parameter that lets a token bring or name its own key
//! (`jku`, `jwk`, `x5u`, `x5c`; RFC 8725 section 3.10). They are not read at all.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{denial::DenialReason, json};

/// A token whose form is right. Nothing in it is trustworthy yet.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    /// `alg` as the token names it; compared with the key's, never used to choose one.
    pub(super) algorithm: String,
    /// `kid`, if present.
    pub(super) key_id: Option<String>,
    /// Bytes that the signature covers: the first two parts and the dot between them.
    pub(super) signed: &'a [u8],
    /// The last part, known to be strict base64url of at least one byte.
    pub(super) signature: &'a str,
    /// The decoded claims, not parsed before the signature is verified.
    pub(super) payload: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Splits a token into its parts and decodes them.
    ///
    /// Base64url must be unpadded and canonical (RFC 7515 section 2; unused trailing bits zero), so
    /// that one token has one spelling.
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, DenialReason> {
        // Valid base64url is ASCII, so other bytes cannot be part of a good token.
        let text = str::from_utf8(token).map_err(|_| DenialReason::Malformed)?;
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(DenialReason::Malformed);
        };
        let header_json = decode(header)?;
        let payload_json = decode(payload)?;
        decode(signature)?;
        let (algorithm, key_id) = read_header(&header_json)?;
        Ok(Self {
            algorithm,
            key_id,
            signed: &token[..=header.len() + payload.len()],
            signature,
            payload: payload_json,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, DenialReason> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) | Err(_) => Err(DenialReason::Malformed),
    }
}

fn read_header(bytes: &[u8]) -> Result<(String, Option<String>), DenialReason> {
    let mut header = json::object(bytes).ok_or(DenialReason::Malformed)?;
    // Understanding no extension makes every `crit` an unknown one, an empty list included.
    if header.contains_key("crit") {
        return Err(DenialReason::Critical);
    }
    let Some(Value::String(algorithm)) = header.remove("alg") else {
        return Err(DenialReason::Malformed);
    };
    let key_id = match header.remove("kid") {
        None => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err(DenialReason::Malformed),
    };
    Ok((algorithm, key_id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn parts_are_cut_where_the_dots_are() {
        let text = token(r#"{"alg":"HS256","kid":"a"}"#);
        let parsed = Unverified::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.algorithm, "HS256");
        assert_eq!(parsed.key_id.as_deref(), Some("a"));
        assert_eq!(parsed.signed, &text.as_bytes()[..text.len() - ".AAAA".len()]);
        assert_eq!(parsed.signature, "AAAA");
        assert_eq!(parsed.payload, b"{}");
    }

    #[test]
    fn extensions_are_refused() {
        for header in [
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":null}"#,
        ] {
            let text = token(header);
            assert_eq!(
                Unverified::parse(text.as_bytes()).err(),
                Some(DenialReason::Critical),
                "{header}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Unverified::parse(&bytes);
        }

        #[test]
        fn no_header_makes_it_panic(header in ".{0,80}") {
            let _ = Unverified::parse(token(&header).as_bytes());
        }
    }
}
