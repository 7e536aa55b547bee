//! Documents of a website: the object that a directory stands for, and what is sent in place of an
//! object that is missing.
//!
//! Deliberately absent: chains. What is sent in place of a missing object is asked for once, and if
//! it is missing too, the client gets the first response.

use crate::protocol::s3::encode_key;

/// The lowest and the highest status that an error page may be for.
pub const ERROR_STATUSES: (u16, u16) = (400, 599);

/// Responses of S3 that may mean that there is no such object. 403 is what AWS says where the
/// credentials may not list the bucket (Amazon S3 API Reference, `GetObject`, "Permissions").
pub const MISSING_STATUSES: [u16; 3] = [403, 404, 410];

/// The response that an error page stands for unless it names another: no such object.
const NOT_FOUND: u16 = 404;

/// Keys of documents, relative to the bucket as clients see it, and when they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// Name of the object that stands for a directory.
    pub index: Option<Box<[u8]>>,
    /// Sends clients from `dir` to `dir/`, where there is nothing but `dir/` with an index.
    pub redirect_directories: bool,
    /// Statuses of S3 that mean that there is no such object.
    pub missing: Box<[u16]>,
    /// Document of a single-page application, which finds its own way from the path.
    pub spa: Option<Box<[u8]>>,
    /// Error pages by status.
    pub error_pages: Box<[(u16, Box<[u8]>)]>,
}

/// A document that is asked for in place of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Substitute<'d> {
    /// The document of the application, sent as what the path names.
    Application(&'d [u8]),
    /// An error page, sent with the status of the first response.
    ErrorPage(&'d [u8]),
}

impl<'d> Substitute<'d> {
    /// Key of the document.
    pub fn key(self) -> &'d [u8] {
        match self {
            Self::Application(key) | Self::ErrorPage(key) => key,
        }
    }

    /// Returns true if S3 has it, after it was asked for and S3 responded with this status. Of an
    /// application the client may have the document already.
    pub fn is_found(self, status: u16) -> bool {
        status == 200 || (status == 304 && matches!(self, Self::Application(_)))
    }
}

impl Documents {
    /// Name of the object in the directory of this key; none if it is no directory, or stands for
    /// none. The whole bucket has the empty key.
    pub fn index_of(&self, key: &[u8]) -> Option<&[u8]> {
        let is_directory = key.is_empty() || key.ends_with(b"/");
        self.index.as_deref().filter(|_| is_directory)
    }

    /// Returns true if something else may be sent in place of this response of S3.
    pub fn replace(&self, status: u16) -> bool {
        self.is_missing(status) || self.page_of(status).is_some()
    }

    /// Name of the object that has to exist in the directory of that name for the client to be sent
    /// there, after S3 responded with this status.
    pub fn index_to_look_for(&self, status: u16) -> Option<&[u8]> {
        let looks = self.redirect_directories && self.is_missing(status);
        self.index.as_deref().filter(|_| looks)
    }

    /// The document in place of the object of this key, for which S3 responded with this status, if
    /// there is one. `accept` has the values of the client's `Accept` fields.
    pub fn substitute<'a>(
        &self,
        status: u16,
        key: &[u8],
        accept: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Substitute<'_>> {
        let application = self.spa.as_deref().filter(|_| self.is_missing(status));
        let substitute = match application {
            Some(document) if names_html(accept) => Substitute::Application(document),
            _ => Substitute::ErrorPage(self.page_of(status)?),
        };
        // S3 has just said what it has there.
        (substitute.key() != key).then_some(substitute)
    }

    /// Returns true if the response to such a request depends on its `Accept` (RFC 9110
    /// section 12.5.5).
    pub fn varies_with_accept(&self, status: u16) -> bool {
        self.spa.is_some() && self.is_missing(status)
    }

    /// Returns true if S3 says with this status that there is no such object.
    pub fn is_missing(&self, status: u16) -> bool {
        self.missing.contains(&status)
    }

    /// The page for this status. Where S3 says with another one that an object is missing, and that
    /// has no page of its own, it is the page for 404.
    fn page_of(&self, status: u16) -> Option<&[u8]> {
        let page = |wanted| self.error_pages.iter().find(|(status, _)| *status == wanted);
        let found = page(status).or_else(|| page(NOT_FOUND).filter(|_| self.is_missing(status)));
        found.map(|(_, key)| &**key)
    }
}

/// Returns true if `Accept` names `text/html`, as browsers do for what they navigate to and scripts
/// do not for data (RFC 9110 section 12.5.1). A range such as `*/*` does not name it, and a weight
/// of 0 refuses it.
fn names_html<'a>(accept: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut ranges = accept.flat_map(|value| value.split(|byte| *byte == b','));
    ranges.any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_html = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"text/html"));
        is_html && !parts.any(is_weight_of_zero)
    })
}

/// Returns true for `q=0`, with up to three zeros behind a point (RFC 9110 section 12.4.2).
fn is_weight_of_zero(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0'] => true,
        [b'q' | b'Q', b'=', b'0', b'.', digits @ ..] => digits.iter().all(|digit| *digit == b'0'),
        _ => false,
    }
}

/// Appends the reference that leads from this canonical path to the directory of that name, on the
/// same host, with the query as it was sent (RFC 9110 section 10.2.2, RFC 3986 section 4.2).
///
/// A path that begins with `//` would be read as the name of a host. Its second `/` is encoded,
/// which names the same path.
pub fn append_directory_location(path: &[u8], query: Option<&[u8]>, out: &mut Vec<u8>) {
    debug_assert!(!path.ends_with(b"/"), "a directory already");
    let rest = match path {
        [b'/', b'/', rest @ ..] => {
            out.extend_from_slice(b"/%2F");
            rest
        }
        path => path,
    };
    encode_key(rest, out);
    out.push(b'/');
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::s3::canonical_path;

    fn key(key: &str) -> Box<[u8]> {
        key.as_bytes().into()
    }

    fn pages(pages: &[(u16, &str)]) -> Box<[(u16, Box<[u8]>)]> {
        pages.iter().map(|(status, key)| (*status, key.as_bytes().into())).collect()
    }

    fn none() -> std::iter::Empty<&'static [u8]> {
        std::iter::empty()
    }

    fn page_of(documents: &Documents, status: u16) -> Option<&str> {
        let page = documents.substitute(status, b"asked", none())?;
        assert!(matches!(page, Substitute::ErrorPage(_)), "{page:?}");
        Some(str::from_utf8(page.key()).unwrap())
    }

    #[test]
    fn only_a_directory_has_an_index() {
        let documents = Documents { index: Some(key("index.html")), ..Documents::default() };
        for (asked, is_directory) in
            [("", true), ("/", true), ("a/", true), ("a//", true), ("a", false), ("/a", false)]
        {
            assert_eq!(documents.index_of(asked.as_bytes()).is_some(), is_directory, "{asked}");
        }
        assert_eq!(Documents::default().index_of(b"a/"), None);
    }

    #[test]
    fn a_directory_is_looked_for_only_where_the_object_is_missing() {
        let mut documents = Documents {
            index: Some(key("index.html")),
            redirect_directories: true,
            missing: [404, 403].into(),
            ..Documents::default()
        };
        for (status, looks) in [(404, true), (403, true), (200, false), (304, false), (500, false)]
        {
            assert_eq!(documents.index_to_look_for(status).is_some(), looks, "{status}");
        }
        documents.redirect_directories = false;
        assert_eq!(documents.index_to_look_for(404), None);
    }

    #[test]
    fn an_error_page_is_for_its_status_and_that_of_404_for_whatever_means_missing() {
        let error_pages = pages(&[(404, "404.html"), (503, "busy.html")]);
        let mut documents =
            Documents { missing: [404].into(), error_pages, ..Documents::default() };
        assert_eq!(page_of(&documents, 404), Some("404.html"));
        assert_eq!(page_of(&documents, 503), Some("busy.html"));
        for status in [200, 206, 304, 403, 500] {
            assert_eq!(page_of(&documents, status), None, "{status}");
            assert!(!documents.replace(status), "{status}");
        }
        documents.missing = [404, 403].into();
        assert_eq!(page_of(&documents, 403), Some("404.html"));
        documents.error_pages = pages(&[(404, "404.html"), (403, "denied.html")]);
        assert_eq!(page_of(&documents, 403), Some("denied.html"));
        documents.error_pages = pages(&[(403, "denied.html")]);
        assert_eq!(page_of(&documents, 404), None);
    }

    #[test]
    fn the_document_of_an_application_is_for_missing_objects_that_html_is_asked_for() {
        let error_pages = pages(&[(404, "404.html"), (500, "500.html")]);
        let documents = Documents {
            missing: [404].into(),
            spa: Some(key("app.html")),
            error_pages,
            ..Documents::default()
        };
        let html = || [&b"text/html"[..]].into_iter();
        let of = |status, accept: &[&'static [u8]]| {
            documents.substitute(status, b"asked", accept.iter().copied())
        };
        assert_eq!(of(404, &[b"text/html"]), Some(Substitute::Application(b"app.html")));
        assert_eq!(of(404, &[b"*/*"]), Some(Substitute::ErrorPage(b"404.html")));
        assert_eq!(of(404, &[]), Some(Substitute::ErrorPage(b"404.html")));
        assert_eq!(of(500, &[b"text/html"]), Some(Substitute::ErrorPage(b"500.html")));
        assert_eq!(of(403, &[b"text/html"]), None);
        assert_eq!(documents.substitute(404, b"app.html", html()), None, "asked for already");
        assert_eq!(documents.substitute(404, b"404.html", none()), None, "asked for already");
        assert!(documents.varies_with_accept(404) && !documents.varies_with_accept(500));
    }

    #[test]
    fn html_is_named_by_its_name_only() {
        for (accept, named) in [
            ("text/html", true),
            ("TEXT/Html", true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("application/json, text/html;q=0.1", true),
            ("a/b;x=y ;z , text/html ;level=1; q=0.001", true),
            ("text/html;q=1", true),
            ("", false),
            ("*/*", false),
            ("text/*", false),
            ("text/htmlx, xtext/html", false),
            ("application/json;x=text/html", false),
            ("text/html;q=0", false),
            ("text/html; Q=0.000", false),
            ("text/html;q=0., */*", false),
        ] {
            assert_eq!(names_html([accept.as_bytes()].into_iter()), named, "{accept:?}");
        }
        assert!(names_html([&b"a/b"[..], b"text/html"].into_iter()), "in a second field");
        assert!(!names_html(none()));
    }

    fn location(path: &str, query: Option<&str>) -> String {
        let mut out = Vec::new();
        append_directory_location(path.as_bytes(), query.map(str::as_bytes), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_location_is_encoded_and_keeps_the_query_as_sent() {
        for (path, query, expected) in [
            ("/site", None, "/site/"),
            ("/a b/ü", Some("x=%20y&z"), "/a%20b/%C3%BC/?x=%20y&z"),
            ("/a", Some(""), "/a/?"),
            ("/50%", None, "/50%25/"),
            ("/a?b#c", None, "/a%3Fb%23c/"),
            ("/\\evil.test", None, "/%5Cevil.test/"),
        ] {
            assert_eq!(location(path, query), expected);
        }
    }

    #[test]
    fn a_location_never_names_another_host_and_leads_back_to_its_path() {
        for path in ["//evil.test", "///evil.test", "//a//b", "/\\/evil.test", "/a//b", "/%2Fa"] {
            let location = location(path, None);
            assert!(location.starts_with('/'), "{location}");
            assert!(!location[1..].starts_with(['/', '\\']), "{location}");
            let mut canonical = Vec::new();
            canonical_path(location.as_bytes(), &mut canonical).unwrap();
            assert_eq!(String::from_utf8(canonical).unwrap(), format!("{path}/"));
        }
    }
}
