//! Messages about keys that their section does not know. A key is suggested only if it is likely to
//! be the one that was meant; otherwise the keys of the section are listed.

use super::{
    foreign::{folded, known_as},
    keys::{self, Key, Kind, Row},
    yaml::shown_key,
};

/// Most places of a key that a message names.
const PLACES_MAX: usize = 3;

/// Names that mean something else in each section, so that the one key of this name is not the one
/// that was meant somewhere else.
const SAID_EVERYWHERE: [&str; 10] =
    ["enabled", "endpoint", "format", "id", "listen", "path", "prefix", "source", "type", "value"];

/// Message about an unknown key.
pub(super) struct Unknown {
    pub(super) message: String,
    /// Paths of the keys that were probably meant. That they are missing is not worth a line more.
    pub(super) meant: Vec<String>,
}

impl Unknown {
    fn meaning(message: String, meant: Vec<String>) -> Self {
        Self { message, meant }
    }
}

impl<T: Into<String>> From<T> for Unknown {
    fn from(message: T) -> Self {
        Self { message: message.into(), meant: Vec::new() }
    }
}

/// The message for a key that the section at `at`, with the keys `section`, does not know in the
/// tree of the keys `all`.
pub(super) fn explain(all: &[Row], section: &'static [Key], at: &str, name: &str) -> Unknown {
    if name == "<<" {
        return "merge keys (<<) are not supported; repeat a whole value with an alias (*name)"
            .into();
    }
    if name.contains('\u{a0}') {
        let meant = keys::find(section, name.trim()).map(|key| joined(at, key.name));
        let message = "unknown key, with a no-break space (U+00A0), which is no blank for YAML; \
                       write a blank";
        return Unknown::meaning(message.to_owned(), meant.into_iter().collect());
    }
    let name = match shown_key(name) {
        Some(key) if key.len() < name.len() && all.iter().any(|known| known.name == key) => {
            return Unknown::meaning(without_colon(key), vec![joined(at, key)]);
        }
        Some(key) => key,
        None => {
            return "unknown key, not shown because it may be a value; write `key: value`".into();
        }
    };
    let pattern = pattern_of(at);
    if let Some(write) = known_as(&pattern, name) {
        let write = placed(write, at, &pattern);
        let meant = write.split([' ', ',']).map(str::to_owned).collect();
        return Unknown::meaning(format!("unknown key; write {write}"), meant);
    }
    let names = names(section);
    if let Some(nearest) = nearest(&names, name) {
        let message = format!("unknown key; the nearest known one is {nearest}");
        return Unknown::meaning(message, vec![joined(at, nearest)]);
    }
    let places = places(all, &pattern, name);
    if places.is_empty() {
        return format!("unknown key; known here are {}", listed(&names, "and")).into();
    }
    let shown: Vec<_> = places.iter().map(|path| placed(path, at, &pattern)).collect();
    if shown == [name] {
        let message =
            format!("unknown key here; write {name} at the top level, without indentation");
        return Unknown::meaning(message, shown);
    }
    Unknown::meaning(format!("unknown key here; write it at {}", listed(&shown, "or")), shown)
}

/// Message about a key that is followed by its value without a colon and a blank between them.
pub(super) fn without_colon(key: &str) -> String {
    format!("write a colon and a blank after the key, as in `{key}: value`")
}

fn joined(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Returns true if a word is a known key, or one that was mistyped.
pub(super) fn is_near_a_key(all: &[Row], word: &str) -> bool {
    let word = word.to_lowercase();
    all.iter().any(|key| strsim::damerau_levenshtein(&word, key.name) <= word.len() / 4)
}

/// The path of a section with `[]` for the place in each list.
fn pattern_of(at: &str) -> String {
    let mut pattern = String::with_capacity(at.len());
    let mut rest = at;
    while let Some((before, after)) = rest.split_once('[') {
        pattern.push_str(before);
        pattern.push_str("[]");
        rest = after.split_once(']').map_or("", |(_, after)| after);
    }
    pattern + rest
}

/// The patterns in a text as paths of the elements that the section at `at` lies in; those that
/// begin with a dot lie in the section itself.
fn placed(write: &str, at: &str, pattern: &str) -> String {
    let mut text = String::new();
    for word in write.split_inclusive(' ') {
        if word.starts_with('.') {
            text.push_str(at);
        }
        text.push_str(word);
    }
    // Of the lists that the section lies in, the deepest first.
    let ends = |text: &str| -> Vec<usize> {
        text.match_indices(']').map(|(index, _)| index + 1).collect()
    };
    for (end, pattern_end) in ends(at).into_iter().zip(ends(pattern)).rev() {
        text = text.replace(&pattern[..pattern_end], &at[..end]);
    }
    text
}

/// The name that was probably meant.
pub(super) fn nearest(names: &[&'static str], name: &str) -> Option<&'static str> {
    let folded_name = folded(name);
    if let Some(same) = names.iter().find(|known| folded(known) == folded_name) {
        return Some(same);
    }
    // A short word is soon made of any other one.
    let distance_max = match name.len() {
        0..=2 => return None,
        3..=7 => 1,
        length => (length / 4).min(3),
    };
    let name = name.to_lowercase();
    let distances = names.iter().map(|known| (strsim::damerau_levenshtein(&name, known), *known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= distance_max).then_some(known)
}

/// Paths of the keys of this name that may have been meant: those above and below the section, else
/// any others; none if they are many.
fn places<'r>(all: &'r [Row], pattern: &str, name: &str) -> Vec<&'r str> {
    let is_within = |inner: &str, outer: &str| {
        outer.is_empty()
            || inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // Methods of CORS do not say which ones a bucket serves.
    if (pattern, name) == ("buckets[]", "methods") {
        return Vec::new();
    }
    let named: Vec<&Row> = all.iter().filter(|row| row.name == name).collect();
    let is_close =
        |row: &&&Row| is_within(row.section(), pattern) || is_within(pattern, row.section());
    let mut close: Vec<_> = named.iter().filter(is_close).map(|row| &*row.path).collect();
    if close.is_empty() && !SAID_EVERYWHERE.contains(&name) {
        close = named.iter().map(|row| &*row.path).collect();
    }
    if close.len() > PLACES_MAX { Vec::new() } else { close }
}

/// Names of the keys of a section.
pub(super) fn names(keys: &'static [Key]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in keys {
        match key.kind {
            Kind::Group(keys) => names.extend(self::names(keys)),
            _ => names.push(key.name),
        }
    }
    names
}

/// Words as `a, b and c`.
pub(super) fn listed<T: AsRef<str>>(words: &[T], last: &str) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        match words.len() - index {
            _ if index == 0 => {}
            1 => {
                text.push(' ');
                text.push_str(last);
                text.push(' ');
            }
            _ => text.push_str(", "),
        }
        text.push_str(word.as_ref());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        declare::Keys as _,
        settings::{KEYS, ServerSettings, Settings},
    };

    fn top(name: &str) -> String {
        explain(&KEYS, Settings::KEYS, "", name).message
    }

    fn server(name: &str) -> String {
        explain(&KEYS, ServerSettings::KEYS, "server", name).message
    }

    #[test]
    fn the_keys_that_were_meant_are_known() {
        let meant = |name| explain(&KEYS, ServerSettings::KEYS, "server", name).meant;
        assert_eq!(meant("prot"), ["server.port"]);
        assert_eq!(meant("port=80"), ["server.port"]);
        assert_eq!(meant("\u{a0} port"), ["server.port"]);
        assert_eq!(meant("header_bytes"), ["server.limits.header_bytes"]);
        assert_eq!(meant("listen"), ["server.address", "and", "server.port"]);
        assert!(meant("colour").is_empty());
    }

    #[test]
    fn an_unknown_key_is_told_its_neighbour() {
        assert_eq!(server("prot"), "unknown key; the nearest known one is port");
        assert_eq!(
            server("maxConnections"),
            "unknown key; the nearest known one is max_connections"
        );
        assert_eq!(top("bucket"), "unknown key; the nearest known one is buckets");
        assert!(server("<<").starts_with("merge keys"));
        assert!(server("\u{a0} port").contains("no-break space (U+00A0)"));
        assert!(server(&"p".repeat(1_000_000)).starts_with("unknown key"));
    }

    #[test]
    fn nothing_is_suggested_that_was_hardly_meant() {
        for name in ["colour", "cors", "x", "type", "name"] {
            let message = server(name);
            let listed = message.starts_with("unknown key; known here are address, port, threads");
            assert!(listed || message.contains("write it at buckets[].cors"), "{name}: {message}");
        }
        assert!(top("name").starts_with("unknown key; known here are server, credentials"));
    }

    #[test]
    fn a_key_of_another_section_is_told_its_place() {
        assert_eq!(top("header_bytes"), "unknown key here; write it at server.limits.header_bytes");
        assert_eq!(
            top("timeouts"),
            "unknown key here; write it at server.timeouts or buckets[].s3.timeouts"
        );
        assert_eq!(
            server("jwt"),
            "unknown key here; write jwt at the top level, without indentation"
        );
    }

    #[test]
    fn places_in_lists_are_those_of_the_element() {
        for (write, want) in [
            (".path_prefix", "buckets[3].s3.path_prefix"),
            ("buckets[].path_prefix", "buckets[3].path_prefix"),
            (".a or .b", "buckets[3].s3.a or buckets[3].s3.b"),
            ("jwt.keys[].id", "jwt.keys[].id"),
        ] {
            assert_eq!(placed(write, "buckets[3].s3", "buckets[].s3"), want);
        }
        let (at, pattern) = ("jwt.providers[1].claims[22]", "jwt.providers[].claims[]");
        assert_eq!(pattern_of(at), pattern);
        assert_eq!(placed(".claim", at, pattern), "jwt.providers[1].claims[22].claim");
        assert_eq!(placed("jwt.providers[].name", at, pattern), "jwt.providers[1].name");
    }
}
