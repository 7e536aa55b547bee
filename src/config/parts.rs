//! Reading included files, which hold buckets and nothing else.

use std::sync::Arc;

use super::{
    bucket::BucketSettings,
    declare::Keys as _,
    inputs::IncludedFile,
    keys,
    problem::{Problem, Problems},
    scalar::found,
    section::Section,
    settings::Settings,
    walk::{At, Walk},
    yaml::{self, Node, Shape, Size, Tree, push_key},
};

/// The included files that could be read.
pub(super) struct Trees<'a> {
    /// Amount that they and the main file hold, which is bounded for all of them together.
    size: Size,
    pub(super) all: Vec<(Arc<str>, Tree<'a>)>,
    /// Problems with the paths that their own files have.
    pub(super) problems: Vec<Problem>,
}

impl<'a> Trees<'a> {
    pub(super) const fn beside(main: Size) -> Self {
        Self { size: main, all: Vec::new(), problems: Vec::new() }
    }

    /// Bytes of text that the included files hold.
    pub(super) const fn text_bytes(&self, main: Size) -> usize {
        self.size.text_bytes - main.text_bytes
    }

    pub(super) fn read(&mut self, file: &'a IncludedFile) {
        let mut found = Problems::default();
        match yaml::read(&file.content, self.size, &mut found) {
            Ok(tree) => {
                self.size = tree.size;
                self.all.push((Arc::clone(&file.name), tree));
            }
            Err(problem) => found.error(problem),
        }
        let name = || Some(Arc::clone(&file.name));
        let of_file = |problem| Problem { file: name(), ..problem };
        self.problems.extend(found.errors.into_iter().map(of_file));
    }
}

/// Reads the buckets of an included file, behind those that were read before.
pub(super) fn read_buckets(
    walk: &Walk<'_>,
    name: &Arc<str>,
    root: &Node<'_>,
    buckets: &mut Vec<BucketSettings>,
) {
    walk.enter(name);
    let entries = match root.shape() {
        Shape::Mapping(entries) => entries,
        other => {
            let message =
                format!("expected a mapping, found {}; write buckets: above it", found(other));
            walk.error(String::new(), root.line, message);
            return;
        }
    };
    for entry in entries.iter().filter(|entry| entry.key != "buckets") {
        let mut path = String::new();
        push_key(&mut path, &entry.key);
        let message = if keys::find(Settings::KEYS, &entry.key).is_some() {
            "belongs into the main file; an included one holds only buckets"
        } else {
            "unknown key; an included file holds only buckets"
        };
        walk.error(path, entry.line, message.to_owned());
    }
    let section = Section::of_entries(walk, Settings::KEYS, &At::Top, root.line, entries);
    buckets.extend(section.each_from("buckets", buckets.len(), BucketSettings::read_keys));
}
