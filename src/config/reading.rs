//! Reading the values of a section's keys: variables replaced, defaults filled in, types and bounds
//! checked.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{
    advice,
    expand::{SCALAR_BYTES_MAX, expand, variables},
    keys::{Kind, Preset},
    scalar::{TYPOGRAPHIC, Text, expected, is_in_typographic_quotes, json_scalar, plain_kind},
    section::Section,
    walk::{At, Noted},
    yaml::{Entry, Node, Shape},
};
use crate::model::Secret;

/// The path of a file, as it is written, and the file's whole content.
pub(super) type NamedFile = (PathBuf, Rc<Vec<u8>>);

impl<'a> Section<'a> {
    /// The elements of a list of text.
    pub(super) fn texts(&self, name: &'static str) -> Vec<String> {
        self.parsed_texts(name, |text| Ok(text.value.into_owned()))
    }

    /// The elements of a list of text that have a form of their own; an error of `parse` says what
    /// is wrong with one.
    pub(super) fn parsed_texts<T>(
        &self,
        name: &'static str,
        mut parse: impl FnMut(Text<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        self.elements(name, Self::text_at, |text| {
            if text.value.is_empty() {
                return Err("is empty; write text, or remove the element".to_owned());
            }
            parse(text)
        })
    }

    /// The elements of a list of text, or one text in place of a list.
    pub(super) fn text_or_texts(
        &self,
        name: &'static str,
        mut parse: impl FnMut(&Text<'a>) -> Result<(), String>,
    ) {
        let is_one =
            self.entry(name).is_some_and(|entry| matches!(entry.value.shape(), Shape::Scalar(_)));
        if !is_one {
            self.parsed_texts(name, |text| parse(&text));
            return;
        }
        if let Ok(Some(text)) = self.security_text(name)
            && let Err(message) = parse(&text)
        {
            self.error(name, message);
        }
    }

    /// The elements of a list of single values, numbers or text; an error of `parse` says what is
    /// wrong with one.
    pub(super) fn parsed_scalars<T>(
        &self,
        name: &'static str,
        mut parse: impl FnMut(&Text<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        self.elements(name, Self::scalar_at, |text| parse(&text))
    }

    /// The elements of a list, each read by `read` and then by `parse`.
    fn elements<T>(
        &self,
        name: &'static str,
        read: impl Fn(&Self, &'a Node<'a>, &At<'_>, usize) -> Result<Option<Text<'a>>, Noted>,
        mut parse: impl FnMut(Text<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        let list_at = At::Key(self.at, name);
        let mut parsed = Vec::new();
        for (index, node) in self.list(name).iter().enumerate() {
            let at = At::Index(&list_at, index);
            match read(self, node, &at, node.line) {
                Ok(Some(text)) => match parse(text) {
                    Ok(value) => parsed.push(value),
                    Err(message) => {
                        self.walk.error_of(node, at.to_string(), node.line, message);
                    }
                },
                Ok(None) => self.note_null(&at, node.line),
                Err(Noted) => {}
            }
        }
        parsed
    }

    /// The entries of a mapping from keys of the operator's choice to text; an error of `parse`
    /// says what is wrong with one.
    pub(super) fn map<T>(
        &self,
        name: &'static str,
        mut parse: impl FnMut(&str, Text<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        let map_at = At::Key(self.at, name);
        let mut parsed = Vec::new();
        for entry in self.mapping(name) {
            let at = At::Key(&map_at, &entry.key);
            let value = match self.text_at(&entry.value, &at, entry.line) {
                Ok(Some(text)) if !text.value.is_empty() => parse(&entry.key, text),
                Ok(_) => Err("is empty; write a value, or remove the key".to_owned()),
                Err(Noted) => continue,
            };
            match value {
                Ok(value) => parsed.push(value),
                Err(message) => {
                    self.walk.error_of(&entry.value, at.to_string(), entry.line, message);
                }
            }
        }
        parsed
    }

    /// The scalar of a key with variables replaced; none when it is not written or null.
    pub(super) fn scalar(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
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
                let message = expected("a single value", other);
                return Err(self.walk.error(at.to_string(), line, message));
            }
        };
        match expand(&scalar.text, self.walk.environment) {
            Ok((value, from_variable)) => {
                if from_variable {
                    self.walk.count_text(value.len(), line)?;
                }
                Ok(Some(Text { value, from_variable, plain: scalar.plain, written: &scalar.text }))
            }
            Err(error) => Err(self.walk.error(at.to_string(), line, error.to_string())),
        }
    }

    /// The text of a node; none when it is null.
    pub(super) fn text_at(
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
            let advice = match (at, kind) {
                (At::Key(_, "index" | "spa"), "boolean") => {
                    "write the name of an object, such as index.html"
                }
                _ => "put it in quotes",
            };
            let message = format!("expected text, found a {kind}; {advice}");
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
            Preset::Required => Err(self.missing(name)),
        }
    }

    /// Notes that a key must be written, unless a misspelt or misplaced one has been noted already.
    fn missing(&self, name: &str) -> Noted {
        if self.is_meant(name) { Noted } else { self.error(name, "is missing; write it") }
    }

    /// Text of a key whose absence means "not checked". A variable that makes it empty would be
    /// an accident that nobody sees.
    pub(super) fn security_text(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
        let text = self.optional_text(name)?;
        let written = self.entry(name).and_then(|entry| entry.value.text());
        match written.filter(|written| text.is_none() && written.contains('$')) {
            Some(written) => Err(self.error(name, emptied(written, "remove the key"))),
            None => Ok(text),
        }
    }

    /// Text of a key that passes its check; the default where it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Result<String, Noted> {
        let key = self.key(name);
        let text = match (self.optional_text(name)?, key.default) {
            (Some(text), _) => text.value.into_owned(),
            (None, Preset::Is(default)) => default.to_owned(),
            (None, _) => return Err(self.error(name, "is empty; write a value")),
        };
        if is_in_typographic_quotes(&text) {
            return Err(self.error(name, TYPOGRAPHIC));
        }
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
            Preset::Required => Err(self.missing(name)),
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
        let advice = advice::boolean(&text);
        Err(self.error(name, format!("expected true or false, found {}{advice}", text.shown())))
    }

    /// A whole number within the bounds of the table; none when it has no default.
    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, Noted> {
        let Kind::Integer(min, max, unit) = self.key(name).kind else {
            unreachable!("{name} is no integer")
        };
        let Some(text) = self.scalar_or_default(name)? else { return Ok(None) };
        let digits = text.value.strip_prefix('-').unwrap_or(&text.value);
        let is_number = (text.plain || text.from_variable)
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        if !is_number {
            let (shown, advice) = (text.shown(), advice::integer(&text, unit));
            return Err(self.error(name, format!("expected a whole number, found {shown}{advice}")));
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
        let Some(number) = decimal(&text) else {
            let (shown, advice) = (text.shown(), advice::seconds(&text));
            let message = format!("expected a number of seconds, found {shown}{advice}");
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

    /// A share of a whole, as that part of a second: to the billionth.
    pub(super) fn share(&self, name: &str) -> Result<Duration, Noted> {
        let Some(text) = self.scalar_or_default(name)? else { return Ok(Duration::ZERO) };
        let Some(number) = decimal(&text) else {
            let message = format!("expected a number from 0 to 1, found {}", text.shown());
            return Err(self.error(name, message));
        };
        match Duration::try_from_secs_f64(number) {
            Ok(share) if share <= Duration::from_secs(1) => Ok(share),
            _ => Err(self.error(name, "must be from 0 to 1, such as 0.1 for one in ten")),
        }
    }

    /// The place of the word among those that the key may hold.
    pub(super) fn choice(&self, name: &str) -> Result<usize, Noted> {
        let Kind::Choice(words) = self.key(name).kind else { unreachable!("{name} is no choice") };
        let text = self.scalar_or_default(name)?;
        let place =
            text.as_ref().and_then(|text| words.iter().position(|word| *word == text.value));
        place.ok_or_else(|| {
            let (shown, advice) = match &text {
                None => ("nothing".to_owned(), String::new()),
                Some(text) => (text.shown(), advice::choice(text, words)),
            };
            self.error(name, format!("expected one of {}, found {shown}{advice}", words.join(", ")))
        })
    }

    /// The whole content of the file that a key names; none when it names none.
    pub(super) fn named_file(&self, name: &str) -> Result<Option<Rc<Vec<u8>>>, Noted> {
        Ok(self.named_file_at(name)?.map(|(_, content)| content))
    }

    /// The same with the path, as it is written.
    pub(super) fn named_file_at(&self, name: &str) -> Result<Option<NamedFile>, Noted> {
        let Kind::File(bytes_max) = self.key(name).kind else { unreachable!("{name} is no file") };
        let Some(path) = self.security_text(name)? else { return Ok(None) };
        let content = self.content_of(name, &path, bytes_max)?;
        Ok(Some((PathBuf::from(&*path.value), content)))
    }

    fn content_of(
        &self,
        name: &str,
        path: &Text<'_>,
        bytes_max: usize,
    ) -> Result<Rc<Vec<u8>>, Noted> {
        if let Some(message) = no_path(name, &path.value) {
            return Err(self.error(name, message));
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
        self.warn_of_blanks(name, text.value.as_bytes());
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
            return Err(
                self.error(name, "the file that it names is empty; write the value into it")
            );
        }
        check(bytes).map_err(|message| self.error(name, message))?;
        self.warn_of_blanks(name, bytes);
        let secret = Secret::new(bytes);
        self.walk.keep_secret(name, &path.value, &secret);
        Ok(secret)
    }

    /// Warns of white space around a secret, which is hardly a part of it.
    fn warn_of_blanks(&self, name: &str, secret: &[u8]) {
        // A PEM in the place of a secret is refused later.
        if secret.trim_ascii().len() < secret.len() && !secret.starts_with(b"-----BEGIN") {
            self.warning(
                name,
                "begins or ends with white space, which is taken as a part of the secret; remove it",
            );
        }
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
                    let message = emptied(text.written, "write the value itself");
                    self.walk.error(at.to_string(), line, message);
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

/// Message about variables that leave nothing, and what may be done instead of setting them.
fn emptied(written: &str, otherwise: &str) -> String {
    format!("the value of {} is empty; set it, or {otherwise}", variables(written))
}

/// Message about a value that is something else than the path of a file. It may be a secret, so it
/// is never shown.
fn no_path(name: &str, value: &str) -> Option<&'static str> {
    if value.contains('\0') {
        Some("holds a NUL character, which no path can have; remove it")
    } else if value.contains("-----BEGIN") {
        Some("holds the PEM itself; save it in a file, and write the path of the file")
    } else if value.starts_with("http://") || value.starts_with("https://") {
        Some(match name {
            "jwks_file" => "holds a URL; write it at jwks_url, or the path of a file here",
            _ => "holds a URL; write the path of a file",
        })
    } else if value.starts_with("~/") {
        Some("begins with ~, which only a shell replaces; write the whole path")
    } else {
        None
    }
}

/// The number that a plain scalar, or a variable, holds.
fn decimal(text: &Text<'_>) -> Option<f64> {
    // The characters are checked because `parse` alone accepts "inf" and "nan".
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+');
    let number = text.value.parse().ok();
    number.filter(|_| (text.plain || text.from_variable) && text.value.bytes().all(is_digit))
}
