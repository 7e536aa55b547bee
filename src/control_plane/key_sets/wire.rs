//! Asking the questions of a round on the network.

use super::round::{Answer, Ask};
use crate::{
    control_plane::{
        http_client::{InvalidRequest, Method, Request, Wanted},
        services,
    },
    model::CaBundle,
    policy::auth::JWKS_BYTES_MAX,
    system::clock::Monotonic,
};

/// Asks once. All of it ends before the deadline.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn ask(ask: &Ask, ca: Option<&CaBundle>, deadline: Monotonic) -> Result<Answer, String> {
    let in_words = |why: &dyn std::fmt::Display| format!("{}: {why}", ask.url);
    let request = request(ask).map_err(|error| in_words(&error))?;
    let (ca, wanted) = (ca.map(|ca| &*ca.pem), Wanted::Whole(JWKS_BYTES_MAX));
    let response = services::ask(&ask.url, &request, ca, wanted, deadline);
    response.map(Answer::of).map_err(|error| in_words(&error))
}

fn request(ask: &Ask) -> Result<Request, InvalidRequest> {
    let mut request = Request::to(&ask.url, Method::Get)?;
    request.field("Accept", b"application/json")?;
    if let Some(etag) = &ask.validators.etag {
        request.field("If-None-Match", etag)?;
    }
    if let Some(last_modified) = &ask.validators.last_modified {
        request.field("If-Modified-Since", last_modified)?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener},
        thread,
        time::Duration,
    };

    use super::{super::round::Validators, *};
    use crate::protocol::url::HttpUrl;

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
}
