//! One request as a JSON line.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    more::{More, without_query},
    second::Second,
};
use crate::{
    model::ClientAddress,
    protocol::text::decimal::{append_decimal, last_digits},
    telemetry::text::write_string,
};

/// Facts that are logged of one request. Bytes that came from the client may hold anything.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// End of the request, in milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// The id that was sent as `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The trace that the request belongs to.
    pub trace_id: &'a [u8],
    /// Part of the trace that a trusted proxy sent the request in.
    pub parent_id: Option<&'a [u8]>,
    /// The client, as found behind trusted proxies.
    pub client: ClientAddress,
    /// The other end of the connection, or the source that its PROXY protocol header names.
    pub peer: ClientAddress,
    /// The TLS session that the request came through; none without TLS.
    pub tls: Option<TlsFacts<'a>>,
    /// Protocol with its version, such as `HTTP/1.1`; none if no request could be read.
    pub protocol: Option<&'static str>,
    /// Method token as received.
    pub method: &'a [u8],
    /// Path as received, not decoded. Anything from `?` or `#` on is left out.
    pub path: &'a [u8],
    /// Bucket that the path was routed to; empty if none.
    pub bucket: &'a str,
    /// Name of the source of the bucket's credentials; empty for keys of the configuration.
    pub credentials: &'a str,
    /// Status of the response.
    pub status: u16,
    /// Error code of a response of the proxy's own ([`Fault::code`](crate::model::Fault::code));
    /// empty if none.
    pub code: &'a str,
    /// Exact reason to refuse the token; empty if it was not refused.
    pub auth_reason: &'a str,
    /// Response body bytes sent.
    pub bytes: u64,
    /// From the end of the request's head to the last byte of the response, in microseconds.
    pub duration_us: u64,
    /// From the request being sent to S3 to the first byte of its response, in microseconds.
    pub upstream_us: Option<u64>,
    /// Configuration generation that the request was served with.
    pub generation: u64,
    /// `sub` claim of the token that permitted the request.
    pub sub: Option<&'a str>,
    /// The side that cut the response short, if it was.
    pub aborted: Option<AbortedBy>,
    /// Facts that only some lines have ([`AccessLogRules::needs`](super::AccessLogRules::needs)).
    pub more: Option<&'a More<'a>>,
}

/// The side that cut a response short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortedBy {
    /// The client left, or took nothing for too long.
    Client,
    /// S3 failed in the middle of a body.
    Upstream,
    /// This proxy, because it stops or cannot go on.
    Proxy,
}

impl AbortedBy {
    /// Its word in a line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        }
    }

    /// `error.type` of OpenTelemetry.
    pub(super) const fn error_type(self) -> &'static str {
        match self {
            Self::Client => "aborted_by_client",
            Self::Upstream => "aborted_by_upstream",
            Self::Proxy => "aborted_by_proxy",
        }
    }
}

/// Facts about a TLS session.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'a> {
    /// Version, such as `TLSv1.3`.
    pub version: &'static str,
    /// Cipher suite, as IANA names it.
    pub cipher: &'static str,
    /// Host name that the client asked for.
    pub sni: Option<&'a str>,
}

#[cfg(test)]
impl AccessRecord<'static> {
    /// A request for an object that was served.
    pub(crate) const EXAMPLE: Self = Self {
        unix_ms: 1_772_323_199_999,
        request_id: b"01JABC",
        trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
        parent_id: Some(b"00f067aa0ba902b7"),
        client: ClientAddress::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), Some(51_234)),
        peer: ClientAddress::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), Some(443)),
        tls: None,
        protocol: Some("HTTP/1.1"),
        method: b"GET",
        path: b"/products/a%20b.jpg",
        bucket: "products",
        credentials: "",
        status: 200,
        code: "",
        auth_reason: "",
        bytes: 1_024,
        duration_us: 1_234,
        upstream_us: Some(987),
        generation: 42,
        sub: Some("alice"),
        aborted: None,
        more: None,
    };
}

/// Appends one line of JSON with the usual fields, newline included. Allocates only if `out` must
/// grow. `second` is that of the line before, if there was one.
pub fn write_record(record: &AccessRecord<'_>, second: &mut Second, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":\"access\",\"time\":\"");
    second.write_time(record.unix_ms, out);
    out.extend_from_slice(b"\",\"request_id\":");
    write_string(record.request_id, out);
    // Digits, which stand for themselves.
    out.extend_from_slice(b",\"trace_id\":\"");
    out.extend_from_slice(record.trace_id);
    out.extend_from_slice(b"\",\"parent_id\":");
    match record.parent_id {
        Some(id) => write_string(id, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"client\":\"");
    let start = out.len();
    write_address(record.client, out);
    let client = start..out.len();
    out.extend_from_slice(b"\",\"peer\":\"");
    if record.peer == record.client {
        out.extend_from_within(client);
    } else {
        write_address(record.peer, out);
    }
    out.push(b'"');
    match &record.tls {
        None => out.extend_from_slice(NO_TLS),
        Some(tls) => write_tls(tls, out),
    }
    // A name of ours holds nothing to escape.
    for part in match record.protocol {
        Some(name) => [",\"protocol\":\"", name, "\",\"method\":"],
        None => [",\"protocol\":", "null", ",\"method\":"],
    } {
        out.extend_from_slice(part.as_bytes());
    }
    write_string(record.method, out);
    out.extend_from_slice(b",\"path\":");
    write_string(without_query(record.path), out);
    out.extend_from_slice(b",\"bucket\":");
    write_optional(Some(record.bucket).filter(|bucket| !bucket.is_empty()), out);
    out.extend_from_slice(b",\"credentials\":");
    write_optional(Some(record.credentials).filter(|source| !source.is_empty()), out);
    out.extend_from_slice(b",\"status\":");
    append_decimal(u64::from(record.status), out);
    out.extend_from_slice(b",\"code\":");
    write_optional(Some(record.code).filter(|code| !code.is_empty()), out);
    out.extend_from_slice(b",\"auth_reason\":");
    write_optional(Some(record.auth_reason).filter(|reason| !reason.is_empty()), out);
    out.extend_from_slice(b",\"bytes\":");
    append_decimal(record.bytes, out);
    out.extend_from_slice(b",\"duration_ms\":");
    write_milliseconds(record.duration_us, out);
    out.extend_from_slice(b",\"upstream_ms\":");
    match record.upstream_us {
        Some(upstream_us) => write_milliseconds(upstream_us, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"generation\":");
    append_decimal(record.generation, out);
    out.extend_from_slice(b",\"sub\":");
    write_optional(record.sub, out);
    out.extend_from_slice(if record.aborted.is_some() {
        b",\"aborted\":true}\n"
    } else {
        b",\"aborted\":false}\n"
    });
}

const NO_TLS: &[u8] = b",\"tls_version\":null,\"tls_cipher\":null,\"sni\":null";

fn write_tls(tls: &TlsFacts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"tls_version\":");
    write_string(tls.version.as_bytes(), out);
    out.extend_from_slice(b",\"tls_cipher\":");
    write_string(tls.cipher.as_bytes(), out);
    out.extend_from_slice(b",\"sni\":");
    write_optional(tls.sni, out);
}

fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_string(text.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    }
}

/// As `Display` of the address.
pub(super) fn write_address(address: ClientAddress, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => write_ipv4(ip, out),
        // A Vec takes everything that is written to it.
        IpAddr::V6(ip) => drop(write!(out, "[{ip}]")),
    }
    if let Some(port) = address.port() {
        out.push(b':');
        append_decimal(u64::from(port), out);
    }
}

fn write_ipv4(address: Ipv4Addr, out: &mut Vec<u8>) {
    for (position, octet) in address.octets().into_iter().enumerate() {
        if position > 0 {
            out.push(b'.');
        }
        append_decimal(u64::from(octet), out);
    }
}

/// Microseconds as milliseconds with three decimals.
pub(super) fn write_milliseconds(microseconds: u64, out: &mut Vec<u8>) {
    append_decimal(microseconds / 1_000, out);
    out.push(b'.');
    out.extend_from_slice(&last_digits::<3>(microseconds % 1_000));
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn line(record: &AccessRecord<'_>) -> String {
        let mut out = Vec::new();
        write_record(record, &mut Second::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn json(record: &AccessRecord<'_>) -> Value {
        serde_json::from_str(&line(record)).unwrap()
    }

    #[test]
    fn a_line_reads_as_documented() {
        assert_eq!(
            line(&AccessRecord::EXAMPLE),
            "{\"log\":\"access\",\"time\":\"2026-02-28T23:59:59.999Z\",\"request_id\":\"01JABC\",\
             \"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"parent_id\":\"00f067aa0ba902b7\",\
             \"client\":\"203.0.113.9:51234\",\"peer\":\"10.0.0.1:443\",\"tls_version\":null,\
             \"tls_cipher\":null,\"sni\":null,\"protocol\":\"HTTP/1.1\",\
             \"method\":\"GET\",\"path\":\"/products/a%20b.jpg\",\
             \"bucket\":\"products\",\"credentials\":null,\"status\":200,\"code\":null,\"auth_reason\":null,\
             \"bytes\":1024,\"duration_ms\":1.234,\"upstream_ms\":0.987,\"generation\":42,\"sub\":\"alice\",\
             \"aborted\":false}\n"
        );
    }

    #[test]
    fn the_documentation_lists_exactly_these_fields() {
        let page = include_str!("../../../docs/METRICS.md");
        let table = page.split_once("| Field | Type | Meaning |\n").unwrap().1;
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let documented: Vec<_> = rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect();
        let line = line(&AccessRecord::EXAMPLE);
        let written: Vec<_> =
            line.split(",\"").map(|part| part.trim_start_matches("{\"")).collect();
        let written: Vec<_> = written.iter().map(|part| part.split('"').next().unwrap()).collect();
        assert_eq!(documented, written);
    }

    #[test]
    fn what_is_absent_is_null() {
        let record = AccessRecord {
            protocol: None,
            bucket: "",
            code: "no_route",
            upstream_us: None,
            parent_id: None,
            sub: None,
            aborted: Some(AbortedBy::Client),
            ..AccessRecord::EXAMPLE
        };
        let json = json(&record);
        for field in
            ["parent_id", "protocol", "bucket", "credentials", "auth_reason", "upstream_ms", "sub"]
        {
            assert_eq!(json[field], Value::Null, "{field}");
        }
        assert_eq!(json["code"], "no_route");
        assert_eq!(json["aborted"], true);
    }

    #[test]
    fn a_tls_session_is_described() {
        let tls = TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            sni: Some("s3.example"),
        };
        let described = json(&AccessRecord { tls: Some(tls), ..AccessRecord::EXAMPLE });
        assert_eq!(described["tls_version"], "TLSv1.3");
        assert_eq!(described["tls_cipher"], "TLS_AES_128_GCM_SHA256");
        assert_eq!(described["sni"], "s3.example");
        let tls = Some(TlsFacts { sni: None, ..tls });
        assert_eq!(json(&AccessRecord { tls, ..AccessRecord::EXAMPLE })["sni"], Value::Null);
    }

    #[test]
    fn a_query_never_reaches_the_log() {
        for path in [&b"/a?token=secret"[..], b"/a#token=secret", b"/a?x#token=secret"] {
            assert_eq!(json(&AccessRecord { path, ..AccessRecord::EXAMPLE })["path"], "/a");
        }
    }

    #[test]
    fn hostile_bytes_are_escaped() {
        let path = b"/\"\\\n\r\t\0\x1b[31m\x7f\xc2\x9b\xff\xed\xa0\x80\xe2\x82\xac";
        let line = line(&AccessRecord { path, ..AccessRecord::EXAMPLE });
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains(|c: char| c.is_control() && c != '\n'), "{line}");
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            json["path"],
            "/\"\\\n\r\t\0\u{1b}[31m\u{7f}\u{9b}\u{fffd}\u{fffd}\u{fffd}\u{fffd}€"
        );
    }

    #[test]
    fn what_reorders_or_breaks_a_line_is_escaped() {
        let sub = "a\u{202e}b\u{2028}c\u{2066}d\u{61c}e\u{200f}f\u{85}g\u{2029}€";
        let line =
            line(&AccessRecord { sub: Some(sub), path: sub.as_bytes(), ..AccessRecord::EXAMPLE });
        assert!(
            line.contains("a\\u202eb\\u2028c\\u2066d\\u061ce\\u200ff\\u0085g\\u2029€"),
            "{line}"
        );
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((json["sub"].as_str(), json["path"].as_str()), (Some(sub), Some(sub)));
    }

    #[test]
    fn addresses_are_written_with_their_port_where_it_is_known() {
        for (address, text) in [
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7:80"),
            ("255.255.255.255:0", "255.255.255.255:0"),
        ] {
            let whole = ClientAddress::from(address.parse::<SocketAddr>().unwrap());
            let alone = ClientAddress::new(whole.ip(), None);
            let text_alone = text.rsplit_once(':').unwrap().0;
            for (client, peer, texts) in [
                (whole, alone, [text, text_alone]),
                (alone, whole, [text_alone, text]),
                (whole, whole, [text, text]),
            ] {
                let json = json(&AccessRecord { client, peer, ..AccessRecord::EXAMPLE });
                assert_eq!([&json["client"], &json["peer"]], texts);
            }
        }
    }

    #[test]
    fn known_times() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_704_067_199_999, "2023-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(json(&AccessRecord { unix_ms, ..AccessRecord::EXAMPLE })["time"], text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_valid_line(
            path in proptest::collection::vec(any::<u8>(), 0..64),
            id in proptest::collection::vec(any::<u8>(), 0..64),
            sub in any::<String>(),
            numbers in any::<[u64; 4]>(),
        ) {
            let record = AccessRecord {
                unix_ms: numbers[0] >> 20,
                path: &path,
                request_id: &id,
                sub: Some(&sub),
                bytes: numbers[1],
                duration_us: numbers[2],
                generation: numbers[3],
                ..AccessRecord::EXAMPLE
            };
            let line = line(&record);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let json: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(json["sub"].as_str(), Some(&*sub));
            prop_assert_eq!(json["bytes"].as_u64(), Some(numbers[1]));
            prop_assert_eq!(json["generation"].as_u64(), Some(numbers[3]));
            let lossy = String::from_utf8_lossy(&id);
            prop_assert_eq!(json["request_id"].as_str(), Some(&*lossy));
        }
    }
}
