//! Text that came from a client, as lines of logs hold it: no byte of it can end a value or a line,
//! or command a display.

use crate::protocol::text::{class::all_are, hex};

/// Returns true for a byte that stands for itself in a JSON string (RFC 8259 section 7): printable
/// ASCII but `"` and `\`.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
const fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') < 0x5f) & (byte != b'"') & (byte != b'\\')
}

/// Writes a JSON string of bytes that should be UTF-8; what is not becomes U+FFFD.
#[inline]
pub(super) fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_inside(bytes, out);
    out.push(b'"');
}

/// Writes what stands between the quotes of a JSON string.
#[inline]
pub(super) fn write_inside(bytes: &[u8], out: &mut Vec<u8>) {
    if all_are(bytes, is_plain) {
        out.extend_from_slice(bytes);
    } else {
        write_unplain(bytes, out);
    }
}

/// Writes text as nginx does in its log: what is not printable ASCII, `"` and `\` as `\xXX`
/// (<https://nginx.org/en/docs/http/ngx_http_log_module.html#log_format>); and `also`.
pub(super) fn write_hex_escaped(bytes: &[u8], also: u8, out: &mut Vec<u8>) {
    for byte in bytes {
        if is_plain(*byte) && *byte != also {
            out.push(*byte);
        } else {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&hex::upper(*byte));
        }
    }
}

fn write_unplain(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        write_escaped(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// True for a character that a terminal or an editor obeys when it shows the log: DEL and the C1
/// controls, line separators, and the bidirectional controls of Unicode (UAX #9 section 2), which
/// reorder text.
fn commands_a_display(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes what JSON demands, and what a display would obey: it must not be a client's to command.
fn write_escaped(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // All of these are below U+10000.
            command if commands_a_display(command) => {
                let [_, _, high, low] = u32::from(command).to_be_bytes();
                out.extend_from_slice(b"\\u");
                out.extend_from_slice(&hex::lower(high));
                out.extend_from_slice(&hex::lower(low));
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
