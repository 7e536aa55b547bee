//! Reading one section of the file: values with the bounds and defaults of their keys, and
//! every problem noted with its path and line while the walk goes on.

use std::{path::Path, rc::Rc, time::Duration};

use super::{
    expand::{SCALAR_BYTES_MAX, expand},
    keys::{self, Key, Kind, Preset},
    scalar::{Text, found, json_scalar, plain_kind},
    walk::{At, Noted, Walk},
    yaml::{Entry, Node, Shape, push_key, shown_key},
};
use crate::model::Secret;

/// One mapping of the file, known or assumed empty.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) walk: &'a Walk<'a>,
    keys: &'static [Key],
    at: &'a At<'a>,
    line: usize,
    entries: &'a [Entry<'a>],
    /// Missing or no mapping at all. That has been noted, and says it all: what its keys lack
    /// is not worth a line each.
    broken: bool,
    /// Set if the file has it, be it null.
    pub(super) is_there: bool,
}

impl<'a> Section<'a> {
    /// The section with these keys at `node`; notes keys that it does not know.
    pub(super) fn open(
        walk: &'a Walk<'a>,
        keys: &'static [Key],
        at: &'a At<'a>,
        line: usize,
        node: Option<&'a Node<'a>>,
    ) -> Self {
        let is_there = node.is_some();
        let mut section = Self { walk, keys, at, line, entries: &[], broken: false, is_there };
        match node.map(Node::shape) {
            None => return section,
            Some(Shape::Mapping(entries)) => section.entries = entries,
            Some(Shape::Scalar(scalar)) if scalar.is_null() => return section,
            Some(other) => {
                section.error_here(format!("expected a mapping, found {}", found(other)));
                section.broken = true;
            }
        }
        for entry in section.entries {
            if keys::find(keys, &entry.key).is_none() {
                section.note_unknown(entry);
            }
        }
        section
    }

    fn note_unknown(&self, entry: &Entry<'_>) {
        // Finding the nearest name costs more than everything else about a key, so a flood of
        // unknown ones is only counted.
        if self.walk.is_full() {
            self.walk.error(String::new(), entry.line, String::new());
            return;
        }
        let mut path = self.at.to_string();
        // A word of its own, where a comma or a colon may be missing, may be a value.
        let is_word = is_null(&entry.value) && shown_key(&entry.key) == Some(&*entry.key);
        if is_word && !keys::is_near_a_key(self.walk.keys, &entry.key) {
            path.push_str(if path.is_empty() { "(not shown)" } else { ".(not shown)" });
        } else {
            push_key(&mut path, &entry.key);
        }
        self.walk.error(path, entry.line, keys::unknown(self.walk.keys, self.keys, &entry.key));
    }

    fn key(&self, name: &str) -> &'static Key {
        match keys::find(self.keys, name) {
            Some(key) => key,
            None => unreachable!("{}.{name} is not declared", self.at),
        }
    }

    fn entry(&self, name: &str) -> Option<&'a Entry<'a>> {
        debug_assert_eq!(self.key(name).name, name);
        self.entries.iter().find(|entry| entry.key == name)
    }

    /// Line of a key, or of the section when the key is not written.
    pub(super) fn line_of(&self, name: &str) -> usize {
        self.entry(name).map_or(self.line, |entry| entry.line)
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        At::Key(self.at, name).to_string()
    }

    /// Path of the section itself.
    pub(super) fn path(&self) -> String {
        self.at.to_string()
    }

    /// Notes an error about a key.
    pub(super) fn error(&self, name: &str, message: impl Into<String>) -> Noted {
        if self.broken {
            return Noted;
        }
        self.walk.error(self.path_of(name), self.line_of(name), message.into())
    }

    /// Notes an error about the section as a whole.
    pub(super) fn error_here(&self, message: impl Into<String>) -> Noted {
        if self.broken {
            return Noted;
        }
        self.walk.error(self.path(), self.line, message.into())
    }

    /// Notes a warning about a key.
    pub(super) fn warning(&self, name: &str, message: impl Into<String>) {
        self.walk.warning(self.path_of(name), self.line_of(name), message.into());
    }

    /// Returns true if an error stands at a key or below it, or may stand there uncounted.
    pub(super) fn is_noted(&self, name: &str) -> bool {
        self.broken
            || self.walk.is_full()
            || (self.walk.has_errors() && self.walk.has_error_within(&self.path_of(name)))
    }

    /// Returns true if the key is there, be it null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Returns true if the key is there and is not null.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|entry| !is_null(&entry.value))
    }

    /// Hands the section `name` to `read`; when it is not written, one without keys.
    pub(super) fn section<T>(&self, name: &'static str, read: impl FnOnce(Section<'_>) -> T) -> T {
        let key = self.key(name);
        let entry = self.entry(name);
        let at = At::Key(self.at, name);
        let node = entry.map(|entry| &entry.value);
        let Kind::Section(keys) = key.kind else { unreachable!("{name} is no section") };
        let mut section = Section::open(self.walk, keys, &at, self.line_of(name), node);
        if self.broken {
            section.broken = true;
        } else if key.default == Preset::Required && !self.is_written(name) {
            section.error_here("is missing; write this section");
            section.broken = true;
        }
        read(section)
    }

    /// Returns true if no element is written: no list, or an empty one.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        match self.entry(name).map(|entry| entry.value.shape()) {
            None => true,
            Some(Shape::Sequence(items)) => items.is_empty(),
            Some(Shape::Scalar(scalar)) => scalar.is_null(),
            Some(Shape::Mapping(_)) => false,
        }
    }

    /// The elements of a list; nothing when it is not written.
    pub(super) fn list(&self, name: &str) -> &'a [Node<'a>] {
        match self.entry(name).map(|entry| entry.value.shape()) {
            None => &[],
            Some(Shape::Sequence(items)) => items,
            Some(Shape::Scalar(scalar)) if scalar.is_null() => &[],
            Some(other) => {
                self.error(name, format!("expected a list, found {}", found(other)));
                &[]
            }
        }
    }

    /// Hands each element of a list of mappings to `read`.
    pub(super) fn each<T>(
        &self,
        name: &'static str,
        mut read: impl FnMut(Section<'_>) -> T,
    ) -> Vec<T> {
        let Kind::List(keys) = self.key(name).kind else { unreachable!("{name} is no list") };
        let list_at = At::Key(self.at, name);
        let mut all = Vec::new();
        for (index, node) in self.list(name).iter().enumerate() {
            let at = At::Index(&list_at, index);
            if is_null(node) {
                self.note_null(&at, node.line);
                continue;
            }
            all.push(read(Section::open(self.walk, keys, &at, node.line, Some(node))));
        }
        all
    }

    /// The elements of a list of text.
    pub(super) fn texts(&self, name: &'static str) -> Vec<String> {
        let list_at = At::Key(self.at, name);
        let mut texts = Vec::new();
        for (index, node) in self.list(name).iter().enumerate() {
            let at = At::Index(&list_at, index);
            match self.text_at(node, &at, node.line) {
                Ok(Some(text)) if text.value.is_empty() => {
                    let message = "is empty; write text, or remove the element";
                    self.walk.error(at.to_string(), node.line, message.to_owned());
                }
                Ok(Some(text)) => texts.push(text.value.into_owned()),
                Ok(None) => self.note_null(&at, node.line),
                Err(Noted) => {}
            }
        }
        texts
    }

    fn note_null(&self, at: &At<'_>, line: usize) {
        let message = "is null; write a value, or remove the element";
        self.walk.error(at.to_string(), line, message.to_owned());
    }

    /// The scalar of a key with variables replaced; none when it is not written or null.
    fn scalar(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
        match self.entry(name) {
            None => Ok(None),
            Some(entry) => self.scalar_at(&entry.value, &At::Key(self.at, name), entry.line),
        }
    }

    fn scalar_at(
        &self,
        node: &'a Node<'a>,
        at: &At<'_>,
        line: usize,
    ) -> Result<Option<Text<'a>>, Noted> {
        let scalar = match node.shape() {
            Shape::Scalar(scalar) if scalar.is_null() => return Ok(None),
            Shape::Scalar(scalar) => scalar,
            other => {
                let message = format!("expected a single value, found {}", found(other));
                return Err(self.walk.error(at.to_string(), line, message));
            }
        };
        match expand(&scalar.text, self.walk.environment) {
            Ok((value, from_variable)) => {
                if from_variable {
                    self.walk.count_text(value.len(), line)?;
                }
                Ok(Some(Text { value, from_variable, plain: scalar.plain }))
            }
            Err(error) => Err(self.walk.error(at.to_string(), line, error.to_string())),
        }
    }

    fn text_at(
        &self,
        node: &'a Node<'a>,
        at: &At<'_>,
        line: usize,
    ) -> Result<Option<Text<'a>>, Noted> {
        let text = self.scalar_at(node, at, line)?;
        if let Some(text) = &text
            && text.plain
            && !text.from_variable
            && let Some(kind) = plain_kind(&text.value)
        {
            let message = format!("expected text, found a {kind}; put it in quotes");
            return Err(self.walk.error(at.to_string(), line, message));
        }
        Ok(text)
    }

    /// Text of a key, or its default; none when both are empty or absent.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
        let written = match self.entry(name) {
            None => None,
            Some(entry) => self.text_at(&entry.value, &At::Key(self.at, name), entry.line)?,
        };
        if let Some(text) = written {
            return Ok(Some(text).filter(|text| !text.value.is_empty()));
        }
        match self.key(name).default {
            Preset::Is(default) if !default.is_empty() => Ok(Some(Text::preset(default))),
            Preset::Is(_) | Preset::Otherwise(_) => Ok(None),
            Preset::Required => Err(self.error(name, "is missing; write it")),
        }
    }

    /// Text of a key whose absence means "not checked". A variable that makes it empty would be
    /// an accident that nobody sees.
    pub(super) fn security_text(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
        let text = self.optional_text(name)?;
        let is_emptied = text.is_none()
            && self.entry(name).is_some_and(|entry| match entry.value.shape() {
                Shape::Scalar(scalar) => scalar.text.contains('$'),
                _ => false,
            });
        if is_emptied {
            return Err(self.error(name, "the variable is empty; set it, or remove the key"));
        }
        Ok(text)
    }

    /// Text of a key that passes its check; empty only if that is the default.
    pub(super) fn text(&self, name: &str) -> Result<String, Noted> {
        let key = self.key(name);
        let text = match self.optional_text(name)? {
            Some(text) => text.value.into_owned(),
            None if key.default == Preset::Is("") => String::new(),
            None => return Err(self.error(name, "is empty; write a value")),
        };
        match key.check.map(|check| check(&text)) {
            Some(Err(message)) => Err(self.error(name, message)),
            _ => Ok(text),
        }
    }

    /// The scalar, or the default as if it had been written.
    fn scalar_or_default(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
        if let Some(text) = self.scalar(name)? {
            return Ok(Some(text));
        }
        match self.key(name).default {
            Preset::Is(default) => Ok(Some(Text::preset(default))),
            Preset::Otherwise(_) => Ok(None),
            Preset::Required => Err(self.error(name, "is missing; write it")),
        }
    }

    /// A boolean; false when it has no default.
    pub(super) fn boolean(&self, name: &str) -> bool {
        self.read_boolean(name).ok().flatten().unwrap_or_default()
    }

    fn read_boolean(&self, name: &str) -> Result<Option<bool>, Noted> {
        let Some(text) = self.scalar_or_default(name)? else { return Ok(None) };
        if text.plain || text.from_variable {
            match &*text.value {
                "true" | "True" | "TRUE" => return Ok(Some(true)),
                "false" | "False" | "FALSE" => return Ok(Some(false)),
                _ => {}
            }
        }
        Err(self.error(name, format!("expected true or false, found {}", text.shown())))
    }

    /// A whole number within the bounds of the table; none when it has no default.
    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, Noted> {
        let Kind::Integer(min, max, _) = self.key(name).kind else {
            unreachable!("{name} is no integer")
        };
        let Some(text) = self.scalar_or_default(name)? else { return Ok(None) };
        let digits = text.value.strip_prefix('-').unwrap_or(&text.value);
        let is_number = (text.plain || text.from_variable)
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !is_number {
            let shown = text.shown();
            return Err(self.error(name, format!("expected a whole number, found {shown}")));
        }
        match text.value.parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.error(name, format!("must be from {min} to {max}"))),
        }
    }

    /// A time in seconds, fractions allowed, within the bounds of the table.
    pub(super) fn seconds(&self, name: &str) -> Result<Duration, Noted> {
        let (zero, max) = match self.key(name).kind {
            Kind::Seconds(max) => (false, max),
            Kind::SecondsOrZero(max) => (true, max),
            _ => unreachable!("{name} is no time"),
        };
        let Some(text) = self.scalar_or_default(name)? else { return Ok(Duration::ZERO) };
        // The characters are checked because `parse` alone accepts "inf" and "nan".
        let number = text.value.parse::<f64>().ok().filter(|_| {
            (text.plain || text.from_variable)
                && text
                    .value
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'))
        });
        let Some(number) = number else {
            let message = format!("expected a number of seconds, found {}", text.shown());
            return Err(self.error(name, message));
        };
        match Duration::try_from_secs_f64(number) {
            Ok(time) if time <= Duration::from_secs(max.into()) && (zero || !time.is_zero()) => {
                Ok(time)
            }
            _ if zero => Err(self.error(name, format!("must be from 0 to {max} seconds"))),
            _ => Err(self.error(name, format!("must be above 0 and at most {max} seconds"))),
        }
    }

    /// The place of the word among those that the key may hold.
    pub(super) fn choice(&self, name: &str) -> Result<usize, Noted> {
        let Kind::Choice(words) = self.key(name).kind else { unreachable!("{name} is no choice") };
        let text = self.scalar_or_default(name)?;
        let place =
            text.as_ref().and_then(|text| words.iter().position(|word| *word == text.value));
        place.ok_or_else(|| {
            let shown = text.map_or_else(|| "nothing".to_owned(), |text| text.shown());
            self.error(name, format!("expected one of {}, found {shown}", words.join(", ")))
        })
    }

    /// The whole content of the file that a key names; none when it names none.
    pub(super) fn named_file(&self, name: &str) -> Result<Option<Rc<Vec<u8>>>, Noted> {
        let Kind::File(bytes_max) = self.key(name).kind else { unreachable!("{name} is no file") };
        let Some(path) = self.security_text(name)? else { return Ok(None) };
        self.content_of(name, &path, bytes_max).map(Some)
    }

    fn content_of(
        &self,
        name: &str,
        path: &Text<'_>,
        bytes_max: usize,
    ) -> Result<Rc<Vec<u8>>, Noted> {
        if path.value.contains('\0') {
            return Err(
                self.error(name, "holds a NUL character, which no path can have; remove it")
            );
        }
        match self.walk.file(Path::new(&*path.value), bytes_max, self.line_of(name))? {
            Ok(content) => Ok(content),
            Err(why) => Err(self.error(name, format!("the file that it names {why}"))),
        }
    }

    /// A secret from `name` or from the file that `file_name` names, without the file's last line
    /// end; none when neither is written. Those that come from one file or one variable are held,
    /// counted and checked once.
    pub(super) fn secret(
        &self,
        name: &'static str,
        file_name: &'static str,
        check: fn(&[u8]) -> Result<(), &'static str>,
    ) -> Result<Option<Secret>, Noted> {
        let written = self.written_secret(name, check);
        let file = self.security_text(file_name);
        match (written?, file?) {
            (Some(_), Some(_)) => {
                Err(self.error(file_name, format!("is written beside {name}; keep one of them")))
            }
            (Some(secret), None) => Ok(Some(secret)),
            (None, Some(path)) => self.secret_in(file_name, &path, check).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn written_secret(
        &self,
        name: &'static str,
        check: fn(&[u8]) -> Result<(), &'static str>,
    ) -> Result<Option<Secret>, Noted> {
        let with_variable = self.entry(name).and_then(|entry| match entry.value.shape() {
            Shape::Scalar(scalar) if scalar.text.contains("${") => Some(&*scalar.text),
            _ => None,
        });
        if let Some(known) = with_variable.and_then(|text| self.walk.known_secret(name, text)) {
            return Ok(Some(known));
        }
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        check(text.value.as_bytes()).map_err(|message| self.error(name, message))?;
        let secret = Secret::new(text.value.into_owned());
        if let Some(text) = with_variable {
            self.walk.keep_secret(name, text, &secret);
        }
        Ok(Some(secret))
    }

    fn secret_in(
        &self,
        name: &'static str,
        path: &Text<'_>,
        check: fn(&[u8]) -> Result<(), &'static str>,
    ) -> Result<Secret, Noted> {
        if let Some(known) = self.walk.known_secret(name, &path.value) {
            return Ok(known);
        }
        let content = self.content_of(name, path, SCALAR_BYTES_MAX)?;
        let bytes = content.strip_suffix(b"\n").unwrap_or(&content);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(self.error(name, "the file that it names is empty"));
        }
        check(bytes).map_err(|message| self.error(name, message))?;
        let secret = Secret::new(bytes);
        self.walk.keep_secret(name, &path.value, &secret);
        Ok(secret)
    }

    /// Any value as JSON, with variables replaced; null when it is not written.
    pub(super) fn value(&self, name: &str) -> serde_json::Value {
        self.entry(name).map_or(serde_json::Value::Null, |entry| {
            self.json(&entry.value, &At::Key(self.at, name), entry.line)
        })
    }

    fn json(&self, node: &'a Node<'a>, at: &At<'_>, line: usize) -> serde_json::Value {
        use serde_json::Value;
        let stand_in = || Value::String(String::new());
        match node.shape() {
            Shape::Scalar(_) => match self.scalar_at(node, at, line) {
                Ok(Some(text)) if text.from_variable && text.value.is_empty() => {
                    let message = "the variable is empty; set it, or write the value itself";
                    self.walk.error(at.to_string(), line, message.to_owned());
                    stand_in()
                }
                Ok(Some(text)) => json_scalar(&text),
                Ok(None) => {
                    if !matches!(at, At::Index(..)) {
                        return Value::Null;
                    }
                    self.note_null(at, line);
                    stand_in()
                }
                Err(Noted) => stand_in(),
            },
            Shape::Sequence(items) => {
                let item = |(index, node): (usize, &'a Node<'a>)| {
                    self.json(node, &At::Index(at, index), node.line)
                };
                items.iter().enumerate().map(item).collect()
            }
            Shape::Mapping(entries) => {
                let pair = |entry: &'a Entry<'a>| {
                    let value = self.json(&entry.value, &At::Key(at, &entry.key), entry.line);
                    (entry.key.clone().into_owned(), value)
                };
                Value::Object(entries.iter().map(pair).collect())
            }
        }
    }
}

fn is_null(node: &Node<'_>) -> bool {
    matches!(node.shape(), Shape::Scalar(scalar) if scalar.is_null())
}
