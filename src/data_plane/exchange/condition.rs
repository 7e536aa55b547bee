//! The query parameter and the `If-Match` of an admin request. Both decide whether a configuration
//! is adopted, so text that is not understood is never taken for its absence.

use crate::{handoff::message::IfMatch, model::Generation};

/// A query that is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidQuery;

/// Returns true if a reload is a dry run: no query, or exactly one `dry_run=true` or
/// `dry_run=false`.
pub(crate) fn dry_run(query: Option<&[u8]>) -> Result<bool, InvalidQuery> {
    match query {
        None => Ok(false),
        Some(query) => match &*only_value(query, b"dry_run")? {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(InvalidQuery),
        },
    }
}

/// The generation of a rollback: exactly one `to=N` in decimal digits.
pub(crate) fn rollback_to(query: Option<&[u8]>) -> Result<Generation, InvalidQuery> {
    let value = only_value(query.ok_or(InvalidQuery)?, b"to")?;
    // `parse` would take a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(InvalidQuery);
    }
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number.map(Generation).ok_or(InvalidQuery)
}

/// The value of the only parameter, whose name must be `name`; both are percent-decoded once.
fn only_value(query: &[u8], name: &[u8]) -> Result<Vec<u8>, InvalidQuery> {
    if query.contains(&b'&') {
        return Err(InvalidQuery);
    }
    let equals = query.iter().position(|byte| *byte == b'=').ok_or(InvalidQuery)?;
    let (found, value) = (&query[..equals], &query[equals + 1..]);
    if decoded(found)? != name {
        return Err(InvalidQuery);
    }
    decoded(value)
}

fn decoded(text: &[u8]) -> Result<Vec<u8>, InvalidQuery> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).ok_or(InvalidQuery)
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let code = digit(rest.next())? * 16 + digit(rest.next())?;
                u8::try_from(code).map_err(|_| InvalidQuery)?
            }
            byte => *byte,
        });
    }
    Ok(bytes)
}

/// The condition that the values of all `If-Match` fields make (RFC 9110 section 13.1.1), or none
/// without any. What is no list of entity tags matches nothing.
pub(crate) fn if_match<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<IfMatch> {
    let values: Vec<&[u8]> = values.collect();
    match &values[..] {
        [] => None,
        [b"*"] => Some(IfMatch::Any),
        // Several fields are one list (RFC 9110 section 5.3).
        _ => Some(IfMatch::Tags(strong_tags(&values.join(&b", "[..])).unwrap_or_default())),
    }
}

/// The text between the quotes of each strong entity tag of a list. Weak ones match nothing in
/// the strong comparison that `If-Match` asks for (RFC 9110 sections 8.8.3 and 13.1.1).
fn strong_tags(list: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut tags = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(tags);
        }
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let quoted = quoted.strip_prefix(b"\"")?;
        let end = quoted.iter().position(|byte| *byte == b'"')?;
        if !weak {
            tags.push(quoted[..end].into());
        }
        rest = quoted[end + 1..].trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_query_is_a_dry_run_or_a_reload() {
        assert_eq!(dry_run(None), Ok(false));
        for (query, expected) in [
            ("dry_run=true", true),
            ("dry_run=false", false),
            ("dry%5Frun=true", true),
            ("dry_run=tru%65", true),
        ] {
            assert_eq!(dry_run(Some(query.as_bytes())), Ok(expected), "{query}");
        }
        for query in [
            "",
            "dry_run",
            "dry_run=",
            "dry_run=True",
            "dry_run=yes",
            "dry_run=1",
            "dryrun=true",
            "dry_run=true&dry_run=false",
            "dry_run=true&dry_run=true",
            "dry_run=true&",
            "&dry_run=true",
            "dry_run=true&x=y",
            "dry_run=true=",
            "dry_run%3Dtrue",
            "dry_run=true%",
            "dry_run=true%2",
            "dry_run=%zz",
            "dry%255Frun=true",
            "dry_run= true",
            "dry_run=true#x",
            "dry_run=true;x",
            "to=1",
        ] {
            assert_eq!(dry_run(Some(query.as_bytes())), Err(InvalidQuery), "{query}");
        }
    }

    #[test]
    fn only_a_number_is_a_generation() {
        assert_eq!(rollback_to(Some(b"to=41")), Ok(Generation(41)));
        assert_eq!(rollback_to(Some(b"t%6F=%34%31")), Ok(Generation(41)));
        for query in [
            "",
            "to",
            "to=",
            "to=x",
            "to=+1",
            "to=-1",
            "to=1.0",
            "to=0x1",
            "to= 1",
            "to=1&to=2",
            "to=1&",
            "To=1",
            "generation=1",
            "to=99999999999999999999999",
        ] {
            assert_eq!(rollback_to(Some(query.as_bytes())), Err(InvalidQuery), "{query}");
        }
        assert_eq!(rollback_to(None), Err(InvalidQuery));
    }

    fn tags(values: &[&str]) -> Option<Vec<String>> {
        match if_match(values.iter().map(|value| value.as_bytes())) {
            None => None,
            Some(IfMatch::Any) => Some(vec!["*".to_owned()]),
            Some(IfMatch::Tags(tags)) => {
                Some(tags.iter().map(|tag| String::from_utf8_lossy(tag).into_owned()).collect())
            }
        }
    }

    #[test]
    fn conditions_are_lists_of_entity_tags() {
        assert_eq!(tags(&[]), None);
        for (values, expected) in [
            (&["*"][..], &["*"][..]),
            (&["\"25\""], &["25"]),
            (&["\"025\""], &["025"]),
            (&["\"1\", \"2\" ,\"3\""], &["1", "2", "3"]),
            (&["\"1\"", "\"2\""], &["1", "2"]),
            (&[", \"1\",,"], &["1"]),
            (&["\"a,b\""], &["a,b"]),
            (&["W/\"1\", \"2\""], &["2"]),
            (&["W/\"1\""], &[]),
            (&["25"], &[]),
            (&["\"25"], &[]),
            (&["\"1\" \"2\""], &[]),
            (&["\"1\", x"], &[]),
            (&["*, \"1\""], &[]),
            (&["*", "*"], &[]),
            (&[""], &[]),
        ] {
            let expected = expected.iter().map(|tag| (*tag).to_owned()).collect();
            assert_eq!(tags(values), Some(expected), "{values:?}");
        }
    }
}
