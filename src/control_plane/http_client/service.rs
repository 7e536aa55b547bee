//! Address of a service: an endpoint and a request target, and the addresses behind its name.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
};

use super::request::{InvalidRequest, Method, Request};
use crate::protocol::s3::EndpointUrl;

/// A URL of `http` or `https`, without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    /// Scheme, host and port.
    pub endpoint: EndpointUrl,
    /// Path and query, as sent.
    pub target: String,
}

impl ServiceUrl {
    /// Parses `https://host:port/path?query`.
    ///
    /// # Errors
    /// A sentence that follows the name of what holds the URL, and does not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let start = text.find("://").map_or(0, |at| at + 3);
        let rest = text.get(start..).unwrap_or_default();
        let at = rest.find(['/', '?', '#']).map_or(text.len(), |at| start + at);
        let (endpoint, target) = text.split_at(at);
        let endpoint = EndpointUrl::parse(endpoint)
            .map_err(|_| "is no URL of http or https with a host".to_owned())?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if target.contains('#') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("holds a fragment, or a character that no URL has".to_owned());
        }
        Ok(Self { endpoint, target })
    }

    /// A target of an endpoint.
    pub fn of(endpoint: &EndpointUrl, target: &str) -> Self {
        Self { endpoint: endpoint.clone(), target: target.to_owned() }
    }

    /// The address that the host is, unless it is a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.endpoint.host.parse().ok()
    }

    /// Returns true if the host is this machine, whatever a name server says.
    pub fn is_local(&self) -> bool {
        self.is_localhost() || self.address().is_some_and(|address| address.is_loopback())
    }

    fn is_localhost(&self) -> bool {
        self.endpoint.host == "localhost"
    }

    /// The addresses of the host. A look-up blocks.
    ///
    /// # Errors
    /// The name does not resolve.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let port = self.endpoint.port;
        if self.is_localhost() {
            let all = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(all.map(|address| SocketAddr::new(address, port)).to_vec());
        }
        (self.endpoint.host.as_str(), port).to_socket_addrs().map(Iterator::collect)
    }

    /// A request for it.
    ///
    /// # Errors
    /// See [`Request::new`].
    pub fn request(&self, method: Method) -> Result<Request, InvalidRequest> {
        Request::new(method, &self.endpoint.host_field(), self.target.as_bytes())
    }
}

impl fmt::Display for ServiceUrl {
    /// Without the query, which may hold what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}{path}", self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_endpoint_and_a_target() {
        for (text, endpoint, target) in [
            ("https://sts.example", "https://sts.example", "/"),
            ("http://169.254.170.2/v2/x?a=b", "http://169.254.170.2", "/v2/x?a=b"),
            ("http://[fd00:ec2::23]/v1/x", "http://[fd00:ec2::23]", "/v1/x"),
            ("http://localhost:8080?x", "http://localhost:8080", "/?x"),
        ] {
            let url = ServiceUrl::parse(text).unwrap();
            assert_eq!((url.endpoint.to_string().as_str(), &*url.target), (endpoint, target));
        }
        for text in [
            "",
            "/v2/x",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a b/",
            "http://a/b c",
            "http://a/#b",
            "http://u:p@a/",
            "http://a/\u{e9}",
            "http://a/\r\nHost: b",
        ] {
            assert!(ServiceUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_cannot_be_elsewhere_is_local() {
        for (text, local) in [
            ("http://127.0.0.1:9/x", true),
            ("http://127.1.2.3/", true),
            ("http://[::1]/", true),
            ("http://LOCALHOST/", true),
            ("http://localhost.example/", false),
            ("http://169.254.170.2/", false),
            ("http://[::2]/", false),
        ] {
            let url = ServiceUrl::parse(text).unwrap();
            assert_eq!(url.is_local(), local, "{text}");
        }
        let url = ServiceUrl::parse("http://localhost:9/").unwrap();
        assert!(url.addresses().unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn a_url_is_shown_without_its_query() {
        let url = ServiceUrl::parse("http://a/b?token=secret").unwrap();
        assert_eq!(url.to_string(), "http://a/b");
    }
}
