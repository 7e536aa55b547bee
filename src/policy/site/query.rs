//! Parameters of a request's query that ask S3 for something else than the object as it is now:
//! a version, a part, another header, or one of its sub-resources.
//!
//! Without a word of the operator they are refused rather than dropped: a client that asks for a
//! version must not get another one. Every other parameter is dropped, whatever it holds.
//!
//! Source: Amazon S3 API Reference, `GetObject` and `HeadObject`.

use std::ops::Range;

use crate::protocol::{s3::append_query, text::percent::decode_form};

/// Parts of an object: the multipart upload that makes them allows no more (Amazon S3 User Guide,
/// "Amazon S3 multipart upload limits").
const PART_NUMBER_MAX: u32 = 10_000;

/// A parameter that a bucket may let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parameter {
    /// `partNumber`
    PartNumber,
    /// `response-cache-control`
    CacheControl,
    /// `response-content-disposition`
    ContentDisposition,
    /// `response-content-encoding`
    ContentEncoding,
    /// `response-content-language`
    ContentLanguage,
    /// `response-content-type`
    ContentType,
    /// `response-expires`
    Expires,
    /// `versionId`
    VersionId,
}

impl Parameter {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 8] = [
        Self::PartNumber,
        Self::CacheControl,
        Self::ContentDisposition,
        Self::ContentEncoding,
        Self::ContentLanguage,
        Self::ContentType,
        Self::Expires,
        Self::VersionId,
    ];

    /// The name in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PartNumber => "partNumber",
            Self::CacheControl => "response-cache-control",
            Self::ContentDisposition => "response-content-disposition",
            Self::ContentEncoding => "response-content-encoding",
            Self::ContentLanguage => "response-content-language",
            Self::ContentType => "response-content-type",
            Self::Expires => "response-expires",
            Self::VersionId => "versionId",
        }
    }

    /// Returns true if it replaces a header field of the response, which S3 does for signed
    /// requests only. Where it is not let through it can be dropped: it changes no byte of the
    /// object.
    pub const fn is_override(self) -> bool {
        !matches!(self, Self::PartNumber | Self::VersionId)
    }
}

/// Parameters that ask for something about the object in its place. No bucket lets them through.
const SUBRESOURCES: [&str; 8] =
    ["acl", "attributes", "legal-hold", "retention", "tagging", "torrent", "uploadId", "uploads"];

/// Returns true if the parameter of this name means something to S3 in a request for an object.
pub fn is_known(name: &str) -> bool {
    SUBRESOURCES.contains(&name) || Parameter::ALL.iter().any(|known| known.name() == name)
}

/// A query that asks for something else than the object, or for a version or part in a form that
/// S3 does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// Returns true if a query asks for a version or a part, for which no other object can stand.
pub fn selects(query: &[u8]) -> bool {
    pairs(query).any(|(name, _)| match find(name) {
        Some(Known::Parameter(parameter)) => !parameter.is_override(),
        Some(Known::Subresource) | None => false,
    })
}

/// The parameters that a bucket lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowedQuery {
    /// Set for each, by its place in [`Parameter::ALL`].
    is_allowed: [bool; Parameter::ALL.len()],
}

impl AllowedQuery {
    /// Lets these through.
    pub fn new(parameters: impl IntoIterator<Item = Parameter>) -> Self {
        let mut allowed = Self::default();
        for parameter in parameters {
            allowed.is_allowed[parameter as usize] = true;
        }
        allowed
    }

    /// Checks the query of a request for an object, which is without its `?`.
    ///
    /// # Errors
    /// It has a parameter that is refused, or one that would be let through a second time or with
    /// a value that means nothing.
    #[inline(never)]
    pub fn check(self, query: &[u8]) -> Result<(), Unsupported> {
        let mut is_there = [false; Parameter::ALL.len()];
        for (name, value) in pairs(query) {
            match find(name) {
                None => {}
                Some(Known::Subresource) => return Err(Unsupported),
                Some(Known::Parameter(parameter)) => {
                    let place = parameter as usize;
                    if !self.is_allowed[place] {
                        if parameter.is_override() {
                            continue;
                        }
                        return Err(Unsupported);
                    }
                    let is_repeated = std::mem::replace(&mut is_there[place], true);
                    if is_repeated || !is_value(parameter, value) {
                        return Err(Unsupported);
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends what is let through of a query that passed the check to `out`, in the canonical
    /// form. `scratch` is empty, and holds the decoded values after.
    pub fn append(self, query: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        let mut values: [Option<Range<usize>>; Parameter::ALL.len()] = Default::default();
        for (name, value) in pairs(query) {
            if let Some(Known::Parameter(parameter)) = find(name)
                && self.is_allowed[parameter as usize]
            {
                let start = scratch.len();
                scratch.extend(decode_form(value).map_while(Result::ok));
                values[parameter as usize] = Some(start..scratch.len());
            }
        }
        let mut parameters = [("", &[][..]); Parameter::ALL.len()];
        let mut count = 0;
        for (parameter, value) in Parameter::ALL.into_iter().zip(values) {
            if let Some(value) = value.and_then(|value| scratch.get(value)) {
                parameters[count] = (parameter.name(), value);
                count += 1;
            }
        }
        append_query(&mut parameters[..count], out);
    }
}

/// A name that means something.
#[derive(Clone, Copy)]
enum Known {
    Subresource,
    Parameter(Parameter),
}

/// The parameters of a query, as they stand in it; one without `=` has an empty value.
fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').map(|pair| match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    })
}

/// Meaning of a name, once it is decoded. Names compare exactly, as S3 compares them; one that
/// cannot be decoded is none of them.
fn find(name: &[u8]) -> Option<Known> {
    let is = |known: &str| decode_form(name).eq(known.bytes().map(Ok));
    if let Some(parameter) = Parameter::ALL.into_iter().find(|known| is(known.name())) {
        return Some(Known::Parameter(parameter));
    }
    SUBRESOURCES.iter().any(|known| is(known)).then_some(Known::Subresource)
}

/// Returns true if S3 can make something of the value: of a number, if it is one.
fn is_value(parameter: Parameter, value: &[u8]) -> bool {
    let mut number = Some(0_u32);
    for byte in decode_form(value) {
        let Ok(byte) = byte else { return false };
        if byte.is_ascii_control() {
            return false;
        }
        let digit = char::from(byte).to_digit(10);
        number = number
            .zip(digit)
            .and_then(|(number, digit)| number.checked_mul(10)?.checked_add(digit));
    }
    match parameter {
        Parameter::PartNumber => {
            number.is_some_and(|number| (1..=PART_NUMBER_MAX).contains(&number))
        }
        _ => !value.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(names: &[&str]) -> AllowedQuery {
        let all = Parameter::ALL.into_iter();
        AllowedQuery::new(all.filter(|parameter| names.contains(&parameter.name())))
    }

    fn passed(names: &[&str], query: &str) -> Result<String, Unsupported> {
        let allowed = allowing(names);
        allowed.check(query.as_bytes())?;
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        allowed.append(query.as_bytes(), &mut scratch, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    const ALL: [&str; 8] = [
        "versionId",
        "partNumber",
        "response-content-type",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-cache-control",
        "response-expires",
    ];

    #[test]
    fn parameters_are_in_the_order_of_their_names() {
        assert!(Parameter::ALL.map(Parameter::name).is_sorted());
        for (place, parameter) in Parameter::ALL.into_iter().enumerate() {
            assert_eq!(parameter as usize, place);
        }
    }

    #[test]
    fn versions_and_parts_select() {
        for (query, expected) in [
            ("versionId=1", true),
            ("x&part%4Eumber=2", true),
            ("response-expires=0&versionid=1", false),
            ("acl", false),
            ("", false),
        ] {
            assert_eq!(selects(query.as_bytes()), expected, "{query}");
        }
    }

    #[test]
    fn what_asks_for_something_else_is_refused() {
        for query in [
            "versionId=1",
            "versionId=",
            "versionId",
            "partNumber=1",
            "x=1&versionId=null",
            "&&versionId=1&",
            "version%49d=1",
            "%76%65%72%73%69%6f%6E%49%64=1",
            "acl",
            "acl=",
            "acl=x",
            "%61cl",
            "tagging",
            "torrent",
            "retention",
            "legal-hold",
            "legal%2dhold",
            "attributes",
            "uploads",
            "uploadId=x",
        ] {
            assert_eq!(passed(&[], query), Err(Unsupported), "{query}");
        }
        for subresource in SUBRESOURCES {
            assert_eq!(passed(&ALL, subresource), Err(Unsupported), "{subresource}");
        }
    }

    #[test]
    fn everything_else_is_dropped() {
        for query in [
            "",
            "&",
            "?",
            "versionid=1",
            "VERSIONID=1",
            "versionId%20=1",
            "+versionId=1",
            "version%2549d=1",
            "versionI=1",
            "versionId2=1",
            "%zz",
            "versionI%6=1",
            "x=versionId",
            "a;versionId=1",
            "ACL",
            "response-content-type=text/html",
            "X-Amz-Signature=abc&X-Amz-Credential=x",
            "x-id=GetObject",
            "list-type=2&prefix=a",
        ] {
            assert_eq!(passed(&[], query).as_deref(), Ok(""), "{query}");
        }
    }

    #[test]
    fn what_is_let_through_is_in_canonical_form_and_nothing_else_is() {
        let id = "versionId";
        let part = "partNumber";
        let named = "response-content-disposition";
        for (names, query, expected) in [
            (&[id][..], "versionId=abc", "versionId=abc"),
            (&[id], "version%49d=%61bc&x=1", "versionId=abc"),
            (&[id], "versionId=a%2Fb%2bc%3D=", "versionId=a%2Fb%2Bc%3D%3D"),
            (&[id], "versionId=a%252Fb", "versionId=a%252Fb"),
            (&[id], "versionId=null&response-expires=0", "versionId=null"),
            (&[part, id], "versionId=v&partNumber=10000", "partNumber=10000&versionId=v"),
            (&[part], "partNumber=%31", "partNumber=1"),
            (&[id], "", ""),
            // S3 reads a plus as a space, as in a form.
            (
                &[named],
                "response-content-disposition=attachment;+filename=%22a+b.txt%22",
                "response-content-disposition=attachment%3B%20filename%3D%22a%20b.txt%22",
            ),
        ] {
            assert_eq!(passed(names, query).as_deref(), Ok(expected), "{query}");
        }
        let all = ALL.map(|name| format!("{name}=1")).join("&");
        let canonical = passed(&ALL, &all).unwrap();
        assert_eq!(canonical.split('&').count(), ALL.len());
        assert!(canonical.split('&').is_sorted(), "{canonical}");
    }

    #[test]
    fn what_is_let_through_must_mean_something() {
        for query in [
            "versionId",
            "versionId=",
            "versionId=1&versionId=1",
            "versionId=1&version%49d=2",
            "versionId=%",
            "versionId=%zz",
            "versionId=a%0d%0ab",
            "versionId=%00",
            "partNumber",
            "partNumber=",
            "partNumber=0",
            "partNumber=10001",
            "partNumber=4294967297",
            "partNumber=-1",
            "partNumber=+1",
            "partNumber=%2B1",
            "partNumber=1x",
            "partNumber=1.0",
            "partNumber=%D9%A1",
            "response-content-type=",
            "response-content-type=a%0a",
            "response-expires=1&response-expires=2",
        ] {
            assert_eq!(passed(&ALL, query), Err(Unsupported), "{query}");
        }
    }

    #[test]
    fn names_of_s3_are_known() {
        for name in ALL.into_iter().chain(SUBRESOURCES) {
            assert!(is_known(name), "{name}");
        }
        for name in ["token", "versionid", ""] {
            assert!(!is_known(name), "{name}");
        }
    }
}
