//! The lines of a head, read one after the other; each byte is looked at once.
//!
//! Deliberately absent: what a start line or a field means, and limits. The readers of requests
//! and responses see to both, as the lines come.

use std::hint::cold_path;

use super::fields::is_value_byte;
use super::message::Version;
use crate::protocol::text::token::{is_token, token_len};

#[cfg(test)]
mod tests;

/// The only control character of ASCII that is not below the space.
const DEL: u8 = 0x7f;

/// Reason why a line could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Its end has not come, and nothing is wrong with what has.
    Partial,
    /// A byte that no method, or no request target, may hold.
    RequestLine,
    /// Anything but `HTTP/1.0` and `HTTP/1.1`.
    Version,
    /// A status code that is not three digits, or a control character in the reason phrase.
    StatusLine,
    /// Something else where a line must end.
    LineEnd,
    /// A byte that no field name may hold (RFC 9110 section 5.1), a blank before the colon, or no
    /// colon.
    FieldName,
    /// A control character in a field value (RFC 9110 section 5.5).
    FieldValue,
    /// More fields than the reader takes.
    TooManyFields,
}

/// A field line (RFC 9112 section 5).
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldLine<'b> {
    pub(super) name: &'b [u8],
    /// The value, without blanks around it.
    pub(super) value: &'b [u8],
    /// Offset of the value.
    pub(super) value_at: usize,
    /// Offset of the line.
    pub(super) start: usize,
}

/// A place in a head, between two of its parts.
///
/// A line that ends in LF alone is read too, and remembered: the head is refused for it when all of
/// it has been read, unless something else is wrong.
#[derive(Debug)]
pub(super) struct Lines<'b> {
    /// Bytes of the buffer that the head begins.
    len: usize,
    rest: &'b [u8],
    bare_lf: bool,
}

impl<'b> Lines<'b> {
    /// The lines of `buf` from offset `at` on.
    pub(super) fn new(buf: &'b [u8], at: usize) -> Self {
        Self { len: buf.len(), rest: buf.get(at..).unwrap_or_default(), bare_lf: false }
    }

    /// Offset of what is read next.
    #[inline]
    pub(super) const fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Returns true if a line that was read ends in LF alone.
    pub(super) const fn has_bare_lf(&self) -> bool {
        self.bare_lf
    }

    /// Skips all empty lines.
    ///
    /// # Errors
    /// [`Unread::LineEnd`], for CR alone.
    #[inline]
    pub(super) fn skip_empty_lines(&mut self) -> Result<(), Unread> {
        while let [b'\r' | b'\n', ..] = self.rest {
            cold_path();
            self.end_of_line()?;
        }
        Ok(())
    }

    /// Reads a method and the space behind it (RFC 9112 section 3.1).
    ///
    /// # Errors
    /// [`Unread::RequestLine`].
    #[inline]
    pub(super) fn method(&mut self) -> Result<&'b [u8], Unread> {
        self.word(token_len(self.rest))
    }

    /// Reads a request target and the space behind it (RFC 9112 section 3.2): visible characters.
    ///
    /// # Errors
    /// [`Unread::RequestLine`], also for bytes outside ASCII that are not UTF-8.
    #[inline]
    pub(super) fn target(&mut self) -> Result<&'b [u8], Unread> {
        let len = run_len::<{ b' ' + 1 }>(self.rest);
        if self.rest.get(len) == Some(&b' ') { self.word(len) } else { self.other_target(len) }
    }

    /// Reads a request target of which more is to be seen than its first `len` bytes.
    #[cold]
    fn other_target(&mut self, len: usize) -> Result<&'b [u8], Unread> {
        let is_visible = |byte| byte > b' ' && byte != DEL;
        let target = self.word(class_len(self.rest, len, is_visible))?;
        std::str::from_utf8(target).map(str::as_bytes).map_err(|_| Unread::RequestLine)
    }

    /// The next `length` bytes, of which there must be one, and behind them a space.
    #[inline]
    fn word(&mut self, length: usize) -> Result<&'b [u8], Unread> {
        match self.rest.split_at_checked(length) {
            Some((word @ [_, ..], [b' ', rest @ ..])) => {
                self.rest = rest;
                Ok(word)
            }
            Some((_, [_, ..])) => Err(Unread::RequestLine),
            _ => Err(Unread::Partial),
        }
    }

    /// Reads a version of HTTP (RFC 9112 section 2.3).
    ///
    /// # Errors
    /// [`Unread::Version`], at the first byte that tells.
    #[inline]
    pub(super) fn version(&mut self) -> Result<Version, Unread> {
        const HTTP_1_0: u64 = u64::from_le_bytes(*b"HTTP/1.0");
        const HTTP_1_1: u64 = u64::from_le_bytes(*b"HTTP/1.1");
        let Some((version, rest)) = self.rest.split_first_chunk() else {
            let is_begun = b"HTTP/1.".starts_with(self.rest);
            return Err(if is_begun { Unread::Partial } else { Unread::Version });
        };
        // Compared as numbers: one comparison each.
        let version = match u64::from_le_bytes(*version) {
            HTTP_1_1 => Version::Http11,
            HTTP_1_0 => Version::Http10,
            _ => return Err(Unread::Version),
        };
        self.rest = rest;
        Ok(version)
    }

    /// Reads what follows the version in a status line (RFC 9112 section 4): the status code, 0 to
    /// 999, and the reason phrase, which may be missing with the space before it.
    ///
    /// # Errors
    /// [`Unread::Version`] if no space comes first, [`Unread::StatusLine`].
    #[inline]
    pub(super) fn status(&mut self) -> Result<u16, Unread> {
        let [b' ', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = self.rest else {
            return Err(no_status(self.rest));
        };
        let mut rest = rest;
        if let [b' ', reason @ ..] = rest {
            rest = reason.get(text_len(reason)..).unwrap_or_default();
        }
        self.line_end(rest, Unread::StatusLine)?;
        let digit = |byte: &u8| u16::from(*byte - b'0');
        Ok(digit(a) * 100 + digit(b) * 10 + digit(c))
    }

    /// Reads the next field line; none at the empty line that ends the head, which is read then.
    ///
    /// # Errors
    /// [`Unread::FieldName`], [`Unread::FieldValue`]; [`Unread::LineEnd`] for CR alone where the
    /// head may end.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "its result would go through memory, line by line")]
    pub(super) fn field(&mut self) -> Result<Option<FieldLine<'b>>, Unread> {
        let start = self.at();
        let Some((name @ [_, ..], [b':', after @ ..])) =
            self.rest.split_at_checked(token_len(self.rest))
        else {
            return self.no_field().map(|()| None);
        };
        // One space nearly always comes. A branch on it was faster than the conditional move that
        // the loop alone becomes.
        let mut value = after;
        if let [b' ', after @ ..] = value {
            value = after;
        } else {
            cold_path();
        }
        while let [b' ' | b'\t', after @ ..] = value {
            cold_path();
            value = after;
        }
        let value_at = self.len - value.len();
        let Some((mut value, rest)) = value.split_at_checked(text_len(value)) else {
            return Err(Unread::Partial);
        };
        self.line_end(rest, Unread::FieldValue)?;
        // Of what a value may hold, only blanks are not above the space.
        while let [before @ .., ..=b' '] = value {
            cold_path();
            value = before;
        }
        Ok(Some(FieldLine { name, value, value_at, start }))
    }

    /// Reads the empty line that ends a head, where there is no field line.
    #[inline]
    fn no_field(&mut self) -> Result<(), Unread> {
        match self.rest {
            [b'\r' | b'\n', ..] => self.end_of_line(),
            rest if is_token(rest) || rest.is_empty() => Err(Unread::Partial),
            _ => Err(Unread::FieldName),
        }
    }

    /// Reads the line end that `rest` begins with; `error` is what anything else is.
    #[inline]
    fn line_end(&mut self, rest: &'b [u8], error: Unread) -> Result<(), Unread> {
        self.rest = if let Some(rest) = rest.strip_prefix(b"\r\n") {
            rest
        } else {
            cold_path();
            self.bare_lf = true;
            after_bare_lf(rest, error)?
        };
        Ok(())
    }

    /// Reads the line end that comes next.
    ///
    /// # Errors
    /// [`Unread::LineEnd`].
    #[inline]
    pub(super) fn end_of_line(&mut self) -> Result<(), Unread> {
        self.line_end(self.rest, Unread::LineEnd)
    }
}

/// Reads the LF that `rest` begins with; `error` is what anything else is.
#[cold]
fn after_bare_lf(rest: &[u8], error: Unread) -> Result<&[u8], Unread> {
    match rest {
        [] | [b'\r'] => Err(Unread::Partial),
        [b'\n', rest @ ..] => Ok(rest),
        _ => Err(error),
    }
}

/// Reason why no space and three digits come first.
#[cold]
fn no_status(rest: &[u8]) -> Unread {
    match rest {
        [] => Unread::Partial,
        [b' ', code @ ..] if code.len() < 3 && code.iter().all(u8::is_ascii_digit) => {
            Unread::Partial
        }
        [b' ', ..] => Unread::StatusLine,
        _ => Unread::Version,
    }
}

/// Number of bytes before the first that no field value may hold.
// One copy for both readers takes less of the instruction cache.
#[inline(never)]
fn text_len(bytes: &[u8]) -> usize {
    let len = run_len::<b' '>(bytes);
    // HTAB and bytes outside ASCII are rare, and so is the end of the buffer.
    if bytes.get(len) == Some(&b'\r') { len } else { class_len(bytes, len, is_value_byte) }
}

/// Number of bytes before the first that is below `LOWEST`, DEL or outside ASCII. It may end early,
/// at the last whole block of eight bytes.
#[inline]
fn run_len<const LOWEST: u8>(bytes: &[u8]) -> usize {
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let mut len = 0;
    for block in bytes.as_chunks().0 {
        let word = u64::from_le_bytes(*block);
        // The top bit of each such byte. A borrow or a carry may set it in others, but only
        // behind the first.
        let others = (word.wrapping_sub(each(LOWEST)) | word.wrapping_add(each(1))) & each(0x80);
        if others != 0 {
            return len + others.trailing_zeros() as usize / 8;
        }
        len += block.len();
    }
    len
}

/// Number of bytes before the first that is not of the class; it is none of the first `len`.
#[cold]
fn class_len(bytes: &[u8], len: usize, class: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(len..).unwrap_or_default();
    len + rest.iter().take_while(|byte| class(**byte)).count()
}
