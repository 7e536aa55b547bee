//! Services by their URLs: a request, and the look-up of the name within the same deadline.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;

use crate::{
    control_plane::http_client::{FetchError, Request, Response, Server, Wanted, fetch},
    protocol::{s3::endpoint::Scheme, url::HttpUrl},
    system::{clock::Monotonic, tls::TlsClient},
};

/// Sends a request to the service of a URL and reads the response. All of it ends before the
/// deadline. `ca` holds the certificates that an https service is trusted by beside the system's.
///
/// # Errors
/// See [`FetchError`]. A status that is not the wanted one is no error here.
pub fn ask(
    url: &HttpUrl,
    request: &Request,
    ca: Option<&[u8]>,
    wanted: Wanted,
    deadline: Monotonic,
) -> Result<Response, FetchError> {
    let tls = match url.endpoint.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(TlsClient::new(&url.endpoint.host, ca).map_err(FetchError::NoTls)?),
    };
    let left = || Duration::from_nanos(deadline.since(Monotonic::now()));
    let addresses = addresses(url, left()).ok_or(FetchError::NoAddress)?;
    let server = Server { addresses: &addresses, tls: tls.as_ref() };
    fetch(&server, request, wanted, left())
}

/// Addresses of the host. The name of this machine itself is not looked up: what the name server
/// says about it does not count (RFC 6761 section 6.3).
fn addresses(url: &HttpUrl, timeout: Duration) -> Option<Vec<SocketAddr>> {
    let (host, port) = (url.endpoint.host.clone(), url.endpoint.port);
    if host == "localhost" {
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Some(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let found = within(timeout, move || (host, port).to_socket_addrs().map(Vec::from_iter))?;
    found.ok().filter(|found: &Vec<SocketAddr>| !found.is_empty())
}

/// The result of what may block, if it comes within `timeout`. `getaddrinfo` has times of its own,
/// which a name server that does not respond makes long; its thread ends with it.
fn within<T: Send + 'static>(
    timeout: Duration,
    block: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = bounded(1);
    let body = move || {
        // A result that comes too late is wanted by nobody.
        let _ = done.send(block());
    };
    thread::Builder::new().name("yt-name".to_owned()).spawn(body).ok()?;
    result.recv_timeout(timeout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_that_does_not_respond_is_given_up() {
        let (release, held) = bounded::<()>(0);
        let hangs = move || {
            let _ = held.recv();
        };
        assert_eq!(within(Duration::from_millis(10), hangs), None);
        drop(release);
        assert_eq!(within(Duration::from_mins(1), || 7), Some(7));
    }

    #[test]
    fn this_machine_and_addresses_are_not_looked_up() {
        for (url, expected) in [
            ("http://localhost:81/keys", &["127.0.0.1:81", "[::1]:81"][..]),
            ("http://169.254.169.254/", &["169.254.169.254:80"]),
            ("https://[fd00:ec2::23]/", &["[fd00:ec2::23]:443"]),
        ] {
            let url = HttpUrl::parse(url).unwrap();
            let found = addresses(&url, Duration::ZERO).unwrap();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}
