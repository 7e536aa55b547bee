//! The files of one configuration: what is included, within which bounds, and in which file and on
//! which line the buckets stand.

use std::sync::Arc;

use super::{
    inputs::{CONFIG_BYTES_MAX, IncludedFile},
    problem::{Problem, Problems},
    yaml::Node,
};

/// Files that a configuration may include: one for each tenant, and an end to a pattern that
/// matches what it should not.
pub const INCLUDED_FILES_MAX: usize = 1_000;

const ACCESS_LOG_PATH: &str = "logging.access_log.path";

/// Files that a walk includes so far.
#[derive(Debug, Default)]
pub(super) struct IncludedFiles {
    pub(super) all: Vec<IncludedFile>,
    /// Bytes of them and of the main file.
    bytes: usize,
}

impl IncludedFiles {
    pub(super) fn beside(main_bytes: usize) -> Self {
        Self { all: Vec::new(), bytes: main_bytes }
    }

    /// Bytes that further files may have.
    pub(super) fn bytes_left(&self) -> usize {
        CONFIG_BYTES_MAX.saturating_sub(self.bytes)
    }

    /// Adds files; one that another pattern has matched stands for both.
    pub(super) fn add(&mut self, files: Vec<IncludedFile>) -> Result<(), String> {
        for file in files {
            if self.all.iter().any(|known| known.name == file.name) {
                continue;
            }
            if self.all.len() == INCLUDED_FILES_MAX {
                return Err(format!(
                    "brings the included files to more than {INCLUDED_FILES_MAX}; write more \
                     buckets into each"
                ));
            }
            self.bytes += file.content.len();
            self.all.push(file);
        }
        Ok(())
    }
}

/// Checks the form of a pattern.
pub(super) fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    if pattern.contains('\0') {
        return Err("holds a NUL character, which no path can have; remove it");
    }
    if pattern.contains("**") {
        return Err("holds **, which could match a whole file system; write * for each directory");
    }
    Ok(())
}

/// An included file and its first bucket's place among all of the configuration.
pub(super) struct Part<'d> {
    pub(super) name: Arc<str>,
    root: &'d Node<'d>,
    first: usize,
}

/// Places in the files of what is found wrong after they were read.
#[derive(Clone, Debug, Default)]
pub struct Places {
    main: Option<Arc<str>>,
    /// Included files by the place of their first bucket.
    included: Vec<(usize, Arc<str>)>,
    /// Lines of `s3` of all buckets.
    s3_lines: Vec<usize>,
    access_log_line: usize,
}

impl Places {
    /// A problem with `s3` of a bucket, which has this place among all of them.
    pub fn s3_problem(&self, bucket: usize, message: String) -> Problem {
        let following = self.included.partition_point(|(first, _)| *first <= bucket);
        let included = following.checked_sub(1).and_then(|place| self.included.get(place));
        let (first, file) = match included {
            Some((first, name)) => (*first, Some(Arc::clone(name))),
            None => (0, self.main.clone()),
        };
        let path = format!("buckets[{}].s3", bucket - first);
        let line = self.s3_lines.get(bucket).copied();
        Problem { file, line, ..Problem::of_key(path, message) }
    }

    /// A problem with the path of the access log.
    pub fn access_log_problem(&self, message: String) -> Problem {
        let (file, line) = (self.main.clone(), Some(self.access_log_line));
        Problem { file, line, ..Problem::of_key(ACCESS_LOG_PATH, message) }
    }
}

/// All files of a configuration: finds the place of what is wrong between them.
///
/// Paths have the places of buckets among all of them while a configuration is read. A problem is
/// told with the place in its own file.
pub(super) struct Documents<'d> {
    pub(super) main: &'d Node<'d>,
    parts: Vec<Part<'d>>,
}

impl<'d> Documents<'d> {
    pub(super) const fn of(main: &'d Node<'d>) -> Self {
        Self { main, parts: Vec::new() }
    }

    /// Adds an included file whose first bucket has this place among all.
    pub(super) fn add(&mut self, name: &Arc<str>, root: &'d Node<'d>, first: usize) {
        self.parts.push(Part { name: Arc::clone(name), root, first });
    }

    /// The included file that holds the bucket of a path, the place of its first bucket, and the
    /// path in it.
    fn part_of(&self, path: &str) -> Option<(&Part<'d>, String)> {
        let rest = path.strip_prefix("buckets[")?;
        let (index, rest) = rest.split_once(']')?;
        let index: usize = index.parse().ok()?;
        let following = self.parts.partition_point(|part| part.first <= index);
        let part = self.parts.get(following.checked_sub(1)?)?;
        Some((part, format!("buckets[{}]{rest}", index - part.first)))
    }

    /// Places for problems that are found later, of so many buckets.
    pub(super) fn places(&self, main: Option<&str>, buckets: usize) -> Places {
        let place = |part: &Part<'_>| (part.first, Arc::clone(&part.name));
        let s3_line = |bucket| self.line_of(&format!("buckets[{bucket}].s3"));
        Places {
            main: main.map(Arc::from),
            included: self.parts.iter().map(place).collect(),
            s3_lines: (0..buckets).map(s3_line).collect(),
            access_log_line: self.main.line_of(ACCESS_LOG_PATH),
        }
    }

    /// Line of the value at a path, or of the nearest value above it that exists.
    pub(super) fn line_of(&self, path: &str) -> usize {
        match self.part_of(path) {
            Some((part, path)) => part.root.line_of(&path),
            None => self.main.line_of(path),
        }
    }

    /// The value at a path, or the nearest one above it that exists.
    pub(super) fn at(&self, path: &str) -> &Node<'d> {
        match self.part_of(path) {
            Some((part, path)) => part.root.at(&path),
            None => self.main.at(path),
        }
    }

    /// Returns true if the text at a path stands in its file as it is, without a variable.
    pub(super) fn is_written(&self, path: &str) -> bool {
        match self.part_of(path) {
            Some((part, path)) => part.root.is_written(&path),
            None => self.main.is_written(path),
        }
    }

    /// Name of the included file that a path is in; none for the main one.
    pub(super) fn file_of(&self, path: &str) -> Option<Arc<str>> {
        self.part_of(path).map(|(part, _)| Arc::clone(&part.name))
    }

    /// Returns true if there are included files, so that a place needs the name of its file.
    pub(super) fn are_several(&self) -> bool {
        !self.parts.is_empty()
    }

    /// A path as its own file has it.
    pub(super) fn local(&self, path: &str) -> Option<String> {
        self.part_of(path).map(|(_, path)| path)
    }

    /// Gives the problems the paths that they have in their own files, adds those that were found
    /// in the trees of `included`, and sorts all of them into the order of the files.
    pub(super) fn finish(
        &self,
        problems: &mut Problems,
        included: &[IncludedFile],
        in_trees: Vec<Problem>,
    ) {
        for problem in problems.errors.iter_mut().chain(&mut problems.warnings) {
            match self.part_of(&problem.path) {
                Some((part, path)) if problem.file.as_ref() == Some(&part.name) => {
                    problem.path = path;
                }
                _ => {}
            }
        }
        for problem in in_trees {
            problems.error(problem);
        }
        let names: Vec<&str> = included.iter().map(|file| &*file.name).collect();
        problems.finish_in_order(&names);
    }
}
