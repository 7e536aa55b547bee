//! Request heads in the form of HTTP/1.1, so that one strict parser reads both versions.
//!
//! The `h2` crate has refused upper-case names, fields that belong to a connection, other values of
//! `TE` than `trailers`, unknown, repeated, late and missing pseudo-header fields, and control
//! characters in values (RFC 9113 sections 8.2 and 8.3). The rest is refused here, but for what
//! cannot be seen: a fragment, which a path may not have and which `h2` has dropped, and
//! pseudo-header fields among trailers, which nobody reads.

use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::HOST,
    uri::{Authority, Scheme},
};

/// A head that breaks RFC 9113; the text says how, and holds nothing the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Appends the head of a request, and returns whether its scheme is `https`.
///
/// # Errors
/// It is malformed. What was appended by then is of no use.
pub fn append_head(
    method: &Method,
    uri: Uri,
    fields: &HeaderMap,
    out: &mut Vec<u8>,
) -> Result<bool, Malformed> {
    let uri = uri.into_parts();
    let is_https = match &uri.scheme {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        // Of a request without an authority `h2` keeps no scheme.
        None => false,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(_) => return Err(Malformed("scheme")),
    };
    let host = host(uri.authority.as_ref(), fields, is_https)?;
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    if *method == Method::CONNECT {
        // RFC 9113 section 8.5: the authority is the target.
        out.extend_from_slice(host);
    } else {
        // One that is missing passes `h2` where the authority is missing too.
        let path = uri.path_and_query.as_ref().ok_or(Malformed("path is missing"))?.as_str();
        let is_asterisk = path == "*" && *method == Method::OPTIONS;
        // RFC 9113 section 8.3.1; nothing else may be taken for another form of a target.
        if !path.starts_with('/') && !is_asterisk {
            return Err(Malformed("path"));
        }
        out.extend_from_slice(path.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    append_line(b"host", host, out);
    for (name, value) in fields {
        if *name == HOST {
            continue;
        }
        let value = value.as_bytes();
        // RFC 9113 section 8.2.1
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err(Malformed("blanks around a field value"));
        }
        append_line(name.as_str().as_bytes(), value, out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(is_https)
}

fn append_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Host and port: those of `:authority`, which `Host` may only repeat, else of `Host`.
fn host<'h>(
    authority: Option<&'h Authority>,
    fields: &'h HeaderMap,
    is_https: bool,
) -> Result<&'h [u8], Malformed> {
    let mut hosts = fields.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Malformed("Host is repeated"));
    }
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (None, None) => Err(Malformed("neither :authority nor Host")),
        (Some(authority), Some(host)) if !is_same(authority, host, is_https) => {
            Err(Malformed("Host is not :authority"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
    }
}

/// Returns true if both name one entity (RFC 9113 section 8.3.1, RFC 9110 section 4.2.3).
fn is_same(authority: &[u8], host: &[u8], is_https: bool) -> bool {
    let default_port: &[u8] = if is_https { b":443" } else { b":80" };
    let without = |name| <[u8]>::strip_suffix(name, default_port).unwrap_or(name);
    without(authority).eq_ignore_ascii_case(without(host))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(String, bool), Malformed> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let is_https = append_head(&parts.method, parts.uri, &parts.headers, &mut out)?;
        Ok((String::from_utf8(out).unwrap(), is_https))
    }

    #[test]
    fn a_head_has_its_authority_as_host() {
        let fields = [("range", "bytes=0-1"), ("host", "EXAMPLE.com:80")];
        let (text, is_https) = head("GET", "http://example.com/a?b=c", &fields).unwrap();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nhost: example.com\r\nrange: bytes=0-1\r\n\r\n");
        assert!(!is_https);
        assert!(head("GET", "https://example.com:443/", &[("host", "example.com")]).unwrap().1);
    }

    #[test]
    fn a_head_without_an_authority_has_the_host_field() {
        let (text, _) = head("HEAD", "/a", &[("host", "example.com")]).unwrap();
        assert_eq!(text, "HEAD /a HTTP/1.1\r\nhost: example.com\r\n\r\n");
    }

    #[test]
    fn an_authority_is_the_target_of_connect() {
        let (text, _) = head("CONNECT", "example.com:443", &[]).unwrap();
        assert!(text.starts_with("CONNECT example.com:443 HTTP/1.1\r\n"), "{text}");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (method, uri, fields) in [
            ("GET", "/a", &[][..]),
            ("GET", "http://a/", &[("host", "b")]),
            ("GET", "http://a/", &[("host", "a:443")]),
            ("GET", "/", &[("host", "a"), ("host", "a")]),
            ("GET", "ftp://a/", &[]),
            ("GET", "*", &[("host", "a")]),
            ("GET", "http://a/", &[("x", " a")]),
            ("GET", "http://a/", &[("x", "a\t")]),
        ] {
            assert!(head(method, uri, fields).is_err(), "{method} {uri} {fields:?}");
        }
        assert!(head("OPTIONS", "*", &[("host", "a")]).is_ok());
        let (mut out, mut fields) = (Vec::new(), HeaderMap::new());
        fields.insert(HOST, HeaderValue::from_static("a"));
        let missing = Uri::from_parts(http::uri::Parts::default()).unwrap();
        let refused = append_head(&Method::GET, missing, &fields, &mut out);
        assert_eq!(refused, Err(Malformed("path is missing")));
    }
}
