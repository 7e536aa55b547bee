//! Bytes to a tree of YAML values in which every value knows its line.
//!
//! Deliberately absent: tags, merge keys, several documents, and keys that are not text. All of
//! them would let a file mean something else than it seems to. Types of plain scalars are not
//! decided here; the schema knows what it wants.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    fmt::Write as _,
    rc::Rc,
};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::problem::{Problem, Problems};

/// Deepest nesting. The deepest known key, an element of a claim rule's list value, lies 7 deep.
pub const DEPTH_MAX: usize = 32;

/// Values in one file, those that aliases repeat counted each time: room for 50,000 buckets
/// with 20 keys each, and an end to alias bombs.
pub const VALUES_MAX: usize = 1_000_000;

/// Bytes of text in one file, that which aliases repeat counted each time, together with what
/// variables and named files bring in: twice the largest file, and an end to long values that are
/// repeated a thousand times.
pub const TEXT_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// Mappings up to this many keys are searched for duplicates one by one; above it a set is made.
const KEYS_SEARCHED_MAX: usize = 16;

/// One document.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub(super) root: Node<'a>,
    /// Bytes of its text, aliases counted with the text that they stand for.
    pub(super) text_bytes: usize,
}

/// One value.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    /// Line where it starts, from 1.
    pub(super) line: usize,
    content: Content<'a>,
}

#[derive(Clone, Debug)]
enum Content<'a> {
    Own(Shape<'a>),
    /// Anchored, so that aliases may repeat it.
    Shared(Rc<Shape<'a>>),
}

/// Kind of a value, with its content.
#[derive(Clone, Debug)]
pub(super) enum Shape<'a> {
    Scalar(Scalar<'a>),
    Sequence(Vec<Node<'a>>),
    Mapping(Vec<Entry<'a>>),
}

/// Text, and whether it was written without quotes.
#[derive(Clone, Debug)]
pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) plain: bool,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: Cow<'a, str>,
    /// Line of the key, from 1.
    pub(super) line: usize,
    pub(super) value: Node<'a>,
}

impl<'a> Node<'a> {
    pub(super) fn shape(&self) -> &Shape<'a> {
        match &self.content {
            Content::Own(shape) => shape,
            Content::Shared(shape) => shape,
        }
    }

    /// Returns true if the text at a key path stands in the file as it is, without a variable.
    pub(super) fn is_written(&self, path: &str) -> bool {
        let shape = self.find(path).1.shape();
        matches!(shape, Shape::Scalar(scalar) if !scalar.text.contains("${"))
    }

    /// Line of the value at a key path such as `buckets[2].s3.region`, or of the nearest value
    /// above it that exists.
    pub(super) fn line_of(&self, path: &str) -> usize {
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
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Reads exactly one document.
///
/// # Errors
/// The problem that makes the bytes unreadable as a whole; only duplicate keys leave a tree behind,
/// and are added to `problems`.
pub(super) fn read<'a>(bytes: &'a [u8], problems: &mut Problems) -> Result<Tree<'a>, Problem> {
    let text = printable_text(bytes)?;
    let mut tree = TreeBuilder::new(problems);
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let line = error.marker().line();
            let on_line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
            let hint = if on_line.contains("${") {
                "; inside { } and [ ], write \"${NAME}\" in quotes"
            } else {
                ""
            };
            at(line, format!("is not valid YAML: {}{hint}", error.info()))
        })?;
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(at(line, "a second YAML document begins here; keep only one"));
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::Alias(anchor) => tree.alias(anchor, line)?,
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.as_deref(), line)?;
                let plain = style == ScalarStyle::Plain;
                tree.scalar(Scalar { text, plain }, anchor, line)?;
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), line)?;
                tree.open(Open::Sequence(Vec::new()), anchor, line)?;
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), line)?;
                tree.open(Open::mapping(), anchor, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => tree.close(),
        }
    }
    let text_bytes = tree.size.text_bytes;
    match tree.root {
        Some(Node { content: Content::Own(Shape::Scalar(scalar)), .. }) if scalar.is_null() => {
            Err(Problem::of_file("the file is empty; write at least one bucket"))
        }
        Some(root) => Ok(Tree { root, text_bytes }),
        None => Err(Problem::of_file("the file is empty; write at least one bucket")),
    }
}

fn at(line: usize, message: impl Into<String>) -> Problem {
    Problem { line: Some(line), ..Problem::of_file(message) }
}

/// Message about a file that stands for more text than is read.
pub(super) fn too_much_text() -> String {
    format!(
        "the file stands for more than {} MiB of text, aliases, variables and named files \
         included; write less",
        TEXT_BYTES_MAX >> 20
    )
}

fn refuse_tag(tag: Option<&Tag>, line: usize) -> Result<(), Problem> {
    match tag {
        None => Ok(()),
        Some(_) => Err(at(line, "YAML tags (!) are not supported; write text in quotes instead")),
    }
}

/// UTF-8 without the control characters that YAML forbids (YAML 1.2.2 section 5.1). The parser
/// takes a NUL for the end, so what follows one would silently be ignored.
fn printable_text(bytes: &[u8]) -> Result<&str, Problem> {
    let line_at = |end: usize| 1 + memchr::memchr_iter(b'\n', &bytes[..end]).count();
    let text = std::str::from_utf8(bytes).map_err(|error| {
        at(line_at(error.valid_up_to()), "is not valid UTF-8; save the file as UTF-8")
    })?;
    let control = |byte: &u8| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127);
    if let Some(position) = bytes.iter().position(control) {
        let message = format!("holds the control character 0x{:02x}; remove it", bytes[position]);
        return Err(at(line_at(position), message));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// A collection whose end has not come yet.
struct Frame<'a> {
    open: Open<'a>,
    anchor: usize,
    line: usize,
    /// Count at its beginning.
    before: Size,
    /// Deepest level that its content reaches.
    deepest: usize,
}

enum Open<'a> {
    Sequence(Vec<Node<'a>>),
    Mapping {
        entries: Vec<Entry<'a>>,
        key: Option<(Cow<'a, str>, usize)>,
        /// All keys so far with their lines, once there are too many to search.
        seen: HashMap<Cow<'a, str>, usize>,
    },
}

impl Open<'_> {
    fn mapping() -> Self {
        Self::Mapping { entries: Vec::new(), key: None, seen: HashMap::new() }
    }
}

struct Anchored<'a> {
    shape: Rc<Shape<'a>>,
    size: Size,
    height: usize,
}

/// Amount that a tree holds, aliases counted with what they stand for.
#[derive(Clone, Copy, Default)]
struct Size {
    values: usize,
    text_bytes: usize,
}

struct TreeBuilder<'a, 'p> {
    frames: Vec<Frame<'a>>,
    anchors: HashMap<usize, Anchored<'a>>,
    size: Size,
    root: Option<Node<'a>>,
    problems: &'p mut Problems,
}

impl<'a, 'p> TreeBuilder<'a, 'p> {
    fn new(problems: &'p mut Problems) -> Self {
        Self {
            frames: Vec::new(),
            anchors: HashMap::new(),
            size: Size::default(),
            root: None,
            problems,
        }
    }

    fn count(&mut self, values: usize, text_bytes: usize, line: usize) -> Result<(), Problem> {
        self.size.values = self.size.values.saturating_add(values);
        self.size.text_bytes = self.size.text_bytes.saturating_add(text_bytes);
        if self.size.values > VALUES_MAX {
            let message = format!(
                "the file holds more than {VALUES_MAX} values, aliases included; write fewer"
            );
            return Err(at(line, message));
        }
        if self.size.text_bytes > TEXT_BYTES_MAX {
            return Err(at(line, too_much_text()));
        }
        Ok(())
    }

    fn reach(&mut self, depth: usize, line: usize) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(at(
                line,
                format!("is nested deeper than {DEPTH_MAX} levels; write it flatter"),
            ));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.deepest = frame.deepest.max(depth);
        }
        Ok(())
    }

    fn scalar(&mut self, scalar: Scalar<'a>, anchor: usize, line: usize) -> Result<(), Problem> {
        self.count(1, scalar.text.len(), line)?;
        if let Some(Frame { open: Open::Mapping { entries, key: None, seen }, .. }) =
            self.frames.last_mut()
        {
            let name = scalar.text;
            if anchor != 0 {
                return Err(at(
                    line,
                    "an anchor (&) on a key is not supported; put it before the value",
                ));
            }
            if let Some(first_line) = first_line_of(&name, line, entries, seen) {
                let problem = self.duplicate(&name, line, first_line);
                self.problems.error(problem);
            }
            if let Some(Frame { open: Open::Mapping { key, .. }, .. }) = self.frames.last_mut() {
                *key = Some((name, line));
            }
            return Ok(());
        }
        self.reach(self.frames.len() + 1, line)?;
        let size = Size { values: 1, text_bytes: scalar.text.len() };
        self.finish(Shape::Scalar(scalar), anchor, line, size, 1);
        Ok(())
    }

    fn open(&mut self, open: Open<'a>, anchor: usize, line: usize) -> Result<(), Problem> {
        let before = self.size;
        self.count(1, 0, line)?;
        self.refuse_as_key(line)?;
        self.reach(self.frames.len() + 1, line)?;
        let depth = self.frames.len() + 1;
        self.frames.push(Frame { open, anchor, line, before, deepest: depth });
        Ok(())
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let shape = match frame.open {
            Open::Sequence(items) => Shape::Sequence(items),
            Open::Mapping { entries, .. } => Shape::Mapping(entries),
        };
        let depth = self.frames.len() + 1;
        if let Some(parent) = self.frames.last_mut() {
            parent.deepest = parent.deepest.max(frame.deepest);
        }
        let size = Size {
            values: self.size.values - frame.before.values,
            text_bytes: self.size.text_bytes - frame.before.text_bytes,
        };
        self.finish(shape, frame.anchor, frame.line, size, frame.deepest - depth + 1);
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Problem> {
        self.refuse_as_key(line)?;
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(at(
                line,
                "an alias (*) stands inside the value that it repeats; write the value out",
            ));
        };
        let (size, height) = (anchored.size, anchored.height);
        let shape = Rc::clone(&anchored.shape);
        self.count(size.values, size.text_bytes, line)?;
        self.reach(self.frames.len() + height, line)?;
        self.attach(Node { line, content: Content::Shared(shape) });
        Ok(())
    }

    fn finish(&mut self, shape: Shape<'a>, anchor: usize, line: usize, size: Size, height: usize) {
        let content = if anchor == 0 {
            Content::Own(shape)
        } else {
            let shape = Rc::new(shape);
            self.anchors.insert(anchor, Anchored { shape: Rc::clone(&shape), size, height });
            Content::Shared(shape)
        };
        self.attach(Node { line, content });
    }

    fn attach(&mut self, node: Node<'a>) {
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::Sequence(items)) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => {
                if let Some((key, line)) = key.take() {
                    entries.push(Entry { key, line, value: node });
                }
            }
        }
    }

    fn refuse_as_key(&self, line: usize) -> Result<(), Problem> {
        match self.frames.last() {
            Some(Frame { open: Open::Mapping { key: None, .. }, .. }) => {
                Err(at(line, "a key is a list, a mapping or an alias; write text"))
            }
            _ => Ok(()),
        }
    }

    fn duplicate(&self, key: &str, line: usize, first_line: usize) -> Problem {
        let mut path = String::new();
        for frame in &self.frames {
            match &frame.open {
                Open::Sequence(items) => {
                    write!(path, "[{}]", items.len()).unwrap_or_default();
                }
                Open::Mapping { key: parent, .. } => {
                    push_key(&mut path, parent.as_ref().map_or(key, |(parent, _)| parent));
                }
            }
        }
        let message =
            format!("duplicate key, first written on line {first_line}; keep one of them");
        Problem { path, line: Some(line), message }
    }
}

/// The line of the same key in this mapping, if it has been written before; remembers the key.
#[expect(clippy::ptr_arg, reason = "the clone is of the Cow, which mostly only borrows")]
fn first_line_of<'a>(
    key: &Cow<'a, str>,
    line: usize,
    entries: &[Entry<'a>],
    seen: &mut HashMap<Cow<'a, str>, usize>,
) -> Option<usize> {
    if entries.len() < KEYS_SEARCHED_MAX {
        return entries.iter().find(|entry| entry.key == *key).map(|entry| entry.line);
    }
    if seen.is_empty() {
        for entry in entries {
            seen.entry(entry.key.clone()).or_insert(entry.line);
        }
    }
    match seen.entry(key.clone()) {
        hash_map::Entry::Occupied(first) => Some(*first.get()),
        hash_map::Entry::Vacant(place) => {
            place.insert(line);
            None
        }
    }
}

/// Appends a key to a path, as far as it may be shown.
pub(super) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(shown_key(key).unwrap_or("(not shown)"));
}

/// Part of a key that a message may show: its beginning, up to where a colon or a blank may be
/// missing. The rest is a value then, and may be a secret; so may a word that no key could be.
pub(super) fn shown_key(key: &str) -> Option<&str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Node<'_>, Problem> {
        read(text.as_bytes(), &mut Problems::default()).map(|tree| tree.root)
    }

    fn scalar<'n>(node: &'n Node<'_>) -> &'n str {
        match node.shape() {
            Shape::Scalar(scalar) => &scalar.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let root = tree("# top\na: 1\nb:\n  - x\n  -\n    c: {d: 1,\n     e: 2}\n").unwrap();
        for (path, line) in [
            ("a", 2),
            ("b", 3),
            ("b[0]", 4),
            ("b[1]", 6),
            ("b[1].c", 6),
            ("b[1].c.e", 7),
            // What is not there: the nearest above.
            ("b[1].c.f", 6),
            ("b[7].c", 3),
            ("z.y", 2),
            ("a.b", 2),
        ] {
            assert_eq!(root.line_of(path), line, "{path}");
        }
    }

    #[test]
    fn aliases_repeat_what_they_name() {
        let root = tree("a: &x [1, {k: v}]\nb: *x\nc: &y z\nd: *y\n").unwrap();
        let Shape::Mapping(entries) = root.shape() else { panic!("no mapping") };
        let Shape::Sequence(items) = entries[1].value.shape() else { panic!("no list") };
        assert_eq!(scalar(&items[0]), "1");
        assert_eq!(scalar(&entries[3].value), "z");
        assert_eq!(entries[1].value.line, 2);
    }

    #[test]
    fn duplicates_are_found_in_small_and_large_mappings() {
        for count in [2, KEYS_SEARCHED_MAX, KEYS_SEARCHED_MAX + 1, 1_000] {
            let mut problems = Problems::default();
            let mut text = String::from("top:\n");
            for n in 0..count {
                writeln!(text, "  k{n}: 1").unwrap();
            }
            writeln!(text, "  k{}: 2\n  k0: 3", count - 1).unwrap();
            read(text.as_bytes(), &mut problems).unwrap();
            let found: Vec<_> =
                problems.errors.iter().map(|problem| (&*problem.path, problem.line)).collect();
            let last = format!("top.k{}", count - 1);
            assert_eq!(found, [(&*last, Some(count + 2)), ("top.k0", Some(count + 3))]);
            assert!(problems.errors[1].message.contains("first written on line 2"));
        }
    }

    #[test]
    fn depth_is_counted_through_aliases() {
        let nested = |levels: usize| format!("{}x{}", "[".repeat(levels), "]".repeat(levels));
        assert!(tree(&format!("a: {}", nested(DEPTH_MAX - 2))).is_ok());
        assert!(tree(&format!("a: {}", nested(DEPTH_MAX - 1))).is_err());
        let alias = |levels: usize| format!("a: &a {}\nb: [[*a]]\n", nested(levels));
        assert!(tree(&alias(DEPTH_MAX - 4)).is_ok());
        let refused = tree(&alias(DEPTH_MAX - 3)).unwrap_err();
        assert_eq!(
            (refused.line, &*refused.message),
            (Some(2), "is nested deeper than 32 levels; write it flatter")
        );
    }

    #[test]
    fn values_are_counted_through_aliases() {
        // Three values and the list that holds them, repeated.
        let times = VALUES_MAX / 4;
        let text = |times: usize| format!("- &a [1, 2, 3]\n{}", "- *a\n".repeat(times - 1));
        assert!(tree(&text(times - 1)).is_ok());
        assert_eq!(tree(&text(times)).unwrap_err().line, Some(times));
    }

    #[test]
    fn text_is_counted_through_aliases() {
        let text = |bytes: usize, times: usize| {
            format!("- &a [{}]\n{}", "x".repeat(bytes), "- *a\n".repeat(times - 1))
        };
        let times = 1_024;
        assert!(tree(&text(TEXT_BYTES_MAX / times, times)).is_ok());
        let refused = tree(&text(TEXT_BYTES_MAX / times + 1, times)).unwrap_err();
        assert!(
            refused.message.starts_with("the file stands for more than 32 MiB of text"),
            "{refused}"
        );
    }

    #[test]
    fn a_key_is_shown_up_to_what_cannot_be_one() {
        for (key, shown) in [
            ("port", Some("port")),
            ("no-such_key", Some("no-such_key")),
            ("secret_key:hunter2", Some("secret_key")),
            ("secret_key=hunter2", Some("secret_key")),
            ("secret_key hunter2", Some("secret_key")),
            ("secret_key\"hunter2", Some("secret_key")),
            ("", None),
            ("<<", Some("<<")),
            ("=hunter2", None),
            ("hunter/2", None),
            ("abcdefghijklmnopqrstuvwxyz012345", None),
        ] {
            assert_eq!(shown_key(key), shown, "{key}");
        }
    }

    #[test]
    fn what_the_parser_takes_for_the_end_is_no_end() {
        let refused = tree("a: 1\n\0b: 2\n").unwrap_err();
        assert_eq!(
            (refused.line, &*refused.message),
            (Some(2), "holds the control character 0x00; remove it")
        );
    }
}
