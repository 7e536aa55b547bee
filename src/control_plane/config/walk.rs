//! Reading one section of the file: typed values with defaults from [`keys`], and every problem
//! noted with its path and line while the walk goes on.
//!
//! A getter that has noted a problem returns a stand-in. Stand-ins never leave the pipeline,
//! because a file with problems is refused.

use std::{borrow::Cow, cell::RefCell, collections::HashMap, path::Path, rc::Rc};
use std::{path::PathBuf, time::Duration};

use super::{
    expand::expand,
    keys::{self, Key, Kind, Preset},
    load::{Environment, FileReader, NAMED_FILE_BYTES_MAX},
    problem::{PROBLEMS_MAX, Problem, Problems, quoted},
    yaml::{Entry, Node, Scalar, Shape, push_key},
};
use crate::model::Secret;

/// What a file holds, or why it cannot be had.
pub(super) type FileContent = Result<Rc<Vec<u8>>, Rc<str>>;

/// One walk over one file.
pub(super) struct Walk<'w> {
    environment: &'w dyn Environment,
    files: &'w dyn FileReader,
    /// A file that many buckets name is read once (for each bound that it is read with).
    contents: RefCell<HashMap<(PathBuf, usize), FileContent>>,
    problems: RefCell<Problems>,
}

/// A problem has been noted already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted;

/// Where in the file something is; rendered only when there is a problem to tell.
#[derive(Clone, Copy)]
pub(super) enum At<'p> {
    Top,
    Key(&'p At<'p>, &'p str),
    Index(&'p At<'p>, usize),
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Top => Ok(()),
            At::Key(At::Top, name) => f.write_str(name),
            At::Key(parent, name) => write!(f, "{parent}.{name}"),
            At::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A scalar after variables have been replaced.
pub(super) struct Text<'n> {
    pub(super) value: Cow<'n, str>,
    /// At least a part of it came from the environment.
    pub(super) from_variable: bool,
    plain: bool,
}

impl Text<'_> {
    /// The value as a message may show it; what came from the environment stays there.
    fn shown(&self) -> String {
        match (self.from_variable, self.plain) {
            (true, _) => "the variable's value".to_owned(),
            (false, true) => quoted(&self.value),
            (false, false) => format!("text in quotes, {}", quoted(&self.value)),
        }
    }
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        environment: &'w dyn Environment,
        files: &'w dyn FileReader,
        problems: Problems,
    ) -> Self {
        Self { environment, files, contents: RefCell::default(), problems: RefCell::new(problems) }
    }

    pub(super) fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }

    pub(super) fn error(&self, path: String, line: usize, message: String) -> Noted {
        self.problems.borrow_mut().error(Problem { path, line: Some(line), message });
        Noted
    }

    pub(super) fn warning(&self, path: String, line: usize, message: String) {
        self.problems.borrow_mut().warning(Problem { path, line: Some(line), message });
    }

    /// Whether an error stands at exactly this path.
    pub(super) fn has_error_at(&self, path: &str) -> bool {
        self.problems.borrow().errors.iter().any(|problem| problem.path == path)
    }

    fn is_full(&self) -> bool {
        self.problems.borrow().errors.len() >= PROBLEMS_MAX
    }

    fn file(&self, path: &Path, bytes_max: usize) -> FileContent {
        let name = (path.to_owned(), bytes_max);
        if let Some(content) = self.contents.borrow().get(&name) {
            return content.clone();
        }
        let content = self.files.read(path, bytes_max).map(Rc::new).map_err(Rc::from);
        self.contents.borrow_mut().insert(name, content.clone());
        content
    }
}

/// One mapping of the file, known or assumed empty.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) walk: &'a Walk<'a>,
    pattern: &'static str,
    known: &'static [(&'static str, &'static Key)],
    at: &'a At<'a>,
    line: usize,
    entries: &'a [Entry<'a>],
    /// Missing or no mapping at all. That has been noted, and says it all: what its keys lack
    /// is not worth a line each.
    broken: bool,
}

impl<'a> Section<'a> {
    /// The section with this pattern at `node`; notes keys that it does not know.
    pub(super) fn open(
        walk: &'a Walk<'a>,
        pattern: &'static str,
        at: &'a At<'a>,
        line: usize,
        node: Option<&'a Node<'a>>,
    ) -> Self {
        let known = keys::inside(pattern);
        let mut section = Self { walk, pattern, known, at, line, entries: &[], broken: false };
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
            if !known.iter().any(|(name, _)| *name == entry.key) {
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
        push_key(&mut path, &entry.key);
        self.walk.error(path, entry.line, keys::unknown(self.pattern, &entry.key));
    }

    fn key(&self, name: &str) -> &'static Key {
        match self.known.iter().find(|(known, _)| *known == name) {
            Some((_, key)) => key,
            None => unreachable!("{}.{name} is not in the table", self.pattern),
        }
    }

    fn entry(&self, name: &str) -> Option<&'a Entry<'a>> {
        debug_assert_eq!(self.key(name).name(), name);
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

    /// Whether the key is there, be it null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Whether the key is there and is not null.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|entry| !is_null(&entry.value))
    }

    /// Hands the section `name` to `read`; when it is not written, one without keys.
    pub(super) fn section<T>(&self, name: &'static str, read: impl FnOnce(Section<'_>) -> T) -> T {
        let key = self.key(name);
        let entry = self.entry(name);
        let at = At::Key(self.at, name);
        let node = entry.map(|entry| &entry.value);
        let mut section = Section::open(self.walk, key.path, &at, self.line_of(name), node);
        if self.broken {
            section.broken = true;
        } else if key.default == Preset::Required && !self.is_written(name) {
            section.error_here("is missing");
            section.broken = true;
        }
        read(section)
    }

    /// Whether no element is written: no list, or an empty one.
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
        pattern: &'static str,
        mut read: impl FnMut(usize, Section<'_>) -> T,
    ) -> Vec<T> {
        let list_at = At::Key(self.at, name);
        let mut all = Vec::new();
        for (index, node) in self.list(name).iter().enumerate() {
            let at = At::Index(&list_at, index);
            all.push(read(index, Section::open(self.walk, pattern, &at, node.line, Some(node))));
        }
        all
    }

    /// The elements of a list of text.
    pub(super) fn texts(&self, name: &'static str) -> Vec<String> {
        let list_at = At::Key(self.at, name);
        let mut texts = Vec::new();
        for (index, node) in self.list(name).iter().enumerate() {
            let at = At::Index(&list_at, index);
            if let Ok(Some(text)) = self.text_at(node, &at, node.line) {
                texts.push(text.value.into_owned());
            }
        }
        texts
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
            Preset::Is(default) if !default.is_empty() => Ok(Some(preset(default))),
            Preset::Is(_) | Preset::Otherwise(_) => Ok(None),
            Preset::Required => Err(self.error(name, "is missing")),
        }
    }

    /// Text of a key that must not be empty.
    pub(super) fn text(&self, name: &str) -> Result<String, Noted> {
        match self.optional_text(name)? {
            Some(text) => Ok(text.value.into_owned()),
            None => Err(self.error(name, "must not be empty")),
        }
    }

    /// Text of a key that passes `check`, whose error is the message.
    pub(super) fn checked<T, E: std::fmt::Display>(
        &self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Noted> {
        let text = self.text(name)?;
        check(&text).map_err(|error| self.error(name, error.to_string()))
    }

    /// The scalar, or the default as if it had been written.
    fn scalar_or_default(&self, name: &str) -> Result<Option<Text<'a>>, Noted> {
        if let Some(text) = self.scalar(name)? {
            return Ok(Some(text));
        }
        match self.key(name).default {
            Preset::Is(default) => Ok(Some(preset(default))),
            Preset::Otherwise(_) => Ok(None),
            Preset::Required => Err(self.error(name, "is missing")),
        }
    }

    /// A boolean; none when it is not written and has no default.
    pub(super) fn optional_boolean(&self, name: &str) -> Result<Option<bool>, Noted> {
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

    pub(super) fn boolean(&self, name: &str) -> bool {
        self.optional_boolean(name).ok().flatten().unwrap_or_default()
    }

    /// A whole number within the bounds of the table; none when it has no default.
    pub(super) fn optional_integer(&self, name: &str) -> Result<Option<u64>, Noted> {
        let Kind::Integer(min, max) = self.key(name).kind else {
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

    pub(super) fn integer(&self, name: &str) -> u64 {
        self.optional_integer(name).ok().flatten().unwrap_or_default()
    }

    pub(super) fn size(&self, name: &str) -> usize {
        usize::try_from(self.integer(name)).unwrap_or(usize::MAX)
    }

    /// A time in seconds, fractions allowed, within the bounds of the table.
    pub(super) fn seconds(&self, name: &str) -> Duration {
        self.read_seconds(name).unwrap_or_default()
    }

    fn read_seconds(&self, name: &str) -> Result<Duration, Noted> {
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

    /// One of the words of the table, as `parse` understands it.
    pub(super) fn choice<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Noted> {
        let text = self.scalar_or_default(name)?;
        let text = text.as_ref();
        if let Some(value) = text.and_then(|text| parse(&text.value)) {
            return Ok(value);
        }
        let names = match self.key(name).kind {
            Kind::Choice(names) => names.join(", "),
            _ => String::new(),
        };
        let shown = text.map_or_else(|| "nothing".to_owned(), Text::shown);
        Err(self.error(name, format!("expected one of {names}, found {shown}")))
    }

    /// The whole content of the file that a key names; none when it names none.
    pub(super) fn named_file(&self, name: &str) -> Result<Option<Rc<Vec<u8>>>, Noted> {
        self.named_file_of_at_most(name, NAMED_FILE_BYTES_MAX)
    }

    /// The same for a file of which less is wanted.
    pub(super) fn named_file_of_at_most(
        &self,
        name: &str,
        bytes_max: usize,
    ) -> Result<Option<Rc<Vec<u8>>>, Noted> {
        let Some(path) = self.optional_text(name)? else { return Ok(None) };
        if path.value.contains('\0') {
            return Err(self.error(name, "a path holds no NUL character"));
        }
        match self.walk.file(Path::new(&*path.value), bytes_max) {
            Ok(content) => Ok(Some(content)),
            Err(why) => {
                let shown = quoted(&path.value);
                Err(self.error(name, format!("file {shown} {why}")))
            }
        }
    }

    /// A value from `name` or from the file that `name_file` names, without the file's last line
    /// end; none when neither is written.
    pub(super) fn text_or_file(
        &self,
        name: &str,
        file_name: &str,
    ) -> Result<Option<Secret>, Noted> {
        let written = self.optional_text(name);
        let file = self.named_file(file_name);
        match (written?, file?) {
            (Some(_), Some(_)) => {
                Err(self.error(file_name, format!("is written beside {name}; keep one of them")))
            }
            (Some(text), None) => Ok(Some(Secret::new(text.value.into_owned()))),
            (None, Some(content)) => {
                let bytes = content.strip_suffix(b"\n").unwrap_or(&content);
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                if bytes.is_empty() {
                    return Err(self.error(file_name, "the file is empty"));
                }
                Ok(Some(Secret::new(bytes)))
            }
            (None, None) => Ok(None),
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
        match node.shape() {
            Shape::Scalar(_) => match self.scalar_at(node, at, line) {
                Ok(Some(text)) => json_scalar(&text),
                Ok(None) | Err(Noted) => Value::Null,
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

fn preset(text: &'static str) -> Text<'static> {
    Text { value: Cow::Borrowed(text), from_variable: false, plain: true }
}

fn is_null(node: &Node<'_>) -> bool {
    matches!(node.shape(), Shape::Scalar(scalar) if scalar.is_null())
}

/// What a message says was found; never the value itself.
fn found(shape: &Shape<'_>) -> &'static str {
    match shape {
        Shape::Scalar(Scalar { plain: false, .. }) => "text",
        Shape::Scalar(scalar) => match plain_kind(&scalar.text) {
            Some("number") => "a number",
            Some(_) => "a boolean",
            None => "text",
        },
        Shape::Sequence(_) => "a list",
        Shape::Mapping(_) => "a mapping",
    }
}

/// What the YAML 1.2 core schema (section 10.3.2) takes a plain scalar for, unless it is text.
fn plain_kind(text: &str) -> Option<&'static str> {
    match text {
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Some("boolean"),
        _ if is_core_number(text) => Some("number"),
        _ => None,
    }
}

fn is_core_number(text: &str) -> bool {
    let all = |digits: &str, good: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(good)
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| (b'0'..=b'7').contains(byte));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let first_is_digit = |text: &str| text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    (first_is_digit(unsigned) || unsigned.strip_prefix('.').is_some_and(first_is_digit))
        && unsigned.parse::<f64>().is_ok()
}

fn json_scalar(text: &Text<'_>) -> serde_json::Value {
    use serde_json::{Number, Value};
    if text.plain {
        match (&*text.value, plain_kind(&text.value)) {
            (value, Some("boolean")) => return Value::Bool(value.eq_ignore_ascii_case("true")),
            (value, Some(_)) => {
                let number = value
                    .parse::<u64>()
                    .map(Number::from)
                    .or_else(|_| value.parse::<i64>().map(Number::from))
                    .ok()
                    .or_else(|| value.parse().ok().and_then(Number::from_f64));
                if let Some(number) = number {
                    return Value::Number(number);
                }
            }
            (_, None) => {}
        }
    }
    Value::String(text.value.clone().into_owned())
}
