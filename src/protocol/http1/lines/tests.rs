//! The lines of heads as httparse reads them, which has read the heads of other servers for years.
//! It is more lenient than this proxy in two things only, which each test adds to it: lines may end
//! in LF alone, and any number of empty lines may come first.

use proptest::prelude::*;

use super::*;
use crate::model::limits::Limits;
use crate::protocol::http1::tests::{request_head, response_head};
use crate::protocol::http1::{Progress, RequestHead, ResponseHead, parse_request, parse_response};

/// More fields than any head of these tests has.
const FIELDS_MAX: usize = 300;

/// Names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Start line, fields, and length of a head.
type Read = (Vec<Vec<u8>>, Fields, usize);

/// A head as a reader takes it from the beginning of a buffer, and whether it is as strict as this
/// proxy wants it.
type Outcome = Result<(Read, bool), Unread>;

fn our_fields(lines: &mut Lines<'_>, buf: &[u8]) -> Result<Fields, Unread> {
    let mut fields = Vec::new();
    let mut end = lines.at();
    while let Some(line) = lines.field()? {
        assert_eq!(line.start, end, "lines touch");
        end = lines.at();
        assert_eq!(&buf[line.value_at..][..line.value.len()], line.value);
        assert_eq!(&buf[line.start..][..line.name.len()], line.name);
        assert!(buf[line.start..end].ends_with(b"\n"));
        fields.push((line.name.to_vec(), line.value.to_vec()));
    }
    Ok(fields)
}

fn our_request(buf: &[u8]) -> Outcome {
    let mut lines = Lines::new(buf, 0);
    lines.skip_empty_lines()?;
    let empty_lines = &buf[..lines.at()];
    let (method, target) = (lines.method()?.to_vec(), lines.target()?.to_vec());
    let version = vec![lines.version()? as u8];
    lines.end_of_line()?;
    let fields = our_fields(&mut lines, buf)?;
    let is_strict = matches!(empty_lines, b"" | b"\r\n") && !lines.has_bare_lf();
    Ok(((vec![method, target, version], fields, lines.at()), is_strict))
}

fn our_response(buf: &[u8]) -> Outcome {
    let mut lines = Lines::new(buf, 0);
    lines.skip_empty_lines()?;
    let empty_lines = &buf[..lines.at()];
    let version = vec![lines.version()? as u8];
    let status = lines.status()?.to_be_bytes().to_vec();
    let fields = our_fields(&mut lines, buf)?;
    let is_strict = empty_lines.is_empty() && !lines.has_bare_lf();
    Ok(((vec![version, status], fields, lines.at()), is_strict))
}

/// Returns true if each line ends in CRLF, after as many of the empty lines that may come first.
fn is_strict(head: &[u8], empty_lines_max: usize) -> bool {
    let text = head.strip_prefix(b"\r\n").filter(|_| empty_lines_max == 1).unwrap_or(head);
    !text.starts_with(b"\r")
        && text.split_inclusive(|byte| *byte == b'\n').all(|line| line.ends_with(b"\r\n"))
}

fn their_fields(fields: &[httparse::Header<'_>]) -> Fields {
    fields.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect()
}

fn their_version(minor: Option<u8>) -> Vec<u8> {
    vec![if minor == Some(0) { Version::Http10 } else { Version::Http11 } as u8]
}

fn their_error(error: httparse::Error) -> Unread {
    match error {
        httparse::Error::Token => Unread::RequestLine,
        httparse::Error::Version => Unread::Version,
        httparse::Error::Status => Unread::StatusLine,
        httparse::Error::NewLine => Unread::LineEnd,
        httparse::Error::HeaderName => Unread::FieldName,
        httparse::Error::HeaderValue => Unread::FieldValue,
        httparse::Error::TooManyHeaders => Unread::TooManyFields,
    }
}

fn their_request(buf: &[u8]) -> Outcome {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(buf).map_err(their_error)? {
        httparse::Status::Partial => Err(Unread::Partial),
        httparse::Status::Complete(len) => {
            let text = |text: Option<&str>| text.unwrap().as_bytes().to_vec();
            let start = vec![text(parsed.method), text(parsed.path), their_version(parsed.version)];
            Ok(((start, their_fields(parsed.headers), len), is_strict(&buf[..len], 1)))
        }
    }
}

fn their_response(buf: &[u8]) -> Outcome {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(buf).map_err(their_error)? {
        httparse::Status::Partial => Err(Unread::Partial),
        httparse::Status::Complete(len) => {
            let status = parsed.code.unwrap().to_be_bytes().to_vec();
            let start = vec![their_version(parsed.version), status];
            Ok(((start, their_fields(parsed.headers), len), is_strict(&buf[..len], 0)))
        }
    }
}

/// One change of a head, at a random place or at one of those where lines and their parts meet.
#[derive(Clone, Debug)]
enum Change {
    Flip(u32),
    Remove,
    Insert(u8),
    Replace(u8),
    Double,
    Cut,
    /// A line end or one of its bytes is left out.
    DropLineEnd(usize),
    /// A byte comes behind a line end; a blank makes it a folded line.
    AfterLineEnd(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let byte = || {
        let odd = b"\0\t\n\x0b\r\x1f !\"-/:@[{~\x7f\x80\xc3\xff".to_vec();
        prop_oneof![3 => prop::sample::select(odd), 1 => any::<u8>()]
    };
    prop_oneof![
        (0_u32..8).prop_map(Change::Flip),
        Just(Change::Remove),
        byte().prop_map(Change::Insert),
        byte().prop_map(Change::Replace),
        Just(Change::Double),
        Just(Change::Cut),
        (0_usize..3).prop_map(Change::DropLineEnd),
        byte().prop_map(Change::AfterLineEnd),
    ]
}

fn apply(head: &mut Vec<u8>, change: &Change, at: prop::sample::Index, at_joint: bool) {
    if head.is_empty() {
        return;
    }
    let is_joint = |at: &usize| matches!(head[*at], b'\r' | b'\n' | b' ' | b':');
    let joints: Vec<_> = (0..head.len()).filter(is_joint).collect();
    let at = if at_joint && !joints.is_empty() { *at.get(&joints) } else { at.index(head.len()) };
    let line_feed = memchr::memchr(b'\n', &head[at..]).map(|found| at + found);
    match (change, line_feed) {
        (Change::Flip(bit), _) => head[at] ^= 1 << bit,
        (Change::Remove, _) => drop(head.remove(at)),
        (Change::Insert(byte), _) => head.insert(at, *byte),
        (Change::Replace(byte), _) => head[at] = *byte,
        (Change::Double, _) => head.insert(at, head[at]),
        (Change::Cut, _) => head.truncate(at),
        (Change::DropLineEnd(what), Some(line_feed)) if line_feed > 0 => {
            let (start, end) = [(1, 1), (1, 0), (0, 1)][*what];
            head.drain(line_feed - start..line_feed + end);
        }
        (Change::AfterLineEnd(byte), Some(line_feed)) => head.insert(line_feed + 1, *byte),
        _ => {}
    }
}

/// A head with up to three changes, and what may stand before and behind it.
fn changed(head: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes =
        prop::collection::vec((change(), any::<prop::sample::Index>(), any::<bool>()), 0..4);
    let before = prop_oneof![
        9 => Just(&b""[..]), 1 => prop::sample::select(vec![&b"\r\n"[..], b"\r\n\r\n", b"\n", b"\r"]),
    ];
    let behind = prop::sample::select(vec![&b""[..], b"body", b"\n", b"GET / HTTP/1.1\r\n\r\n"]);
    (before, head, changes, behind).prop_map(|(before, mut head, changes, behind)| {
        for (change, at, at_joint) in changes {
            apply(&mut head, &change, at, at_joint);
        }
        [before, &head, behind].concat()
    })
}

/// Some thousand heads take a second. `PROPTEST_CASES` makes them more.
fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases * 16, ..usual }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn requests_are_read_as_httparse_reads_them(bytes in changed(request_head())) {
        let outcome = our_request(&bytes);
        prop_assert_eq!(&outcome, &their_request(&bytes));
        let mut head = RequestHead::default();
        let parsed = parse_request(&bytes, &Limits::default(), &mut head);
        if parsed == Ok(Progress::Complete) {
            let ((_, _, len), is_strict) = outcome.unwrap();
            prop_assert_eq!((head.head_len, true), (len, is_strict));
            for end in 0..len {
                prop_assert_eq!(our_request(&bytes[..end]), Err(Unread::Partial));
                let parsed = parse_request(&bytes[..end], &Limits::default(), &mut head);
                prop_assert_eq!(parsed, Ok(Progress::Partial));
                head.reset();
            }
        }
    }

    #[test]
    fn responses_are_read_as_httparse_reads_them(bytes in changed(response_head())) {
        let outcome = our_response(&bytes);
        prop_assert_eq!(&outcome, &their_response(&bytes));
        let mut head = ResponseHead::default();
        let parsed = parse_response(&bytes, false, &mut head);
        if parsed == Ok(Progress::Complete) {
            let ((_, _, len), is_strict) = outcome.unwrap();
            prop_assert_eq!((head.head_len, true), (len, is_strict));
            for end in 0..len {
                prop_assert_eq!(our_response(&bytes[..end]), Err(Unread::Partial));
                let parsed = parse_response(&bytes[..end], false, &mut head);
                prop_assert_eq!(parsed, Ok(Progress::Partial));
                head.reset();
            }
        }
    }

    #[test]
    fn any_bytes_are_read_as_httparse_reads_them(
        bytes in prop::collection::vec(
            prop::sample::select(b"A:/ \t\r\nHTTP/1.120\0\x7f\x80".to_vec()), 0..60,
        ),
    ) {
        prop_assert_eq!(our_request(&bytes), their_request(&bytes));
        prop_assert_eq!(our_response(&bytes), their_response(&bytes));
        let request = [b"GET / HTTP/1.1\r\n", &bytes[..]].concat();
        prop_assert_eq!(our_request(&request), their_request(&request));
    }
}

#[test]
fn each_byte_of_a_line_is_read_as_httparse_reads_it() {
    for byte in 0..=u8::MAX {
        // Before and behind a block of eight, and at each of its places.
        for before in 0..20 {
            let text =
                [&b"abcdefghijklmnopqrst"[..before], &[byte], b"abcdefghijklmnopqrst"].concat();
            for parts in [
                [&text[..], b" / HTTP/1.1\r\n\r\n"],
                [b"GET /", &text],
                [b"GET / HTTP/1.1\r\n", &text],
                [b"GET / HTTP/1.1\r\nA: ", &text],
            ] {
                let tails = [&b""[..], b"\r\n\r\n", b": a\r\n\r\n", b" HTTP/1.1\r\n\r\n"];
                for bytes in tails.map(|tail| [parts[0], parts[1], tail].concat()) {
                    assert_eq!(our_request(&bytes), their_request(&bytes), "{byte:#x} {before}");
                }
            }
            let response = [b"HTTP/1.1 200 ", &text[..], b"\r\n\r\n"].concat();
            assert_eq!(our_response(&response), their_response(&response), "{byte:#x} {before}");
        }
    }
}
