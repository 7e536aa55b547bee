//! Request heads: from bytes to a method, a path, a host and a framing, or a refusal.

use std::hint::cold_path;

use memchr::memchr;

use super::fields::{
    ConnectionOptions, TransferCoding, content_length, field_lines, head_values, line_end,
    transfer_coding, values_from_the_last,
};
use super::lines::{FieldLine, Lines, Unread};
use super::message::{Method, Progress, Version};
use super::scan::{HeadScan, Scanned};
use super::span::Span;
use super::target::{is_host, parse_target};
use crate::model::limits::Limits;
use crate::protocol::text::class::is_name;

#[cfg(test)]
mod tests;

/// Most header fields of a request, whatever `limits.headers` allows. Real ones have some dozens.
pub const HEADERS_MAX: usize = 256;

/// Longest method name, in bytes. The longest registered one
/// (`BASELINE-CONTROL`, `UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// Most field lines that are passed on to S3: each of the six once, and two repeated.
pub const FORWARDED_FIELDS_MAX: usize = 8;

/// Empty lines that may come before a request line (RFC 9112 section 2.2).
const LEADING_EMPTY_LINES_MAX: usize = 1;

const REQUEST_LINE: &str = "the request line is not made of a method, a target and a version";

/// Framing of a request body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is no body.
    #[default]
    None,
    /// This number of bytes follows the head.
    Fixed(u64),
    /// Chunks follow the head.
    Chunked,
}

/// Request fields that are passed on to S3. Nothing else of what a client sends reaches it, but for
/// the instances of this proxy that its `Via` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// `Range`
    Range,
    /// `If-Match`
    IfMatch,
    /// `If-None-Match`
    IfNoneMatch,
    /// `If-Modified-Since`
    IfModifiedSince,
    /// `If-Unmodified-Since`
    IfUnmodifiedSince,
    /// `If-Range`
    IfRange,
}

impl Forwarded {
    /// The field's name as it is written upstream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "Range",
            Self::IfMatch => "If-Match",
            Self::IfNoneMatch => "If-None-Match",
            Self::IfModifiedSince => "If-Modified-Since",
            Self::IfUnmodifiedSince => "If-Unmodified-Since",
            Self::IfRange => "If-Range",
        }
    }

    /// The field that has this name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name.len() {
            5 if is_name(name, b"range") => Some(Self::Range),
            8 if is_name(name, b"if-match") => Some(Self::IfMatch),
            8 if is_name(name, b"if-range") => Some(Self::IfRange),
            13 if is_name(name, b"if-none-match") => Some(Self::IfNoneMatch),
            17 if is_name(name, b"if-modified-since") => Some(Self::IfModifiedSince),
            19 if is_name(name, b"if-unmodified-since") => Some(Self::IfUnmodifiedSince),
            _ => None,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// One field line that is passed on to S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedField {
    /// Name of the field.
    pub field: Forwarded,
    /// Its value, without blanks around it.
    pub value: Span,
}

/// Reason to refuse a request head. One response is sent and the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// It breaks RFC 9112; the text says how, and holds nothing the client sent (400).
    Malformed(&'static str),
    /// A transfer coding that is not `chunked` (501, RFC 9112 section 6.1).
    UnknownTransferCoding,
    /// The target is longer than `limits.uri_bytes` (414).
    UriTooLong,
    /// Over `limits.header_bytes` or `limits.headers` (431).
    HeadTooLarge,
    /// `HTTP/` with a version other than 1.0 and 1.1 (505).
    VersionNotSupported,
    /// An `Expect` other than `100-continue` (417, RFC 9110 section 10.1.1).
    ExpectationFailed,
}

/// A parsed request head. It owns offsets into the buffer that was parsed and no bytes.
///
/// One value serves all requests of a connection in turn; between a [`Progress::Partial`] and
/// the next call it remembers how far the head was searched.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a message")]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method's name as sent.
    pub method_span: Span,
    /// The version.
    pub version: Version,
    /// The path as sent, without query: of an origin-form or absolute-form (`/` if that has
    /// none), `*` of `OPTIONS *`, the whole target of CONNECT.
    pub path: Span,
    /// Part of the target after its first `?`.
    pub query: Option<Span>,
    /// True for an absolute-form target with scheme `https`, which only a secured connection may
    /// serve (RFC 9110 section 7.4).
    pub https: bool,
    /// Host and port: those of an absolute-form target, else of `Host`. Empty only in HTTP/1.0.
    pub host: Span,
    /// Framing of the body.
    pub framing: RequestFraming,
    /// Set if the connection ends with this exchange (RFC 9112 section 9.3).
    pub close: bool,
    /// Set if an HTTP/1.0 client asked for `keep-alive`, which the response then confirms.
    pub keep_alive_asked: bool,
    /// Set if the client waits for 100 before it sends the body. Never in HTTP/1.0.
    pub expect_continue: bool,
    /// Bytes of the head, including the empty line that ends it.
    pub head_len: usize,
    has_via: bool,
    fields_start: usize,
    forwarded: ForwardedFields,
    scan: HeadScan,
}

impl RequestHead {
    /// The field lines to pass on to S3, in the order in which they came. Those that
    /// `Connection` names are not among them (RFC 9110 section 7.6.1).
    pub fn forwarded(&self) -> &[ForwardedField] {
        self.forwarded.as_slice()
    }

    /// The values of all fields called `name_lower` (in lower case), without blanks around
    /// them. Reads the validated lines of `buf` again, so it costs nothing until it is called.
    pub fn header_values<'b, 'n>(
        &self,
        buf: &'b [u8],
        name_lower: &'n [u8],
    ) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        head_values(buf, self.fields_start, self.head_len, name_lower)
    }

    /// The same values, those of the last field line first.
    pub fn header_values_from_the_last<'b, 'n>(
        &self,
        buf: &'b [u8],
        name_lower: &'n [u8],
    ) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        values_from_the_last(field_lines(buf, self.fields_start, self.head_len), name_lower)
    }

    /// The values of its `Via` fields, if there are any.
    pub fn via<'b>(&'b self, buf: &'b [u8]) -> Option<impl Iterator<Item = &'b [u8]>> {
        self.has_via.then(|| self.header_values(buf, b"via"))
    }

    /// Forgets an unfinished head, for a connection that starts anew with this value.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Checks the limits that apply to a head whose end has not come.
    fn check_partial(&self, buf: &[u8], limits: &Limits) -> Result<Progress, RequestError> {
        if self.scan.lines() == 0 {
            check_partial_line(buf.get(self.scan.line_start()..).unwrap_or_default(), limits)?;
        }
        let too_many_fields = self.scan.lines() > 1 + limits.headers.min(HEADERS_MAX);
        if buf.len() >= limits.header_bytes || too_many_fields {
            return Err(RequestError::HeadTooLarge);
        }
        Ok(Progress::Partial)
    }
}

/// Parses the request head at the start of `buf`.
///
/// On [`Progress::Complete`] all of `head` is written. Bytes after `head.head_len` belong to the
/// body or the next request. On [`Progress::Partial`] the caller appends bytes and calls again
/// with the same `head` and all bytes so far. One empty line may come before the head.
///
/// # Errors
/// Limits are held on partial input too. After an error the connection cannot be used for
/// another request: where the next one starts is unknown.
pub fn parse_request(
    buf: &[u8],
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Progress, RequestError> {
    let parsed = parse_or_scan(buf, limits, head);
    if parsed != Ok(Progress::Partial) {
        head.scan = HeadScan::default();
    }
    parsed
}

fn parse_or_scan(
    buf: &[u8],
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Progress, RequestError> {
    if head.scan.is_started() && scan(buf, head)? == Scanned::Partial {
        return head.check_partial(buf, limits);
    }
    match read_lines(buf, limits, head) {
        Ok(lines) => {
            settle(buf, &lines, limits, head)?;
            Ok(Progress::Complete)
        }
        Err(Unread::Partial) => match scan(buf, head)? {
            Scanned::Partial => head.check_partial(buf, limits),
            Scanned::Terminated => {
                Err(RequestError::Malformed("a line of the head cannot be read"))
            }
        },
        Err(unread) => Err(refusal(buf, limits, unread)),
    }
}

fn scan(buf: &[u8], head: &mut RequestHead) -> Result<Scanned, RequestError> {
    head.scan.advance(buf, LEADING_EMPTY_LINES_MAX).map_err(RequestError::Malformed)
}

/// Refuses a request line that is too long already, although its end has not come.
fn check_partial_line(line: &[u8], limits: &Limits) -> Result<(), RequestError> {
    if line.len() <= limits.uri_bytes.min(METHOD_BYTES_MAX) {
        return Ok(());
    }
    let method_part = &line[..line.len().min(METHOD_BYTES_MAX + 1)];
    let Some(method_len) = memchr(b' ', method_part) else {
        return if line.len() > METHOD_BYTES_MAX {
            Err(RequestError::Malformed("the method is longer than 32 characters"))
        } else {
            Ok(())
        };
    };
    let target = &line[method_len + 1..];
    if target.len() <= limits.uri_bytes {
        return Ok(());
    }
    match memchr(b' ', target) {
        Some(target_len) if target_len <= limits.uri_bytes => Ok(()),
        _ => Err(RequestError::UriTooLong),
    }
}

/// The refusal of a line that cannot be read.
#[cold]
fn refusal(buf: &[u8], limits: &Limits, unread: Unread) -> RequestError {
    match unread {
        Unread::TooManyFields => RequestError::HeadTooLarge,
        Unread::Version => version_refusal(buf, limits),
        Unread::RequestLine => RequestError::Malformed(REQUEST_LINE),
        Unread::FieldName => RequestError::Malformed(
            "a field name holds a character that none may have, or has a blank behind it",
        ),
        Unread::FieldValue => RequestError::Malformed("a field value holds a control character"),
        Unread::LineEnd | Unread::StatusLine | Unread::Partial => {
            RequestError::Malformed("a line does not end in CR LF")
        }
    }
}

/// 505 for a well-formed version that is not ours, 400 for anything else in its place.
fn version_refusal(buf: &[u8], limits: &Limits) -> RequestError {
    let start = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    let end = line_end(buf, start).unwrap_or(buf.len());
    let line = buf.get(start..end).unwrap_or_default();
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let target = parts.nth(1).unwrap_or_default();
    let version = parts.next().unwrap_or_default();
    if target.len() > limits.uri_bytes {
        return RequestError::UriTooLong;
    }
    match version.strip_suffix(b"\r\n").unwrap_or(version) {
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            RequestError::VersionNotSupported
        }
        _ => RequestError::Malformed("the request line does not end in a version of HTTP"),
    }
}

/// A head of which every line could be read.
struct HeadLines<'b> {
    /// Offset of the request line.
    start: usize,
    method: &'b [u8],
    target: &'b [u8],
    version: Version,
    /// Offset of the first field line.
    fields_start: usize,
    fields: Fields,
    /// The first fault of a field.
    fault: Option<RequestError>,
    head_len: usize,
    has_bare_lf: bool,
}

/// Reads all lines. The forwarded fields go to `head`.
fn read_lines<'b>(
    buf: &'b [u8],
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<HeadLines<'b>, Unread> {
    let mut lines = Lines::new(buf, 0);
    lines.skip_empty_lines()?;
    let start = lines.at();
    let method = lines.method()?;
    let target = lines.target()?;
    let version = lines.version()?;
    lines.end_of_line()?;
    let fields_start = lines.at();
    let (mut fields, mut fault) = (Fields::default(), None);
    head.forwarded.clear();
    let mut fields_left = limits.headers.min(HEADERS_MAX);
    while let Some(line) = lines.field()? {
        if fields_left == 0 {
            return Err(Unread::TooManyFields);
        }
        fields_left -= 1;
        if let Err(error) = fields.note(&line, &mut head.forwarded) {
            cold_path();
            fault.get_or_insert(error);
        }
    }
    Ok(HeadLines {
        start,
        method,
        target,
        version,
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
    lines: &HeadLines<'_>,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<(), RequestError> {
    let &HeadLines { start, method, target, version, head_len, ref fields, .. } = lines;
    if target.len() > limits.uri_bytes {
        return Err(RequestError::UriTooLong);
    }
    if head_len > limits.header_bytes {
        return Err(RequestError::HeadTooLarge);
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(RequestError::Malformed("the method is longer than 32 characters"));
    }
    if start > 0 && &buf[..start] != b"\r\n" {
        return Err(RequestError::Malformed("more than one empty line is before the request line"));
    }
    if lines.has_bare_lf {
        return Err(RequestError::Malformed("a line ends in LF alone"));
    }

    head.method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"OPTIONS" => Method::Options,
        _ => Method::Other,
    };
    let target_at = start + method.len() + 1;
    head.method_span = Span::new(start, target_at - 1);
    head.version = version;
    head.head_len = head_len;
    head.fields_start = lines.fields_start;
    let target =
        parse_target(head.method, method, target, target_at).map_err(RequestError::Malformed)?;
    head.path = target.path;
    head.query = target.query;
    head.https = target.https;

    if let Some(fault) = lines.fault {
        return Err(fault);
    }
    head.host = match (fields.host, target.authority) {
        (None, _) if head.version == Version::Http11 => {
            return Err(RequestError::Malformed("Host is missing"));
        }
        (_, Some(authority)) => authority,
        (host, None) => host.unwrap_or_default(),
    };
    head.framing = fields.framing(head.version)?;
    let is_1_0 = head.version == Version::Http10;
    head.keep_alive_asked = is_1_0 && fields.connection.keep_alive && !fields.connection.close;
    head.close = fields.connection.close || (is_1_0 && !head.keep_alive_asked);
    if fields.expects_other {
        return Err(RequestError::ExpectationFailed);
    }
    // An HTTP/1.0 client cannot understand 100 (RFC 9110 section 10.1.1).
    head.expect_continue = fields.expects_continue && !is_1_0;
    head.has_via = fields.has_via;
    head.forwarded.remove(fields.nominated);
    Ok(())
}

/// Facts that the field lines of a request hold.
#[derive(Default)]
struct Fields {
    host: Option<Span>,
    content_length: Option<u64>,
    transfer_coding: Option<TransferCoding>,
    connection: ConnectionOptions,
    expects_continue: bool,
    expects_other: bool,
    has_via: bool,
    /// [`Forwarded::bit`]s of the fields that `Connection` names.
    nominated: u8,
}

impl Fields {
    /// Takes in one field. One to be forwarded is added to `forwarded`.
    #[inline]
    fn note(
        &mut self,
        line: &FieldLine<'_>,
        forwarded: &mut ForwardedFields,
    ) -> Result<(), RequestError> {
        let (name, value) = (line.name, line.value);
        let value_span = || Span::new(line.value_at, line.value_at + value.len());
        match name.len() {
            3 => self.has_via |= is_name(name, b"via"),
            4 if is_name(name, b"host") => {
                if self.host.is_some() {
                    return Err(RequestError::Malformed("Host is repeated"));
                }
                if !is_host(value) {
                    return Err(RequestError::Malformed(
                        "Host is not a host with an optional port",
                    ));
                }
                self.host = Some(value_span());
            }
            6 if is_name(name, b"expect") => {
                let is_continue = value.eq_ignore_ascii_case(b"100-continue");
                self.expects_continue |= is_continue;
                self.expects_other |= !is_continue;
            }
            10 if is_name(name, b"connection") => self.note_connection(value),
            14 if is_name(name, b"content-length") => {
                if self.content_length.is_some() {
                    return Err(RequestError::Malformed("Content-Length is repeated"));
                }
                let length = content_length(value);
                self.content_length =
                    Some(length.ok_or(RequestError::Malformed("Content-Length is not a number"))?);
            }
            17 if is_name(name, b"transfer-encoding") => {
                if self.transfer_coding.is_some() {
                    return Err(RequestError::Malformed("Transfer-Encoding is repeated"));
                }
                self.transfer_coding = Some(transfer_coding(value));
            }
            5 | 8 | 13 | 17 | 19 => {
                if let Some(field) = Forwarded::from_name(name) {
                    forwarded.push(ForwardedField { field, value: value_span() })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        let nominated = &mut self.nominated;
        self.connection.read(value, |option| {
            *nominated |= Forwarded::from_name(option).map_or(0, Forwarded::bit);
        });
    }

    /// RFC 9112 sections 6.1 to 6.3, with every ambiguity refused.
    fn framing(&self, version: Version) -> Result<RequestFraming, RequestError> {
        match (self.transfer_coding, self.content_length) {
            (None, None) => Ok(RequestFraming::None),
            (None, Some(length)) => Ok(RequestFraming::Fixed(length)),
            (Some(_), Some(_)) => {
                Err(RequestError::Malformed("both Content-Length and Transfer-Encoding are there"))
            }
            (Some(_), None) if version == Version::Http10 => {
                Err(RequestError::Malformed("Transfer-Encoding is in a request of HTTP/1.0"))
            }
            (Some(TransferCoding::Chunked), None) => Ok(RequestFraming::Chunked),
            (Some(TransferCoding::Unknown), None) => Err(RequestError::UnknownTransferCoding),
            (Some(TransferCoding::Malformed), None) => {
                Err(RequestError::Malformed("Transfer-Encoding is malformed"))
            }
        }
    }
}

/// A few [`ForwardedField`]s in place.
#[derive(Clone, Copy, Debug)]
struct ForwardedFields {
    fields: [ForwardedField; FORWARDED_FIELDS_MAX],
    len: usize,
}

impl Default for ForwardedFields {
    fn default() -> Self {
        let unused = ForwardedField { field: Forwarded::Range, value: Span::default() };
        Self { fields: [unused; FORWARDED_FIELDS_MAX], len: 0 }
    }
}

impl ForwardedFields {
    fn as_slice(&self) -> &[ForwardedField] {
        &self.fields[..self.len]
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn push(&mut self, field: ForwardedField) -> Result<(), RequestError> {
        *self.fields.get_mut(self.len).ok_or(RequestError::HeadTooLarge)? = field;
        self.len += 1;
        Ok(())
    }

    /// Drops the fields whose [`Forwarded::bit`] is set in `nominated`.
    fn remove(&mut self, nominated: u8) {
        if nominated == 0 {
            return;
        }
        let mut kept = 0;
        for at in 0..self.len {
            if self.fields[at].field.bit() & nominated == 0 {
                self.fields[kept] = self.fields[at];
                kept += 1;
            }
        }
        self.len = kept;
    }
}
