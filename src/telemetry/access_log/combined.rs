//! The combined log format of Apache and nginx, as nginx writes it
//! (<https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format>):
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
//! "$http_referer" "$http_user_agent"`.
//!
//! Two things differ: `$request` has no query, which may carry a token, and the user is the `sub`
//! of the token.

use std::io::Write;

use super::{
    more::{More, bounded, without_query, without_secrets},
    record::AccessRecord,
    second::Second,
};
use crate::{protocol::text::decimal::append_decimal, telemetry::text::write_hex_escaped};

/// Status of nginx's own for a client that left before its response.
const STATUS_CLIENT_LEFT: u16 = 499;

/// A byte that is escaped in no value.
const NOTHING: u8 = 0;

/// Appends a line without its newline.
pub(super) fn write_combined(record: &AccessRecord<'_>, second: &mut Second, out: &mut Vec<u8>) {
    // A Vec takes everything that is written to it.
    let _ = write!(out, "{} - ", record.client.ip());
    match record.sub {
        Some(sub) if !sub.is_empty() => write_hex_escaped(sub.as_bytes(), b' ', out),
        _ => out.push(b'-'),
    }
    out.extend_from_slice(b" [");
    second.write_common(record.unix_ms, out);
    out.extend_from_slice(b"] \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        write_hex_escaped(record.method, b' ', out);
        if !record.path.is_empty() {
            out.push(b' ');
            write_hex_escaped(without_query(record.path), b' ', out);
        }
        // As nginx, of a request line that was refused as much as is known.
        if let Some(protocol) = record.protocol {
            out.push(b' ');
            let protocol = if protocol == "HTTP/2" { "HTTP/2.0" } else { protocol };
            out.extend_from_slice(protocol.as_bytes());
        }
    }
    out.extend_from_slice(b"\" ");
    let status = if record.status == 0 { STATUS_CLIENT_LEFT } else { record.status };
    append_decimal(status.into(), out);
    out.push(b' ');
    append_decimal(record.bytes, out);
    let nothing = More::default();
    let more = record.more.unwrap_or(&nothing);
    let referer = more.referer.map(without_secrets);
    for value in [referer.as_deref(), more.user_agent.map(bounded)] {
        out.extend_from_slice(b" \"");
        match value {
            Some(value) if !value.is_empty() => write_hex_escaped(value, NOTHING, out),
            _ => out.push(b'-'),
        }
        out.push(b'"');
    }
}
