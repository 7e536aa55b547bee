//! Bytes to a tree of YAML values in which every value knows its line.
//!
//! Deliberately absent: tags, merge keys, several documents, and keys that are not text. All of
//! them would let a file mean something else than it seems to. Types of plain scalars are not
//! decided here; the schema knows what it wants.

mod build;
mod tree;
mod words;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

pub use self::build::{DEPTH_MAX, TEXT_BYTES_MAX, VALUES_MAX};
pub(super) use self::{
    build::too_much_text,
    tree::{Entry, Node, Scalar, Shape, Size, Tree, push_key, shown_key},
};
use self::{
    build::{Open, TreeBuilder},
    tree::Content,
};
use super::problem::{Problem, Problems};

/// Reads exactly one document, of a configuration of which so much has been read `before`.
///
/// # Errors
/// The problem that makes the bytes unreadable as a whole; only duplicate keys leave a tree behind,
/// and are added to `problems`.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    before: Size,
    problems: &mut Problems,
) -> Result<Tree<'a>, Problem> {
    let text = printable_text(bytes)?;
    let mut tree = TreeBuilder::new(before, problems);
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| words::problem(text, error.marker().line(), error.info()))?;
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(Problem::at(
                        line,
                        "a second YAML document begins here; keep only one",
                    ));
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
    let size = tree.size;
    match tree.root {
        Some(Node { content: Content::Own(Shape::Scalar(scalar)), .. }) if scalar.is_null() => {
            Err(Problem::of_file("the file is empty; write at least one bucket"))
        }
        Some(root) => Ok(Tree { root, size }),
        None => Err(Problem::of_file("the file is empty; write at least one bucket")),
    }
}

fn refuse_tag(tag: Option<&Tag>, line: usize) -> Result<(), Problem> {
    match tag {
        None => Ok(()),
        Some(_) => {
            Err(Problem::at(line, "YAML tags (!) are not supported; write text in quotes instead"))
        }
    }
}

/// UTF-8 without the control characters that YAML forbids (YAML 1.2.2 section 5.1). The parser
/// takes a NUL for the end, so what follows one would silently be ignored.
fn printable_text(bytes: &[u8]) -> Result<&str, Problem> {
    let line_at = |end: usize| 1 + memchr::memchr_iter(b'\n', &bytes[..end]).count();
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Problem::at(line_at(error.valid_up_to()), "is not valid UTF-8; save the file as UTF-8")
    })?;
    let control = |byte: &u8| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127);
    if let Some(position) = bytes.iter().position(control) {
        let message = format!("holds the control character 0x{:02x}; remove it", bytes[position]);
        return Err(Problem::at(line_at(position), message));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

#[cfg(test)]
mod tests;
