//! Randomised checks of the codec as a whole; `proptest` prints the case that fails.

use proptest::prelude::*;

use super::*;
use crate::model::limits::Limits;

/// A valid request head, and one random edit of it.
pub(super) fn request_head() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![Just("GET"), Just("HEAD"), Just("OPTIONS"), Just("PUT")];
    let target = prop_oneof![
        "/[a-z0-9/%._~-]{0,40}(\\?[a-z0-9=&?/]{0,20})?",
        "http://[a-z0-9.-]{1,20}(:[0-9]{1,4})?(/[a-z]{0,9})?(\\?q)?",
    ];
    let field = prop_oneof![
        "X-[A-Za-z]{1,20}: ?[ -~]{0,60}",
        "Range: bytes=[0-9]{1,5}-[0-9]{0,5}",
        "If-None-Match: \"[a-f0-9]{4,32}\"",
        Just("Connection: keep-alive, range".to_owned()),
        Just("Cookie: \u{e9}\t1".to_owned()),
    ];
    let framing = prop_oneof![
        Just(String::new()),
        "Content-Length: [0-9]{1,19}\r\n",
        Just("transfer-encoding: CHUNKED\r\n".to_owned()),
    ];
    let fields = prop::collection::vec(field, 0..6);
    (method, target, fields, framing, prop::bool::ANY).prop_map(
        |(method, target, fields, framing, empty_line)| {
            let first = if empty_line { "\r\n" } else { "" };
            let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
            format!("{first}{method} {target} HTTP/1.1\r\nHost: a:1\r\n{fields}{framing}\r\n")
                .into_bytes()
        },
    )
}

pub(super) fn response_head() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        "X-[A-Za-z]{1,20}: ?[ -~]{0,60}",
        "Connection: (close|keep-alive|x-[a-z]|te|etag)",
        "(Via|Keep-Alive|Upgrade|Date|ETag): [a-z]{0,8}",
    ];
    let framing = prop_oneof![
        Just(String::new()),
        "content-length: [0-9]{1,19}\r\n",
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
    ];
    (200_u16..600, "[ -~]{0,20}", prop::collection::vec(field, 0..12), framing).prop_map(
        |(status, reason, fields, framing)| {
            let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
            format!("HTTP/1.1 {status} {reason}\r\n{fields}{framing}\r\n").into_bytes()
        },
    )
}

/// Bytes that are likely to matter, and any others.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(b"\r\n :\t\0,;/?#%[]\x7f\x80".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..4)
}

/// A head with some bytes at a random place replaced by noise.
fn mutated(head: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (head, any::<prop::sample::Index>(), 0_usize..4, noise()).prop_map(
        |(mut head, at, removed, noise)| {
            let at = at.index(head.len());
            let end = (at + removed).min(head.len());
            head.splice(at..end, noise);
            head
        },
    )
}

type Summary = (Method, Version, Span, Option<Span>, Span, RequestFraming, usize, usize);

fn summary(head: &RequestHead) -> Summary {
    let forwarded = head.forwarded().len();
    let RequestHead { method, version, path, query, host, framing, head_len, .. } = *head;
    (method, version, path, query, host, framing, head_len, forwarded)
}

/// Parses `bytes` as they would arrive, `step` bytes at a time.
fn request_in_steps(bytes: &[u8], step: usize) -> Result<Option<Summary>, RequestError> {
    let mut head = RequestHead::default();
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        if parse_request(&bytes[..end], &Limits::default(), &mut head)? == Progress::Complete {
            return Ok(Some(summary(&head)));
        }
    }
    Ok(None)
}

fn response_in_steps(bytes: &[u8], step: usize) -> Result<Option<Vec<u8>>, ResponseError> {
    let mut head = ResponseHead::default();
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        if parse_response(&bytes[..end], false, &mut head)? == Progress::Complete {
            let mut out = format!("{} {:?} {}", head.status, head.length, head.close).into_bytes();
            head.copy_end_to_end(bytes, &mut out);
            head.append_via(bytes, "y", &mut out);
            return Ok(Some(out));
        }
    }
    Ok(None)
}

fn decode_in_steps(wire: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut body = Vec::new();
    let mut at = 0;
    while at < wire.len() && !decoder.is_done() {
        let input = &wire[at..(at + step).min(wire.len())];
        let found = decoder.step(input)?;
        body.extend_from_slice(&input[found.data]);
        at += found.consumed;
    }
    Ok((body, at, decoder.is_done()))
}

/// Finds a line end inside a line, which nothing that is passed on may hold.
fn holds_only_whole_lines(fields: &[u8]) -> bool {
    fields.is_empty()
        || (fields.ends_with(b"\r\n")
            && fields.split(|&byte| byte == b'\n').rev().skip(1).all(|line| {
                let text = &line[..line.len() - 1];
                line.ends_with(b"\r") && !text.contains(&b'\r') && text.contains(&b':')
            }))
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..40) {
        let _ = request_in_steps(&bytes, step);
        let _ = response_in_steps(&bytes, step);
        let _ = decode_in_steps(&bytes, step);
    }

    #[test]
    fn valid_request_heads_parse_the_same_in_any_pieces(head in request_head(), tail in noise()) {
        let whole = request_in_steps(&head, head.len());
        prop_assert!(matches!(whole, Ok(Some(_))), "{whole:?}");
        for step in 1..head.len() {
            prop_assert_eq!(&request_in_steps(&head, step), &whole);
        }
        // Split once at every byte, and with bytes of the next message behind.
        let bytes = [head.clone(), tail].concat();
        for split in 1..head.len() {
            let mut parsed = RequestHead::default();
            let limits = Limits::default();
            let first = parse_request(&bytes[..split], &limits, &mut parsed);
            prop_assert_eq!(first, Ok(Progress::Partial));
            let second = parse_request(&bytes, &limits, &mut parsed);
            prop_assert_eq!(second, Ok(Progress::Complete));
            prop_assert_eq!(Ok(Some(summary(&parsed))), whole);
        }
    }

    #[test]
    fn mutated_request_heads_are_refused_or_accepted_whatever_the_pieces(
        bytes in mutated(request_head()), step in 1_usize..40,
    ) {
        let whole = request_in_steps(&bytes, bytes.len().max(1));
        let stepwise = request_in_steps(&bytes, step);
        match (whole, stepwise) {
            (Ok(whole), Ok(stepwise)) => prop_assert_eq!(whole, stepwise),
            (Err(_), Err(_)) => {}
            // The end of a head that came whole is never in doubt; a broken one that has no
            // end yet may be refused later than one that was looked at whole.
            (whole, stepwise) => prop_assert!(
                !matches!(whole, Ok(Some(_))) && !matches!(stepwise, Ok(Some(_))),
                "{whole:?} but {stepwise:?}"
            ),
        }
    }

    #[test]
    fn an_accepted_request_head_has_only_crlf_line_ends(bytes in mutated(request_head())) {
        if let Ok(Some(found)) = request_in_steps(&bytes, bytes.len().max(1)) {
            let head = &bytes[..found.6];
            let line_feeds = memchr::memchr_iter(b'\n', head).count();
            let pairs = head.windows(2).filter(|pair| pair == b"\r\n").count();
            let returns = memchr::memchr_iter(b'\r', head).count();
            prop_assert_eq!((line_feeds, returns), (pairs, pairs));
            prop_assert!(head.ends_with(b"\r\n\r\n"));
            prop_assert!(!head.contains(&0));
        }
    }

    #[test]
    fn response_heads_parse_the_same_in_any_pieces(head in response_head()) {
        let whole = response_in_steps(&head, head.len());
        prop_assert!(matches!(whole, Ok(Some(_))), "{whole:?}");
        for step in 1..head.len() {
            prop_assert_eq!(&response_in_steps(&head, step), &whole);
        }
    }

    #[test]
    fn what_is_passed_on_is_whole_lines_of_end_to_end_fields(bytes in mutated(response_head())) {
        let mut head = ResponseHead::default();
        if parse_response(&bytes, false, &mut head) == Ok(Progress::Complete) {
            let mut out = Vec::new();
            head.copy_end_to_end(&bytes, &mut out);
            prop_assert!(holds_only_whole_lines(&out), "{:?}", String::from_utf8_lossy(&out));
            let lower = out.to_ascii_lowercase();
            for hop in [&b"connection"[..], b"keep-alive", b"transfer-encoding", b"content-length", b"via", b"upgrade"] {
                prop_assert_eq!(fields::values(&lower, hop).count(), 0);
            }
            // Each line that is passed on is one of the lines that came.
            for line in out.split_inclusive(|&byte| byte == b'\n') {
                prop_assert!(bytes.split_inclusive(|&byte| byte == b'\n').any(|came| came == line));
            }
        }
    }

    #[test]
    fn a_chunked_body_decodes_to_what_was_encoded(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8),
        tail in noise(),
        step in 1_usize..300,
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            encode_chunk_head(chunk.len(), &mut wire);
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(CHUNK_END);
        }
        wire.extend_from_slice(LAST_CHUNK);
        let body_end = wire.len();
        wire.extend_from_slice(&tail);
        prop_assert_eq!(decode_in_steps(&wire, step), Ok((chunks.concat(), body_end, true)));
        // Discarding finds the same end.
        let mut discard = BodyDiscard::new(RequestFraming::Chunked, 1_000_000).unwrap();
        let discarded = discard.feed(&wire);
        prop_assert_eq!(discarded, Ok(Discarded { consumed: body_end, done: true }));
        // A body that is cut short is never done.
        for end in 0..body_end {
            prop_assert!(!decode_in_steps(&wire[..end], step).unwrap().2);
        }
    }

    #[test]
    fn broken_chunks_give_the_same_result_in_any_pieces(
        wire in mutated(Just(b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n".to_vec())),
        step in 1_usize..20,
    ) {
        prop_assert_eq!(decode_in_steps(&wire, step), decode_in_steps(&wire, wire.len().max(1)));
    }

    #[test]
    fn a_response_that_is_written_can_be_read_back(
        status in 200_u16..600, length in any::<u64>(), is_head in any::<bool>(), close in any::<bool>(),
    ) {
        let mut out = Vec::new();
        append_status_line(status, &mut out);
        let framing = client_framing(Version::Http11, is_head, BodyLength::Fixed(length));
        append_framing(framing, status, Some(length), &mut out);
        append_field("Date", &imf_fixdate(length % 4_000_000_000), &mut out);
        append_connection(Version::Http11, close, &mut out);
        out.extend_from_slice(b"\r\n");
        let mut head = ResponseHead::default();
        prop_assert_eq!(parse_response(&out, is_head, &mut head), Ok(Progress::Complete));
        prop_assert_eq!((head.status, head.head_len), (status, out.len()));
        if status != 204 {
            prop_assert_eq!((head.content_length, head.close), (Some(length), close));
        }
        prop_assert_eq!(head.reason.of(&out), reason_phrase(status).as_bytes());
    }
}
