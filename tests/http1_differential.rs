//! The codec against monoio-http's, fed with the same bytes.
//!
//! On well-formed messages both must agree on method, target, fields and body. Where they
//! differ, a test shows both results and names why ours is right. monoio-http is driven over a
//! byte slice, which is always ready, so that no runtime is needed.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use monoio::io::stream::Stream;
use monoio_http::common::body::{Body, BodyExt};
use monoio_http::h1::codec::decoder::{FillPayload, RequestDecoder, ResponseDecoder};
use proptest::prelude::*;
use yatagarasu::model::limits::Limits;
use yatagarasu::protocol::http1::{
    BodyLength, ChunkedDecoder, Progress, RequestError, RequestFraming, RequestHead, ResponseHead,
    Span, Version, parse_request, parse_response,
};

/// What a decoder made of one message; field names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    /// Method, path, query, authority of an absolute-form; or the status code alone.
    start: Vec<String>,
    is_http_1_1: bool,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Runs a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a decoder over a slice waits"),
    }
}

/// Fields in a form that both decoders can give: by name, values of one name in order.
fn sorted(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

fn fields_of_map(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    sorted(map.iter().map(field).collect())
}

/// All requests in `wire`, as monoio-http reads them; up to its first error.
fn their_requests(wire: &[u8]) -> Result<Vec<Message>, String> {
    let mut decoder = RequestDecoder::new(wire);
    let mut messages = Vec::new();
    while let Some(request) = now(decoder.next()) {
        let (parts, payload) = request.map_err(|error| error.to_string())?.into_parts();
        let uri = &parts.uri;
        let mut start = vec![parts.method.to_string(), uri.path().to_owned()];
        start.extend(uri.query().map(|query| format!("?{query}")));
        start.extend(uri.authority().map(ToString::to_string));
        messages.push(Message {
            start,
            is_http_1_1: parts.version == http::Version::HTTP_11,
            fields: fields_of_map(&parts.headers),
            body: their_body(&mut decoder, payload)?,
        });
    }
    Ok(messages)
}

/// The one response in `wire`, as monoio-http reads it.
fn their_response(wire: &[u8]) -> Result<Message, String> {
    let mut decoder = ResponseDecoder::new(wire);
    let response = now(decoder.next()).ok_or("no response")?;
    let (parts, payload) = response.map_err(|error| error.to_string())?.into_parts();
    Ok(Message {
        start: vec![parts.status.as_str().to_owned()],
        is_http_1_1: parts.version == http::Version::HTTP_11,
        fields: fields_of_map(&parts.headers),
        body: their_body(&mut decoder, payload)?,
    })
}

fn their_body<D, B>(decoder: &mut D, payload: B) -> Result<Vec<u8>, String>
where
    D: FillPayload<Error: ToString>,
    B: Body<Data = bytes::Bytes, Error: ToString>,
{
    now(decoder.fill_payload()).map_err(|error| error.to_string())?;
    now(payload.bytes()).map(|body| body.to_vec()).map_err(|error| error.to_string())
}

/// The fields of a head that was accepted, line by line.
fn fields_of_lines(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = std::str::from_utf8(head).expect("heads of these tests are ASCII");
    let lines = text.trim_start_matches("\r\n").split("\r\n").skip(1);
    let field = |line: &str| {
        let (name, value) = line.split_once(':').expect("a field line");
        (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).as_bytes().to_vec())
    };
    sorted(lines.filter(|line| !line.is_empty()).map(field).collect())
}

/// All requests in `wire`, as this crate reads them; up to its first error.
fn our_requests(wire: &[u8]) -> Result<Vec<Message>, RequestError> {
    let mut messages = Vec::new();
    let mut head = RequestHead::default();
    let mut rest = wire;
    while !rest.is_empty()
        && parse_request(rest, &Limits::default(), &mut head)? == Progress::Complete
    {
        let text = |span: Span| String::from_utf8_lossy(span.of(rest)).into_owned();
        let mut start = vec![text(head.method_span), text(head.path)];
        start.extend(head.query.map(|query| format!("?{}", text(query))));
        let lines = &rest[..head.head_len];
        let is_absolute_form = rest[head.method_span.end() + 1] != b'/';
        if is_absolute_form {
            start.push(text(head.host));
        }
        let fields = fields_of_lines(lines);
        for (name, value) in &fields {
            let mut values = head.header_values(rest, name.as_bytes());
            assert!(values.any(|found| found == value), "{name} is not found again");
        }
        let (body, after) = match head.framing {
            RequestFraming::None => (Vec::new(), &rest[head.head_len..]),
            RequestFraming::Fixed(length) => our_fixed_body(&rest[head.head_len..], length),
            RequestFraming::Chunked => our_chunked_body(&rest[head.head_len..]),
        };
        let is_http_1_1 = head.version == Version::Http11;
        messages.push(Message { start, is_http_1_1, fields, body });
        rest = after;
    }
    Ok(messages)
}

/// The one response in `wire`, as this crate reads it.
fn our_response(wire: &[u8], request_was_head: bool) -> Message {
    let mut head = ResponseHead::default();
    assert_eq!(parse_response(wire, request_was_head, &mut head), Ok(Progress::Complete));
    let after = &wire[head.head_len..];
    let (body, _) = match head.length {
        BodyLength::None => (Vec::new(), after),
        BodyLength::Fixed(length) => our_fixed_body(after, length),
        BodyLength::Chunked => our_chunked_body(after),
        BodyLength::UntilClose => (after.to_vec(), &wire[..0]),
    };
    Message {
        start: vec![head.status.to_string()],
        is_http_1_1: head.version == Version::Http11,
        fields: fields_of_lines(&wire[..head.head_len]),
        body,
    }
}

fn our_fixed_body(wire: &[u8], length: u64) -> (Vec<u8>, &[u8]) {
    let (body, after) = wire.split_at(usize::try_from(length).expect("a short body"));
    (body.to_vec(), after)
}

fn our_chunked_body(wire: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut decoder, mut body, mut at) = (ChunkedDecoder::new(), Vec::new(), 0);
    while !decoder.is_done() {
        let step = decoder.step(&wire[at..]).expect("well-formed chunks");
        assert!(step.consumed > 0, "the body ends early");
        body.extend_from_slice(&wire[at..][step.data]);
        at += step.consumed;
    }
    (body, &wire[at..])
}

/// A framing field and the bytes of a body that fits it.
fn framed_body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let fixed = prop::collection::vec(any::<u8>(), 0..400)
        .prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body));
    let chunk = (prop::collection::vec(any::<u8>(), 1..100), any::<bool>());
    let chunked = prop::collection::vec(chunk, 0..5).prop_map(|chunks| {
        let mut wire = Vec::new();
        for (data, upper) in chunks {
            let size = data.len();
            let line = if upper { format!("{size:X}\r\n") } else { format!("0{size:x}\r\n") };
            wire.extend([line.as_bytes(), &data, b"\r\n"].concat());
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        ("tRaNsFeR-eNcOdInG: ChunkeD\r\n".to_owned(), wire)
    });
    prop_oneof![fixed, chunked]
}

fn fields() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        "X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}:[ \t]{0,2}([!-~]([ -~]{0,60}[!-~])?)?[ \t]{0,2}\r\n",
        "(Range|If-Match|Cookie|ETag|Via): [a-z0-9=,\" -]{0,20}\r\n",
    ];
    prop::collection::vec(field, 0..10).prop_map(|fields| fields.concat())
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = "(GET|HEAD|OPTIONS|PUT|DELETE|M-SEARCH)";
    let target = prop_oneof![
        "/[a-zA-Z0-9/%._~!$&'()*+,;=:@-]{0,60}(\\?[a-zA-Z0-9/%._~!$&'()*+,;=:@?-]{1,30})?",
        "http://[a-z0-9][a-z0-9.-]{0,20}(:[1-9][0-9]{0,3})?(/[a-z]{0,9})?(\\?[a-z]{1,3})?",
    ];
    let body = prop_oneof![2 => Just((String::new(), Vec::new())), 1 => framed_body()];
    (method, target, fields(), body).prop_map(|(method, target, fields, (framing, body))| {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}{framing}\r\n");
        [head.into_bytes(), body].concat()
    })
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let status = (200_u16..600).prop_filter("has a body", |status| ![204, 304].contains(status));
    (status, "( [ -~]{0,20})?", fields(), framed_body()).prop_map(
        |(status, reason, fields, (framing, body))| {
            let head = format!("HTTP/1.1 {status}{reason}\r\n{fields}{framing}\r\n");
            [head.into_bytes(), body].concat()
        },
    )
}

proptest! {
    #[test]
    fn well_formed_pipelined_requests_are_read_the_same(
        requests in prop::collection::vec(request(), 1..4),
    ) {
        let wire = requests.concat();
        let ours = our_requests(&wire).expect("well-formed");
        prop_assert_eq!(ours.len(), requests.len());
        prop_assert_eq!(ours, their_requests(&wire).expect("well-formed"));
    }

    #[test]
    fn well_formed_responses_are_read_the_same(wire in response()) {
        prop_assert_eq!(our_response(&wire, false), their_response(&wire).expect("well-formed"));
    }
}

/// A request that they accept and we refuse.
#[track_caller]
fn only_they_accept(wire: &str) -> Vec<Message> {
    let ours = our_requests(wire.as_bytes());
    assert!(matches!(ours, Err(RequestError::Malformed(_))), "{ours:?}");
    their_requests(wire.as_bytes()).expect("monoio-http has changed: it refuses this too")
}

#[test]
fn both_framings_at_once_would_let_a_request_hide_in_a_body() {
    // RFC 9112 section 6.1: "ought to be handled as an error". They believe Transfer-Encoding;
    // whoever believes Content-Length sees one request where they see two.
    let theirs = only_they_accept(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /hidden HTTP/1.1\r\nX: y\r\n\r\n",
    );
    assert_eq!(theirs.len(), 2);
}

#[test]
fn a_repeated_framing_field_is_ambiguous() {
    // RFC 9112 section 6.3, point 5: unequal lengths are an unrecoverable error. They take the
    // first of each and ignore the others.
    let lengths = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy";
    assert!(matches!(our_requests(lengths.as_bytes()), Err(RequestError::Malformed(_))));
    let first = &lengths[..lengths.len() - 1];
    assert_eq!(their_requests(first.as_bytes()).unwrap()[0].body, b"x");
    let theirs = only_they_accept(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
         Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    );
    assert_eq!(theirs[0].body, b"");
}

#[test]
fn chunks_do_not_exist_in_http_1_0() {
    // RFC 9112 section 6.1: a request with Transfer-Encoding in a lower version is faulty.
    let theirs = only_they_accept(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    );
    assert_eq!(theirs[0].body, b"x");
}

#[test]
fn the_coding_identity_is_unknown() {
    // RFC 9112 section 6.1: an unknown coding is answered with 501; `identity` was removed from
    // the registry by RFC 7230. They read such a body by its Content-Length.
    let unknown = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n";
    assert_eq!(our_requests(unknown), Err(RequestError::UnknownTransferCoding));
    assert!(their_requests(unknown).is_ok());
}

#[test]
fn a_bare_line_feed_hides_a_request() {
    // RFC 9112 section 2.2 allows to take LF for a line end, but then all along the way must.
    // They look for CRLF CRLF first, so they drop the second request without a word.
    let theirs = only_they_accept("GET /1 HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(theirs.len(), 1);
    assert_eq!(theirs[0].start[1], "/1");
}

#[test]
fn a_request_needs_exactly_one_valid_host() {
    // RFC 9112 section 3.2: 400 to a request without Host, with two, or with an invalid one.
    only_they_accept("GET / HTTP/1.1\r\n\r\n");
    only_they_accept("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    only_they_accept("GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n");
}

#[test]
fn a_fragment_is_no_part_of_a_target() {
    // RFC 9112 section 3.2: no form has one. They cut it off, so that what is checked and what
    // a later hop sees may differ.
    let theirs = only_they_accept("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(theirs[0].start[1], "/a");
}

#[test]
fn an_empty_chunk_size_is_not_the_last_chunk() {
    // RFC 9112 section 7.1: chunk-size = 1*HEXDIG.
    let mut decoder = ChunkedDecoder::new();
    assert!(decoder.step(b"\r\n\r\n").is_err());
    let wire = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n";
    assert_eq!(their_requests(wire).unwrap()[0].body, b"");
}

#[test]
fn extensions_and_trailers_belong_to_the_coding() {
    // RFC 9112 section 7.1.1: unknown extensions must be ignored; 7.1.2: trailers may follow.
    // They refuse both.
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["1;a=b\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\nA: b\r\n\r\n"] {
        let wire = format!("{head}{body}");
        assert_eq!(our_requests(wire.as_bytes()).unwrap()[0].body, b"x");
        assert!(their_requests(wire.as_bytes()).is_err());
    }
}

#[test]
fn an_overlong_name_is_refused_not_a_panic() {
    // RFC 9110 section 5.4: 4xx. They unwrap a conversion that fails beyond 65,535 bytes.
    let wire = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "n".repeat(70_000));
    assert_eq!(our_requests(wire.as_bytes()), Err(RequestError::HeadTooLarge));
    assert!(catch_unwind(|| their_requests(wire.as_bytes())).is_err());
}

#[test]
fn a_response_without_a_length_lasts_until_close() {
    // RFC 9112 section 6.3, point 8. They take it for empty.
    let wire = b"HTTP/1.1 200 OK\r\n\r\nbody";
    assert_eq!(our_response(wire, false).body, b"body");
    assert_eq!(their_response(wire).unwrap().body, b"");
}

#[test]
fn responses_without_a_body_are_complete_at_once() {
    // RFC 9112 section 6.3, point 1. They wait for bytes that never come.
    let not_modified = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(our_response(not_modified, false).body, b"");
    assert!(their_response(not_modified).is_err());
    let to_head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(our_response(to_head, true).body, b"");
    assert!(their_response(to_head).is_err());
}
