//! AWS Signature Version 4 for reading from S3, in the form of header fields.
//!
//! Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header:
//! Transferring Payload in a Single Chunk". An upstream request has no body, so the payload hash is
//! that of nothing. Its query is sent in the canonical form (see [`super::append_query`]), so that
//! what is sent is what is signed.
//!
//! Requests to other services, which have a form as their body, are signed in [`form`].
//!
//! Signed are `host` and all `x-amz-*` fields, which is what AWS requires. `range` and the
//! conditional fields are not: servers disagree on how white space inside a value is
//! canonicalised, and a client must not be able to make our signature look wrong.
//!
//! Deliberately absent: the decision whether a request may be made. The policy above makes it
//! before anything is signed.

use std::fmt;

use aws_lc_rs::{
    digest::{self, SHA256_OUTPUT_LEN},
    hmac,
};
use zeroize::Zeroizing;

pub use self::{date::AmzDate, recent::RecentSignatures, signer::Signer};
use kept::{BLOCK_BYTES, Kept, State};
use recent::{HASH_DIGITS, Signature};

use crate::protocol::text::hex;

mod date;
pub mod form;
mod kept;
mod recent;
mod signer;

/// Lower-case hexadecimal SHA-256 of the empty body, as a literal for `concat!`.
macro_rules! empty_sha256 {
    () => {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    };
}

/// `SignedHeaders` without a session token, as a literal for `concat!`.
macro_rules! signed_headers {
    () => {
        "host;x-amz-content-sha256;x-amz-date"
    };
}

/// `SignedHeaders` with a session token, as a literal for `concat!`.
macro_rules! signed_headers_with_token {
    () => {
        "host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    };
}

/// Bytes of what requests of a second have in common beside the parts that vary, rounded up: one
/// reservation is enough.
const FIXED_BYTES: usize = 768;

/// The signing key of one secret, day and region, with the credential scope it is good for, so
/// that a signature can never name a scope other than its key's.
pub struct SigningKey {
    key: hmac::Key,
    /// The same key for requests, where that is faster.
    kept: Option<Kept>,
    /// `20130524/us-east-1/s3/aws4_request`
    scope: Box<str>,
}

impl SigningKey {
    /// Derives the key for S3. Four HMACs take about 2 us, so it is kept for the day (see
    /// [`DailyKey`]).
    pub fn derive(secret: &[u8], date: &AmzDate, region: &str) -> Self {
        Self::derive_for("s3", secret, date, region)
    }

    /// Derives the key for a service.
    pub fn derive_for(service: &str, secret: &[u8], date: &AmzDate, region: &str) -> Self {
        let signing = Self::derive_bytes(service, secret, date, region);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, signing.as_ref()),
            kept: signing.as_ref().try_into().ok().and_then(Kept::of),
            scope: format!("{}/{region}/{service}/aws4_request", date.date()).into_boxed_str(),
        }
    }

    fn derive_bytes(service: &str, secret: &[u8], date: &AmzDate, region: &str) -> hmac::Tag {
        let hmac_of =
            |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
        let mut start = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        start.extend_from_slice(b"AWS4");
        start.extend_from_slice(secret);
        let of_date = hmac_of(&start, date.date().as_bytes());
        let of_region = hmac_of(of_date.as_ref(), region.as_bytes());
        let of_service = hmac_of(of_region.as_ref(), service.as_bytes());
        hmac_of(of_service.as_ref(), b"aws4_request")
    }

    /// Returns true if the key is good for that day. A key of yesterday signs nothing today.
    pub fn is_for(&self, date: &AmzDate) -> bool {
        self.scope.as_bytes().first_chunk() == Some(date.day())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The signing key of one bucket for the current day, derived again when the day or the credentials
/// change.
///
/// It belongs to one core and one configuration generation and ends with it. Credentials that
/// change within a generation have a number, so that new ones never meet an old key.
///
/// The key is boxed: a core makes room for one of each bucket when it adopts a generation, and most
/// of thousands of buckets are not asked for on each core.
#[derive(Debug, Default)]
pub struct DailyKey {
    key: Option<Box<DayKey>>,
    serial: u64,
}

impl DailyKey {
    /// The key for the day of `date`. The region must be the same every time, and the secret
    /// wherever its number is.
    pub fn get(&mut self, serial: u64, secret: &[u8], date: &AmzDate, region: &str) -> &mut DayKey {
        let is_another = self.serial != serial;
        if is_another || self.key.as_ref().is_some_and(|day| !day.key.is_for(date)) {
            self.key = None;
            self.serial = serial;
        }
        self.key.get_or_insert_with(|| {
            let key = SigningKey::derive(secret, date, region);
            Box::new(DayKey { key, per_second: PerSecond::default() })
        })
    }
}

/// A signing key for the requests to one bucket, with what those of a second have in common.
#[derive(Debug)]
pub struct DayKey {
    key: SigningKey,
    per_second: PerSecond,
}

impl DayKey {
    /// Signs a request. The signature is made only if `recent` does not know it.
    ///
    /// Host, access key and session token must be the same every time, like the key.
    pub fn sign(
        &mut self,
        recent: &mut RecentSignatures,
        signer: Signer,
        date: &AmzDate,
        input: &SigningInput<'_>,
    ) -> SignedFields<'_> {
        if self.per_second.date != Some(*date) {
            self.per_second.renew(&self.key.scope, date, input);
        }
        debug_assert!(
            self.per_second.is_of(&self.key.scope, date, input),
            "another bucket's requests"
        );
        let SigningInput { method, host, target, .. } = *input;
        let (key, text) = (&self.key, &self.per_second);
        let sign = |scratch: &mut Vec<u8>| signature(key, date, text, input, scratch);
        let signature = recent.get_or(signer, date, method, host, target, sign);
        SignedFields { text, signature }
    }
}

/// Parts of a request that its signature covers, and the credentials. All of it has been checked
/// when the configuration was loaded (see [`super::name`]), or encoded by [`super::encode_key`] and
/// [`super::append_query`].
#[derive(Clone, Copy)]
pub struct SigningInput<'a> {
    /// `GET` or `HEAD`.
    pub method: &'a str,
    /// The value of the `Host` field, byte for byte.
    pub host: &'a str,
    /// The request target on the wire: the encoded path and, after a `?`, the canonical query if
    /// there is one.
    pub target: &'a [u8],
    /// Bytes of the canonical query at the end of the target; 0 if it has none.
    pub query_bytes: usize,
    /// Access key id.
    pub access_key: &'a str,
    /// Session token of temporary credentials.
    pub session_token: Option<&'a [u8]>,
}

impl<'a> SigningInput<'a> {
    /// The canonical URI and the canonical query.
    fn canonical_target(&self) -> (&'a [u8], &'a [u8]) {
        if self.query_bytes == 0 {
            return (self.target, b"");
        }
        let (path, query) = self.target.split_at(self.target.len() - self.query_bytes);
        (path.strip_suffix(b"?").unwrap_or(path), query)
    }
}

impl fmt::Debug for SigningInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningInput")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("has_session_token", &self.session_token.is_some())
            .finish_non_exhaustive()
    }
}

/// Appends the fields that sign a request to its head, each with its CRLF: `x-amz-date`,
/// `x-amz-content-sha256`, `x-amz-security-token` where there is a token, and `authorization`.
/// The `Host` field is the caller's, with the value that was signed.
///
/// `scratch` is overwritten; reusing one saves an allocation. It holds the session token after.
pub fn append_signed_headers(
    key: &SigningKey,
    date: &AmzDate,
    input: &SigningInput<'_>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    let text = PerSecond::of(&key.scope, date, input);
    let signature = signature(key, date, &text, input, scratch);
    SignedFields { text: &text, signature }.append_to(out);
}

/// The fields that sign a request.
pub struct SignedFields<'k> {
    text: &'k PerSecond,
    signature: Signature,
}

impl SignedFields<'_> {
    /// Appends them, each with its CRLF (see [`append_signed_headers`]).
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let fields = self.text.fields();
        out.reserve(fields.len() + HASH_DIGITS + 2);
        out.extend_from_slice(fields);
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Debug for SignedFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedFields").finish_non_exhaustive()
    }
}

/// The text that the requests of one second to one bucket have in common: the end of the canonical
/// request, the beginning of the string to sign, and that of the fields, one behind the other.
///
/// Source: AWS, "Signature Calculations for the Authorization Header".
#[derive(Default)]
struct PerSecond {
    /// Unset before anything is signed.
    date: Option<AmzDate>,
    bytes: Zeroizing<Vec<u8>>,
    canonical_end: usize,
    to_sign_end: usize,
}

impl PerSecond {
    fn of(scope: &str, date: &AmzDate, input: &SigningInput<'_>) -> Self {
        let mut text = Self::default();
        text.renew(scope, date, input);
        text
    }

    /// Takes the place of that of another second.
    #[cold]
    fn renew(&mut self, scope: &str, date: &AmzDate, input: &SigningInput<'_>) {
        let out = &mut *self.bytes;
        out.clear();
        let token_bytes = input.session_token.map_or(0, <[u8]>::len);
        out.reserve(FIXED_BYTES + input.host.len() + input.access_key.len() + 2 * token_bytes);
        append_canonical_end(date, input, out);
        self.canonical_end = out.len();
        append_beginning_to_sign(date, scope, out);
        self.to_sign_end = out.len();
        append_beginning_of_fields(date, scope, input, out);
        self.date = Some(*date);
    }

    fn is_of(&self, scope: &str, date: &AmzDate, input: &SigningInput<'_>) -> bool {
        self.bytes == Self::of(scope, date, input).bytes
    }

    /// The canonical request behind its query.
    fn canonical(&self) -> &[u8] {
        self.bytes.get(..self.canonical_end).unwrap_or_default()
    }

    /// The string to sign up to the hash of the canonical request.
    fn to_sign(&self) -> &[u8] {
        self.bytes.get(self.canonical_end..self.to_sign_end).unwrap_or_default()
    }

    /// The fields up to the signature.
    fn fields(&self) -> &[u8] {
        self.bytes.get(self.to_sign_end..).unwrap_or_default()
    }
}

impl fmt::Debug for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerSecond").field("date", &self.date).finish_non_exhaustive()
    }
}

fn signature(
    key: &SigningKey,
    date: &AmzDate,
    text: &PerSecond,
    input: &SigningInput<'_>,
    scratch: &mut Vec<u8>,
) -> Signature {
    debug_assert!(key.is_for(date), "the key is of another day than the date");
    debug_assert!(!input.canonical_target().0.contains(&b'?'), "the target has another query");
    scratch.clear();
    append_canonical_request(text, input, scratch);
    let beginning = text.to_sign();
    if let Some(kept) = &key.kept {
        let canonical_hash = State::START.finish(scratch, 0);
        scratch.clear();
        append_string_to_sign(beginning, &canonical_hash, scratch);
        hash_digits(&kept.sign(date, beginning.len(), scratch))
    } else {
        let canonical_hash = digest::digest(&digest::SHA256, scratch);
        scratch.clear();
        append_string_to_sign(beginning, canonical_hash.as_ref(), scratch);
        hash_digits(hmac::sign(&key.key, scratch).as_ref())
    }
}

fn append_canonical_request(text: &PerSecond, input: &SigningInput<'_>, out: &mut Vec<u8>) {
    let end = text.canonical();
    out.reserve(input.method.len() + input.target.len() + end.len() + 2 * BLOCK_BYTES);
    out.extend_from_slice(input.method.as_bytes());
    out.push(b'\n');
    let (path, query) = input.canonical_target();
    out.extend_from_slice(path);
    out.push(b'\n');
    out.extend_from_slice(query);
    out.extend_from_slice(end);
}

fn append_canonical_end(date: &AmzDate, input: &SigningInput<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\nhost:");
    out.extend_from_slice(input.host.as_bytes());
    out.extend_from_slice(
        concat!("\nx-amz-content-sha256:", empty_sha256!(), "\nx-amz-date:").as_bytes(),
    );
    out.extend_from_slice(date.as_bytes());
    if let Some(token) = input.session_token {
        out.extend_from_slice(b"\nx-amz-security-token:");
        out.extend_from_slice(token);
        out.extend_from_slice(
            concat!("\n\n", signed_headers_with_token!(), "\n", empty_sha256!()).as_bytes(),
        );
    } else {
        out.extend_from_slice(concat!("\n\n", signed_headers!(), "\n", empty_sha256!()).as_bytes());
    }
}

fn append_beginning_of_fields(
    date: &AmzDate,
    scope: &str,
    input: &SigningInput<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"x-amz-date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(
        concat!("\r\nx-amz-content-sha256: ", empty_sha256!(), "\r\n").as_bytes(),
    );
    if let Some(token) = input.session_token {
        out.extend_from_slice(b"x-amz-security-token: ");
        out.extend_from_slice(token);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"authorization: AWS4-HMAC-SHA256 Credential=");
    out.extend_from_slice(input.access_key.as_bytes());
    out.push(b'/');
    out.extend_from_slice(scope.as_bytes());
    out.extend_from_slice(if input.session_token.is_some() {
        concat!(", SignedHeaders=", signed_headers_with_token!(), ", Signature=").as_bytes()
    } else {
        concat!(", SignedHeaders=", signed_headers!(), ", Signature=").as_bytes()
    });
}

fn append_beginning_to_sign(date: &AmzDate, scope: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"AWS4-HMAC-SHA256\n");
    out.extend_from_slice(date.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(scope.as_bytes());
    out.push(b'\n');
}

fn append_string_to_sign(beginning: &[u8], canonical_hash: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(beginning);
    out.extend_from_slice(&hash_digits(canonical_hash));
}

/// A SHA-256 value in lower-case hexadecimal.
#[inline(never)]
fn hash_digits(hash: &[u8]) -> Signature {
    let mut digits = [0; HASH_DIGITS];
    if let Some(hash) = hash.first_chunk::<SHA256_OUTPUT_LEN>() {
        digits.copy_from_slice(hex::lower_pairs(hash).as_flattened());
    }
    debug_assert_eq!(hash.len(), SHA256_OUTPUT_LEN);
    digits
}

#[cfg(test)]
mod tests;
