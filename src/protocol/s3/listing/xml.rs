//! The XML that S3 clients get.
//!
//! Source: Amazon S3 API Reference, `ListObjectsV2`, `ListObjects`, `GetBucketLocation` and "REST
//! error responses".

use super::{Listed, ListedObject};
use crate::protocol::{s3::encode_key, text::decimal::append_decimal};

const DECLARATION: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?>
"#;

/// The namespace of every answer but errors.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The region that `GetBucketLocation` has no name for.
const UNNAMED_REGION: &str = "us-east-1";

/// Version of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Version {
    /// `ListObjects`, which goes on behind a key (`marker`).
    One,
    /// `ListObjectsV2`, which goes on with a token.
    Two,
}

/// An answer to an S3 client. What the client sent comes back as it was.
#[derive(Clone, Copy, Debug)]
pub struct S3Listing<'l> {
    /// The version that was asked for.
    pub version: S3Version,
    /// The bucket's name, as the client knows it.
    pub name: &'l str,
    /// Text that the keys begin with.
    pub prefix: &'l str,
    /// End of what keys are grouped by.
    pub delimiter: Option<&'l str>,
    /// Most entries of a page.
    pub entries_max: u16,
    /// Set for keys in percent-encoding.
    pub is_encoded: bool,
    /// `start-after`.
    pub start_after: Option<&'l str>,
    /// `continuation-token`, or `marker`.
    pub token: Option<&'l str>,
    /// The same for the next page, if there is one.
    pub next: Option<&'l str>,
    /// The entries.
    pub listed: &'l Listed,
}

impl S3Listing<'_> {
    /// Appends the document.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(DECLARATION);
        open_root("ListBucketResult", out);
        element("Name", self.name, out);
        self.key("Prefix", self.prefix, out);
        match self.version {
            S3Version::One => self.key("Marker", self.token.unwrap_or_default(), out),
            S3Version::Two => {
                self.start_after.iter().for_each(|key| self.key("StartAfter", key, out));
                self.token.iter().for_each(|token| element("ContinuationToken", token, out));
            }
        }
        match (self.version, self.next) {
            (S3Version::One, Some(next)) => self.key("NextMarker", next, out),
            (S3Version::Two, Some(next)) => element("NextContinuationToken", next, out),
            (_, None) => {}
        }
        if self.version == S3Version::Two {
            let entries = self.listed.objects.len() + self.listed.prefixes.len();
            number("KeyCount", entries as u64, out);
        }
        number("MaxKeys", u64::from(self.entries_max), out);
        self.delimiter.iter().for_each(|delimiter| self.key("Delimiter", delimiter, out));
        if self.is_encoded {
            element("EncodingType", "url", out);
        }
        element("IsTruncated", if self.next.is_some() { "true" } else { "false" }, out);
        self.listed.objects.iter().for_each(|object| self.object(object, out));
        for prefix in &self.listed.prefixes {
            open("CommonPrefixes", out);
            self.key("Prefix", prefix, out);
            close("CommonPrefixes", out);
        }
        close("ListBucketResult", out);
    }

    fn object(&self, object: &ListedObject, out: &mut Vec<u8>) {
        open("Contents", out);
        self.key("Key", &object.key, out);
        element("LastModified", &object.modified, out);
        if !object.etag.is_empty() {
            element("ETag", &object.etag, out);
        }
        number("Size", object.size, out);
        let class = &object.storage_class;
        element("StorageClass", if class.is_empty() { "STANDARD" } else { class }, out);
        close("Contents", out);
    }

    /// Appends an element that `encoding-type` is about.
    fn key(&self, name: &str, key: &str, out: &mut Vec<u8>) {
        if self.is_encoded {
            open(name, out);
            encode_key(key.as_bytes(), out);
            close(name, out);
        } else {
            element(name, key, out);
        }
    }
}

/// Appends the answer to `GetBucketLocation`.
pub fn append_location(region: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(DECLARATION);
    open_root("LocationConstraint", out);
    if region != UNNAMED_REGION {
        append_text(region, out);
    }
    close("LocationConstraint", out);
}

/// Appends an error as S3 says it.
pub fn append_s3_error(code: &str, message: &str, request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(DECLARATION);
    open("Error", out);
    element("Code", code, out);
    element("Message", message, out);
    element("RequestId", request_id, out);
    close("Error", out);
}

fn open_root(name: &str, out: &mut Vec<u8>) {
    for part in ["<", name, " xmlns=\"", NAMESPACE, "\">"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn open(name: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn close(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn element(name: &str, text: &str, out: &mut Vec<u8>) {
    open(name, out);
    append_text(text, out);
    close(name, out);
}

fn number(name: &str, number: u64, out: &mut Vec<u8>) {
    open(name, out);
    append_decimal(number, out);
    close(name, out);
}

/// Appends text. Characters that XML 1.0 cannot hold become references all the same, as S3 writes
/// them: clients that meet such keys ask for `encoding-type=url`.
fn append_text(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\'' => out.extend_from_slice(b"&apos;"),
            '\u{fffe}' | '\u{ffff}' => reference(character, out),
            _ if character.is_control() => reference(character, out),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn reference(character: char, out: &mut Vec<u8>) {
    out.extend_from_slice(b"&#");
    append_decimal(u64::from(u32::from(character)), out);
    out.push(b';');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::read_listing, *};

    fn object(key: &str) -> ListedObject {
        ListedObject {
            key: key.to_owned(),
            size: 17,
            modified: "2026-11-29T10:00:00.000Z".to_owned(),
            etag: "\"e\"".to_owned(),
            storage_class: "GLACIER".to_owned(),
        }
    }

    fn listed(keys: &[&str], prefixes: &[&str]) -> Listed {
        Listed {
            objects: keys.iter().map(|key| object(key)).collect(),
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            is_truncated: false,
        }
    }

    fn of(version: S3Version, listed: &Listed) -> S3Listing<'_> {
        S3Listing {
            version,
            name: "products",
            prefix: "a&b/",
            delimiter: Some("/"),
            entries_max: 10,
            is_encoded: false,
            start_after: None,
            token: None,
            next: None,
            listed,
        }
    }

    fn text(listing: &S3Listing<'_>) -> String {
        let mut out = Vec::new();
        listing.append_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_of_version_two_is_as_s3_writes_it() {
        let listed = listed(&["a&b/<x>"], &["a&b/c/"]);
        let listing = S3Listing {
            start_after: Some("s"),
            token: Some("t"),
            next: Some("n"),
            ..of(S3Version::Two, &listed)
        };
        assert_eq!(
            text(&listing),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Name>products</Name><Prefix>a&amp;b/</Prefix><StartAfter>s</StartAfter>\
             <ContinuationToken>t</ContinuationToken>\
             <NextContinuationToken>n</NextContinuationToken><KeyCount>2</KeyCount>\
             <MaxKeys>10</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>\
             <Contents><Key>a&amp;b/&lt;x&gt;</Key>\
             <LastModified>2026-11-29T10:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>\
             <Size>17</Size><StorageClass>GLACIER</StorageClass></Contents>\
             <CommonPrefixes><Prefix>a&amp;b/c/</Prefix></CommonPrefixes></ListBucketResult>"
        );
    }

    #[test]
    fn version_one_goes_on_behind_a_key() {
        let listed = listed(&[], &[]);
        let listing =
            S3Listing { token: Some("m"), next: Some("n/"), ..of(S3Version::One, &listed) };
        let text = text(&listing);
        assert!(text.contains("<Marker>m</Marker><NextMarker>n/</NextMarker><MaxKeys>"), "{text}");
        assert!(!text.contains("Token") && !text.contains("KeyCount"), "{text}");
    }

    #[test]
    fn encoded_keys_keep_their_slashes_only() {
        let listed = listed(&["a/b c+%\u{1}八"], &["a//"]);
        let text = text(&S3Listing { is_encoded: true, ..of(S3Version::Two, &listed) });
        assert!(text.contains("<Key>a/b%20c%2B%25%01%E5%85%AB</Key>"), "{text}");
        assert!(text.contains("<Prefix>a//</Prefix>"), "{text}");
        assert!(text.contains("<Prefix>a%26b/</Prefix>"), "{text}");
        assert!(
            text.contains("<Delimiter>/</Delimiter><EncodingType>url</EncodingType>"),
            "{text}"
        );
    }

    #[test]
    fn the_oldest_region_has_no_name() {
        for (region, inside) in [("us-east-1", ""), ("eu-west-1", "eu-west-1")] {
            let mut out = Vec::new();
            append_location(region, &mut out);
            let end = format!("/doc/2006-03-01/\">{inside}</LocationConstraint>");
            assert!(str::from_utf8(&out).unwrap().ends_with(&end), "{region}");
        }
    }

    #[test]
    fn an_error_has_the_code_that_is_read_back() {
        let mut out = Vec::new();
        append_s3_error("AccessDenied", "no <entry>", "id\"1", &mut out);
        assert_eq!(crate::protocol::s3::error_code(&out), Some("AccessDenied"));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("<Message>no &lt;entry&gt;</Message>"), "{text}");
        assert!(text.contains("<RequestId>id&quot;1</RequestId></Error>"), "{text}");
    }

    proptest! {
        #[test]
        fn every_key_is_read_back(keys in prop::collection::vec("[\u{1}-\u{10ffff}]{1,12}", 1..5)) {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let listed = listed(&keys, &keys);
            for is_encoded in [false, true] {
                let listing = S3Listing { is_encoded, ..of(S3Version::Two, &listed) };
                prop_assert_eq!(read_listing(text(&listing).as_bytes()), Ok(listed.clone()));
            }
        }
    }
}
