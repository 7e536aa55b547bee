//! One section of the file: its keys, the sections and lists inside it, and every problem noted
//! with its path and line while the walk goes on.

use std::slice;

use super::{
    expand::is_shell_variable,
    keys::{self, Key, Kind, Preset},
    scalar::{expected, found, plain_kind},
    unknown::{self, Unknown},
    walk::{At, Noted, Walk},
    yaml::{Entry, Node, Scalar, Shape, push_key, shown_key},
};

/// One mapping of the file, known or assumed empty.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) walk: &'a Walk<'a>,
    keys: &'static [Key],
    pub(super) at: &'a At<'a>,
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
                section.note_no_mapping(other, node.map_or(line, |node| node.line));
                section.broken = true;
            }
        }
        for entry in section.entries {
            if keys::find(keys, &entry.key).is_none() {
                section.note_unknown(entry);
            }
            section.warn_of_shell_variables(entry);
        }
        section
    }

    /// Notes a value that is no mapping. It may be the first key, without the colon and the blank
    /// that would end it; what follows is not shown, because it may be a secret.
    fn note_no_mapping(&self, shape: &Shape<'_>, line: usize) {
        if let Shape::Scalar(Scalar { text, plain: true }) = shape
            && let Some(key) = shown_key(text).filter(|key| key.len() < text.len())
            && keys::find(self.keys, key).is_some()
        {
            self.walk.error(self.path_of(key), line, unknown::without_colon(key));
        } else {
            self.error_here(match shape {
                Shape::Scalar(scalar) => self.expected_keys(shape, scalar),
                _ => expected("a mapping", shape),
            });
        }
    }

    /// Message about a single value in the place of a section, with the keys to write instead.
    fn expected_keys(&self, shape: &Shape<'_>, scalar: &Scalar<'_>) -> String {
        let is_boolean = scalar.plain && plain_kind(&scalar.text) == Some("boolean");
        if is_boolean && keys::find(self.keys, "enabled").is_some() {
            let value = scalar.text.to_lowercase();
            return format!("expected a mapping, found a boolean; write {{ enabled: {value} }}");
        }
        let holds =
            |key: &&Key| matches!(key.kind, Kind::Choice(words) if words.contains(&&*scalar.text));
        if let Some(key) = self.keys.iter().find(holds) {
            let (found, name, word) = (found(shape), key.name, &scalar.text);
            return format!("expected a mapping, found {found}; write {{ {name}: {word} }}");
        }
        let mut switches = ["origins", "types"].into_iter();
        let switch = switches.find(|name| keys::find(self.keys, name).is_some());
        if let Some(name) = switch.filter(|_| is_boolean) {
            let advice = if scalar.text.eq_ignore_ascii_case("true") {
                format!("write {name} below it, which switch it on")
            } else {
                format!("remove it, because it is off without {name}")
            };
            return format!("expected a mapping, found a boolean; {advice}");
        }
        let keys = unknown::listed(&unknown::names(self.keys), "and");
        format!("expected a mapping, found {}; write keys below it, of {keys}", found(shape))
    }

    /// Warns of a value that a shell would replace, and that is a text here. It may be a secret,
    /// so it is not shown.
    fn warn_of_shell_variables(&self, entry: &Entry<'_>) {
        let texts = match entry.value.shape() {
            Shape::Sequence(items) => items,
            _ => slice::from_ref(&entry.value),
        };
        if texts.iter().filter_map(Node::text).any(is_shell_variable) {
            let mut path = self.at.to_string();
            push_key(&mut path, &entry.key);
            let message = "begins with a dollar sign without braces, which is taken as it stands; \
                           write ${NAME} for the value of a variable, or $$ for a dollar sign";
            self.walk.warning(path, entry.line, message.to_owned());
        }
    }

    /// A section whose keys have been looked at already.
    pub(super) const fn of_entries(
        walk: &'a Walk<'a>,
        keys: &'static [Key],
        at: &'a At<'a>,
        line: usize,
        entries: &'a [Entry<'a>],
    ) -> Self {
        Self { walk, keys, at, line, entries, broken: false, is_there: true }
    }

    fn note_unknown(&self, entry: &Entry<'_>) {
        // Finding the nearest name costs more than everything else about a key, so a flood of
        // unknown ones is only counted.
        if self.walk.is_full() {
            self.walk.error(String::new(), entry.line, String::new());
            return;
        }
        let mut path = self.at.to_string();
        let Unknown { mut message, mut meant } =
            unknown::explain(self.walk.keys, self.keys, &path, &entry.key);
        if meant.is_empty() && !is_null(&entry.value) && shown_key(&entry.key) == Some(&*entry.key)
        {
            self.explain_pair(&entry.key, &mut message, &mut meant);
        }
        self.walk.note_meant(meant);
        // A word of its own, where a comma or a colon may be missing, may be a value.
        let is_word = is_null(&entry.value) && shown_key(&entry.key) == Some(&*entry.key);
        if is_word && !unknown::is_near_a_key(self.walk.keys, &entry.key) {
            path.push_str(if path.is_empty() { "(not shown)" } else { ".(not shown)" });
        } else {
            push_key(&mut path, &entry.key);
        }
        self.walk.error(path, entry.line, message);
    }

    /// Explains a key of the operator's choice, with a value, that stands a level too high.
    fn explain_pair(&self, name: &str, message: &mut String, meant: &mut Vec<String>) {
        let knows = |name| keys::find(self.keys, name).is_some();
        if knows("operator") && !self.has("claim") && !self.has("operator") {
            *message =
                format!("unknown key; write {{ claim: {name}, operator: equals, value: ... }}");
            *meant = ["claim", "operator"].map(|name| self.path_of(name)).into();
        } else if knows("set") && knows("remove") && name.contains('-') {
            // No key of ours has a dash; names of header fields do.
            *message = format!("unknown key; write it at {}.{name}", self.path_of("set"));
        }
    }

    pub(super) fn key(&self, name: &str) -> &'static Key {
        match keys::find(self.keys, name) {
            Some(key) => key,
            None => unreachable!("{}.{name} is not declared", self.at),
        }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&'a Entry<'a>> {
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
        let message = message.into();
        match self.entry(name) {
            Some(entry) => {
                self.walk.error_of(&entry.value, self.path_of(name), entry.line, message)
            }
            None => self.walk.error(self.path_of(name), self.line, message),
        }
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
            || self.is_meant(name)
            || (self.walk.has_errors() && self.walk.has_error_within(&self.path_of(name)))
    }

    /// Returns true if an unknown key elsewhere probably means this one.
    pub(super) fn is_meant(&self, name: &str) -> bool {
        self.walk.is_meant(|| self.path_of(name))
    }

    /// Returns true if any key is written.
    pub(super) fn has_keys(&self) -> bool {
        !self.entries.is_empty()
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
            if !self.is_meant(name) {
                section.error_here("is missing; write this section");
            }
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
                self.error(name, expected("a list", other));
                &[]
            }
        }
    }

    /// The entries of a mapping whose keys are not declared; nothing when it is not written.
    pub(super) fn mapping(&self, name: &str) -> &'a [Entry<'a>] {
        match self.entry(name).map(|entry| entry.value.shape()) {
            None => &[],
            Some(Shape::Mapping(entries)) => entries,
            Some(Shape::Scalar(scalar)) if scalar.is_null() => &[],
            Some(other) => {
                self.error(name, expected("a mapping", other));
                &[]
            }
        }
    }

    /// Hands each element of a list of mappings to `read`.
    pub(super) fn each<T>(&self, name: &'static str, read: impl FnMut(Section<'_>) -> T) -> Vec<T> {
        self.each_from(name, 0, read)
    }

    /// The same for a list that goes on where another file ended, with the place of its first
    /// element.
    pub(super) fn each_from<T>(
        &self,
        name: &'static str,
        first: usize,
        mut read: impl FnMut(Section<'_>) -> T,
    ) -> Vec<T> {
        let Kind::List(keys) = self.key(name).kind else { unreachable!("{name} is no list") };
        let list_at = At::Key(self.at, name);
        let mut all = Vec::new();
        for (index, node) in self.list(name).iter().enumerate() {
            let at = At::Index(&list_at, first + index);
            if is_null(node) {
                self.note_null(&at, node.line);
                continue;
            }
            all.push(read(Section::open(self.walk, keys, &at, node.line, Some(node))));
        }
        all
    }

    pub(super) fn note_null(&self, at: &At<'_>, line: usize) {
        let message = "is null; write a value, or remove the element";
        self.walk.error(at.to_string(), line, message.to_owned());
    }
}

fn is_null(node: &Node<'_>) -> bool {
    matches!(node.shape(), Shape::Scalar(scalar) if scalar.is_null())
}
