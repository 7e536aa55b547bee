//! The value of a field, and its forms: JSON, logfmt, and inside a template.

use std::{
    borrow::Cow,
    io::Write,
    net::{IpAddr, SocketAddr},
};

use super::{
    field::Field,
    more::{More, bounded, bounded_list, without_query, without_secrets},
    record::{AccessRecord, write_address, write_milliseconds},
    second::Second,
};
use crate::{
    model::ClientAddress,
    protocol::text::{class::all_are, decimal::append_decimal},
    telemetry::text::{write_inside, write_string},
};

/// `log` of every line.
pub(super) const LOG: &str = "access";

/// Methods that `http.request.method` names (RFC 9110 section 9.3, RFC 5789).
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Value of a field.
#[derive(Clone, Debug)]
pub(super) enum Value<'r> {
    /// The request has no such thing.
    Absent,
    /// A word of ours, which stands for itself in every form.
    Word(&'static str),
    /// Text that may hold anything.
    Text(Cow<'r, [u8]>),
    /// The same as the only element of a list, as OpenTelemetry has the values of header fields.
    Listed(Cow<'r, [u8]>),
    Number(u64),
    /// Microseconds, written as milliseconds.
    Milliseconds(u64),
    Flag(bool),
    /// Milliseconds since 1970.
    Time(u64),
    Address(ClientAddress),
    Ip(IpAddr),
}

impl<'r> Value<'r> {
    /// The value of a field of this request.
    pub(super) fn of(field: Field, record: &'r AccessRecord<'_>) -> Self {
        match field {
            Field::Log => Self::Word(LOG),
            Field::Time => Self::Time(record.unix_ms),
            Field::RequestId => text(record.request_id),
            Field::TraceId => text(record.trace_id),
            Field::ParentId => record.parent_id.map_or(Self::Absent, text),
            Field::Client => Self::Address(record.client),
            Field::Peer => Self::Address(record.peer),
            Field::TlsVersion => record.tls.map_or(Self::Absent, |tls| Self::Word(tls.version)),
            Field::TlsCipher | Field::OtelTlsCipher => {
                record.tls.map_or(Self::Absent, |tls| Self::Word(tls.cipher))
            }
            Field::Sni | Field::OtelSni => words(record.tls.and_then(|tls| tls.sni)),
            Field::Protocol => record.protocol.map_or(Self::Absent, Self::Word),
            Field::Method => text(record.method),
            Field::Path | Field::OtelPath => text(without_query(record.path)),
            Field::Bucket => words_of(record.bucket),
            Field::Credentials => words_of(record.credentials),
            Field::Status => Self::Number(record.status.into()),
            Field::Code => words_of(record.code),
            Field::AuthReason => words_of(record.auth_reason),
            Field::Bytes | Field::OtelBodySize => Self::Number(record.bytes),
            Field::DurationMs => Self::Milliseconds(record.duration_us),
            Field::UpstreamMs => record.upstream_us.map_or(Self::Absent, Self::Milliseconds),
            Field::Generation => Self::Number(record.generation),
            Field::Sub => words(record.sub),
            Field::Aborted => Self::Flag(record.aborted.is_some()),
            Field::AbortedBy => record.aborted.map_or(Self::Absent, |by| Self::Word(by.name())),
            Field::OtelClientAddress => Self::Ip(record.client.ip()),
            Field::OtelClientPort => number(record.client.port()),
            Field::OtelPeerAddress => Self::Ip(record.peer.ip()),
            Field::OtelPeerPort => number(record.peer.port()),
            Field::OtelProtocolName => record.protocol.map_or(Self::Absent, |_| Self::Word("http")),
            Field::OtelProtocolVersion => version(record.protocol, "HTTP/"),
            Field::OtelTlsVersion => version(record.tls.map(|tls| tls.version), "TLSv"),
            Field::OtelMethod => match registered(record.method) {
                _ if record.method.is_empty() => Self::Absent,
                Some(name) => Self::Word(name),
                None => Self::Word("_OTHER"),
            },
            Field::OtelMethodOriginal if registered(record.method).is_none() => {
                text_of(record.method)
            }
            Field::OtelMethodOriginal => Self::Absent,
            Field::OtelScheme => Self::Word(if record.tls.is_some() { "https" } else { "http" }),
            // There is none without a response.
            Field::OtelStatus => number(Some(record.status).filter(|status| *status > 0)),
            Field::OtelErrorType => error_type(record),
            _ => record.more.map_or(Self::Absent, |more| Self::of_more(field, more)),
        }
    }

    fn of_more(field: Field, more: &'r More<'_>) -> Self {
        match field {
            Field::Host => text_of(more.host),
            Field::OtelRoute => words_of(more.route),
            Field::OtelServerAddress => text_of(host_and_port(bounded(more.host)).0),
            Field::OtelServerPort => number(host_and_port(bounded(more.host)).1),
            Field::UserAgent | Field::OtelUserAgent => {
                more.user_agent.map_or(Self::Absent, bounded_text)
            }
            Field::Referer => {
                more.referer.map_or(Self::Absent, |value| Self::Text(without_secrets(value)))
            }
            Field::OtelReferer => {
                more.referer.map_or(Self::Absent, |value| Self::Listed(without_secrets(value)))
            }
            Field::XForwardedFor => {
                more.x_forwarded_for.as_deref().map_or(Self::Absent, |all| text(bounded_list(all)))
            }
            Field::OtelXForwardedFor => more
                .x_forwarded_for
                .as_deref()
                .map_or(Self::Absent, |all| listed(bounded_list(all))),
            Field::Range => more.range.map_or(Self::Absent, bounded_text),
            Field::OtelRange => more.range.map_or(Self::Absent, listed),
            Field::UpstreamAddress => more
                .upstream_address
                .map_or(Self::Absent, |address: SocketAddr| Self::Address(address.into())),
            Field::UpstreamStatus => number(more.upstream_status),
            Field::Attempts => Self::Number(more.attempts.into()),
            Field::S3RequestId | Field::OtelAwsRequestId => {
                more.s3_request_id.map_or(Self::Absent, bounded_text)
            }
            Field::TtfbMs => more.first_byte_us.map_or(Self::Absent, Self::Milliseconds),
            Field::Kid => words(more.key_id),
            _ => Self::Absent,
        }
    }

    /// Writes it as JSON.
    pub(super) fn write_json(&self, second: &mut Second, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.extend_from_slice(b"null"),
            Self::Text(text) => write_string(text, out),
            Self::Listed(text) => {
                out.push(b'[');
                write_string(text, out);
                out.push(b']');
            }
            Self::Word(_) | Self::Time(_) | Self::Address(_) | Self::Ip(_) => {
                out.push(b'"');
                self.write_inside(second, out);
                out.push(b'"');
            }
            Self::Number(_) | Self::Milliseconds(_) | Self::Flag(_) => {
                self.write_inside(second, out);
            }
        }
    }

    /// Writes it as a value of logfmt: in quotes, as in JSON, unless it has nothing that would end
    /// or change it. What is absent is not written at all.
    pub(super) fn write_logfmt(&self, second: &mut Second, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) | Self::Listed(text) => {
                if !text.is_empty() && all_are(text, is_bare) {
                    out.extend_from_slice(text);
                } else {
                    write_string(text, out);
                }
            }
            _ => self.write_inside(second, out),
        }
    }

    /// Writes it as it stands inside other text: `-` for what is absent, and characters that could
    /// end a quoted value, or the line, escaped as in JSON.
    pub(super) fn write_inside(&self, second: &mut Second, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.push(b'-'),
            Self::Word(word) => out.extend_from_slice(word.as_bytes()),
            Self::Text(text) | Self::Listed(text) if text.is_empty() => out.push(b'-'),
            Self::Text(text) | Self::Listed(text) => write_inside(text, out),
            Self::Number(number) => append_decimal(*number, out),
            Self::Milliseconds(us) => write_milliseconds(*us, out),
            Self::Flag(true) => out.extend_from_slice(b"true"),
            Self::Flag(false) => out.extend_from_slice(b"false"),
            Self::Time(unix_ms) => second.write_time(*unix_ms, out),
            Self::Address(address) => write_address(*address, out),
            // A Vec takes everything that is written to it.
            Self::Ip(ip) => drop(write!(out, "{ip}")),
        }
    }
}

/// Returns true for a byte that needs no quotes in logfmt.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
const fn is_bare(byte: u8) -> bool {
    (byte.wrapping_sub(b'!') < 0x5e) & (byte != b'"') & (byte != b'\\') & (byte != b'=')
}

fn text(bytes: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(bytes))
}

/// The same; nothing if it is empty.
fn text_of(bytes: &[u8]) -> Value<'_> {
    if bytes.is_empty() { Value::Absent } else { bounded_text(bytes) }
}

fn bounded_text(bytes: &[u8]) -> Value<'_> {
    text(bounded(bytes))
}

fn listed(bytes: &[u8]) -> Value<'_> {
    Value::Listed(Cow::Borrowed(bounded(bytes)))
}

fn words(words: Option<&str>) -> Value<'_> {
    words.map_or(Value::Absent, |words| text(words.as_bytes()))
}

fn words_of(name: &str) -> Value<'_> {
    words(Some(name).filter(|name| !name.is_empty()))
}

fn number<'r>(number: Option<u16>) -> Value<'r> {
    number.map_or(Value::Absent, |number| Value::Number(number.into()))
}

fn version<'r>(name: Option<&'static str>, prefix: &str) -> Value<'r> {
    name.and_then(|name| name.strip_prefix(prefix)).map_or(Value::Absent, Value::Word)
}

fn registered(method: &[u8]) -> Option<&'static str> {
    METHODS.into_iter().find(|name| name.as_bytes() == method)
}

/// Class of the failure that a request ended with, as far as this server is to blame (status 500
/// and above), or the response did not arrive.
fn error_type<'r>(record: &'r AccessRecord<'_>) -> Value<'r> {
    match (record.status, record.aborted) {
        (500.., _) if record.code.is_empty() => {
            Value::Text(record.status.to_string().into_bytes().into())
        }
        (500.., _) => words_of(record.code),
        (_, Some(by)) => Value::Word(by.error_type()),
        _ => Value::Absent,
    }
}

/// Host and port of an authority (RFC 3986 section 3.2): an IPv6 address without its brackets.
fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let (host, port) = match memchr::memrchr(b':', authority) {
        Some(colon) if !authority[colon..].contains(&b']') => {
            let digits = str::from_utf8(&authority[colon + 1..]).ok();
            (&authority[..colon], digits.and_then(|digits| digits.parse().ok()))
        }
        _ => (authority, None),
    };
    let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    (inner.unwrap_or(host), port)
}
