//! Checks of the buckets, regions, key prefixes and credentials in a configuration.
//!
//! They run when a configuration is loaded. The request path relies on them: a value that they
//! accept cannot break out of a header line, a host name or a credential scope. Each message fits
//! after the key path.

use std::net::Ipv4Addr;

use crate::{
    model::limits::OBJECT_KEY_BYTES_MAX,
    protocol::s3::path::{PathError, check_decoded_text},
};

/// Shortest bucket name, in bytes (Amazon S3 User Guide, "General purpose bucket naming rules").
const BUCKET_NAME_BYTES_MIN: usize = 3;

/// Longest bucket name, in bytes (same page). It has to fit a DNS label.
const BUCKET_NAME_BYTES_MAX: usize = 63;

/// Longest region name, in bytes: it becomes a DNS label of the default endpoint.
const REGION_BYTES_MAX: usize = 63;

/// Longest access key id, in bytes. The IAM API Reference allows 128 (type `AccessKey`); other
/// servers use shorter ones.
const ACCESS_KEY_BYTES_MAX: usize = 128;

/// Longest session token, in bytes. It travels in one header field, and servers rarely accept
/// header sections over 8 KiB.
const SESSION_TOKEN_BYTES_MAX: usize = 8_192;

/// Checks a bucket name by the rules that S3 and `MinIO` share.
///
/// The reserved prefixes and suffixes (`xn--`, `-s3alias`, ...) are accepted where reading works
/// all the same: an access point alias is a good bucket name for a reader.
///
/// # Errors
/// The problem. Source: Amazon S3 User Guide, "General purpose bucket naming rules".
pub fn validate_bucket_name(name: &str) -> Result<(), &'static str> {
    let bytes = name.as_bytes();
    if name.starts_with("arn:") {
        return Err("is an ARN; write the name of the bucket alone, which ends it");
    }
    if name.contains('/') {
        return Err("has a '/'; write the name of the bucket alone, without a scheme, and what \
                    follows it in key_prefix");
    }
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if !(BUCKET_NAME_BYTES_MIN..=BUCKET_NAME_BYTES_MAX).contains(&bytes.len()) {
        return Err("a bucket name must have 3 to 63 characters");
    }
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Err("a bucket name must not have upper-case letters");
    }
    if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b)) {
        return Err("a bucket name must have only lower-case letters, digits, '-' and '.'");
    }
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return Err("a bucket name must start and end with a letter or a digit");
    }
    if name.contains("..") {
        return Err("a bucket name must not have two dots in a row");
    }
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err("a bucket name must not look like an IP address");
    }
    if bytes.ends_with(b"--x-s3") {
        return Err("directory buckets (S3 Express) need session signing, which is not supported");
    }
    if bytes.ends_with(b".mrap") {
        return Err("multi-Region access points need SigV4A, which is not supported");
    }
    Ok(())
}

/// Checks a region name: it becomes part of a host name and of the credential scope.
///
/// Other servers have regions of their own (`auto`, `garage`), so no list is consulted.
///
/// # Errors
/// The problem.
pub fn validate_region(region: &str) -> Result<(), &'static str> {
    if region.is_empty() {
        return Err("a region must not be empty; servers without regions usually take us-east-1");
    }
    if region.len() > REGION_BYTES_MAX {
        return Err("a region must have at most 63 characters");
    }
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err("a region must have only letters, digits, '-' and '_', as eu-central-1 has");
    }
    Ok(())
}

/// Checks a key prefix, which is put before every object key of a bucket.
///
/// It is written decoded (a space is a space) and used as it is: one that names a directory ends
/// with `/`.
///
/// # Errors
/// The problem.
pub fn validate_key_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.len() >= OBJECT_KEY_BYTES_MAX {
        return Err("a key prefix must leave room for a key; S3 keys have at most 1024 bytes");
    }
    check_decoded_text(prefix).map_err(|problem| match problem {
        PathError::DotSegment => "a key prefix must not have a '.' or '..' segment",
        _ => "a key prefix must not have control characters",
    })
}

/// Checks an access key id: visible ASCII without the separators of a `Credential=`.
///
/// # Errors
/// The problem. The message never repeats the value.
pub fn validate_access_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() || key.len() > ACCESS_KEY_BYTES_MAX {
        return Err("an access key id must have 1 to 128 characters");
    }
    // `/` and `,` end the key id in `Credential=<id>/<scope>, SignedHeaders=...`.
    if !key.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b',') {
        return Err(
            "an access key id must not have spaces, ',', '/', control or non-ASCII characters",
        );
    }
    Ok(())
}

/// Checks a session token: visible ASCII, since it is sent as a header field.
///
/// # Errors
/// The problem. The message never repeats the value.
pub fn validate_session_token(token: &[u8]) -> Result<(), &'static str> {
    if token.is_empty() || token.len() > SESSION_TOKEN_BYTES_MAX {
        return Err("a session token must have 1 to 8192 characters");
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("a session token must not have spaces, control or non-ASCII characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_aws_rules() {
        let longest = "a".repeat(63);
        for good in ["abc", "my-products", "a.b.c", "1-2", "xn--x", "ap-x-s3alias", &longest] {
            assert_eq!(validate_bucket_name(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "ab",
            &too_long,
            "Products",
            "a_b",
            "a b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "192.168.5.4",
            "ab/c",
            "a%20b",
            "日本語",
            "ab\n",
            "usw2--x-s3",
            "alias.mrap",
        ] {
            assert!(validate_bucket_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regions_cannot_leave_the_scope_or_the_host_name() {
        for good in ["us-east-1", "auto", "garage", "eu_1", "US"] {
            assert_eq!(validate_region(good), Ok(()), "{good}");
        }
        let too_long = "r".repeat(64);
        for bad in ["", "a/b", "a.b", "a b", "a\r\nb", "é", "a,b", &too_long] {
            assert!(validate_region(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn key_prefixes_are_decoded_text_without_dot_segments() {
        for good in ["", "tenant/", "a b/%/", "//", "..a", "八咫/"] {
            assert_eq!(validate_key_prefix(good), Ok(()), "{good}");
        }
        let too_long = "k".repeat(OBJECT_KEY_BYTES_MAX);
        for bad in [".", "..", "../", "a/..", "a/./b", "a\nb", "\u{7f}", "\u{9b}", &too_long] {
            assert!(validate_key_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_cannot_break_out_of_a_header_line() {
        assert_eq!(validate_access_key("AKIAIOSFODNN7EXAMPLE"), Ok(()));
        assert_eq!(validate_session_token(b"IQoJb3JpZ2luX2VjE=="), Ok(()));
        for bad in ["", "a b", "a\r\nb", "a/b", "a,b", "é", "a\0"] {
            assert!(validate_access_key(bad).is_err(), "{bad:?}");
        }
        for bad in [&b""[..], b"a b", b"a\r\nb: c", b"\xff", b"a\t"] {
            assert!(validate_session_token(bad).is_err(), "{bad:?}");
        }
    }
}
