//! One walk over a configuration: its problems so far, the files it has read, and where it is.
//!
//! A reader that has noted a problem goes on with a stand-in. Stand-ins never leave the
//! pipeline, because a file with problems is refused.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use super::{
    documents::{Documents, IncludedFiles, check_pattern},
    expand::naming_variables,
    inputs::{Environment, FileReader, IncludedFile, Main},
    keys::Row,
    problem::{PROBLEMS_MAX, Problem, Problems},
    yaml::{Node, TEXT_BYTES_MAX, push_key, too_much_text},
};
use crate::model::{CaBundle, Secret};

/// Content of a file, or the reason why it cannot be read.
pub(super) type FileContent = Result<Rc<Vec<u8>>, Rc<str>>;

/// One walk over a configuration.
pub(super) struct Walk<'w> {
    pub(super) environment: &'w dyn Environment,
    files: &'w dyn FileReader,
    /// A file that many buckets name is read once (for each bound that it is read with).
    contents: RefCell<HashMap<(PathBuf, usize), FileContent>>,
    /// Secrets by key, and by the file or the text with variables that they came from.
    secrets: RefCell<HashMap<(&'static str, String), Secret>>,
    /// Certificates by the address of the content that they were parsed from.
    certificates: RefCell<HashMap<*const Vec<u8>, Result<CaBundle, String>>>,
    /// All keys, for messages about unknown ones.
    pub(super) keys: &'w [Row],
    /// Set if there is a `jwt` section.
    pub(super) jwt_written: Cell<bool>,
    /// Paths of keys that unknown keys probably mean.
    meant: RefCell<HashSet<String>>,
    /// Text that the file stands for so far, in bytes.
    text_bytes: Cell<usize>,
    /// Name of the main file, where known.
    main: Option<Arc<str>>,
    /// Name of the file that is read now.
    file: RefCell<Option<Arc<str>>>,
    included: RefCell<IncludedFiles>,
    problems: RefCell<Problems>,
}

/// Proof that a problem has been noted already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted;

/// Place in the file; rendered only when there is a problem to tell.
#[derive(Clone, Copy)]
pub(super) enum At<'p> {
    Top,
    Key(&'p At<'p>, &'p str),
    Index(&'p At<'p>, usize),
    Named(&'p At<'p>, &'p str),
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Top => Ok(()),
            At::Key(parent, name) => {
                let mut path = parent.to_string();
                push_key(&mut path, name);
                f.write_str(&path)
            }
            At::Index(parent, index) => write!(f, "{parent}[{index}]"),
            At::Named(parent, name) => write!(f, "{parent}[{name}]"),
        }
    }
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        environment: &'w dyn Environment,
        files: &'w dyn FileReader,
        keys: &'w [Row],
        main: &Main<'_>,
        text_bytes: usize,
        problems: Problems,
    ) -> Self {
        let name: Option<Arc<str>> = main.name.map(Arc::from);
        Self {
            environment,
            files,
            contents: RefCell::default(),
            secrets: RefCell::default(),
            certificates: RefCell::default(),
            keys,
            jwt_written: Cell::new(false),
            meant: RefCell::default(),
            text_bytes: Cell::new(text_bytes),
            file: RefCell::new(name.clone()),
            main: name,
            included: RefCell::new(IncludedFiles::beside(main.bytes.len())),
            problems: RefCell::new(problems),
        }
    }

    /// Counts text that a variable or a named file brings in. Past the bound, one problem says so
    /// and everything further is left out.
    pub(super) fn count_text(&self, bytes: usize, line: usize) -> Result<(), Noted> {
        let before = self.text_bytes.get();
        let after = before.saturating_add(bytes);
        self.text_bytes.set(after);
        if after <= TEXT_BYTES_MAX {
            return Ok(());
        }
        if before <= TEXT_BYTES_MAX {
            self.error(String::new(), line, too_much_text());
        }
        Err(Noted)
    }

    pub(super) fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }

    /// Takes all files that a pattern matches for files of this configuration.
    pub(super) fn include(&self, pattern: &str) -> Result<(), String> {
        check_pattern(pattern)?;
        let bytes_left = self.included.borrow().bytes_left();
        let files = self.files.included(pattern, bytes_left)?;
        self.included.borrow_mut().add(files)
    }

    /// Returns true if no file is included.
    pub(super) fn includes_nothing(&self) -> bool {
        self.included.borrow().all.is_empty()
    }

    /// The files that are included, which are to be read one after the other.
    pub(super) fn take_included(&self) -> Vec<IncludedFile> {
        std::mem::take(&mut self.included.borrow_mut().all)
    }

    /// Names the file that is read from now on.
    pub(super) fn enter(&self, file: &Arc<str>) {
        *self.file.borrow_mut() = Some(Arc::clone(file));
    }

    pub(super) fn error(&self, path: String, line: usize, message: String) -> Noted {
        let file = self.file.borrow().clone();
        self.problems.borrow_mut().error(Problem { file, path, line: Some(line), message });
        Noted
    }

    /// Notes an error about something that the file lacks.
    pub(super) fn error_in_file(&self, path: &str, message: &str) {
        let file = self.main.clone();
        self.problems.borrow_mut().error(Problem { file, ..Problem::of_key(path, message) });
    }

    pub(super) fn warning(&self, path: String, line: usize, message: String) {
        let file = self.file.borrow().clone();
        self.problems.borrow_mut().warning(Problem { file, path, line: Some(line), message });
    }

    /// Notes an error at a path that other code knows, looking its place up.
    pub(super) fn error_in(&self, documents: &Documents<'_>, path: String, message: String) {
        // Lines are looked up from the top, which a flood of problems must not repeat.
        if self.is_full() {
            self.error(path, 0, message);
            return;
        }
        let line = Some(documents.line_of(&path));
        let message = naming(documents.at(&path), message);
        let file = documents.file_of(&path).or_else(|| self.main.clone());
        self.problems.borrow_mut().error(Problem { file, path, line, message });
    }

    /// Notes an error about a value, with the variables in it. What they hold is never shown.
    pub(super) fn error_of(
        &self,
        node: &Node<'_>,
        path: String,
        line: usize,
        message: String,
    ) -> Noted {
        self.error(path, line, naming(node, message))
    }

    /// Notes a warning at a path that other code knows, looking its place up.
    pub(super) fn warning_in(&self, documents: &Documents<'_>, path: String, message: String) {
        let line = documents.line_of(&path);
        let file = documents.file_of(&path).or_else(|| self.main.clone());
        self.problems.borrow_mut().warning(Problem { file, path, line: Some(line), message });
    }

    /// File and line of a bucket, where the files that it could be in are several.
    pub(super) fn file_and_line_of(
        &self,
        documents: &Documents<'_>,
        bucket: usize,
    ) -> Option<String> {
        if !documents.are_several() {
            return None;
        }
        let path = format!("buckets[{bucket}]");
        let file = documents.file_of(&path).or_else(|| self.main.clone());
        let line = documents.line_of(&path);
        Some(file.map_or_else(|| format!("line {line}"), |file| format!("{file}:{line}")))
    }

    /// The place of a bucket in words.
    pub(super) fn place_of(&self, documents: &Documents<'_>, bucket: usize) -> String {
        let path = format!("buckets[{bucket}]");
        let local = documents.local(&path).unwrap_or(path);
        match self.file_and_line_of(documents, bucket) {
            Some(at) => format!("{local} ({at})"),
            None => local,
        }
    }

    /// Returns true if there are errors so far.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.borrow().refuse()
    }

    /// Returns true if an error stands at this path or below it.
    pub(super) fn has_error_within(&self, path: &str) -> bool {
        let within = |problem: &Problem| {
            let rest = problem.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.problems.borrow().errors.iter().any(within)
    }

    /// Remembers the keys that an unknown key probably means.
    pub(super) fn note_meant(&self, paths: Vec<String>) {
        self.meant.borrow_mut().extend(paths);
    }

    /// Returns true if an unknown key probably means the one at this path.
    pub(super) fn is_meant(&self, path: impl FnOnce() -> String) -> bool {
        let meant = self.meant.borrow();
        !meant.is_empty() && meant.contains(&path())
    }

    /// Returns true if further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.problems.borrow().errors.len() >= PROBLEMS_MAX
    }

    /// The content of a file, read once, or why it cannot be had.
    pub(super) fn file(
        &self,
        path: &Path,
        bytes_max: usize,
        line: usize,
    ) -> Result<FileContent, Noted> {
        let name = (path.to_owned(), bytes_max);
        if let Some(content) = self.contents.borrow().get(&name) {
            return Ok(content.clone());
        }
        // Nothing more is read once there is too much.
        self.count_text(0, line)?;
        let content = self.files.read(path, bytes_max).map(Rc::new).map_err(Rc::from);
        self.count_text(content.as_ref().map_or(0, |content| content.len()), line)?;
        self.contents.borrow_mut().insert(name, content.clone());
        Ok(content)
    }

    /// The secret that this key had from the same source before.
    pub(super) fn known_secret(&self, key: &'static str, source: &str) -> Option<Secret> {
        self.secrets.borrow().get(&(key, source.to_owned())).cloned()
    }

    /// Keeps a secret for all others that name its source for the same key.
    pub(super) fn keep_secret(&self, key: &'static str, source: &str, secret: &Secret) {
        self.secrets.borrow_mut().insert((key, source.to_owned()), secret.clone());
    }

    /// Certificates that are parsed once, though many keys name their file. The walk keeps the
    /// content of each file it has read, so the address stands for the file.
    pub(super) fn certificates(
        &self,
        pem: &Rc<Vec<u8>>,
        parse: impl FnOnce(&[u8]) -> Result<CaBundle, String>,
    ) -> Result<CaBundle, String> {
        let mut all = self.certificates.borrow_mut();
        all.entry(Rc::as_ptr(pem)).or_insert_with(|| parse(pem)).clone()
    }
}

/// A message about a value, with the variables in it.
fn naming(node: &Node<'_>, message: String) -> String {
    match node.text() {
        Some(text) => naming_variables(message, text),
        None => message,
    }
}
