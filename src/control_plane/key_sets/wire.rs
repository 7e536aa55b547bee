//! Asking the questions of a round on the network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use super::round::{Answer, Ask};
use crate::{
    control_plane::http_client::{FetchError, Method, Request, Server, Wanted, fetch},
    model::CaBundle,
    policy::auth::JWKS_BYTES_MAX,
    protocol::{s3::endpoint::Scheme, url::HttpUrl},
    system::{clock::Monotonic, tls::TlsClient},
};

/// Asks once. All of it ends before the deadline, but for a name server that does not respond.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn ask(ask: &Ask, ca: Option<&CaBundle>, deadline: Monotonic) -> Result<Answer, String> {
    let url = &ask.url;
    let in_words = |why: &dyn std::fmt::Display| format!("{url}: {why}");
    let request = request(ask).map_err(|error| in_words(&error))?;
    let tls = match url.endpoint.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let tls = TlsClient::new(&url.endpoint.host, ca.map(|ca| &*ca.pem));
            Some(tls.map_err(|error| in_words(&error))?)
        }
    };
    let addresses = addresses(url).ok_or_else(|| in_words(&FetchError::NoAddress))?;
    let server = Server { addresses: &addresses, tls: tls.as_ref() };
    let left = Duration::from_nanos(deadline.since(Monotonic::now()));
    let response = fetch(&server, &request, Wanted::Whole(JWKS_BYTES_MAX), left);
    response.map(Answer::of).map_err(|error| in_words(&error))
}

fn request(ask: &Ask) -> Result<Request, crate::control_plane::http_client::InvalidRequest> {
    let url = &ask.url;
    let host = url.endpoint.host_field();
    let mut request = Request::new(Method::Get, &host, url.target.as_bytes())?;
    request.field("Accept", b"application/json")?;
    if let Some(etag) = &ask.validators.etag {
        request.field("If-None-Match", etag)?;
    }
    if let Some(last_modified) = &ask.validators.last_modified {
        request.field("If-Modified-Since", last_modified)?;
    }
    Ok(request)
}

/// Addresses of the host. The name of this machine itself is not looked up: what the name server
/// says about it does not count (RFC 6761 section 6.3).
fn addresses(url: &HttpUrl) -> Option<Vec<SocketAddr>> {
    let (host, port) = (&*url.endpoint.host, url.endpoint.port);
    if host == "localhost" {
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Some(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().ok()?.collect();
    Some(found).filter(|found| !found.is_empty())
}
