//! Changes to the fields of responses: set, add, remove, for all buckets and for one.
//!
//! A field that is set replaces what S3 sent, or what this proxy says itself; one that is added
//! stands beside it. Fields that belong to a connection, to the framing of a body or to the meaning
//! of a status cannot be changed. Fields that say what an object is or how long it may be kept are
//! sent with objects only, so that no error is cached or downloaded in place of one.

mod field;
#[cfg(test)]
mod tests;

use super::media_range::MediaRange;
use field::Scope;
pub use field::{
    FIELD_NAME_BYTES_MAX, FIELD_VALUE_BYTES_MAX, FieldError, FieldName, NamePattern, check_value,
};

const CACHE_CONTROL: &[u8] = b"cache-control";

const VARY: &str = "vary";

/// A value, and the objects that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// A checked value.
    pub value: Box<str>,
    /// Media types; none means any.
    pub types: Vec<MediaRange>,
    /// Ends of object keys; none means any.
    pub suffixes: Vec<Box<str>>,
}

/// Fit of a choice to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// The type of the object would tell, which a 304 does not have.
    Unknown,
}

impl Choice {
    fn fit(&self, response: &Response<'_>, content_type: Option<&[u8]>) -> Fit {
        let ends_in = |suffix: &str| {
            let start =
                response.key.and_then(|key| Some((key, key.len().checked_sub(suffix.len())?)));
            start.is_some_and(|(key, at)| key[at..].eq_ignore_ascii_case(suffix.as_bytes()))
        };
        if !self.suffixes.is_empty() && !self.suffixes.iter().any(|suffix| ends_in(suffix)) {
            return Fit::No;
        }
        let is_of_type = match content_type {
            _ if self.types.is_empty() => true,
            Some(it) => self.types.iter().any(|wanted| wanted.holds(it)),
            None if response.is_not_modified => return Fit::Unknown,
            None => false,
        };
        if is_of_type { Fit::Yes } else { Fit::No }
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

    /// The first choice that fits or may fit.
    fn choice(
        &self,
        response: &Response<'_>,
        content_type: Option<&[u8]>,
    ) -> Option<(&Choice, Fit)> {
        let mut fits =
            self.choices.iter().map(|choice| (choice, choice.fit(response, content_type)));
        fits.find(|(_, fit)| *fit != Fit::No)
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
        if self.is_unknown(name, response) {
            return false;
        }
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
        self.all(response).filter(|(name, _)| {
            !name.eq_ignore_ascii_case(VARY) && !self.is_unknown(name.as_bytes(), response)
        })
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
            let fits = move |choice: &&Choice| choice.fit(response, content_type) == Fit::Yes;
            rule.choices.iter().filter(fits).map(|choice| (rule.name.as_str(), &*choice.value))
        });
        set.chain(added)
    }

    /// True if the type of the object decides about a value of this field in a 304. A cache takes
    /// what a 304 has of a field for all that it had (RFC 9111 section 3.2), so that a part of its
    /// values is worse than none. Those of `Vary` come from more places.
    fn is_unknown(&self, name: &[u8], response: &Response<'_>) -> bool {
        if !response.is_not_modified || name.eq_ignore_ascii_case(VARY.as_bytes()) {
            return false;
        }
        let content_type = self.content_type(response);
        let is_of = |rule: &&FieldRule| rule.name.is(name) && rule.applies(response);
        let mut set = self.set.iter().filter(is_of);
        let mut added = self.add.iter().filter(is_of).flat_map(|rule| &rule.choices);
        set.any(|rule| {
            rule.choice(response, content_type).is_some_and(|(_, fit)| fit == Fit::Unknown)
        }) || added.any(|choice| choice.fit(response, content_type) == Fit::Unknown)
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
            // A cache goes on with what came with the object (RFC 9111 section 4.3.4); which value
            // that was, the type of the object would tell.
            Some((_, Fit::Unknown)) => Verdict::Drop,
            Some((choice, _)) => Verdict::Replace(&choice.value),
            None => Verdict::Keep,
        }
    }

    /// The type of the object as the client knows it.
    fn content_type<'a>(&'a self, response: &Response<'a>) -> Option<&'a [u8]> {
        let set = self.set.iter().find(|rule| rule.name.scope == Scope::Content);
        let set = set.filter(|_| response.key.is_some());
        match set.and_then(|rule| rule.choice(response, response.content_type)) {
            Some((_, Fit::Unknown)) => None,
            Some((choice, _)) => Some(choice.value.as_bytes()),
            None => response.content_type,
        }
    }
}
