//! Response heads of the upstream: body length, and which fields go on to the client.

use std::hint::cold_path;

use super::fields::{
    ConnectionOptions, TransferCoding, content_length, head_values, transfer_coding,
};
use super::lines::{FieldLine, Lines, Unread};
use super::message::{Progress, Version};
use super::scan::{HeadScan, Scanned};
use super::span::Span;
use crate::model::limits::{UPSTREAM_HEAD_BYTES_MAX, UPSTREAM_HEADERS_MAX};
use crate::protocol::text::{append::append_all, class::is_name};

#[cfg(test)]
mod tests;

/// Most unbroken runs of passed fields. Fields that are not passed on separate the runs; real
/// responses have fewer than ten of them.
pub const FIELD_RUNS_MAX: usize = 32;

/// Most names in `Connection` that are looked up. Real responses name none or one; the lookup
/// costs fields times names.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// Bytes of `HTTP/1.1 200`.
const STATUS_LINE_BYTES_MIN: usize = 12;

/// Framing of a response body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, whatever the fields say: HEAD, 1xx, 204, 304.
    #[default]
    None,
    /// This number of bytes follows the head.
    Fixed(u64),
    /// Chunks follow the head.
    Chunked,
    /// Everything until the upstream closes. A cut cannot be told from an end.
    UntilClose,
}

/// Reason to refuse a response head. The upstream connection must not be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// It breaks RFC 9112; the text says how and holds nothing the upstream sent.
    Malformed(&'static str),
    /// Over [`UPSTREAM_HEAD_BYTES_MAX`] or [`UPSTREAM_HEADERS_MAX`].
    HeadTooLarge,
}

/// A parsed response head. It owns offsets into the buffer that was parsed and no bytes.
///
/// One value serves all responses of a connection in turn; between a [`Progress::Partial`] and
/// the next call it remembers how far the head was searched.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status code, 100 to 599.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// Framing of the body.
    pub length: BodyLength,
    /// `Content-Length` as declared; for HEAD and 304 it is not the length of this body.
    pub content_length: Option<u64>,
    /// Set if the upstream connection must not be used again.
    pub close: bool,
    /// Bytes of the head, including the empty line that ends it.
    pub head_len: usize,
    /// Set if there is a `Date`; if not, the proxy adds one (RFC 9110 section 6.6.1).
    pub has_date: bool,
    /// Set if there is a `Via`, which [`Self::append_via`] continues.
    pub has_via: bool,
    fields_start: usize,
    passed: FieldRuns,
    scan: HeadScan,
}

impl ResponseHead {
    /// Returns true if a final response is still to come (1xx, RFC 9110 section 15.2).
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Appends the line of every end-to-end field as it came.
    ///
    /// Left out: the hop-by-hop fields and those that `Connection` names (RFC 9110 section
    /// 7.6.1), `Content-Length` (the caller writes the framing), `Via` (see
    /// [`Self::append_via`]), and the two that are the proxy's own, `X-Request-Id` and
    /// `X-Config-Generation`.
    pub fn copy_end_to_end(&self, buf: &[u8], out: &mut Vec<u8>) {
        for run in self.passed.as_slice() {
            out.extend_from_slice(run.of(buf));
        }
    }

    /// Appends one `Via` line: the members of the upstream's, then this hop as
    /// `<received version> <pseudonym>` (RFC 9110 section 7.6.3).
    pub fn append_via(&self, buf: &[u8], pseudonym: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Via: ");
        if self.has_via {
            for value in self.header_values(buf, b"via").filter(|value| !value.is_empty()) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        append_all(&[self.version.in_via(), pseudonym.as_bytes(), b"\r\n"], out);
    }

    /// The values of all fields called `name_lower` (in lower case), without blanks around
    /// them. Reads the validated lines of `buf` again.
    pub fn header_values<'b, 'n>(
        &self,
        buf: &'b [u8],
        name_lower: &'n [u8],
    ) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        head_values(buf, self.fields_start, self.head_len, name_lower)
    }

    /// Forgets an unfinished head, for a connection that starts anew with this value.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Checks the limits that apply to a head whose end has not come.
    const fn check_partial(&self, buf: &[u8]) -> Result<Progress, ResponseError> {
        if buf.len() >= UPSTREAM_HEAD_BYTES_MAX || self.scan.lines() > 1 + UPSTREAM_HEADERS_MAX {
            return Err(ResponseError::HeadTooLarge);
        }
        Ok(Progress::Partial)
    }
}

/// Parses the response head at the start of `buf`. `request_was_head`: it is for a HEAD request.
///
/// 1xx heads are parsed like any other: the caller drops them (see
/// [`ResponseHead::is_interim`]) and refuses a 101 that it did not ask for. Partial input works
/// as it does for [`parse_request`](super::parse_request).
///
/// # Errors
/// The same strictness as for requests; no leniency towards an upstream.
pub fn parse_response(
    buf: &[u8],
    request_was_head: bool,
    head: &mut ResponseHead,
) -> Result<Progress, ResponseError> {
    let parsed = parse_or_scan(buf, request_was_head, head);
    if parsed != Ok(Progress::Partial) {
        head.scan = HeadScan::default();
    }
    parsed
}

fn parse_or_scan(
    buf: &[u8],
    request_was_head: bool,
    head: &mut ResponseHead,
) -> Result<Progress, ResponseError> {
    if head.scan.is_started() && scan(buf, head)? == Scanned::Partial {
        return head.check_partial(buf);
    }
    match read_lines(buf, head) {
        Ok(lines) => {
            settle(buf, &lines, request_was_head, head)?;
            Ok(Progress::Complete)
        }
        Err(Unread::Partial) => match scan(buf, head)? {
            Scanned::Partial => head.check_partial(buf),
            Scanned::Terminated => Err(ResponseError::Malformed("head")),
        },
        Err(unread) => Err(refusal(unread)),
    }
}

fn scan(buf: &[u8], head: &mut ResponseHead) -> Result<Scanned, ResponseError> {
    head.scan.advance(buf, 0).map_err(ResponseError::Malformed)
}

/// The refusal of a line that cannot be read.
#[cold]
fn refusal(unread: Unread) -> ResponseError {
    match unread {
        Unread::TooManyFields => ResponseError::HeadTooLarge,
        Unread::Version => ResponseError::Malformed("version"),
        Unread::FieldName => ResponseError::Malformed("field name"),
        Unread::FieldValue => ResponseError::Malformed("field value"),
        Unread::LineEnd => ResponseError::Malformed("line end"),
        Unread::StatusLine | Unread::RequestLine | Unread::Partial => {
            ResponseError::Malformed("status line")
        }
    }
}

/// A head of which every line could be read.
struct HeadLines {
    /// Offset of the status line.
    start: usize,
    version: Version,
    status: u16,
    /// Offset of the first field line.
    fields_start: usize,
    fields: Fields,
    /// The first fault of a field.
    fault: Option<ResponseError>,
    head_len: usize,
    has_bare_lf: bool,
}

/// Reads all lines. The fields that go on are noted in `head`.
fn read_lines(buf: &[u8], head: &mut ResponseHead) -> Result<HeadLines, Unread> {
    let mut lines = Lines::new(buf, 0);
    lines.skip_empty_lines()?;
    let start = lines.at();
    let version = lines.version()?;
    let status = lines.status()?;
    let fields_start = lines.at();
    let (mut fields, mut fault) = (Fields::default(), None);
    head.passed.clear();
    // Offset of the passed lines before the one that is read.
    let mut run_start = fields_start;
    let mut fields_left = UPSTREAM_HEADERS_MAX;
    let fields_end = loop {
        let line_start = lines.at();
        let Some(line) = lines.field()? else { break line_start };
        if fields_left == 0 {
            return Err(Unread::TooManyFields);
        }
        fields_left -= 1;
        let fate = Fate::of(line.name);
        if fate == Fate::Pass {
            continue;
        }
        if fate == Fate::Date {
            fields.has_date = true;
            continue;
        }
        let noted = head.passed.push(run_start, line.start).and_then(|()| fields.note(fate, &line));
        if let Err(error) = noted {
            cold_path();
            fault.get_or_insert(error);
        }
        run_start = lines.at();
    };
    if let Err(error) = head.passed.push(run_start, fields_end) {
        cold_path();
        fault.get_or_insert(error);
    }
    Ok(HeadLines {
        start,
        version,
        status,
        fields_start,
        fields,
        fault,
        head_len: lines.at(),
        has_bare_lf: lines.has_bare_lf(),
    })
}

/// Checks what the lines say together, and writes the rest of `head`.
fn settle(
    buf: &[u8],
    lines: &HeadLines,
    request_was_head: bool,
    head: &mut ResponseHead,
) -> Result<(), ResponseError> {
    let &HeadLines { version, status, fields_start, ref fields, head_len, .. } = lines;
    if head_len > UPSTREAM_HEAD_BYTES_MAX {
        return Err(ResponseError::HeadTooLarge);
    }
    if lines.start > 0 {
        return Err(ResponseError::Malformed("empty line before the start line"));
    }
    if !(100..=599).contains(&status) {
        return Err(ResponseError::Malformed("status code"));
    }
    if lines.has_bare_lf {
        return Err(ResponseError::Malformed("bare LF"));
    }

    head.status = status;
    head.version = version;
    head.head_len = head_len;
    head.fields_start = fields_start;
    let reason_start = (STATUS_LINE_BYTES_MIN + 1).min(fields_start - 2);
    head.reason = Span::new(reason_start, fields_start - 2);

    if let Some(fault) = lines.fault {
        return Err(fault);
    }
    if fields.nominations > 0 {
        fields.drop_nominated(buf, head)?;
    }
    head.has_date = fields.has_date;
    head.has_via = fields.has_via;
    head.content_length = fields.content_length;
    let is_1_0 = head.version == Version::Http10;
    head.close = fields.connection.close || (is_1_0 && !fields.connection.keep_alive);
    head.length = fields.body_length(head.version)?;

    let is_bodiless_status = head.is_interim() || status == 204;
    let declares_body = matches!(head.length, BodyLength::Chunked)
        || fields.content_length.is_some_and(|length| length > 0);
    if is_bodiless_status && declares_body {
        // Forbidden (RFC 9110 section 8.6, RFC 9112 section 6.1): what follows may be a body
        // after all, so nothing after it can be trusted.
        if head.is_interim() {
            return Err(ResponseError::Malformed("interim response with a body"));
        }
        head.close = true;
    }
    if request_was_head || is_bodiless_status || status == 304 {
        head.length = BodyLength::None;
    }
    head.close |= head.length == BodyLength::UntilClose;
    Ok(())
}

/// Treatment of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    Date,
    Via,
    Connection,
    ContentLength,
    TransferEncoding,
}

impl Fate {
    #[inline]
    fn of(name: &[u8]) -> Self {
        match name.len() {
            2 if is_name(name, b"te") => Self::Drop,
            3 if is_name(name, b"via") => Self::Via,
            4 if is_name(name, b"date") => Self::Date,
            7 if is_name(name, b"trailer") || is_name(name, b"upgrade") => Self::Drop,
            10 if is_name(name, b"connection") => Self::Connection,
            10 if is_name(name, b"keep-alive") => Self::Drop,
            12 if is_name(name, b"x-request-id") => Self::Drop,
            14 if is_name(name, b"content-length") => Self::ContentLength,
            16 if is_name(name, b"proxy-connection") => Self::Drop,
            17 if is_name(name, b"transfer-encoding") => Self::TransferEncoding,
            18 if is_name(name, b"proxy-authenticate") => Self::Drop,
            19 if is_name(name, b"proxy-authorization") => Self::Drop,
            19 if is_name(name, b"x-config-generation") => Self::Drop,
            25 if is_name(name, b"proxy-authentication-info") => Self::Drop,
            _ => Self::Pass,
        }
    }
}

/// Returns true for a field that `Connection` must not remove. Without it the client would
/// misread or miscache the content; such fields are never hop-by-hop (RFC 9110 section 7.6.1).
fn is_meant_for_all_recipients(name: &[u8]) -> bool {
    const NAMES: [&str; 8] = [
        "accept-ranges",
        "age",
        "cache-control",
        "date",
        "etag",
        "expires",
        "last-modified",
        "vary",
    ];
    const PREFIX: &[u8] = b"content-";
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Facts that the field lines of a response hold.
#[derive(Default)]
struct Fields {
    content_length: Option<u64>,
    transfer_coding: Option<TransferCoding>,
    connection: ConnectionOptions,
    /// Number of times that `Connection` names a field.
    nominations: usize,
    has_date: bool,
    has_via: bool,
}

impl Fields {
    /// Takes in one field that is not passed on.
    fn note(&mut self, fate: Fate, line: &FieldLine<'_>) -> Result<(), ResponseError> {
        match fate {
            Fate::Pass | Fate::Date | Fate::Drop => {}
            Fate::Via => self.has_via = true,
            Fate::Connection => {
                self.connection.read(line.value, |_| self.nominations += 1);
            }
            Fate::ContentLength => {
                if self.content_length.is_some() {
                    return Err(ResponseError::Malformed("Content-Length is repeated"));
                }
                let length = content_length(line.value);
                self.content_length =
                    Some(length.ok_or(ResponseError::Malformed("Content-Length"))?);
            }
            Fate::TransferEncoding => {
                if self.transfer_coding.is_some() {
                    return Err(ResponseError::Malformed("Transfer-Encoding is repeated"));
                }
                self.transfer_coding = Some(transfer_coding(line.value));
            }
        }
        Ok(())
    }

    /// Collects the passed fields again, now without those that `Connection` names.
    #[cold]
    fn drop_nominated(&self, buf: &[u8], head: &mut ResponseHead) -> Result<(), ResponseError> {
        if self.nominations > CONNECTION_OPTIONS_MAX {
            return Err(ResponseError::Malformed("too many connection options"));
        }
        let mut names = [&b""[..]; CONNECTION_OPTIONS_MAX];
        let mut unused = names.iter_mut();
        for value in head.header_values(buf, b"connection") {
            ConnectionOptions::default().read(value, |name| {
                unused.by_ref().take(1).for_each(|place| *place = name);
            });
        }
        let is_nominated = |name: &[u8]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let mut passed = FieldRuns::default();
        let mut lines = Lines::new(buf, head.fields_start);
        while let Ok(Some(line)) = lines.field() {
            let goes_on = matches!(Fate::of(line.name), Fate::Pass | Fate::Date);
            if goes_on && (is_meant_for_all_recipients(line.name) || !is_nominated(line.name)) {
                passed.push(line.start, lines.at())?;
            }
        }
        head.passed = passed;
        Ok(())
    }

    /// RFC 9112 section 6.3 without its cases for HEAD and status codes.
    fn body_length(&self, version: Version) -> Result<BodyLength, ResponseError> {
        match (self.transfer_coding, self.content_length) {
            (None, None) => Ok(BodyLength::UntilClose),
            (None, Some(length)) => Ok(BodyLength::Fixed(length)),
            (Some(_), Some(_)) => {
                Err(ResponseError::Malformed("Content-Length with Transfer-Encoding"))
            }
            (Some(_), None) if version == Version::Http10 => {
                Err(ResponseError::Malformed("Transfer-Encoding in HTTP/1.0"))
            }
            (Some(TransferCoding::Chunked), None) => Ok(BodyLength::Chunked),
            (Some(_), None) => Err(ResponseError::Malformed("Transfer-Encoding")),
        }
    }
}

/// Runs of passed field lines; lines that touch are one run.
#[derive(Clone, Copy, Debug, Default)]
struct FieldRuns {
    runs: [Span; FIELD_RUNS_MAX],
    len: usize,
}

impl FieldRuns {
    fn as_slice(&self) -> &[Span] {
        &self.runs[..self.len]
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds the lines from `start` up to `end`, if there are any.
    fn push(&mut self, start: usize, end: usize) -> Result<(), ResponseError> {
        if start == end {
            return Ok(());
        }
        let lines = Span::new(start, end);
        if let Some(last) = self.runs[..self.len].last_mut()
            && last.end() == start
        {
            *last = Span::new(last.start(), end);
            return Ok(());
        }
        let slot = self.runs.get_mut(self.len);
        *slot.ok_or(ResponseError::Malformed("too many hop-by-hop fields"))? = lines;
        self.len += 1;
        Ok(())
    }
}
