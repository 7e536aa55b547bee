//! Listings of a bucket: what S3 answers to `ListObjectsV2`, and the forms in which clients get it.
//!
//! Source: Amazon S3 API Reference, `ListObjectsV2` and `ListObjects`.
//!
//! Deliberately absent: S3's continuation tokens. Those of some servers hold the key that they stop
//! at, `key_prefix` included, and those of others are good for one process only. A listing goes on
//! behind a key instead (`start-after`).

mod html;
mod json;
mod read;
mod request;
mod xml;

pub use html::{CONTENT_SECURITY_POLICY, HtmlPage};
pub use json::append_json;
pub use read::{LISTING_BYTES_MAX, MalformedListing, read_listing};
pub use request::append_list_query;
pub use xml::{S3Listing, S3Version, append_location, append_s3_error};

/// Objects and prefixes of a page at most: S3 gives no more, whatever is asked for.
pub const LISTING_ENTRIES_MAX: u16 = 1_000;

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Objects, in the order of their keys.
    pub objects: Vec<ListedObject>,
    /// Beginnings of several keys, up to a delimiter, in order.
    pub prefixes: Vec<String>,
    /// Set if there are entries behind these.
    pub is_truncated: bool,
}

/// One object of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// Time of its last change, as S3 writes it (ISO 8601, UTC).
    pub modified: String,
    /// Its entity tag, with its quotes; empty where S3 gives none.
    pub etag: String,
    /// Its storage class; empty where S3 gives none.
    pub storage_class: String,
}

/// An entry of another key than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

/// The last entry of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last<'l> {
    /// An object's key.
    Key(&'l str),
    /// A prefix.
    Prefix(&'l str),
}

impl Listed {
    /// Takes `key_prefix` off all entries, which must begin with it and with `prefix` behind it.
    ///
    /// # Errors
    /// [`Foreign`], if one does not.
    pub fn below(mut self, key_prefix: &str, prefix: &str) -> Result<Self, Foreign> {
        let keys = self.objects.iter_mut().map(|object| &mut object.key);
        for name in keys.chain(&mut self.prefixes) {
            let rest = name.strip_prefix(key_prefix).ok_or(Foreign)?;
            if !rest.starts_with(prefix) {
                return Err(Foreign);
            }
            name.drain(..key_prefix.len());
        }
        Ok(self)
    }

    /// The entry that the page ends with.
    pub fn last(&self) -> Option<Last<'_>> {
        let key = self.objects.last().map(|object| object.key.as_str());
        let prefix = self.prefixes.last().map(String::as_str);
        match (key, prefix) {
            (Some(key), Some(prefix)) if key > prefix => Some(Last::Key(key)),
            (_, Some(prefix)) => Some(Last::Prefix(prefix)),
            (key, None) => key.map(Last::Key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(keys: &[&str], prefixes: &[&str]) -> Listed {
        let object = |key: &&str| ListedObject { key: (*key).to_owned(), ..Default::default() };
        Listed {
            objects: keys.iter().map(object).collect(),
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            is_truncated: true,
        }
    }

    #[test]
    fn the_key_prefix_is_taken_off_every_entry() {
        let page = listed(&["in/a/x", "in/a/y"], &["in/a/z/"]);
        assert_eq!(page.below("in/", "a/"), Ok(listed(&["a/x", "a/y"], &["a/z/"])));
    }

    #[test]
    fn an_entry_that_was_not_asked_for_is_seen() {
        for (keys, prefixes) in
            [(&["out/a/x"][..], &[][..]), (&["in/b"], &[]), (&["in"], &[]), (&[], &["in/b/"])]
        {
            assert_eq!(listed(keys, prefixes).below("in/", "a/"), Err(Foreign), "{keys:?}");
        }
    }

    #[test]
    fn a_page_ends_with_its_greatest_entry() {
        assert_eq!(listed(&["a", "c"], &["b/"]).last(), Some(Last::Key("c")));
        assert_eq!(listed(&["a"], &["b/"]).last(), Some(Last::Prefix("b/")));
        assert_eq!(listed(&["a"], &[]).last(), Some(Last::Key("a")));
        assert_eq!(listed(&[], &["b/"]).last(), Some(Last::Prefix("b/")));
        assert_eq!(listed(&[], &[]).last(), None);
    }
}
