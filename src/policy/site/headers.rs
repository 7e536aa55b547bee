//! Changes to the fields of responses: set, add, remove, for all buckets and for one.
//!
//! A field that is set replaces what S3 sent, or what this proxy says itself; one that is added
//! stands beside it. Fields that belong to a connection, to the framing of a body or to the meaning
//! of a status cannot be changed. Fields that say what an object is or how long it may be kept are
//! sent with objects only, so that no error is cached or downloaded in place of one.

use std::fmt;

use crate::protocol::text::token::is_token;

/// Longest name of a field, in bytes. The longest registered one has 44.
pub const FIELD_NAME_BYTES_MAX: usize = 128;

/// Longest value of a field, in bytes: a policy of hundreds of sources fits (nginx and Apache send
/// clients no more than 4 to 8 KiB in all by default).
pub const FIELD_VALUE_BYTES_MAX: usize = 4_096;

/// Fields that belong to one connection (RFC 9110 section 7.6.1).
const OF_A_CONNECTION: [&str; 9] = [
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
const OF_THE_BODY: [&str; 4] =
    ["content-encoding", "content-length", "content-range", "transfer-encoding"];

/// Fields that a status or the time of the response demand (RFC 9110 sections 6.6.1, 10.2.2,
/// 15.5.2 and 15.5.6).
const OF_THE_RESPONSE: [&str; 4] = ["allow", "date", "location", "www-authenticate"];

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

const CACHE_CONTROL: &[u8] = b"cache-control";

const CONTENT_TYPE: &str = "content-type";

const VARY: &str = "vary";

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
    text: Box<str>,
    scope: Scope,
}

/// Responses that have a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    fn covers(&self, name: &[u8]) -> bool {
        let text = self.text.as_bytes();
        name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
            && (self.is_beginning || name.len() == text.len())
    }
}

/// Media types: `type/subtype`, or `type/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern(Box<str>);

impl TypePattern {
    /// Reads a media type of the configuration.
    ///
    /// # Errors
    /// It is none; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let parts = text.split_once('/').filter(|(kind, subtype)| {
            is_token(kind.as_bytes()) && is_token(subtype.as_bytes()) && !kind.contains('*')
        });
        match parts {
            Some((_, "*")) => Ok(Self(text.trim_end_matches('*').to_ascii_lowercase().into())),
            Some((_, subtype)) if !subtype.contains('*') => {
                Ok(Self(text.to_ascii_lowercase().into()))
            }
            _ => Err("expected a media type without parameters, such as text/html or image/*"),
        }
    }

    /// Returns true for a `Content-Type` of this type, whatever its parameters
    /// (RFC 9110 section 8.3.1).
    pub fn matches(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
        let (essence, own) = (essence.trim_ascii(), self.0.as_bytes());
        if own.ends_with(b"/") {
            return essence.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own));
        }
        essence.eq_ignore_ascii_case(own)
    }
}

/// A value, and the objects that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// A checked value.
    pub value: Box<str>,
    /// Media types; none means any.
    pub types: Vec<TypePattern>,
    /// Ends of object keys; none means any.
    pub suffixes: Vec<Box<str>>,
}

impl Choice {
    fn matches(&self, response: &Response<'_>, content_type: Option<&[u8]>) -> bool {
        let ends_in = |suffix: &str| {
            let start =
                response.key.and_then(|key| Some((key, key.len().checked_sub(suffix.len())?)));
            start.is_some_and(|(key, at)| key[at..].eq_ignore_ascii_case(suffix.as_bytes()))
        };
        let is_of = |wanted: &TypePattern| content_type.is_some_and(|it| wanted.matches(it));
        (self.types.is_empty() || self.types.iter().any(is_of))
            && (self.suffixes.is_empty() || self.suffixes.iter().any(|suffix| ends_in(suffix)))
    }
}

/// A field to be set or added, with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// Its name.
    pub name: FieldName,
    /// Of a field that is set, the first one that fits is sent; of one that is added, all.
    pub choices: Vec<Choice>,
}

impl FieldRule {
    /// False if such a response does not have the field at all.
    fn applies(&self, response: &Response<'_>) -> bool {
        match self.name.scope {
            Scope::Any => true,
            Scope::Object => response.key.is_some(),
            Scope::Content => response.key.is_some() && !response.is_not_modified,
            Scope::Tls => response.is_tls,
        }
    }

    /// The first value that fits.
    fn choice(&self, response: &Response<'_>, content_type: Option<&[u8]>) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.matches(response, content_type))
    }

    fn asks_for_type(&self) -> bool {
        self.choices.iter().any(|choice| !choice.types.is_empty())
    }
}

/// The rules of one section of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Fields that replace others of their name.
    pub set: Vec<FieldRule>,
    /// Fields beside others of their name.
    pub add: Vec<FieldRule>,
    /// Fields that are left out.
    pub remove: Vec<NamePattern>,
}

impl HeaderRules {
    /// True if nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// A response, as far as rules depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The key of the object that it brings, or says is unchanged; none for anything else.
    pub key: Option<&'a [u8]>,
    /// `Content-Type`, where it has one.
    pub content_type: Option<&'a [u8]>,
    /// Set if it says that the object is unchanged, which has no `Content-Type`.
    pub is_not_modified: bool,
    /// Set if it is sent through TLS.
    pub is_tls: bool,
}

/// The rules that a response goes through: those of all buckets, and its bucket's before them.
#[derive(Debug)]
pub struct Headers {
    set: Box<[FieldRule]>,
    add: Box<[FieldRule]>,
    remove: Box<[NamePattern]>,
}

/// The treatment of a field that there is already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict<'h> {
    /// Nothing is set in its place.
    Keep,
    /// It is left out.
    Drop,
    /// This value takes its place.
    Replace(&'h str),
}

impl Headers {
    /// Puts the rules of a bucket before those of all buckets. None if nothing is to be changed.
    ///
    /// Both go as if the response went through one after the other: what is for all buckets first.
    pub fn new(all: &HeaderRules, bucket: &HeaderRules) -> Option<Self> {
        let is_removed =
            |rule: &&FieldRule| bucket.remove.iter().any(|it| it.covers(rule.name.text.as_bytes()));
        let mut set = bucket.set.clone();
        for rule in all.set.iter().filter(|rule| !is_removed(rule)) {
            match set.iter_mut().find(|own| own.name.is(rule.name.text.as_bytes())) {
                Some(own) => own.choices.extend(rule.choices.iter().cloned()),
                None => set.push(rule.clone()),
            }
        }
        let is_set =
            |rule: &&FieldRule| bucket.set.iter().any(|it| it.name.is(rule.name.text.as_bytes()));
        let add = all.add.iter().filter(|rule| !is_removed(rule) && !is_set(rule));
        let headers = Self {
            set: set.into(),
            add: add.chain(&bucket.add).cloned().collect(),
            remove: all.remove.iter().chain(&bucket.remove).cloned().collect(),
        };
        let is_empty =
            headers.set.is_empty() && headers.add.is_empty() && headers.remove.is_empty();
        (!is_empty).then_some(headers)
    }

    /// True if a field of this name that S3 sent, or that this proxy says itself, stays.
    pub fn keeps(&self, name: &[u8], response: &Response<'_>) -> bool {
        let set = self.set.iter().find(|rule| rule.name.is(name));
        match set.map(|rule| self.verdict(rule, response)) {
            Some(Verdict::Drop | Verdict::Replace(_)) => false,
            // A response without an object is not to be stored, and has to say so.
            None | Some(Verdict::Keep)
                if response.key.is_none() && name.eq_ignore_ascii_case(CACHE_CONTROL) =>
            {
                true
            }
            None | Some(Verdict::Keep) => !self.remove.iter().any(|it| it.covers(name)),
        }
    }

    /// The fields that are set and added, but for `Vary`, which is put together from several
    /// sources.
    pub fn fields<'h>(
        &'h self,
        response: &'h Response<'_>,
    ) -> impl Iterator<Item = (&'h str, &'h str)> {
        self.all(response).filter(|(name, _)| !name.eq_ignore_ascii_case(VARY))
    }

    /// The values of `Vary` that are set and added.
    pub fn vary<'h>(&'h self, response: &'h Response<'_>) -> impl Iterator<Item = &'h str> {
        self.all(response)
            .filter(|(name, _)| name.eq_ignore_ascii_case(VARY))
            .map(|(_, value)| value)
    }

    fn all<'h>(&'h self, response: &'h Response<'_>) -> impl Iterator<Item = (&'h str, &'h str)> {
        let set = self.set.iter().filter_map(|rule| match self.verdict(rule, response) {
            Verdict::Replace(value) => Some((rule.name.as_str(), value)),
            Verdict::Keep | Verdict::Drop => None,
        });
        let added = self.add.iter().filter(|rule| rule.applies(response)).flat_map(move |rule| {
            let content_type = self.content_type(response);
            let fit = move |choice: &&Choice| choice.matches(response, content_type);
            rule.choices.iter().filter(fit).map(|choice| (rule.name.as_str(), &*choice.value))
        });
        set.chain(added)
    }

    fn verdict<'h>(&'h self, rule: &'h FieldRule, response: &Response<'h>) -> Verdict<'h> {
        if !rule.applies(response) {
            // Neither ours nor that of S3: it is not for this client.
            let is_refused = rule.name.scope == Scope::Tls
                || (rule.name.scope == Scope::Content && response.key.is_some());
            return if is_refused { Verdict::Drop } else { Verdict::Keep };
        }
        let content_type = match rule.name.scope {
            Scope::Content => response.content_type,
            Scope::Any | Scope::Object | Scope::Tls => self.content_type(response),
        };
        match rule.choice(response, content_type) {
            Some(choice) => Verdict::Replace(&choice.value),
            // A cache goes on with what came with the object (RFC 9111 section 4.3.4); which value
            // that was, the type of the object would tell.
            None if response.is_not_modified && content_type.is_none() && rule.asks_for_type() => {
                Verdict::Drop
            }
            None => Verdict::Keep,
        }
    }

    /// The type of the object as the client knows it.
    fn content_type<'a>(&'a self, response: &Response<'a>) -> Option<&'a [u8]> {
        let set = self.set.iter().find(|rule| rule.name.scope == Scope::Content);
        set.filter(|_| response.key.is_some())
            .and_then(|rule| rule.choice(response, response.content_type))
            .map(|choice| choice.value.as_bytes())
            .or(response.content_type)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECT: Response<'_> = Response {
        key: Some(b"docs/Page.HTML"),
        content_type: Some(b"Text/HTML; charset=utf-8"),
        is_not_modified: false,
        is_tls: true,
    };

    const ERROR: Response<'_> =
        Response { key: None, content_type: Some(b"application/json"), ..OBJECT };

    fn choice(value: &str, types: &[&str], suffixes: &[&str]) -> Choice {
        Choice {
            value: value.into(),
            types: types.iter().map(|text| TypePattern::parse(text).unwrap()).collect(),
            suffixes: suffixes.iter().map(|text| Box::from(*text)).collect(),
        }
    }

    fn rule(name: &str, choices: &[Choice]) -> FieldRule {
        FieldRule { name: FieldName::parse(name).unwrap(), choices: choices.to_vec() }
    }

    fn always(name: &str, value: &str) -> FieldRule {
        rule(name, &[choice(value, &[], &[])])
    }

    fn removed(names: &[&str]) -> Vec<NamePattern> {
        names.iter().map(|name| NamePattern::parse(name).unwrap()).collect()
    }

    fn of_bucket(rules: &HeaderRules) -> Headers {
        Headers::new(&HeaderRules::default(), rules).unwrap()
    }

    fn setting(rules: &[FieldRule]) -> Headers {
        of_bucket(&HeaderRules { set: rules.to_vec(), ..HeaderRules::default() })
    }

    fn fields<'h>(headers: &'h Headers, response: &'h Response<'_>) -> Vec<(&'h str, &'h str)> {
        headers.fields(response).collect()
    }

    #[test]
    fn names_that_would_break_a_response_are_refused() {
        for (name, error) in [
            ("", FieldError::Name),
            ("a b", FieldError::Name),
            ("a:", FieldError::Name),
            ("a\r\nb", FieldError::Name),
            ("é", FieldError::Name),
            ("Connection", FieldError::OfAConnection),
            ("keep-alive", FieldError::OfAConnection),
            ("TE", FieldError::OfAConnection),
            ("Trailer", FieldError::OfAConnection),
            ("Upgrade", FieldError::OfAConnection),
            ("Transfer-Encoding", FieldError::OfTheBody),
            ("CONTENT-LENGTH", FieldError::OfTheBody),
            ("Content-Range", FieldError::OfTheBody),
            ("Content-Encoding", FieldError::OfTheBody),
            ("Date", FieldError::OfTheResponse),
            ("WWW-Authenticate", FieldError::OfTheResponse),
        ] {
            assert_eq!(FieldName::parse(name).err(), Some(error), "{name:?}");
            assert_eq!(NamePattern::parse(name).err(), Some(error), "{name:?}");
        }
        let long = "x".repeat(FIELD_NAME_BYTES_MAX + 1);
        assert_eq!(FieldName::parse(&long).err(), Some(FieldError::NameTooLong));
        for name in ["Via", "X-Request-Id", "ETag", "last-modified", "X-Config-Generation"] {
            assert_eq!(FieldName::parse(name).err(), Some(FieldError::NeverSet), "{name}");
            assert!(NamePattern::parse(name).is_ok(), "{name}");
        }
        for (name, error) in [
            ("*", FieldError::Wildcard),
            ("x-*-y", FieldError::Wildcard),
            ("x-**", FieldError::Wildcard),
            ("content-*", FieldError::Covers("content-encoding")),
            ("D*", FieldError::Covers("date")),
            ("t*", FieldError::Covers("transfer-encoding")),
            ("u*", FieldError::Covers("upgrade")),
        ] {
            assert_eq!(NamePattern::parse(name).err(), Some(error), "{name}");
        }
        assert!(NamePattern::parse("content-sec*").is_ok());
    }

    #[test]
    fn values_that_a_client_would_misread_are_refused() {
        for (value, error) in [
            ("", FieldError::Empty),
            ("a\r\nSet-Cookie: b", FieldError::Control),
            ("a\nb", FieldError::Control),
            ("a\0b", FieldError::Control),
            ("a\u{7f}", FieldError::Control),
            ("ä", FieldError::NotAscii),
            (" a", FieldError::Blank),
            ("a\t", FieldError::Blank),
        ] {
            assert_eq!(check_value(value), Err(error), "{value:?}");
        }
        assert_eq!(check_value("max-age=1,\t b"), Ok(()));
        let long = "x".repeat(FIELD_VALUE_BYTES_MAX + 1);
        assert_eq!(check_value(&long), Err(FieldError::ValueTooLong));
        assert_eq!(check_value(&long[1..]), Ok(()));
    }

    #[test]
    fn media_types_match_whatever_their_case_and_parameters() {
        let matches =
            |pattern: &str, it: &str| TypePattern::parse(pattern).unwrap().matches(it.as_bytes());
        assert!(matches("text/html", "Text/HTML ; charset=utf-8"));
        assert!(matches("Image/*", "image/svg+xml"));
        assert!(!matches("text/html", "text/html5") && !matches("text/*", "textual/x"));
        assert!(!matches("text/html", "") && !matches("text/*", "text"));
        for bad in ["", "text", "text/", "/html", "*/*", "*/html", "text/h*", "text/html; a=b"] {
            assert!(TypePattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_field_that_is_set_replaces_and_one_that_is_added_does_not() {
        let headers = of_bucket(&HeaderRules {
            set: vec![always("X-Frame-Options", "DENY")],
            add: vec![always("Link", "<a>"), rule("Link", &[choice("<b>", &[], &[])])],
            remove: removed(&["Server", "x-amz-*"]),
        });
        for response in [OBJECT, ERROR] {
            let expected = [("X-Frame-Options", "DENY"), ("Link", "<a>"), ("Link", "<b>")];
            assert_eq!(fields(&headers, &response), expected);
            for (name, stays) in [
                ("x-frame-options", false),
                ("link", true),
                ("SERVER", false),
                ("server-timing", true),
                ("X-Amz-Id-2", false),
                ("x-amz", true),
                ("etag", true),
            ] {
                assert_eq!(headers.keeps(name.as_bytes(), &response), stays, "{name}");
            }
        }
        assert!(Headers::new(&HeaderRules::default(), &HeaderRules::default()).is_none());
    }

    #[test]
    fn the_first_value_that_fits_the_object_is_set() {
        let headers = setting(&[rule(
            "Cache-Control",
            &[
                choice("no-cache", &["text/html"], &[]),
                choice("max-age=60", &[], &[".js", ".CSS"]),
                choice("max-age=7", &["text/*"], &[".txt"]),
            ],
        )]);
        let with = |key: &'static [u8], content_type: Option<&'static [u8]>| Response {
            key: Some(key),
            content_type,
            ..OBJECT
        };
        for (key, content_type, expected) in [
            (&b"a"[..], Some(&b"text/html"[..]), Some("no-cache")),
            (b"a.js", Some(b"text/html"), Some("no-cache")),
            (b"a.JS", Some(b"text/javascript"), Some("max-age=60")),
            (b"a.css", None, Some("max-age=60")),
            (b"a.txt", Some(b"text/plain"), Some("max-age=7")),
            (b"a.txt", Some(b"image/png"), None),
            (b"txt", Some(b"text/plain"), None),
            (b"", None, None),
        ] {
            let response = with(key, content_type);
            let found = fields(&headers, &response);
            assert_eq!(found.first().map(|(_, value)| *value), expected, "{key:?}");
            assert_eq!(headers.keeps(b"cache-control", &response), expected.is_none());
        }
    }

    #[test]
    fn fields_of_an_object_are_not_sent_with_errors() {
        let headers = setting(&[
            always("Cache-Control", "max-age=1"),
            always("Content-Disposition", "attachment"),
            always("Content-Type", "text/plain"),
            always("X-A", "b"),
        ]);
        assert_eq!(fields(&headers, &OBJECT).len(), 4);
        assert_eq!(fields(&headers, &ERROR), [("X-A", "b")]);
        let removing =
            of_bucket(&HeaderRules { remove: removed(&["Cache-*"]), ..HeaderRules::default() });
        assert!(removing.keeps(b"Cache-Control", &ERROR));
        assert!(!removing.keeps(b"Cache-Control", &OBJECT));
        // What is said of the error stays.
        assert!(headers.keeps(b"cache-control", &ERROR) && headers.keeps(b"content-type", &ERROR));
    }

    #[test]
    fn hsts_is_sent_over_tls_only_whoever_sent_it() {
        let headers = setting(&[always("Strict-Transport-Security", "max-age=1")]);
        for response in [OBJECT, ERROR] {
            let plain = Response { is_tls: false, ..response };
            assert_eq!(fields(&headers, &response).len(), 1);
            assert_eq!(fields(&headers, &plain), []);
            assert!(!headers.keeps(b"strict-transport-security", &plain));
        }
    }

    #[test]
    fn a_type_that_is_set_decides_about_other_fields_and_unknown_ones_change_nothing() {
        let by_type = rule("Cache-Control", &[choice("no-cache", &["application/wasm"], &[])]);
        let headers = setting(&[
            by_type.clone(),
            rule("Content-Type", &[choice("application/wasm", &[], &[".wasm"])]),
        ]);
        let wasm = Response { key: Some(b"a.wasm"), content_type: None, ..OBJECT };
        let expected = [("Cache-Control", "no-cache"), ("Content-Type", "application/wasm")];
        assert_eq!(fields(&headers, &wasm), expected);
        let unchanged = Response { is_not_modified: true, ..wasm };
        assert_eq!(fields(&headers, &unchanged), expected[..1]);
        assert!(!headers.keeps(b"content-type", &unchanged));
        // An unchanged object whose type nobody knows keeps the value that it came with.
        let headers = setting(&[by_type]);
        assert_eq!(fields(&headers, &unchanged), []);
        assert!(!headers.keeps(b"cache-control", &unchanged));
        assert!(headers.keeps(b"cache-control", &wasm));
    }

    #[test]
    fn rules_of_a_bucket_win() {
        let all = HeaderRules {
            set: vec![
                always("X-A", "all"),
                always("X-B", "all"),
                rule("Cache-Control", &[choice("all", &[], &[])]),
            ],
            add: vec![always("Link", "all"), always("X-C", "all"), always("X-D", "all")],
            remove: removed(&["Server"]),
        };
        let bucket = HeaderRules {
            set: vec![
                always("x-a", "bucket"),
                rule("cache-control", &[choice("html", &["text/html"], &[])]),
                always("X-C", "bucket"),
            ],
            add: vec![always("Link", "bucket")],
            remove: removed(&["x-b", "X-D"]),
        };
        let headers = Headers::new(&all, &bucket).unwrap();
        let expected = [
            ("x-a", "bucket"),
            ("cache-control", "html"),
            ("X-C", "bucket"),
            ("Link", "all"),
            ("Link", "bucket"),
        ];
        assert_eq!(fields(&headers, &OBJECT), expected);
        let image = Response { content_type: Some(b"image/png"), ..OBJECT };
        assert_eq!(fields(&headers, &image)[1], ("cache-control", "all"));
        assert!(!headers.keeps(b"server", &OBJECT) && !headers.keeps(b"x-b", &OBJECT));
    }

    #[test]
    fn vary_is_kept_apart() {
        let headers = of_bucket(&HeaderRules {
            set: vec![always("Vary", "A")],
            add: vec![always("vary", "B")],
            remove: vec![],
        });
        assert_eq!(fields(&headers, &OBJECT), []);
        assert_eq!(headers.vary(&OBJECT).collect::<Vec<_>>(), ["A", "B"]);
    }

    proptest! {
        #[test]
        fn names_and_values_that_are_accepted_are_one_line(name in "\\PC{0,12}", value in "\\PC{0,20}") {
            if FieldName::parse(&name).is_ok() {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
            }
            if check_value(&value).is_ok() {
                prop_assert!(value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
                prop_assert_eq!(value.trim(), value.as_str());
            }
        }

        #[test]
        fn what_cannot_be_removed_is_not_covered(text in "[a-z-]{0,6}\\*?", name in 0_usize..17) {
            let kept: Vec<_> =
                OF_A_CONNECTION.iter().chain(&OF_THE_BODY).chain(&OF_THE_RESPONSE).collect();
            if let Ok(pattern) = NamePattern::parse(&text) {
                prop_assert!(!pattern.covers(kept[name].as_bytes()), "{text}");
            }
        }
    }
}
