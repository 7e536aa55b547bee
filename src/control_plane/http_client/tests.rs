//! The client against servers that drip, lie, send without end, send elsewhere and end half way.

use std::{
    net::{Ipv4Addr, Shutdown, TcpListener},
    sync::mpsc,
    thread,
    time::Instant,
};

use rustls::{
    ServerConfig, ServerConnection,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::*;

/// A deadline that nothing here reaches.
const LONG: Duration = Duration::from_mins(1);

/// A deadline that is reached.
const SHORT: Duration = Duration::from_millis(200);

/// Body bytes that are enough for everything but what has no end.
const ENOUGH: usize = 100_000;

/// A server that deals with its connections one after the other.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    address
}

/// Reads a request head.
fn hear(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A server that sends these bytes and closes.
fn saying(response: impl Into<Vec<u8>>) -> SocketAddr {
    let response = response.into();
    server(move |mut stream| {
        hear(&mut stream);
        let _ = stream.write_all(&response);
    })
}

/// A server that sends `start`, and then `more` again and again until the client is gone.
fn repeating(start: &'static str, more: &'static str, pause: Duration) -> SocketAddr {
    server(move |mut stream| {
        hear(&mut stream);
        let _ = stream.write_all(start.as_bytes());
        while stream.write_all(more.as_bytes()).is_ok() {
            thread::sleep(pause);
        }
    })
}

fn get() -> Request {
    Request::new(Method::Get, "service.test", b"/x").unwrap()
}

fn fetch_from(
    address: SocketAddr,
    wanted: Wanted,
    timeout: Duration,
) -> Result<Response, FetchError> {
    fetch(&Server { addresses: &[address], tls: None }, &get(), wanted, timeout)
}

fn whole(address: SocketAddr) -> Result<Response, FetchError> {
    fetch_from(address, Wanted::Whole(ENOUGH), LONG)
}

#[test]
fn a_body_is_read_in_every_framing() {
    for (response, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
            200,
            "hello",
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 1\r\n\r\nx", 201, "x"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n", 304, ""),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, ""),
    ] {
        let found = whole(saying(response)).unwrap();
        assert_eq!((found.status, &*found.body), (status, body.as_bytes()), "{response}");
    }
}

#[test]
fn a_conditional_request_gets_its_fields_back() {
    let (heard, requests) = mpsc::channel();
    let address = server(move |mut stream| {
        heard.send(hear(&mut stream)).unwrap();
        stream
            .write_all(b"HTTP/1.1 304 N\r\nETag: \"v2\"\r\nCache-Control: max-age=60\r\n\r\n")
            .unwrap();
    });
    let mut request = get();
    request.field("If-None-Match", b"\"v1\"").unwrap();
    let server = Server { addresses: &[address], tls: None };
    let response = fetch(&server, &request, Wanted::Whole(ENOUGH), LONG).unwrap();
    assert!(requests.recv().unwrap().contains("\r\nIf-None-Match: \"v1\"\r\n"));
    assert_eq!(response.field(b"etag"), Some(&b"\"v2\""[..]));
    assert_eq!(response.field(b"cache-control"), Some(&b"max-age=60"[..]));
    assert_eq!(response.field(b"age"), None);
}

#[test]
fn a_posted_body_arrives() {
    let (heard, bodies) = mpsc::channel();
    let address = server(move |mut stream| {
        assert!(hear(&mut stream).starts_with("POST / HTTP/1.1\r\n"));
        let mut body = [0; 8];
        stream.read_exact(&mut body).unwrap();
        heard.send(body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let mut request = Request::new(Method::Post, "sts.test", b"/").unwrap();
    request.set_body("application/x-www-form-urlencoded", b"Action=x".to_vec());
    let server = Server { addresses: &[address], tls: None };
    fetch(&server, &request, Wanted::Whole(ENOUGH), LONG).unwrap();
    assert_eq!(&bodies.recv().unwrap(), b"Action=x");
}

/// However often a byte arrives, the deadline is for all of them.
#[test]
fn a_dripping_server_is_given_up_at_the_deadline() {
    let pause = Duration::from_millis(5);
    for (start, more, phase) in [
        ("HTTP/1.1 200 OK\r\n", "A: b\r\n", Phase::Head),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", Phase::Head),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n", "x", Phase::Body),
        ("HTTP/1.1 200 OK\r\n\r\n", "x", Phase::Body),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", Phase::Body),
    ] {
        let pause = if more.starts_with("HTTP") { Duration::from_millis(50) } else { pause };
        let begin = Instant::now();
        let found = fetch_from(repeating(start, more, pause), Wanted::Whole(ENOUGH), SHORT);
        assert!(
            matches!(found, Err(FetchError::TimedOut(at)) if at == phase),
            "{start}: {found:?}"
        );
        assert!(begin.elapsed() >= SHORT, "{start}");
        assert!(begin.elapsed() < LONG / 2, "{start}");
    }
}

#[test]
fn a_silent_server_is_given_up_at_the_deadline() {
    let silent = server(|stream| {
        thread::sleep(LONG);
        drop(stream);
    });
    let found = fetch_from(silent, Wanted::Whole(ENOUGH), SHORT);
    assert!(matches!(found, Err(FetchError::TimedOut(Phase::Head))), "{found:?}");
    let tls = TlsClient::new("localhost", None).unwrap();
    let silent = server(|stream| {
        thread::sleep(LONG);
        drop(stream);
    });
    let server = Server { addresses: &[silent], tls: Some(&tls) };
    let found = fetch(&server, &get(), Wanted::Whole(ENOUGH), SHORT);
    assert!(matches!(found, Err(FetchError::TimedOut(Phase::Handshake))), "{found:?}");
}

/// An address where connecting hangs, because the queue of connections is full.
fn hanging() -> (SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = vec![listener];
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        kept.push(socket);
    }
    (address.as_socket().unwrap(), kept)
}

#[test]
fn connecting_counts_too_and_leaves_time_for_the_next_address() {
    let (hanging, _kept) = hanging();
    let found = fetch_from(hanging, Wanted::Whole(ENOUGH), SHORT);
    assert!(matches!(found, Err(FetchError::TimedOut(Phase::Connect))), "{found:?}");

    let good = saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let server = Server { addresses: &[hanging, good], tls: None };
    fetch(&server, &get(), Wanted::Whole(ENOUGH), Duration::from_secs(4)).unwrap();

    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let server = Server { addresses: &[refused, good], tls: None };
    fetch(&server, &get(), Wanted::Whole(ENOUGH), LONG).unwrap();
    let found = whole(refused);
    assert!(matches!(found, Err(FetchError::Failed(Phase::Connect, _))), "{found:?}");
    let nowhere = Server { addresses: &[], tls: None };
    let found = fetch(&nowhere, &get(), Wanted::Whole(ENOUGH), LONG);
    assert!(matches!(found, Err(FetchError::NoAddress)), "{found:?}");
}

#[test]
fn a_length_that_is_a_lie_is_found_out() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let found = whole(saying(response));
        assert!(matches!(found, Err(FetchError::CutShort)), "{response}: {found:?}");
        // The beginning is there all the same.
        let found = fetch_from(saying(response), Wanted::Beginning(3), LONG).unwrap();
        assert_eq!(found.body, b"hel", "{response}");
        let found = fetch_from(saying(response), Wanted::Beginning(ENOUGH), LONG).unwrap();
        assert!(b"hello".starts_with(&found.body), "{response}");
    }
    // More than was promised is not part of the body.
    let longer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello";
    assert_eq!(whole(saying(longer)).unwrap().body, b"hell");
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "<html>",
    ] {
        let found = whole(saying(response));
        assert!(matches!(found, Err(FetchError::NotHttp(_))), "{response}: {found:?}");
    }
}

#[test]
fn what_has_no_end_is_bounded() {
    let none = Duration::ZERO;
    for (start, more) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n", "xxxxxxxxxxxxxxxxxxxxxxxx"),
        ("HTTP/1.1 200 OK\r\n\r\n", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "10\r\nxxxxxxxxxxxxxxxx\r\n"),
    ] {
        let found = fetch_from(repeating(start, more, none), Wanted::Whole(1_000), LONG);
        assert!(matches!(found, Err(FetchError::TooLarge(1_000))), "{start}: {found:?}");
        let found = fetch_from(repeating(start, more, none), Wanted::Beginning(1_000), LONG);
        assert_eq!(found.unwrap().body.len(), 1_000, "{start}");
    }
    for (start, more) in [
        ("HTTP/1.1 200 OK\r\n", "Name: value\r\n"),
        ("HTTP/1.1 200 OK\r\nName: ", "vvvvvvvvvvvvvvvvvvvvvvv"),
        ("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "xxxxxxxxxxxxxxxxxxxxxxxx"),
    ] {
        let found = fetch_from(repeating(start, more, none), Wanted::Whole(ENOUGH), LONG);
        assert!(matches!(found, Err(FetchError::NotHttp(_))), "{start}: {found:?}");
    }
}

#[test]
fn a_redirect_is_a_response_and_is_not_followed() {
    let (called, calls) = mpsc::channel();
    let elsewhere = server(move |_| called.send(()).unwrap());
    let found = whole(saying(format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n"
    )))
    .unwrap();
    assert_eq!(found.status, 302);
    assert!(calls.try_recv().is_err());
}

#[test]
fn a_server_that_closes_one_direction_is_understood() {
    // It answers before it has read, and ends its side.
    let early = server(|mut stream| {
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let found = whole(early).unwrap();
    assert_eq!((found.status, &*found.body), (413, &b"no"[..]));
    // It ends its side without a word, or in the middle of the head.
    for start in ["", "HTTP/1.1 200 OK\r\nA"] {
        let silent = server(move |mut stream| {
            stream.write_all(start.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let found = whole(silent);
        assert!(matches!(found, Err(FetchError::Failed(Phase::Head, _))), "{start}: {found:?}");
    }
}

/// A TLS server for `localhost`, and its certificate. It ends its side properly or not.
fn tls_server(response: &'static str, properly: bool) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let address = server(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        hear(&mut stream);
        let _ = stream.write_all(response.as_bytes());
        if properly {
            stream.conn.send_close_notify();
        }
        let _ = stream.flush();
    });
    (address, made.cert.pem())
}

#[test]
fn a_server_is_trusted_by_its_own_ca_only() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (address, ca) = tls_server(response, true);
    let ask = |name, ca: Option<&str>| {
        let tls = TlsClient::new(name, ca.map(str::as_bytes)).unwrap();
        let server = Server { addresses: &[address], tls: Some(&tls) };
        fetch(&server, &get(), Wanted::Whole(ENOUGH), LONG)
    };
    assert_eq!(ask("localhost", Some(&ca)).unwrap().body, b"hello");
    for refused in [ask("localhost", None), ask("other.test", Some(&ca))] {
        assert!(matches!(refused, Err(FetchError::Tls(_))), "{refused:?}");
    }
    // One that speaks no TLS.
    let tls = TlsClient::new("localhost", None).unwrap();
    let plain = server(move |mut stream| {
        let _ = stream.write_all(response.as_bytes());
        let _ = stream.read(&mut [0]);
    });
    let server = Server { addresses: &[plain], tls: Some(&tls) };
    let found = fetch(&server, &get(), Wanted::Whole(ENOUGH), LONG);
    assert!(
        matches!(found, Err(FetchError::Tls(_) | FetchError::Failed(Phase::Handshake, _))),
        "{found:?}"
    );
}

/// Whoever can cut a connection must not be able to cut a key set.
#[test]
fn an_end_that_may_be_forged_is_not_believed() {
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhello";
    for (properly, believed) in [(true, true), (false, false)] {
        let (address, ca) = tls_server(until_close, properly);
        let tls = TlsClient::new("localhost", Some(ca.as_bytes())).unwrap();
        let server = Server { addresses: &[address], tls: Some(&tls) };
        let found = fetch(&server, &get(), Wanted::Whole(ENOUGH), LONG);
        match found {
            Ok(found) => assert!(believed && found.body == b"hello"),
            Err(error) => assert!(!believed && matches!(error, FetchError::CutShort), "{error}"),
        }
    }
}

#[test]
fn debug_shows_no_body() {
    let found = whole(saying("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")).unwrap();
    assert_eq!(format!("{found:?}"), "Response { status: 200, body_bytes: 6, .. }");
}
