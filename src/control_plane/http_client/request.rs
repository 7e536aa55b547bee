//! A request as its bytes.

use std::fmt;

use crate::protocol::{
    http1::{append_content_length, append_field},
    url::HttpUrl,
};

/// Value of `User-Agent`.
const USER_AGENT: &str = concat!("yatagarasu/", env!("CARGO_PKG_VERSION"));

/// Methods that the control plane uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// PUT, for tokens of a metadata service.
    Put,
    /// POST, for token services.
    Post,
}

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// A character that would end a field or a request line where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRequest(&'static str);

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds a character that HTTP does not allow there", self.0)
    }
}

impl std::error::Error for InvalidRequest {}

/// A request to send once. `Debug` shows no field, as they may be secrets.
#[derive(Clone)]
pub struct Request {
    method: Method,
    target: Vec<u8>,
    fields: Vec<u8>,
    body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = String::from_utf8_lossy(&self.target);
        write!(f, "Request({} {target})", self.method.as_str())
    }
}

impl Request {
    /// A request for `target`, in the form that HTTP sends it (origin-form, RFC 9112 section
    /// 3.2.1), of a host, with the port unless it is the scheme's own.
    ///
    /// # Errors
    /// When one of them holds a blank, a control character or something outside ASCII.
    pub fn new(method: Method, host: &str, target: &[u8]) -> Result<Self, InvalidRequest> {
        if !target.starts_with(b"/") || !target.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidRequest("the request target"));
        }
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidRequest("the host"));
        }
        let mut fields = Vec::new();
        append_field("Host", host.as_bytes(), &mut fields);
        append_field("User-Agent", USER_AGENT.as_bytes(), &mut fields);
        append_field("Connection", b"close", &mut fields);
        Ok(Self { method, target: target.to_vec(), fields, body: Vec::new() })
    }

    /// A request for what a URL names.
    ///
    /// # Errors
    /// See [`Request::new`].
    pub fn to(url: &HttpUrl, method: Method) -> Result<Self, InvalidRequest> {
        Self::new(method, &url.endpoint.host_field(), url.target.as_bytes())
    }

    /// Adds a field. `name` is the program's own, the value may come from anywhere.
    ///
    /// # Errors
    /// When the value holds a line break, another control character or something outside ASCII.
    pub fn field(&mut self, name: &'static str, value: &[u8]) -> Result<(), InvalidRequest> {
        if !value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            return Err(InvalidRequest(name));
        }
        append_field(name, value, &mut self.fields);
        Ok(())
    }

    /// The field lines, for lines that are built and checked elsewhere, such as those of a
    /// signature.
    pub fn fields_mut(&mut self) -> &mut Vec<u8> {
        &mut self.fields
    }

    /// Gives the request a body.
    pub fn set_body(&mut self, content_type: &'static str, body: Vec<u8>) {
        append_field("Content-Type", content_type.as_bytes(), &mut self.fields);
        self.body = body;
    }

    pub(in crate::control_plane) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::from(self.method.as_str());
        bytes.push(b' ');
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        bytes.extend_from_slice(&self.fields);
        // A method that has a body by its nature says so even when it is empty (RFC 9110 section
        // 8.6).
        if self.method != Method::Get || !self.body.is_empty() {
            append_content_length(self.body.len() as u64, &mut bytes);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: &Request) -> String {
        let text = String::from_utf8(request.to_bytes()).unwrap();
        text.replace(USER_AGENT, "UA")
    }

    #[test]
    fn requests_are_written_to_the_byte() {
        let mut get = Request::new(Method::Get, "keys.example:8443", b"/jwks?v=1").unwrap();
        get.field("If-None-Match", b"\"a b\"").unwrap();
        assert_eq!(
            text(&get),
            "GET /jwks?v=1 HTTP/1.1\r\nHost: keys.example:8443\r\nUser-Agent: UA\r\n\
             Connection: close\r\nIf-None-Match: \"a b\"\r\n\r\n"
        );
        let put = Request::new(Method::Put, "169.254.169.254", b"/latest/api/token").unwrap();
        assert!(text(&put).ends_with("\r\nContent-Length: 0\r\n\r\n"), "{}", text(&put));
        let mut post = Request::new(Method::Post, "sts.example", b"/").unwrap();
        post.set_body("application/x-www-form-urlencoded", b"Action=x".to_vec());
        assert!(
            text(&post).ends_with(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\nAction=x"
            ),
            "{}",
            text(&post)
        );
    }

    #[test]
    fn nothing_can_be_smuggled_into_a_request() {
        let mut request = Request::new(Method::Get, "a", b"/").unwrap();
        for value in [&b"x\r\nHost: b"[..], b"x\n", b"x\0", b"\xc3\xa4", b"\x7f"] {
            assert!(request.field("Authorization", value).is_err(), "{value:?}");
        }
        assert!(!text(&request).contains("Authorization"));
        for target in [&b""[..], b"x", b"http://b/", b"/a b", b"/a\r\nb", b"/\xff"] {
            assert!(Request::new(Method::Get, "a", target).is_err(), "{target:?}");
        }
        for host in ["", "a b", "a\r\n", "\u{e4}"] {
            assert!(Request::new(Method::Get, host, b"/").is_err(), "{host:?}");
        }
    }

    #[test]
    fn debug_shows_no_field() {
        let mut request = Request::new(Method::Get, "a", b"/x").unwrap();
        request.field("Authorization", b"Bearer secret").unwrap();
        assert_eq!(format!("{request:?}"), "Request(GET /x)");
    }
}
