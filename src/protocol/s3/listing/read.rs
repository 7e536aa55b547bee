//! The XML of `ListObjectsV2`, as far as it is used.

use std::fmt;

use quick_xml::{
    Reader,
    escape::resolve_xml_entity,
    events::{BytesRef, Event},
};

use super::{LISTING_ENTRIES_MAX, Listed, ListedObject};
use crate::{model::limits::OBJECT_KEY_BYTES_MAX, protocol::text::percent};

/// Longest answer that is read, in bytes. A page has at most 1,000 keys of 1,024 bytes, each of
/// which takes three characters where it is encoded, and S3 says some 600 bytes more of each.
pub const LISTING_BYTES_MAX: usize = 4 << 20;

/// Elements inside one another at most; S3 needs four.
const DEPTH_MAX: usize = 16;

/// Bytes that are no listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedListing;

impl fmt::Display for MalformedListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the document is no ListBucketResult")
    }
}

impl std::error::Error for MalformedListing {}

/// An entry that is being read.
#[derive(Debug)]
enum Entry {
    Object { key: Option<String>, rest: ListedObject },
    Prefix(Option<String>),
}

/// Reads the answer to a `ListObjectsV2`. Elements that are not known are passed over.
///
/// # Errors
/// [`MalformedListing`]: anything but one whole document whose root is `ListBucketResult`, with at
/// most [`LISTING_ENTRIES_MAX`] entries of at most [`OBJECT_KEY_BYTES_MAX`] bytes.
pub fn read_listing(document: &[u8]) -> Result<Listed, MalformedListing> {
    let mut reader = Reader::from_reader(document);
    reader.config_mut().expand_empty_elements = true;
    let mut listed = Listed::default();
    let mut is_encoded = false;
    let mut is_over = false;
    let mut depth = 0_usize;
    let mut entry = None;
    let mut text = String::new();
    loop {
        match reader.read_event().map_err(|_| MalformedListing)? {
            Event::Start(_) if is_over || depth == DEPTH_MAX => return Err(MalformedListing),
            Event::Start(tag) => {
                depth += 1;
                text.clear();
                match (depth, tag.local_name().as_ref()) {
                    (1, b"ListBucketResult") => {}
                    (1, _) => return Err(MalformedListing),
                    (2, b"Contents") => {
                        entry = Some(Entry::Object { key: None, rest: ListedObject::default() });
                    }
                    (2, b"CommonPrefixes") => entry = Some(Entry::Prefix(None)),
                    _ => {}
                }
            }
            Event::End(tag) => {
                let name = tag.local_name();
                match (depth, &mut entry) {
                    (2, entry @ Some(_)) => add(entry.take(), &mut listed)?,
                    (2, None) => match name.as_ref() {
                        b"IsTruncated" => listed.is_truncated = boolean(&text)?,
                        b"EncodingType" => is_encoded = text == "url",
                        _ => {}
                    },
                    (3, Some(entry)) => entry.read(name.as_ref(), &mut text)?,
                    _ => {}
                }
                depth -= 1;
                is_over = depth == 0;
                text.clear();
            }
            Event::Text(part) => {
                text.push_str(&part.xml10_content().map_err(|_| MalformedListing)?);
            }
            Event::CData(part) => {
                text.push_str(&part.xml10_content().map_err(|_| MalformedListing)?);
            }
            Event::GeneralRef(reference) => push_reference(&reference, &mut text)?,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if is_over => break,
            // A document type could hold entities, which grow without bound.
            Event::DocType(_) | Event::Empty(_) | Event::Eof => return Err(MalformedListing),
        }
    }
    let keys = listed.objects.iter_mut().map(|object| &mut object.key);
    for name in keys.chain(&mut listed.prefixes) {
        if is_encoded {
            *name = decoded(name)?;
        }
        if name.len() > OBJECT_KEY_BYTES_MAX {
            return Err(MalformedListing);
        }
    }
    Ok(listed)
}

impl Entry {
    /// Takes the text of an element inside.
    fn read(&mut self, element: &[u8], text: &mut String) -> Result<(), MalformedListing> {
        let text = std::mem::take(text);
        match (self, element) {
            (Self::Object { key, .. }, b"Key") => *key = Some(text),
            (Self::Object { rest, .. }, b"Size") => {
                rest.size = text.trim().parse().map_err(|_| MalformedListing)?;
            }
            (Self::Object { rest, .. }, b"LastModified") => rest.modified = text,
            (Self::Object { rest, .. }, b"ETag") => rest.etag = text,
            (Self::Object { rest, .. }, b"StorageClass") => rest.storage_class = text,
            (Self::Prefix(prefix), b"Prefix") => *prefix = Some(text),
            _ => {}
        }
        Ok(())
    }
}

/// Adds an entry that is complete.
fn add(entry: Option<Entry>, listed: &mut Listed) -> Result<(), MalformedListing> {
    match entry {
        Some(Entry::Object { key: Some(key), rest }) => {
            listed.objects.push(ListedObject { key, ..rest });
        }
        Some(Entry::Prefix(Some(prefix))) => listed.prefixes.push(prefix),
        _ => return Err(MalformedListing),
    }
    let entries = listed.objects.len() + listed.prefixes.len();
    if entries > usize::from(LISTING_ENTRIES_MAX) { Err(MalformedListing) } else { Ok(()) }
}

fn boolean(text: &str) -> Result<bool, MalformedListing> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(MalformedListing),
    }
}

fn push_reference(reference: &BytesRef<'_>, text: &mut String) -> Result<(), MalformedListing> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| MalformedListing)? {
        text.push(character);
        return Ok(());
    }
    let name = reference.decode().map_err(|_| MalformedListing)?;
    text.push_str(resolve_xml_entity(&name).ok_or(MalformedListing)?);
    Ok(())
}

/// Undoes `encoding-type=url`, in which S3 writes `+` for a space.
fn decoded(name: &str) -> Result<String, MalformedListing> {
    if !name.contains(['%', '+']) {
        return Ok(name.to_owned());
    }
    let mut bytes = Vec::new();
    percent::append_decoded(name.replace('+', " ").as_bytes(), &mut bytes)
        .map_err(|_| MalformedListing)?;
    String::from_utf8(bytes).map_err(|_| MalformedListing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As AWS writes it, with an element that is not known.
    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p%2F</Prefix>
<KeyCount>3</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType>
<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>
<Contents><Key>p/a+b%2Bc%25&amp;%01</Key><LastModified>2026-11-29T10:00:00.000Z</LastModified>
<ETag>&quot;0cc175b9&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>17</Size>
<StorageClass>STANDARD</StorageClass><Owner><ID>x</ID><Key>not this one</Key></Owner></Contents>
<Contents><Key>p/&#x516b;<![CDATA[<c>]]></Key><Size>0</Size></Contents>
<CommonPrefixes><Prefix>p/d%2Fe/</Prefix></CommonPrefixes>
</ListBucketResult>
"#;

    #[test]
    fn objects_and_prefixes_are_read() {
        let listed = read_listing(PAGE.as_bytes()).unwrap();
        assert!(listed.is_truncated);
        assert_eq!(listed.prefixes, ["p/d/e/"]);
        let [first, second] = &listed.objects[..] else { panic!("{listed:?}") };
        assert_eq!((first.key.as_str(), first.size), ("p/a b+c%&\u{1}", 17));
        assert_eq!(first.modified, "2026-11-29T10:00:00.000Z");
        assert_eq!(
            (first.etag.as_str(), first.storage_class.as_str()),
            ("\"0cc175b9\"", "STANDARD")
        );
        assert_eq!((second.key.as_str(), second.size), ("p/八<c>", 0));
    }

    #[test]
    fn without_an_encoding_keys_are_taken_as_they_are() {
        let page = PAGE.replace("<EncodingType>url</EncodingType>", "");
        let listed = read_listing(page.as_bytes()).unwrap();
        assert_eq!(listed.objects[0].key, "p/a+b%2Bc%25&%01");
        assert_eq!(listed.prefixes, ["p/d%2Fe/"]);
    }

    #[test]
    fn an_empty_listing_is_one() {
        for page in
            ["<ListBucketResult/>", "<s:ListBucketResult xmlns:s='x'></s:ListBucketResult> "]
        {
            assert_eq!(read_listing(page.as_bytes()), Ok(Listed::default()), "{page}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let cut = &PAGE[..PAGE.len() - 30];
        let twice = PAGE.repeat(2);
        let entity = PAGE.replacen(
            "<ListBucketResult",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult",
            1,
        );
        let unknown_entity = PAGE.replace("&amp;", "&a;");
        let nul = PAGE.replace("&amp;", "&#0;");
        let bad_escape = PAGE.replace("%01", "%0");
        let not_utf8 = PAGE.replace("%01", "%ff");
        let no_key = PAGE.replace("<Key>p/a+b%2Bc%25&amp;%01</Key>", "");
        let long_key = PAGE.replace("%01", &"k".repeat(1_024));
        let long_prefix = PAGE.replace("p/d%2Fe/", &"k".repeat(1_025));
        let no_number = PAGE.replace(">17<", ">-17<");
        let deep = format!(
            "<ListBucketResult>{}{}</ListBucketResult>",
            "<a>".repeat(DEPTH_MAX),
            "</a>".repeat(DEPTH_MAX)
        );
        let many = format!(
            "<ListBucketResult>{}</ListBucketResult>",
            "<Contents><Key>k</Key></Contents>".repeat(usize::from(LISTING_ENTRIES_MAX) + 1)
        );
        for (document, why) in [
            ("", "empty"),
            ("{}", "JSON"),
            ("<Error><Code>NoSuchBucket</Code></Error>", "an error"),
            ("<html><body>hello</body></html>", "another document"),
            ("<ListBucketResult>", "open"),
            ("<ListBucketResult></Contents></ListBucketResult>", "crossed"),
            ("<ListBucketResult><IsTruncated>yes</IsTruncated></ListBucketResult>", "no boolean"),
            (cut, "cut"),
            (&twice, "two documents"),
            (&entity, "entities of its own"),
            (&unknown_entity, "an unknown entity"),
            (&nul, "NUL"),
            (&bad_escape, "a bad escape"),
            (&not_utf8, "not UTF-8"),
            (&no_key, "no key"),
            (&no_number, "no size"),
            (&long_key, "a key that is too long"),
            (&long_prefix, "a prefix that is too long"),
            (&deep, "deep"),
            (&many, "many"),
        ] {
            assert_eq!(read_listing(document.as_bytes()), Err(MalformedListing), "{why}");
        }
    }

    #[test]
    fn a_page_of_the_longest_keys_fits() {
        let key = "%FF".repeat(1_024);
        let entry = "x".repeat(600);
        assert!((key.len() + entry.len()) * usize::from(LISTING_ENTRIES_MAX) < LISTING_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            parts in prop::collection::vec(
                "(<|>|</|/>|&|;|Contents|Key|ListBucketResult|#x|[ -~]|é){0,12}", 0..12)
        ) {
            let _ = read_listing(parts.concat().as_bytes());
            let inside = format!("<ListBucketResult>{}</ListBucketResult>", parts.concat());
            let _ = read_listing(inside.as_bytes());
        }
    }
}
