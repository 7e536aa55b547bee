//! Media types that rules name: one, or all of a kind.

use std::fmt;

use crate::protocol::text::token::is_token;

/// A media type without parameters, or all of one kind (`text/*`). In lower case; a kind is kept
/// with its slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaRange(Box<str>);

/// Reason why a text is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaRangeError;

impl fmt::Display for MediaRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a media type without parameters, such as text/html or text/*")
    }
}

impl MediaRange {
    /// Reads a media type of the configuration.
    ///
    /// # Errors
    /// It is neither a type such as `text/html` nor a kind of types such as `text/*`.
    pub fn parse(text: &str) -> Result<Self, MediaRangeError> {
        let (kind, sub) = text.split_once('/').ok_or(MediaRangeError)?;
        let is_name = |name: &str| is_token(name.as_bytes()) && !name.contains('*');
        let range = match sub {
            "*" if is_name(kind) => text.trim_end_matches('*'),
            _ if is_name(kind) && is_name(sub) => text,
            _ => return Err(MediaRangeError),
        };
        Ok(Self(range.to_ascii_lowercase().into()))
    }

    /// Returns true if a `Content-Type` is in it, whatever its case and parameters (RFC 9110
    /// section 8.3.1).
    pub fn holds(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
        let (essence, own) = (essence.trim_ascii(), self.0.as_bytes());
        if own.ends_with(b"/") {
            return essence.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own));
        }
        essence.eq_ignore_ascii_case(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_match_whatever_their_case_and_parameters() {
        let holds = |range: &str, it: &str| MediaRange::parse(range).unwrap().holds(it.as_bytes());
        assert!(holds("text/html", "Text/HTML ; charset=utf-8"));
        assert!(holds("Image/*", "image/svg+xml"));
        assert!(!holds("text/html", "text/html5") && !holds("text/*", "textual/x"));
        assert!(!holds("text/html", "") && !holds("text/*", "text"));
        for bad in ["", "text", "text/", "/html", "*/*", "*/html", "text/h*", "text/html; a=b"] {
            assert_eq!(MediaRange::parse(bad), Err(MediaRangeError), "{bad}");
        }
    }
}
