//! Problems of a configuration: the place, what is wrong, and what to write instead.

use std::{borrow::Cow, fmt, sync::Arc};

/// Problems kept of each kind. A file of garbage may hold a million mistakes; nobody reads past
/// the first hundred, and the report of a refused reload must stay small.
pub const PROBLEMS_MAX: usize = 1_000;

/// Longest piece of the file that a message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 64;

/// One problem. It never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file, where known.
    pub file: Option<Arc<str>>,
    /// Key path, such as `buckets[1].s3.region`; empty when it concerns the whole file.
    pub path: String,
    /// Line in the file, from 1, where known.
    pub line: Option<usize>,
    /// The mistake, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem with the file as a whole.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self { file: None, path: String::new(), line: None, message: message.into() }
    }

    /// A problem with a key, of which nobody knows the line any more.
    pub fn of_key(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::of_file(message) }
    }

    /// A problem with a line of the file.
    pub(super) fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::of_file(message) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems of one attempt, each list in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Reasons to refuse the configuration.
    pub errors: Vec<Problem>,
    /// Parts that are accepted but worth a look.
    pub warnings: Vec<Problem>,
    /// Errors beyond [`PROBLEMS_MAX`], counted only.
    pub(super) errors_left_off: usize,
}

impl Problems {
    /// Adds a reason to refuse.
    pub fn error(&mut self, problem: Problem) {
        if self.errors.len() < PROBLEMS_MAX {
            self.errors.push(problem);
        } else {
            self.errors_left_off += 1;
        }
    }

    /// Adds a warning.
    pub fn warning(&mut self, problem: Problem) {
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(problem);
        }
    }

    /// Returns true if the configuration must be refused.
    pub fn refuse(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Sorts both lists into file order and says how many errors were left off.
    pub fn finish(&mut self) {
        self.finish_in_order(&[]);
    }

    /// The same with included files behind the main one, in this order.
    pub(super) fn finish_in_order(&mut self, included: &[&str]) {
        let place = |problem: &Problem| {
            let file = problem.file.as_deref();
            let file = included.iter().position(|name| Some(*name) == file);
            (file.map_or(0, |place| place + 1), problem.line)
        };
        self.errors.sort_by_cached_key(place);
        self.warnings.sort_by_cached_key(place);
        if self.errors_left_off > 0 {
            let message = format!("{} more problems are not shown", self.errors_left_off);
            self.errors.push(Problem::of_file(message));
            self.errors_left_off = 0;
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { errors: vec![problem], ..Self::default() }
    }
}

impl fmt::Display for Problems {
    /// One line for each error, then one for each warning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// A piece of the file as a message may show it: cut when long.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_line_path_and_message_where_known() {
        let mut problem = Problem::of_key("buckets[1].s3.region", "is missing");
        problem.line = Some(12);
        assert_eq!(problem.to_string(), "line 12: buckets[1].s3.region: is missing");
        problem.file = Some("a.yaml".into());
        assert_eq!(problem.to_string(), "a.yaml:12: buckets[1].s3.region: is missing");
        problem.line = None;
        assert_eq!(problem.to_string(), "a.yaml: buckets[1].s3.region: is missing");
        problem.file = None;
        assert_eq!(problem.to_string(), "buckets[1].s3.region: is missing");
        assert_eq!(Problem::of_file("is empty").to_string(), "is empty");
    }

    #[test]
    fn the_main_file_comes_first_and_included_ones_in_their_order() {
        let mut problems = Problems::default();
        for (file, line) in [("b", 1), ("a", 7), ("main", 9), ("a", 2), ("main", 3)] {
            let file = Some(file.into());
            problems.error(Problem { file, line: Some(line), ..Problem::of_file("bad") });
        }
        problems.finish_in_order(&["a", "b"]);
        let order: Vec<_> = problems.errors.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["main:3: bad", "main:9: bad", "a:2: bad", "a:7: bad", "b:1: bad"]);
    }

    #[test]
    fn a_flood_of_problems_is_bounded_and_counted() {
        let mut problems = Problems::default();
        for line in 0..PROBLEMS_MAX + 7 {
            problems.error(Problem { line: Some(line), ..Problem::of_file("bad") });
        }
        problems.finish();
        assert_eq!(problems.errors.len(), PROBLEMS_MAX + 1);
        assert_eq!(problems.errors[PROBLEMS_MAX].message, "7 more problems are not shown");
    }

    #[test]
    fn a_quoted_piece_is_cut_between_characters() {
        let long = "é".repeat(QUOTED_CHARS_MAX + 1);
        assert_eq!(cut(&long), format!("{}...", "é".repeat(QUOTED_CHARS_MAX)));
        assert_eq!(cut(&long[2..]), long[2..]);
    }
}
