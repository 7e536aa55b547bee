//! Names and values of fields that the configuration may change.

use std::fmt;

use crate::protocol::text::token::is_token;

/// Longest name of a field, in bytes. The longest registered one has 44.
pub const FIELD_NAME_BYTES_MAX: usize = 128;

/// Longest value of a field, in bytes: a policy of hundreds of sources fits (nginx and Apache send
/// clients no more than 4 to 8 KiB in all by default).
pub const FIELD_VALUE_BYTES_MAX: usize = 4_096;

/// Fields that belong to one connection (RFC 9110 section 7.6.1).
pub(super) const OF_A_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Fields without which a body would be misread.
pub(super) const OF_THE_BODY: [&str; 4] =
    ["content-encoding", "content-length", "content-range", "transfer-encoding"];

/// Fields that a status or the time of the response demand (RFC 9110 sections 6.6.1, 10.2.2,
/// 15.5.2 and 15.5.6).
pub(super) const OF_THE_RESPONSE: [&str; 4] = ["allow", "date", "location", "www-authenticate"];

/// Fields that are made here or are the object's own: they may be left out, but not made up.
const NEVER_SET: [&str; 5] =
    ["etag", "last-modified", "via", "x-config-generation", "x-request-id"];

/// Fields about an object and its life in caches, besides its type.
const OF_AN_OBJECT: [&str; 8] = [
    "cache-control",
    "cdn-cache-control",
    "content-disposition",
    "content-language",
    "content-location",
    "expires",
    "pragma",
    "surrogate-control",
];

/// Fields that clients read differently where a response has two of them (RFC 9110 section 5.3).
const SINGLE: [&str; 5] =
    [CONTENT_TYPE, "content-disposition", "content-location", "expires", HSTS];

/// The field that a client must not believe without TLS (RFC 6797 section 7.2).
const HSTS: &str = "strict-transport-security";

const CONTENT_TYPE: &str = "content-type";

/// Reason to refuse a name or a value of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The name is not a token (RFC 9110 section 5.1).
    Name,
    /// The name is longer than [`FIELD_NAME_BYTES_MAX`].
    NameTooLong,
    /// Belongs to one connection.
    OfAConnection,
    /// Says how the body is framed or coded.
    OfTheBody,
    /// Is what the status or the time of the response demand.
    OfTheResponse,
    /// Is made by this proxy, or is the object's own.
    NeverSet,
    /// A wildcard that would remove this field, which cannot be removed.
    Covers(&'static str),
    /// `*` without a beginning, or before the end.
    Wildcard,
    /// The value is empty.
    Empty,
    /// The value holds a control character.
    Control,
    /// The value holds a character outside ASCII.
    NotAscii,
    /// White space at an end of the value.
    Blank,
    /// The value is longer than [`FIELD_VALUE_BYTES_MAX`].
    ValueTooLong,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => {
                "is not the name of a header field; write letters, digits and dashes, such as \
                 Cache-Control"
            }
            Self::NameTooLong => "is longer than 128 bytes; shorten it",
            Self::OfAConnection => {
                "belongs to one connection, which the proxy itself looks after; remove it"
            }
            Self::OfTheBody => {
                "says how the body is framed or coded, so that changing it would break the \
                 response; remove it"
            }
            Self::OfTheResponse => {
                "belongs to the status or the time of a response, which the proxy itself looks \
                 after; remove it"
            }
            Self::NeverSet => {
                "is made by the proxy or by S3, and may be removed but not written; remove it here"
            }
            Self::Covers(name) => {
                return write!(f, "covers {name}, which cannot be removed; write more of the name");
            }
            Self::Wildcard => {
                "has * in a place other than the end of a name; write the beginning of names, \
                 such as x-amz-*"
            }
            Self::Empty => "is empty; write a value, or name the field in remove",
            Self::Control => {
                "holds a line end or another control character, which would break the response; \
                 remove it"
            }
            Self::NotAscii => {
                "holds a character outside ASCII, which clients read differently; encode it \
                 (RFC 8187: filename*=UTF-8''na%C3%AFve.txt)"
            }
            Self::Blank => "has white space at an end; remove it",
            Self::ValueTooLong => "is longer than 4096 bytes; shorten it",
        })
    }
}

/// The name of a field that may be set and added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    pub(super) text: Box<str>,
    pub(super) scope: Scope,
}

/// Responses that have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    Any,
    /// Those that bring an object, or say that it is unchanged.
    Object,
    /// Those that bring an object.
    Content,
    /// Those that go through TLS.
    Tls,
}

impl FieldName {
    /// Reads a name of the configuration.
    ///
    /// # Errors
    /// It is none, or its field cannot be written.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        check_name(text)?;
        let lower = text.to_ascii_lowercase();
        check_removable(&lower)?;
        if NEVER_SET.contains(&&*lower) {
            return Err(FieldError::NeverSet);
        }
        let scope = match &*lower {
            CONTENT_TYPE => Scope::Content,
            HSTS => Scope::Tls,
            name if OF_AN_OBJECT.contains(&name) => Scope::Object,
            _ => Scope::Any,
        };
        Ok(Self { text: text.into(), scope })
    }

    /// True if a response has the field once at most.
    pub fn is_single(&self) -> bool {
        SINGLE.iter().any(|name| self.text.eq_ignore_ascii_case(name))
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if this is the same name, whatever its case (RFC 9110 section 5.1).
    pub fn is(&self, name: &[u8]) -> bool {
        self.text.as_bytes().eq_ignore_ascii_case(name)
    }
}

fn check_name(text: &str) -> Result<(), FieldError> {
    const _: () = assert!(FIELD_NAME_BYTES_MAX == 128);
    if !is_token(text.as_bytes()) {
        return Err(FieldError::Name);
    }
    if text.len() > FIELD_NAME_BYTES_MAX {
        return Err(FieldError::NameTooLong);
    }
    Ok(())
}

fn check_removable(lower: &str) -> Result<(), FieldError> {
    if OF_A_CONNECTION.contains(&lower) {
        return Err(FieldError::OfAConnection);
    }
    if OF_THE_BODY.contains(&lower) {
        return Err(FieldError::OfTheBody);
    }
    if OF_THE_RESPONSE.contains(&lower) {
        return Err(FieldError::OfTheResponse);
    }
    Ok(())
}

/// Checks the value of a field (RFC 9110 section 5.5).
///
/// # Errors
/// A client would not get it as it is written.
pub fn check_value(text: &str) -> Result<(), FieldError> {
    const _: () = assert!(FIELD_VALUE_BYTES_MAX == 4_096);
    if text.is_empty() {
        return Err(FieldError::Empty);
    }
    if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(FieldError::Control);
    }
    if !text.is_ascii() {
        return Err(FieldError::NotAscii);
    }
    if text.trim_ascii() != text {
        return Err(FieldError::Blank);
    }
    if text.len() > FIELD_VALUE_BYTES_MAX {
        return Err(FieldError::ValueTooLong);
    }
    Ok(())
}

/// Names of fields that are left out: one name, or all that begin in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern {
    /// In lower case, without the `*`.
    text: Box<str>,
    is_beginning: bool,
}

impl NamePattern {
    /// Reads a name or `beginning*` of the configuration.
    ///
    /// # Errors
    /// It is neither, or names a field that cannot be left out.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let beginning = text.strip_suffix('*');
        let name = beginning.unwrap_or(text);
        if name.contains('*') || (name.is_empty() && beginning.is_some()) {
            return Err(FieldError::Wildcard);
        }
        check_name(name)?;
        let lower = name.to_ascii_lowercase();
        if beginning.is_none() {
            check_removable(&lower)?;
        } else {
            let mut kept = OF_THE_RESPONSE.iter().chain(&OF_THE_BODY).chain(&OF_A_CONNECTION);
            if let Some(name) = kept.find(|name| name.starts_with(&*lower)) {
                return Err(FieldError::Covers(name));
            }
        }
        Ok(Self { text: lower.into(), is_beginning: beginning.is_some() })
    }

    pub(super) fn covers(&self, name: &[u8]) -> bool {
        let text = self.text.as_bytes();
        name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
            && (self.is_beginning || name.len() == text.len())
    }
}
