//! Listing of a bucket: the requests that ask for one, what a client may ask for, and the keys that
//! a page begins and ends with.
//!
//! A page goes on behind a key, and a client is given that key to come back with. So it must be one
//! that the client may know: where a page ends with a key that the client may not read, the next
//! one begins with the next key that it may.

use std::cmp::Ordering;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    model::limits::OBJECT_KEY_BYTES_MAX,
    policy::auth::Readable,
    protocol::{
        http1::qvalue,
        s3::listing::{LISTING_ENTRIES_MAX, Last, Listed, S3Version},
        text::percent::decode_form,
    },
};

/// Parameter that a page is continued with, in a listing of version 2 and in pages of ours.
pub const TOKEN_PARAMETER: &str = "continuation-token";

/// Parameter with the most entries of a page.
pub const ENTRIES_PARAMETER: &str = "max-keys";

/// Parameters of which one at least comes with a listing of version 1, which has no name.
const OF_VERSION_ONE: [&str; 4] = ["prefix", "delimiter", "marker", "encoding-type"];

/// The other parameters of requests for a listing or for a bucket.
const OF_OTHERS: [&str; 5] =
    ["list-type", "location", "start-after", TOKEN_PARAMETER, ENTRIES_PARAMETER];

/// Returns true if the parameter of this name means something in a request for a listing. S3 gets
/// what some of them hold.
pub fn is_known(name: &str) -> bool {
    OF_VERSION_ONE.contains(&name) || OF_OTHERS.contains(&name)
}

/// Form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A page for people.
    Html,
    /// A page for programs.
    Json,
    /// The XML of S3.
    S3,
}

impl Format {
    /// Media type of a page of this form.
    fn media_type(self) -> [&'static [u8]; 2] {
        match self {
            Self::Html => [b"text", b"html"],
            Self::Json => [b"application", b"json"],
            Self::S3 => [b"application", b"xml"],
        }
    }
}

/// Rules for listing a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Forms of pages, the preferred one first.
    pages: Box<[Format]>,
    s3: bool,
    /// Text before every key, which clients never see.
    key_prefix: Box<str>,
}

/// The thing that a request asks of a bucket that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A page of the directory that the path names.
    Page(Format),
    /// `ListObjects` or `ListObjectsV2`.
    S3(S3Version),
    /// `HeadBucket`.
    Bucket,
    /// `GetBucketLocation`.
    Location,
    /// A page of the bucket, by a path without its last `/`, on which links would not work.
    Slash,
}

impl Asked {
    /// True for a request that S3 clients make.
    pub fn is_of_s3(self) -> bool {
        matches!(self, Self::S3(_) | Self::Bucket | Self::Location)
    }
}

impl Listing {
    /// A listing in these forms.
    pub fn new(formats: &[Format], key_prefix: &str) -> Self {
        Self {
            pages: formats.iter().copied().filter(|format| *format != Format::S3).collect(),
            s3: formats.contains(&Format::S3),
            key_prefix: key_prefix.into(),
        }
    }

    /// Text before every key.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// True if S3 clients are served.
    pub fn speaks_s3(&self) -> bool {
        self.s3
    }

    /// True if a page may come in more than one form.
    pub fn is_negotiated(&self) -> bool {
        self.pages.len() > 1
    }

    /// The thing asked for by a path that ends in `/` or does not, and that names this key or, as
    /// none, the bucket itself. None if that is no listing.
    pub fn asked<'a>(
        &self,
        key: Option<&[u8]>,
        ends_in_slash: bool,
        is_head: bool,
        query: &[u8],
        accept: &(impl Iterator<Item = &'a [u8]> + Clone),
    ) -> Option<Asked> {
        if key.is_none()
            && let Some(asked) = self.asked_by_s3(ends_in_slash, is_head, query)
        {
            return Some(asked);
        }
        let first = *self.pages.first()?;
        match (key, ends_in_slash) {
            (_, true) => Some(Asked::Page(self.preferred(first, accept))),
            (None, false) => Some(Asked::Slash),
            (Some(_), false) => None,
        }
    }

    fn asked_by_s3(&self, ends_in_slash: bool, is_head: bool, query: &[u8]) -> Option<Asked> {
        if !self.s3 {
            return None;
        }
        if parameter(query, "location").is_some() {
            return Some(Asked::Location);
        }
        let has_pages = !self.pages.is_empty();
        if parameter(query, "list-type").is_some() {
            return Some(if is_head { Asked::Bucket } else { Asked::S3(S3Version::Two) });
        }
        if is_head {
            return (!has_pages || !ends_in_slash).then_some(Asked::Bucket);
        }
        let is_listing = OF_VERSION_ONE.iter().any(|name| parameter(query, name).is_some());
        (is_listing || !has_pages && query.is_empty()).then_some(Asked::S3(S3Version::One))
    }

    /// The form of a page that a client prefers (RFC 9110 section 12.5.1); the first one where it
    /// wants none of them.
    fn preferred<'a>(
        &self,
        first: Format,
        accept: &(impl Iterator<Item = &'a [u8]> + Clone),
    ) -> Format {
        let mut best = (first, 0);
        for format in &self.pages {
            let quality = quality(accept.clone(), format.media_type());
            if quality > best.1 {
                best = (*format, quality);
            }
        }
        best.0
    }
}

/// Quality of a media type by the values of `Accept`, in thousandths: that of the most specific
/// range that it is in.
fn quality<'a>(accept: impl Iterator<Item = &'a [u8]>, of: [&[u8]; 2]) -> u16 {
    let mut found = None;
    let mut is_there = false;
    for range in accept.flat_map(|value| value.split(|byte| *byte == b',')) {
        is_there = true;
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let Some(slash) = memchr::memchr(b'/', name) else { continue };
        let specific = match (&name[..slash], &name[slash + 1..]) {
            (b"*", b"*") => 0,
            (kind, b"*") if kind.eq_ignore_ascii_case(of[0]) => 1,
            (kind, sub) if kind.eq_ignore_ascii_case(of[0]) && sub.eq_ignore_ascii_case(of[1]) => 2,
            _ => continue,
        };
        let weight =
            parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        let weight = weight.map_or(1_000, |weight| qvalue(weight).unwrap_or(0));
        if found.is_none_or(|(known, _)| specific >= known) {
            found = Some((specific, weight));
        }
    }
    match found {
        Some((_, weight)) => weight,
        None if is_there => 0,
        None => 1_000,
    }
}

/// The value of a parameter as it arrived; empty where it has none. Names are compared after
/// decoding; the first of several counts.
fn parameter<'q>(query: &'q [u8], name: &str) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (raw, value) = pair.split_at(at);
        let is_it = raw == name.as_bytes()
            || raw.contains(&b'%') && decoded(raw).is_ok_and(|raw| raw == name);
        is_it.then(|| value.strip_prefix(b"=").unwrap_or(value))
    })
}

/// Text of a query, in which `+` is a space as well, as S3 reads it.
fn decoded(raw: &[u8]) -> Result<String, InvalidListQuery> {
    let text: Result<_, _> = decode_form(raw).collect();
    String::from_utf8(text.map_err(|_| InvalidListQuery)?).map_err(|_| InvalidListQuery)
}

/// The decoded value of a parameter; none where it is empty.
fn text_of(query: &[u8], name: &str) -> Result<Option<String>, InvalidListQuery> {
    let text = parameter(query, name).map(decoded).transpose()?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A parameter of a listing that is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidListQuery;

/// The part of a listing that a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Text that the keys begin with.
    pub prefix: String,
    /// End of what keys are grouped by.
    pub delimiter: Option<String>,
    /// Most entries of a page.
    pub entries_max: u16,
    /// Set for keys in percent-encoding.
    pub is_encoded: bool,
    /// `start-after`, as the client sent it.
    pub start_after: Option<String>,
    /// `continuation-token` or `marker`, as the client sent it.
    pub token: Option<String>,
    /// Key behind which the page begins; none for the first.
    after: Option<String>,
}

impl ListQuery {
    /// Reads the query of a page of the directory that the path names.
    ///
    /// # Errors
    /// A parameter is malformed.
    pub fn of_page(directory: &[u8], query: &[u8]) -> Result<Self, InvalidListQuery> {
        let token = text_of(query, TOKEN_PARAMETER)?;
        let entries_max = entries_max(query)?;
        if entries_max == 0 {
            return Err(InvalidListQuery);
        }
        Ok(Self {
            prefix: str::from_utf8(directory).map_err(|_| InvalidListQuery)?.to_owned(),
            delimiter: Some("/".to_owned()),
            entries_max,
            after: token.as_deref().map(key_of).transpose()?,
            token,
            ..Self::default()
        })
    }

    /// Reads the query of an S3 client.
    ///
    /// # Errors
    /// A parameter is malformed.
    pub fn of_client(version: S3Version, query: &[u8]) -> Result<Self, InvalidListQuery> {
        let text = |name| text_of(query, name);
        let (start_after, token, after) = match version {
            S3Version::One => {
                let marker = text("marker")?;
                (None, marker.clone(), marker)
            }
            S3Version::Two => {
                if text("list-type")?.as_deref() != Some("2") {
                    return Err(InvalidListQuery);
                }
                let (start_after, token) = (text("start-after")?, text(TOKEN_PARAMETER)?);
                let key = token.as_deref().map(key_of).transpose()?;
                let after = key.or_else(|| start_after.clone());
                (start_after, token, after)
            }
        };
        Ok(Self {
            prefix: text("prefix")?.unwrap_or_default(),
            delimiter: text("delimiter")?,
            entries_max: entries_max(query)?,
            is_encoded: match text("encoding-type")?.as_deref() {
                None => false,
                Some("url") => true,
                Some(_) => return Err(InvalidListQuery),
            },
            start_after,
            token,
            after,
        })
    }

    /// True for the first page.
    pub fn is_first(&self) -> bool {
        self.after.is_none()
    }

    /// True if S3 could have such keys behind this text: it refuses longer ones, and says of which
    /// in its error.
    pub fn is_short_enough(&self, key_prefix: &str) -> bool {
        let fits = |text: &str, most| key_prefix.len() + text.len() <= most;
        // A page may go on behind all keys of a group.
        let after_max = OBJECT_KEY_BYTES_MAX + char::MAX.len_utf8();
        fits(&self.prefix, OBJECT_KEY_BYTES_MAX)
            && self.after.as_deref().is_none_or(|after| fits(after, after_max))
            && self.delimiter.as_deref().is_none_or(|by| by.len() <= OBJECT_KEY_BYTES_MAX)
    }

    /// Key behind which S3 has to begin, if it does not begin with the first.
    ///
    /// # Errors
    /// [`Over`], if there can be nothing that the client may read.
    pub fn start(&self, readable: &Readable) -> Result<Option<String>, Over> {
        self.start_behind(self.after.as_deref(), readable)
    }

    fn start_behind(
        &self,
        after: Option<&str>,
        readable: &Readable,
    ) -> Result<Option<String>, Over> {
        let from = after.map_or(self.prefix.as_str(), |after| after.max(self.prefix.as_str()));
        let first = readable.first_from(from).ok_or(Over)?;
        if first == from {
            return Ok(after.map(str::to_owned));
        }
        // What is grouped is listed as a whole: beginning inside of it, it may be left out.
        let rest = first.strip_prefix(self.prefix.as_str()).ok_or(Over)?;
        let end = self.delimiter.as_deref().and_then(|by| Some(rest.find(by)? + by.len()));
        let entry = &first[..end.map_or(first.len(), |end| self.prefix.len() + end)];
        let start = before(entry);
        Ok(Some(match after {
            // Inside of the group. If S3 went on behind a key that the client chose, the group
            // would be there or not by keys that the client may not read.
            Some(after) if *after > *start => before(first).max(after.to_owned()),
            _ => start,
        }))
    }

    /// The token of the page behind one that ends with this entry, and that S3 said is not the
    /// last. None if there can be nothing left that the client may read.
    pub fn next(&self, version: S3Version, last: Last<'_>, readable: &Readable) -> Option<String> {
        let (end, is_shown) = match last {
            Last::Key(key) => (key.to_owned(), readable.has(key)),
            // Behind all keys of the group, whatever S3 makes of the group's name.
            Last::Prefix(prefix) => (format!("{prefix}{}", char::MAX), readable.has_below(prefix)),
        };
        let key = if is_shown {
            end
        } else {
            let end = behind_dot_segment(&end).unwrap_or(end);
            self.start_behind(Some(&end), readable).ok()??
        };
        Some(match version {
            S3Version::One => key,
            S3Version::Two => URL_SAFE_NO_PAD.encode(key),
        })
    }
}

/// There is nothing left that the client may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

/// Takes away what the client may not read.
pub fn keep_readable(listed: &mut Listed, readable: &Readable) {
    listed.objects.retain(|object| readable.has(&object.key));
    listed.prefixes.retain(|prefix| readable.has_below(prefix));
}

fn entries_max(query: &[u8]) -> Result<u16, InvalidListQuery> {
    let Some(text) = text_of(query, ENTRIES_PARAMETER)? else { return Ok(LISTING_ENTRIES_MAX) };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidListQuery);
    }
    // A number that is too long for the type is too large as well.
    Ok(text.parse().map_or(LISTING_ENTRIES_MAX, |count: u16| count.min(LISTING_ENTRIES_MAX)))
}

/// The key that a token of ours holds.
fn key_of(token: &str) -> Result<String, InvalidListQuery> {
    let key = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidListQuery)?;
    String::from_utf8(key).map_err(|_| InvalidListQuery)
}

/// A text behind all keys that have the first segment `.` or `..` of this one, none of which a
/// token may read. None without such a segment.
fn behind_dot_segment(key: &str) -> Option<String> {
    let mut end = 0;
    key.split_inclusive('/').find_map(|segment| {
        end += segment.len();
        match segment {
            "./" | "../" => Some(format!("{}{}", key.get(..end)?, char::MAX)),
            // Names that begin like it may follow.
            "." | ".." => Some(format!("{key}\u{1}")),
            _ => None,
        }
    })
}

/// A text that comes before this one and behind all others that do, but for those that have the
/// last character of Unicode in that place, which names no text.
fn before(text: &str) -> String {
    let mut before = text.to_owned();
    let Some(last) = before.pop() else { return before };
    let previous = match u32::from(last) {
        // Between them are the surrogates, which are no characters.
        0xe000 => Some(0xd7ff),
        code => code.checked_sub(1),
    };
    if let Some(previous) = previous.and_then(char::from_u32) {
        before.push(previous);
        before.push(char::MAX);
    }
    debug_assert_eq!(before.as_str().cmp(text), Ordering::Less);
    before
}

#[cfg(test)]
mod tests;
