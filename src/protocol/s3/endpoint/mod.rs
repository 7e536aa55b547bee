//! Endpoint URLs, and what a bucket's name and an endpoint become: a host to connect to, a `Host`
//! field and the start of every request target.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::protocol::s3::key::encode_key;

/// Longest host name, in bytes without the final dot (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Longest label of a host name, in bytes (same section).
const LABEL_BYTES_MAX: usize = 63;

/// Transport of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// The port that a URL without one means (RFC 9110 sections 4.2.1 and 4.2.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A checked endpoint URL: scheme, host and port, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// Transport.
    pub scheme: Scheme,
    /// Host name or IP address, lower case, an IPv6 address without its brackets. This is the
    /// name to resolve and the name that a certificate has to be for.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Set if the port is the scheme's own, and so stays out of the `Host` field.
    pub default_port: bool,
}

/// Reason to refuse an endpoint URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// No `http://` or `https://`.
    Scheme,
    /// `user:password@` before the host.
    UserInfo,
    /// Something after the host and port.
    Path,
    /// A `?` or `#`.
    QueryOrFragment,
    /// Nothing where the host should be.
    NoHost,
    /// Brackets without an IPv6 address in them, or with a zone.
    BadIpv6,
    /// An IPv6 address without brackets.
    BareIpv6,
    /// Letters outside ASCII.
    NotAscii,
    /// Not a host name, and not an IPv4 address.
    BadHost,
    /// Not a number from 1 to 65535.
    BadPort,
}

impl EndpointError {
    /// Advice on what to change, for the operator.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Scheme => "start the endpoint with http:// or https://",
            Self::UserInfo => {
                "remove the user and password from the endpoint; for a bucket, use access_key and \
                 secret_key"
            }
            Self::Path => {
                "end the endpoint after the host and port; for a bucket, write its name into \
                 s3.bucket, and what stands before the keys into s3.key_prefix"
            }
            Self::QueryOrFragment => "remove the '?' or '#' and what follows it from the endpoint",
            Self::NoHost => "write a host after http:// or https://",
            Self::BadIpv6 => {
                "write an IPv6 endpoint as http://[2001:db8::1]:9000, without a zone (%eth0)"
            }
            Self::BareIpv6 => "put brackets around the IPv6 address of the endpoint",
            Self::NotAscii => "write the host of the endpoint in its ASCII form (xn--...)",
            Self::BadHost => {
                "the host of the endpoint is neither a host name nor an IP address; write labels of \
                 letters, digits, '-' and '_', each of at most 63 characters"
            }
            Self::BadPort => {
                "the port of the endpoint is not valid; write a number from 1 to 65535"
            }
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}

impl std::error::Error for EndpointError {}

impl EndpointUrl {
    /// Parses `https://minio.internal:9000`; a single `/` at the end is allowed.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = split_scheme(text)?;
        // A password may hold any of the characters looked for below, so this comes first.
        if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(EndpointError::UserInfo);
        }
        if rest.contains(['?', '#']) {
            return Err(EndpointError::QueryOrFragment);
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('/') {
            return Err(EndpointError::Path);
        }
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None => scheme.default_port(),
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self { scheme, host, port, default_port: port == scheme.default_port() })
    }

    /// Returns true if the host is an IP address rather than a name.
    pub fn is_ip_address(&self) -> bool {
        self.host.parse::<Ipv4Addr>().is_ok() || self.is_ipv6()
    }

    /// The value of the `Host` field: the port is left out when it is the scheme's own
    /// (RFC 9110 section 7.2), which is also what S3 servers verify a signature against.
    pub fn host_field(&self) -> String {
        let host = if self.is_ipv6() { format!("[{}]", self.host) } else { self.host.clone() };
        if self.default_port { host } else { format!("{host}:{}", self.port) }
    }

    fn is_ipv6(&self) -> bool {
        self.host.contains(':')
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host_field())
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), EndpointError> {
    let (scheme, rest) = text.split_once("://").ok_or(EndpointError::Scheme)?;
    if scheme.eq_ignore_ascii_case("https") {
        Ok((Scheme::Https, rest))
    } else if scheme.eq_ignore_ascii_case("http") {
        Ok((Scheme::Http, rest))
    } else {
        Err(EndpointError::Scheme)
    }
}

fn split_authority(authority: &str) -> Result<(String, Option<&str>), EndpointError> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (address, after) = bracketed.split_once(']').ok_or(EndpointError::BadIpv6)?;
        let address: Ipv6Addr = address.parse().map_err(|_| EndpointError::BadIpv6)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address.to_string(), Some(port))),
            None if after.is_empty() => Ok((address.to_string(), None)),
            None => Err(EndpointError::BadIpv6),
        };
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Err(EndpointError::BareIpv6);
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    check_host(host)?;
    Ok((host.to_ascii_lowercase(), port))
}

fn check_host(host: &str) -> Result<(), EndpointError> {
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if !host.is_ascii() {
        return Err(EndpointError::NotAscii);
    }
    let label_is_good = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > HOST_BYTES_MAX || !host.split('.').all(label_is_good) {
        return Err(EndpointError::BadHost);
    }
    // A name whose last label is a number can only be meant as an IPv4 address.
    let last = host.rsplit('.').next().unwrap_or(host);
    if last.bytes().all(|b| b.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err(EndpointError::BadHost);
    }
    Ok(())
}

fn parse_port(digits: &str) -> Result<u16, EndpointError> {
    // `parse` alone would accept "+80".
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EndpointError::BadPort);
    }
    digits.parse().ok().filter(|&port| port != 0).ok_or(EndpointError::BadPort)
}

/// Place of the bucket's name: `https://endpoint/bucket/key` or `https://bucket.endpoint/key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path where an endpoint is configured, and for a bucket name with a dot (AWS
    /// certificates cover one label before `s3`); in the host name otherwise.
    #[default]
    Auto,
    /// Always in the path.
    Path,
    /// Always in the host name.
    Virtual,
}

/// Address of a bucket: an endpoint, a bucket name and a key prefix combined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// Server to connect to; its host is also the TLS server name.
    pub url: EndpointUrl,
    /// The value of the `Host` field.
    pub host: String,
    /// Start of the request target and the canonical URI, before the encoded object key:
    /// `/bucket/` or `/`, then the encoded key prefix.
    pub target_prefix: Vec<u8>,
    /// The target of a request for the bucket itself: `/bucket` or `/`.
    pub bucket_target: Vec<u8>,
}

/// Addresses a bucket: at `endpoint`, or without one at AWS in `region`.
///
/// An endpoint that is an IP address is always addressed by path, as the AWS SDKs' endpoint
/// rules do: an address has no subdomains. [`check_addressing`] tells the operator about it.
/// Source: Amazon S3 User Guide, "Virtual hosting of general purpose buckets".
pub fn address(
    endpoint: Option<&EndpointUrl>,
    region: &str,
    bucket: &str,
    key_prefix: &str,
    addressing: Addressing,
) -> Addressed {
    let virtual_host = match addressing {
        Addressing::Path => false,
        Addressing::Virtual => !endpoint.is_some_and(EndpointUrl::is_ip_address),
        Addressing::Auto => endpoint.is_none() && !bucket.contains('.'),
    };
    let mut url = endpoint.cloned().unwrap_or_else(|| aws_service("s3", region));
    let mut bucket_target = b"/".to_vec();
    let mut target_prefix;
    if virtual_host {
        url.host = format!("{bucket}.{}", url.host);
        target_prefix = bucket_target.clone();
    } else {
        encode_key(bucket.as_bytes(), &mut bucket_target);
        target_prefix = bucket_target.clone();
        target_prefix.push(b'/');
    }
    encode_key(key_prefix.as_bytes(), &mut target_prefix);
    Addressed { host: url.host_field(), url, target_prefix, bucket_target }
}

/// Checks that a bucket can be addressed as the configuration asks.
///
/// # Errors
/// The reason why not, and what to write instead.
pub fn check_addressing(
    endpoint: Option<&EndpointUrl>,
    bucket: &str,
    addressing: Addressing,
) -> Result<(), &'static str> {
    match (addressing, endpoint) {
        (Addressing::Virtual, Some(url)) if url.is_ip_address() => {
            Err("an endpoint that is an IP address has no subdomains; use addressing: path")
        }
        (Addressing::Virtual, None) if bucket.contains('.') => Err(
            "the certificate of AWS does not cover a bucket name with a dot; use addressing: path",
        ),
        _ => Ok(()),
    }
}

/// The regional endpoint of a service of AWS (AWS General Reference, "Service endpoints and
/// quotas"). The partition decides the domain; the regional name is used for us-east-1 too, because
/// the global one may redirect, or be another service of another region.
pub fn aws_service(service: &str, region: &str) -> EndpointUrl {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else if region.starts_with("eusc-") {
        "amazonaws.eu"
    } else {
        "amazonaws.com"
    };
    EndpointUrl {
        scheme: Scheme::Https,
        host: format!("{service}.{}.{domain}", region.to_ascii_lowercase()),
        port: Scheme::Https.default_port(),
        default_port: true,
    }
}

#[cfg(test)]
mod tests;
