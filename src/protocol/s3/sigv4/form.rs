//! Signed requests to services whose parameters are a form in the body of a POST, such as AWS STS.
//!
//! Source: AWS General Reference, "Create a signed AWS API request". Unlike S3, these services take
//! the hash of the body from the canonical request alone.

use std::fmt;

use aws_lc_rs::{digest, hmac};

use super::{AmzDate, SigningKey, append_beginning_to_sign, append_string_to_sign, hash_digits};

/// `Content-Type` of a form.
pub const FORM_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Parts of a request that its signature covers, and the credentials, checked like those of a
/// [`SigningInput`](super::SigningInput).
#[derive(Clone, Copy)]
pub struct FormInput<'a> {
    /// The value of the `Host` field, byte for byte.
    pub host: &'a str,
    /// The form.
    pub body: &'a [u8],
    /// Access key id.
    pub access_key: &'a str,
    /// Session token of temporary credentials.
    pub session_token: Option<&'a [u8]>,
}

impl fmt::Debug for FormInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormInput")
            .field("host", &self.host)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Appends the fields that sign a POST of a form to `/`, each with its CRLF: `x-amz-date`,
/// `x-amz-security-token` where there is a token, and `authorization`. The `Host` field and the
/// `Content-Type` field, with [`FORM_TYPE`], are the caller's.
pub fn append_signed_form(
    key: &SigningKey,
    date: &AmzDate,
    input: &FormInput<'_>,
    out: &mut Vec<u8>,
) {
    debug_assert!(key.is_for(date), "the key is of another day than the date");
    let token = input.session_token;
    let signed = if token.is_some() {
        "content-type;host;x-amz-date;x-amz-security-token"
    } else {
        "content-type;host;x-amz-date"
    };
    let mut canonical = b"POST\n/\n\ncontent-type:".to_vec();
    canonical.extend_from_slice(FORM_TYPE.as_bytes());
    canonical.extend_from_slice(b"\nhost:");
    canonical.extend_from_slice(input.host.as_bytes());
    canonical.extend_from_slice(b"\nx-amz-date:");
    canonical.extend_from_slice(date.as_bytes());
    if let Some(token) = token {
        canonical.extend_from_slice(b"\nx-amz-security-token:");
        canonical.extend_from_slice(token);
    }
    canonical.extend_from_slice(b"\n\n");
    canonical.extend_from_slice(signed.as_bytes());
    canonical.push(b'\n');
    let body_hash = digest::digest(&digest::SHA256, input.body);
    canonical.extend_from_slice(&hash_digits(body_hash.as_ref()));

    let (mut beginning, mut to_sign) = (Vec::new(), Vec::new());
    let canonical_hash = digest::digest(&digest::SHA256, &canonical);
    append_beginning_to_sign(date, &key.scope, &mut beginning);
    append_string_to_sign(&beginning, canonical_hash.as_ref(), &mut to_sign);
    let signature = hash_digits(hmac::sign(&key.key, &to_sign).as_ref());

    out.extend_from_slice(b"x-amz-date: ");
    out.extend_from_slice(date.as_bytes());
    if let Some(token) = token {
        out.extend_from_slice(b"\r\nx-amz-security-token: ");
        out.extend_from_slice(token);
    }
    out.extend_from_slice(b"\r\nauthorization: AWS4-HMAC-SHA256 Credential=");
    out.extend_from_slice(input.access_key.as_bytes());
    out.push(b'/');
    out.extend_from_slice(key.scope.as_bytes());
    out.extend_from_slice(b", SignedHeaders=");
    out.extend_from_slice(signed.as_bytes());
    out.extend_from_slice(b", Signature=");
    out.extend_from_slice(&signature);
    out.extend_from_slice(b"\r\n");
}
