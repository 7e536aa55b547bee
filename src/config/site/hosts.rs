//! `hosts` and `path_prefix` of a bucket.

use std::ops::Deref;

use crate::{
    config::{
        declare::Value,
        keys::Key,
        scalar::{TYPOGRAPHIC, Text, is_in_typographic_quotes},
        section::Section,
    },
    policy::router::{HostPattern, validate_path_prefix},
};

/// Longest path prefix, in bytes: an S3 key has at most 1,024, and a prefix is meant to be short.
const PATH_PREFIX_BYTES_MAX: usize = 1_024;

/// `buckets[].hosts`, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPatterns(pub Vec<HostPattern>);

impl Value for HostPatterns {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut seen: Vec<HostPattern> = Vec::new();
        let mut patterns = section.parsed_texts(key.name, |text| {
            let pattern = HostPattern::parse(&text.value)?;
            if seen.contains(&pattern) {
                return Err("is written twice; remove one".to_owned());
            }
            seen.push(pattern.clone());
            Ok(pattern)
        });
        patterns.sort_unstable();
        Self(patterns)
    }
}

/// `buckets[].path_prefix`; `/` for a bucket with hosts that has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPrefix(pub String);

impl Deref for PathPrefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Value for PathPrefix {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let Ok(text) = section.optional_text(key.name) else { return Self::default() };
        let problem = match text {
            Some(text) => match check_path_prefix(&text.value) {
                Ok(()) => {
                    if text.value.contains('*') {
                        section.warning(key.name, literal_star(&text));
                    }
                    return Self(text.value.into_owned());
                }
                Err(problem) => problem,
            },
            None if section.is_written(key.name) => "is empty; write a value",
            None if section.has("hosts") && !section.is_empty_list("hosts") => {
                return Self("/".to_owned());
            }
            None if section.is_meant(key.name) => return Self::default(),
            None => "is missing; write it",
        };
        section.error(key.name, problem);
        Self::default()
    }
}

/// Warning about a `*` that looks like a pattern.
fn literal_star(text: &Text<'_>) -> String {
    let before = text.value.trim_end_matches('*');
    if !before.ends_with('/') || before.contains('*') {
        return "holds a * that stands for itself; a prefix covers all that is below it, in whole \
                segments: write the segments before it"
            .to_owned();
    }
    let write = match before.trim_end_matches('/') {
        _ if !text.may_be_shown() => "the path before it",
        "" => "/",
        before => before,
    };
    format!("holds a * that stands for itself; a prefix covers all that is below it: write {write}")
}

fn check_path_prefix(prefix: &str) -> Result<(), &'static str> {
    const _: () = assert!(PATH_PREFIX_BYTES_MAX == 1_024);
    if prefix.len() > PATH_PREFIX_BYTES_MAX {
        return Err("is longer than 1024 bytes; shorten it");
    }
    if prefix.contains("://") {
        return Err("is a URL; write its host in hosts, and its path alone here");
    }
    if is_in_typographic_quotes(prefix) {
        return Err(TYPOGRAPHIC);
    }
    if prefix.starts_with(|c: char| !c.is_alphanumeric() && !matches!(c, '/' | '_' | '-' | '.')) {
        return Err(
            "must begin with '/'; remove what is before it, because a prefix is no pattern",
        );
    }
    validate_path_prefix(prefix)
}
