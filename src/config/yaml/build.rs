//! A tree out of the parser's events, within limits: aliases counted with what they stand for, and
//! duplicate keys noted.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    fmt::Write as _,
    rc::Rc,
};

use super::tree::{Content, Entry, Node, Scalar, Shape, Size, push_key};
use crate::config::problem::{Problem, Problems};

/// Deepest nesting. The deepest known key, an element of a claim rule's list value, lies 7 deep.
pub const DEPTH_MAX: usize = 32;

/// Values in one configuration, those that aliases repeat counted each time: room for 50,000
/// buckets with 20 keys each, and an end to alias bombs.
pub const VALUES_MAX: usize = 1_000_000;

/// Bytes of text in one configuration, that which aliases repeat counted each time, together with
/// what variables and named files bring in: twice the largest file, and an end to long values that
/// are repeated a thousand times.
pub const TEXT_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// Mappings up to this many keys are searched for duplicates one by one; above it a set is made.
pub(super) const KEYS_SEARCHED_MAX: usize = 16;

/// Message about a file that stands for more text than is read.
pub(crate) fn too_much_text() -> String {
    format!(
        "the file stands for more than {} MiB of text, aliases, variables and named files \
         included; write less",
        TEXT_BYTES_MAX >> 20
    )
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

/// Content of such a collection so far.
pub(super) enum Open<'a> {
    Sequence(Vec<Node<'a>>),
    Mapping {
        entries: Vec<Entry<'a>>,
        key: Option<(Cow<'a, str>, usize)>,
        /// All keys so far with their lines, once there are too many to search.
        seen: HashMap<Cow<'a, str>, usize>,
    },
}

impl Open<'_> {
    pub(super) fn mapping() -> Self {
        Self::Mapping { entries: Vec::new(), key: None, seen: HashMap::new() }
    }
}

struct Anchored<'a> {
    shape: Rc<Shape<'a>>,
    size: Size,
    height: usize,
}

/// The tree so far, and the collections that are open.
pub(super) struct TreeBuilder<'a, 'p> {
    frames: Vec<Frame<'a>>,
    anchors: HashMap<usize, Anchored<'a>>,
    pub(super) size: Size,
    pub(super) root: Option<Node<'a>>,
    problems: &'p mut Problems,
}

impl<'a, 'p> TreeBuilder<'a, 'p> {
    pub(super) fn new(before: Size, problems: &'p mut Problems) -> Self {
        Self { frames: Vec::new(), anchors: HashMap::new(), size: before, root: None, problems }
    }

    fn count(&mut self, values: usize, text_bytes: usize, line: usize) -> Result<(), Problem> {
        self.size.values = self.size.values.saturating_add(values);
        self.size.text_bytes = self.size.text_bytes.saturating_add(text_bytes);
        if self.size.values > VALUES_MAX {
            let message = format!(
                "the file holds more than {VALUES_MAX} values, aliases included; write fewer"
            );
            return Err(Problem::at(line, message));
        }
        if self.size.text_bytes > TEXT_BYTES_MAX {
            return Err(Problem::at(line, too_much_text()));
        }
        Ok(())
    }

    fn reach(&mut self, depth: usize, line: usize) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(Problem::at(
                line,
                format!("is nested deeper than {DEPTH_MAX} levels; write it flatter"),
            ));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.deepest = frame.deepest.max(depth);
        }
        Ok(())
    }

    pub(super) fn scalar(
        &mut self,
        scalar: Scalar<'a>,
        anchor: usize,
        line: usize,
    ) -> Result<(), Problem> {
        self.count(1, scalar.text.len(), line)?;
        if let Some(Frame { open: Open::Mapping { entries, key: None, seen }, .. }) =
            self.frames.last_mut()
        {
            let name = scalar.text;
            if anchor != 0 {
                return Err(Problem::at(
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

    pub(super) fn open(
        &mut self,
        open: Open<'a>,
        anchor: usize,
        line: usize,
    ) -> Result<(), Problem> {
        let before = self.size;
        self.count(1, 0, line)?;
        self.refuse_as_key(line)?;
        self.reach(self.frames.len() + 1, line)?;
        let depth = self.frames.len() + 1;
        self.frames.push(Frame { open, anchor, line, before, deepest: depth });
        Ok(())
    }

    pub(super) fn close(&mut self) {
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

    pub(super) fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Problem> {
        self.refuse_as_key(line)?;
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(Problem::at(
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
                Err(Problem::at(line, "a key is a list, a mapping or an alias; write text"))
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
        Problem { line: Some(line), ..Problem::of_key(path, message) }
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
