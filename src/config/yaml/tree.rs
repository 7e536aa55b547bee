//! A document as a tree of values, each with its line, and key paths in it.

use std::{borrow::Cow, rc::Rc};

/// Amount that trees hold, aliases counted with what they stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    pub(super) values: usize,
    pub(crate) text_bytes: usize,
}

/// One document.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) root: Node<'a>,
    /// Amount that it and all before it hold.
    pub(crate) size: Size,
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    /// Line where it starts, from 1.
    pub(crate) line: usize,
    pub(super) content: Content<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    Own(Shape<'a>),
    /// Anchored, so that aliases may repeat it.
    Shared(Rc<Shape<'a>>),
}

/// Kind of a value, with its content.
#[derive(Clone, Debug)]
pub(crate) enum Shape<'a> {
    Scalar(Scalar<'a>),
    Sequence(Vec<Node<'a>>),
    Mapping(Vec<Entry<'a>>),
}

/// Text, and whether it was written without quotes.
#[derive(Clone, Debug)]
pub(crate) struct Scalar<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) plain: bool,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    /// Line of the key, from 1.
    pub(crate) line: usize,
    pub(crate) value: Node<'a>,
}

impl<'a> Node<'a> {
    pub(crate) fn shape(&self) -> &Shape<'a> {
        match &self.content {
            Content::Own(shape) => shape,
            Content::Shared(shape) => shape,
        }
    }

    /// The text of a single value, as it is written.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.shape() {
            Shape::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns true if there is a value at a key path in a mapping.
    pub(crate) fn has(&self, path: &str) -> bool {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let section = if section.is_empty() { self } else { self.at(section) };
        matches!(section.shape(), Shape::Mapping(entries) if entries.iter().any(|e| e.key == name))
    }

    /// The value at a key path, or the nearest above it that exists.
    pub(crate) fn at(&self, path: &str) -> &Self {
        self.find(path).1
    }

    /// Returns true if the text at a key path stands in the file as it is, without a variable.
    pub(crate) fn is_written(&self, path: &str) -> bool {
        self.at(path).text().is_some_and(|text| !text.contains("${"))
    }

    /// Line of the value at a key path such as `buckets[2].s3.region`, or of the nearest value
    /// above it that exists.
    pub(crate) fn line_of(&self, path: &str) -> usize {
        self.find(path).0
    }

    fn find(&self, path: &str) -> (usize, &Self) {
        let mut node = self;
        let mut line = self.line;
        for segment in path.split('.') {
            let (key, indexes) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
            let Shape::Mapping(entries) = node.shape() else { return (line, node) };
            let Some(entry) = entries.iter().find(|entry| entry.key == key) else {
                return (line, node);
            };
            (node, line) = (&entry.value, entry.line);
            for index in indexes.split(['[', ']']).filter(|text| !text.is_empty()) {
                let Shape::Sequence(items) = node.shape() else { return (line, node) };
                let item = index.parse().ok().and_then(|index: usize| items.get(index));
                let Some(item) = item else { return (line, node) };
                (node, line) = (item, item.line);
            }
        }
        (line, node)
    }
}

impl Scalar<'_> {
    /// Returns true for null as the YAML 1.2 core schema (section 10.3.2) has it.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Appends a key to a path, as far as it may be shown.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(shown_key(key).unwrap_or("(not shown)"));
}

/// Part of a key that a message may show: its beginning, up to where a colon or a blank may be
/// missing. The rest is a value then, and may be a secret; so may a word that no key could be.
pub(crate) fn shown_key(key: &str) -> Option<&str> {
    /// A JWT secret has at least 32 characters, a secret access key 40, the longest key 24.
    const KEY_BYTES_MAX: usize = 31;

    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let ends_it = |c: char| matches!(c, ':' | '=' | '"' | '\'') || c.is_whitespace();
    let name = key.split(ends_it).next().unwrap_or_default();
    if key == "<<" {
        return Some(key);
    }
    ((1..=KEY_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_name)).then_some(name)
}
