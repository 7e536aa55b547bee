//! Absolute URLs of services that the proxy itself asks: an endpoint and the request target.

use std::{fmt, net::IpAddr};

use crate::protocol::s3::endpoint::{EndpointError, EndpointUrl, Scheme};

/// A checked http or https URL, without user and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Scheme, host and port.
    pub endpoint: EndpointUrl,
    /// Path and query, as a request names them (RFC 9112 section 3.2.1).
    pub target: String,
}

impl HttpUrl {
    /// Parses an absolute URL (RFC 3986 section 4.3).
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let after_scheme = text.find("://").map_or(text.len(), |at| at + 3);
        let rest = text.get(after_scheme..).unwrap_or_default();
        let end = rest.find(['/', '?', '#']).map_or(text.len(), |at| after_scheme + at);
        let (origin, target) = text.split_at(end);
        let endpoint = EndpointUrl::parse(origin).map_err(advice)?;
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#') {
            return Err("remove the fragment, blanks and letters outside ASCII from the URL");
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { endpoint, target: format!("{slash}{target}") })
    }

    /// A target of an endpoint.
    pub fn of(endpoint: &EndpointUrl, target: &str) -> Self {
        Self { endpoint: endpoint.clone(), target: target.to_owned() }
    }

    /// Returns true if the host is this machine: a loopback address, or `localhost` (RFC 6761
    /// section 6.3).
    pub fn is_loopback(&self) -> bool {
        let host = &*self.endpoint.host;
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Returns true if nobody on the way can change what comes from there.
    pub fn is_protected(&self) -> bool {
        self.endpoint.scheme == Scheme::Https || self.is_loopback()
    }
}

impl fmt::Display for HttpUrl {
    /// Without the query, which may hold what nobody should see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}{path}", self.endpoint)
    }
}

const fn advice(error: EndpointError) -> &'static str {
    match error {
        EndpointError::Scheme => "start the URL with https://",
        EndpointError::UserInfo => "remove the user and password from the URL",
        EndpointError::NoHost => "write a host after https://",
        EndpointError::BadIpv6 | EndpointError::BareIpv6 => {
            "write an IPv6 address as https://[2001:db8::1]/path"
        }
        EndpointError::NotAscii => "write the host of the URL in its ASCII form (xn--...)",
        EndpointError::BadPort => "the port must be a number from 1 to 65535",
        EndpointError::BadHost | EndpointError::Path | EndpointError::QueryOrFragment => {
            "write the URL as https://host/path"
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoint_and_target_are_told_apart() {
        for (text, host, target) in [
            ("https://id.example", "id.example", "/"),
            ("https://id.example/", "id.example", "/"),
            ("https://id.example/a/jwks?v=1", "id.example", "/a/jwks?v=1"),
            ("http://[::1]:8080/keys", "::1", "/keys"),
            ("https://id.example?x=1", "id.example", "/?x=1"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!((&*url.endpoint.host, &*url.target), (host, target), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "id.example/keys",
            "ftp://id.example/keys",
            "file:///etc/passwd",
            "https://",
            "https:///keys",
            "https://user:pw@id.example/keys",
            "https://id.example/keys#x",
            "https://id.example/a b",
            "https://id.example/a\r\nHost: b",
            "https://id.example/\u{e4}",
            "https://id.example:0/",
            "https://::1/",
        ] {
            assert!(HttpUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, loopback, protected) in [
            ("http://localhost:1/", true, true),
            ("http://127.0.0.1/", true, true),
            ("http://127.9.9.9/", true, true),
            ("http://[::1]/", true, true),
            ("https://id.example/", false, true),
            ("http://id.example/", false, false),
            ("http://localhost.example/", false, false),
            ("http://10.0.0.1/", false, false),
            ("http://0.0.0.0/", false, false),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!((url.is_loopback(), url.is_protected()), (loopback, protected), "{text}");
        }
    }

    #[test]
    fn the_query_is_not_shown() {
        let url = HttpUrl::parse("https://id.example:8443/keys?secret=1").unwrap();
        assert_eq!(url.to_string(), "https://id.example:8443/keys");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", rest in ".{0,20}") {
            let _ = HttpUrl::parse(&text);
            let _ = HttpUrl::parse(&format!("https://a{rest}"));
        }
    }
}
