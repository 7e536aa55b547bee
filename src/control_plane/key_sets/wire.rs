//! Asking the questions of a round on the network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;

use super::round::{Answer, Ask};
use crate::{
    control_plane::http_client::{FetchError, Method, Request, Server, Wanted, fetch},
    model::CaBundle,
    policy::auth::JWKS_BYTES_MAX,
    protocol::{s3::endpoint::Scheme, url::HttpUrl},
    system::{clock::Monotonic, tls::TlsClient},
};

/// Asks once. All of it ends before the deadline.
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
    let left = || Duration::from_nanos(deadline.since(Monotonic::now()));
    let addresses = addresses(url, left()).ok_or_else(|| in_words(&FetchError::NoAddress))?;
    let server = Server { addresses: &addresses, tls: tls.as_ref() };
    let left = left();
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
fn addresses(url: &HttpUrl, timeout: Duration) -> Option<Vec<SocketAddr>> {
    let (host, port) = (url.endpoint.host.clone(), url.endpoint.port);
    if host == "localhost" {
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Some(both.map(|address| SocketAddr::new(address, port)).to_vec());
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
    thread::Builder::new().name("yt-jwks-name".to_owned()).spawn(body).ok()?;
    result.recv_timeout(timeout).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::{super::round::Validators, *};

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

    /// One that stayed would make every later request impossible.
    #[test]
    fn a_validator_that_cannot_be_sent_back_is_not_kept() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            for etag in [b"\"\xe9\"", b"\"ee\"".as_slice()] {
                let (mut stream, _) = listener.accept().unwrap();
                let head = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: ", etag, b"\r\n\r\n{}"];
                stream.write_all(&head.concat()).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let mut question =
            Ask { url: HttpUrl::parse(&url).unwrap(), validators: Validators::default() };
        for kept in [None, Some(b"\"ee\"".to_vec())] {
            let deadline = Monotonic::now().plus(Duration::from_mins(1));
            let answer = ask(&question, None, deadline).unwrap();
            assert_eq!(answer.validators.etag, kept);
            question.validators = answer.validators;
        }
        server.join().unwrap();
    }

    #[test]
    fn this_machine_is_not_looked_up() {
        let url = HttpUrl::parse("http://localhost:81/keys").unwrap();
        let found = addresses(&url, Duration::ZERO).unwrap();
        assert_eq!(found, ["127.0.0.1:81".parse().unwrap(), "[::1]:81".parse().unwrap()]);
    }
}
