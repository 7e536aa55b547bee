//! Lines: the fields that they have, and their form.

use super::{
    combined::write_combined,
    field::{Field, Needs},
    record::{AccessRecord, write_record},
    second::Second,
    template::{Piece, Template},
    value::Value,
};

/// The form of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout(Form);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Form {
    /// JSON with the usual fields.
    #[default]
    Usual,
    Json(Box<[Piece]>),
    Logfmt(Box<[Piece]>),
    Combined,
    Template(Template),
}

impl Layout {
    /// One JSON object with these fields.
    pub fn json(fields: &[Field]) -> Self {
        if Field::usual().eq(fields.iter().copied()) {
            return Self::default();
        }
        Self(Form::Json(pieces(fields, |name| format!(",\"{name}\":"))))
    }

    /// Pairs of these fields (<https://brandur.org/logfmt>).
    pub fn logfmt(fields: &[Field]) -> Self {
        Self(Form::Logfmt(pieces(fields, |name| format!(" {name}="))))
    }

    /// The combined log format of Apache and nginx.
    pub fn combined() -> Self {
        Self(Form::Combined)
    }

    /// The text of a template.
    pub fn template(template: Template) -> Self {
        Self(Form::Template(template))
    }

    /// Facts that must be noted of a request for its line.
    pub fn needs(&self) -> Needs {
        let of = |pieces: &[Piece]| Needs::of(pieces.iter().map(|piece| piece.field));
        match &self.0 {
            Form::Usual => Needs::NOTHING,
            Form::Json(pieces) | Form::Logfmt(pieces) => of(pieces),
            Form::Combined => Needs::HEAD,
            Form::Template(template) => of(template.pieces()),
        }
    }

    /// Appends the line of a request, newline included. `second` is that of the line before, if
    /// there was one.
    pub(super) fn write(&self, record: &AccessRecord<'_>, second: &mut Second, out: &mut Vec<u8>) {
        match &self.0 {
            Form::Usual => return write_record(record, second, out),
            Form::Json(pieces) => write_json(pieces, record, second, out),
            Form::Logfmt(pieces) => write_logfmt(pieces, record, second, out),
            Form::Combined => write_combined(record, second, out),
            Form::Template(template) => template.write(record, second, out),
        }
        out.push(b'\n');
    }
}

fn pieces(fields: &[Field], before: impl Fn(&str) -> String) -> Box<[Piece]> {
    let piece = |field: &Field| {
        let before = before(field.name()).into_bytes().into();
        Piece { before, field: *field }
    };
    fields.iter().map(piece).collect()
}

fn write_json(pieces: &[Piece], record: &AccessRecord<'_>, second: &mut Second, out: &mut Vec<u8>) {
    let start = out.len();
    for Piece { before, field } in pieces {
        out.extend_from_slice(before);
        Value::of(*field, record).write_json(second, out);
    }
    // In place of the first comma.
    if let Some(first) = out.get_mut(start) {
        *first = b'{';
    }
    out.push(b'}');
}

fn write_logfmt(
    pieces: &[Piece],
    record: &AccessRecord<'_>,
    second: &mut Second,
    out: &mut Vec<u8>,
) {
    let mut is_first = true;
    for Piece { before, field } in pieces {
        let value = Value::of(*field, record);
        if matches!(value, Value::Absent) {
            continue;
        }
        out.extend_from_slice(if is_first { &before[1..] } else { before });
        value.write_logfmt(second, out);
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::{
        super::{
            more::More,
            record::{AbortedBy, TlsFacts},
        },
        *,
    };

    const MORE: More<'_> = More {
        route: "/products",
        host: b"[2001:db8::1]:8443",
        user_agent: Some(b"curl/8.5.0"),
        referer: Some(b"https://a.example/page?token=HIDDEN"),
        x_forwarded_for: Some(Cow::Borrowed(b"203.0.113.9, 10.0.0.2")),
        range: Some(b"bytes=0-9"),
        upstream_address: None,
        upstream_status: Some(206),
        attempts: 2,
        s3_request_id: Some(b"4442587FB7D0A2F9"),
        first_byte_us: Some(900),
        key_id: Some("2026-11"),
    };

    fn line(layout: &Layout, record: &AccessRecord<'_>) -> String {
        let mut out = Vec::new();
        layout.write(record, &mut Second::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn all() -> Vec<Field> {
        Field::ALL.to_vec()
    }

    fn full<'m>(more: &'m More<'m>) -> AccessRecord<'m> {
        let tls = TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256", sni: None };
        AccessRecord {
            tls: Some(tls),
            protocol: Some("HTTP/2"),
            method: b"PROPFIND",
            status: 502,
            code: "upstream_refused",
            aborted: Some(AbortedBy::Upstream),
            more: Some(more),
            ..AccessRecord::EXAMPLE
        }
    }

    #[test]
    fn every_field_has_its_value() {
        let more = MORE;
        let line = line(&Layout::json(&all()), &full(&more));
        let expected = r#"{
                "log":"access",
                "time":"2026-02-28T23:59:59.999Z",
                "request_id":"01JABC",
                "trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",
                "parent_id":"00f067aa0ba902b7",
                "client":"203.0.113.9:51234",
                "peer":"10.0.0.1:443",
                "tls_version":"TLSv1.3",
                "tls_cipher":"TLS_AES_128_GCM_SHA256",
                "sni":null,
                "protocol":"HTTP/2",
                "method":"PROPFIND",
                "path":"/products/a%20b.jpg",
                "bucket":"products",
                "credentials":null,
                "status":502,
                "code":"upstream_refused",
                "auth_reason":null,
                "bytes":1024,
                "duration_ms":1.234,
                "upstream_ms":0.987,
                "generation":42,
                "sub":"alice",
                "aborted":true,
                "host":"[2001:db8::1]:8443",
                "user_agent":"curl/8.5.0",
                "referer":"https://a.example/page",
                "x_forwarded_for":"203.0.113.9, 10.0.0.2",
                "range":"bytes=0-9",
                "upstream_address":null,
                "upstream_status":206,
                "attempts":2,
                "s3_request_id":"4442587FB7D0A2F9",
                "ttfb_ms":0.900,
                "kid":"2026-11",
                "aborted_by":"upstream",
                "client.address":"203.0.113.9",
                "client.port":51234,
                "network.peer.address":"10.0.0.1",
                "network.peer.port":443,
                "network.protocol.name":"http",
                "network.protocol.version":"2",
                "tls.protocol.version":"1.3",
                "tls.cipher":"TLS_AES_128_GCM_SHA256",
                "tls.client.server_name":null,
                "http.request.method":"_OTHER",
                "http.request.method_original":"PROPFIND",
                "url.scheme":"https",
                "url.path":"/products/a%20b.jpg",
                "http.route":"/products",
                "server.address":"2001:db8::1",
                "server.port":8443,
                "http.response.status_code":502,
                "http.response.body.size":1024,
                "error.type":"upstream_refused",
                "user_agent.original":"curl/8.5.0",
                "http.request.header.referer":["https://a.example/page"],
                "http.request.header.range":["bytes=0-9"],
                "http.request.header.x-forwarded-for":["203.0.113.9, 10.0.0.2"],
                "aws.request_id":"4442587FB7D0A2F9"
            }"#;
        let expected: String = expected.lines().map(str::trim_start).collect();
        assert_eq!(line.trim_end(), expected);
    }

    #[test]
    fn what_a_request_does_not_have_is_null() {
        let json = line(&Layout::json(&all()), &AccessRecord::EXAMPLE);
        let json: Json = serde_json::from_str(&json).unwrap();
        for field in Field::ALL.iter().filter(|field| !field.is_usual()) {
            let is_known = ["client.", "network.", "url.", "http.response.", "http.request.method"]
                .iter()
                .any(|prefix| field.name().starts_with(prefix));
            let is_null = json[field.name()].is_null();
            let is_original = *field == Field::OtelMethodOriginal;
            assert_eq!(is_null, !is_known || is_original, "{field:?}: {json}");
        }
        let failed = AccessRecord { status: 502, ..AccessRecord::EXAMPLE };
        let json = line(&Layout::json(&[Field::OtelErrorType]), &failed);
        assert_eq!(json, "{\"error.type\":\"502\"}\n");
        let left =
            AccessRecord { status: 0, aborted: Some(AbortedBy::Client), ..AccessRecord::EXAMPLE };
        let fields = [Field::OtelStatus, Field::OtelErrorType];
        assert_eq!(
            line(&Layout::json(&fields), &left),
            "{\"http.response.status_code\":null,\"error.type\":\"aborted_by_client\"}\n"
        );
    }

    #[test]
    fn the_usual_line_is_the_same_from_either_writer() {
        let usual: Vec<_> = Field::usual().collect();
        assert_eq!(Layout::json(&usual), Layout::default());
        let slow = Layout(Form::Json(pieces(&usual, |name| format!(",\"{name}\":"))));
        let more = MORE;
        for record in [AccessRecord::EXAMPLE, full(&more)] {
            assert_eq!(line(&slow, &record), line(&Layout::default(), &record));
        }
    }

    #[test]
    fn logfmt_quotes_what_would_not_stand_for_itself_and_leaves_out_what_is_absent() {
        let fields = [
            Field::Time,
            Field::Path,
            Field::Code,
            Field::UserAgent,
            Field::XForwardedFor,
            Field::OtelReferer,
            Field::Aborted,
            Field::OtelStatus,
        ];
        let more = More { user_agent: Some(b""), ..MORE };
        let record =
            AccessRecord { path: b"/a=\"b\"\n", more: Some(&more), ..AccessRecord::EXAMPLE };
        assert_eq!(
            line(&Layout::logfmt(&fields), &record),
            "time=2026-02-28T23:59:59.999Z path=\"/a=\\\"b\\\"\\n\" user_agent=\"\" \
             x_forwarded_for=\"203.0.113.9, 10.0.0.2\" \
             http.request.header.referer=https://a.example/page aborted=false \
             http.response.status_code=200\n"
        );
        assert_eq!(line(&Layout::logfmt(&[Field::Code]), &AccessRecord::EXAMPLE), "\n");
    }

    #[test]
    fn the_combined_format_is_that_of_nginx() {
        let more = MORE;
        let record = AccessRecord { more: Some(&more), ..AccessRecord::EXAMPLE };
        assert_eq!(
            line(&Layout::combined(), &record),
            "203.0.113.9 - alice [28/Feb/2026:23:59:59 +0000] \
             \"GET /products/a%20b.jpg HTTP/1.1\" 200 1024 \"https://a.example/page\" \
             \"curl/8.5.0\"\n"
        );
        let more = More { user_agent: Some(b"a\"b\\c\n\xff"), ..More::default() };
        let record = AccessRecord {
            sub: Some("ann b"),
            protocol: Some("HTTP/2"),
            status: 0,
            path: b"/x?token=HIDDEN",
            more: Some(&more),
            ..AccessRecord::EXAMPLE
        };
        assert_eq!(
            line(&Layout::combined(), &record),
            "203.0.113.9 - ann\\x20b [28/Feb/2026:23:59:59 +0000] \"GET /x HTTP/2.0\" 499 1024 \
             \"-\" \"a\\x22b\\x5Cc\\x0A\\xFF\"\n"
        );
        let unread = AccessRecord { method: b"", path: b"", sub: None, ..record };
        assert!(line(&Layout::combined(), &unread).contains(" - - [28/Feb/2026"));
        assert!(line(&Layout::combined(), &unread).contains("] \"-\" 499 "));
        // As much of a request line as is known, and nothing in place of the rest.
        let begun = AccessRecord { path: b"/a", protocol: None, ..AccessRecord::EXAMPLE };
        assert!(line(&Layout::combined(), &begun).contains("] \"GET /a\" 200 "));
        let begun = AccessRecord { path: b"", protocol: None, ..AccessRecord::EXAMPLE };
        assert!(line(&Layout::combined(), &begun).contains("] \"GET\" 200 "));
    }

    /// The pairs of a line, as a reader of logfmt finds them.
    fn read_logfmt(line: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut rest = line;
        while !rest.is_empty() {
            let (name, tail) = rest.split_once('=').unwrap();
            let value;
            if tail.starts_with('"') {
                let mut stream = serde_json::Deserializer::from_str(tail).into_iter::<String>();
                value = stream.next().unwrap().unwrap();
                rest = &tail[stream.byte_offset()..];
            } else {
                let end = tail.find(' ').unwrap_or(tail.len());
                value = tail[..end].to_owned();
                rest = &tail[end..];
            }
            pairs.push((name.to_owned(), value));
            rest = rest.strip_prefix(' ').unwrap_or(rest);
        }
        pairs
    }

    /// The groups of a line in the combined format, as log analysers find them.
    fn read_combined(line: &str) -> Option<Vec<&str>> {
        let (address, rest) = line.split_once(" - ")?;
        let (user, rest) = rest.split_once(" [")?;
        let (time, rest) = rest.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let (numbers, rest) = rest.split_once(" \"")?;
        let (status, bytes) = numbers.split_once(' ')?;
        let (referer, rest) = rest.split_once("\" \"")?;
        let agent = rest.strip_suffix('"')?;
        let all = vec![address, user, time, request, status, bytes, referer, agent];
        (!user.contains(' ') && !agent.contains('"')).then_some(all)
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let hostile = prop_oneof![
            any::<u8>(),
            proptest::sample::select(&b"\"\\ \n\r\t={}?#@:/\x1b\x7f\xc2\x9b\xe2\x80\xae"[..])
        ];
        proptest::collection::vec(hostile, 0..80)
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_client_end_a_value_or_a_line(
            path in bytes(),
            method in bytes(),
            agent in bytes(),
            referer in bytes(),
            host in bytes(),
            sub in any::<String>(),
        ) {
            let more = More {
                host: &host,
                user_agent: Some(&agent),
                referer: Some(&referer),
                x_forwarded_for: Some(Cow::Borrowed(&agent)),
                range: Some(&agent),
                s3_request_id: Some(&agent),
                ..MORE
            };
            let record = AccessRecord {
                path: &path,
                method: &method,
                sub: Some(&sub),
                more: Some(&more),
                ..AccessRecord::EXAMPLE
            };
            let places: Vec<_> =
                Field::ALL.iter().map(|field| format!("\"{{{}}}\"", field.name())).collect();
            let places = places.join(" ");
            let template = Layout::template(Template::parse(&places).unwrap());
            let layouts = [Layout::json(&all()), Layout::logfmt(&all()), Layout::combined()];
            let [json, logfmt, combined] = layouts.map(|layout| line(&layout, &record));
            let template = line(&template, &record);
            for line in [&json, &logfmt, &combined, &template] {
                let body = line.strip_suffix('\n').unwrap();
                let commands = |c: char| {
                    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
                };
                prop_assert!(!body.contains(commands), "{body}");
            }
            let lossy = String::from_utf8_lossy(&agent);
            let json: Json = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(json.as_object().unwrap().len(), Field::ALL.len());
            prop_assert_eq!(json["user_agent"].as_str(), Some(&*lossy));
            prop_assert_eq!(json["sub"].as_str(), Some(&*sub));
            let pairs = read_logfmt(logfmt.trim_end_matches('\n'));
            for (name, value) in &pairs {
                let field = Field::named(name);
                prop_assert!(field.is_some(), "{name}");
                if *name == "user_agent" {
                    prop_assert_eq!(value, &lossy);
                }
            }
            let groups = read_combined(combined.trim_end_matches('\n'));
            prop_assert!(groups.is_some(), "{combined}");
            // Between two quotes there is one value, whose own quotes are escaped.
            let unescaped = template.replace("\\\\", "").replace("\\\"", "");
            prop_assert_eq!(unescaped.matches('"').count(), 2 * Field::ALL.len(), "{}", template);
        }
    }
}
