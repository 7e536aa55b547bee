//! The configuration file, the files that it names, and the environment: all that reading a
//! configuration takes from outside.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::patterns::{beside, is_literal, matches};
use crate::config::{CONFIG_BYTES_MAX, Environment, FileReader, IncludedFile, Problem, too_large};

/// The environment as it was when the process started: none for values that are not UTF-8.
#[derive(Clone)]
pub struct ProcessEnvironment(BTreeMap<String, Option<String>>);

impl ProcessEnvironment {
    /// Copies the environment.
    pub fn capture() -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()))
        };
        Self(env::vars_os().filter_map(text).collect())
    }
}

impl std::fmt::Debug for ProcessEnvironment {
    /// Counts only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessEnvironment({} variables)", self.0.len())
    }
}

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned().flatten()
    }

    fn is_no_text(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Option::is_none)
    }
}

/// Place of a configuration: a file or standard input, and where relative paths in it start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPlace {
    /// None for standard input.
    path: Option<PathBuf>,
    directory: PathBuf,
}

impl ConfigPlace {
    /// The file at `path`, or standard input for `-`. Without a directory of their own, relative
    /// paths start at that of the file, and those of standard input at the working directory.
    pub fn new(path: &Path, directory: Option<&Path>) -> Self {
        let path = (path != Path::new("-")).then(|| path.to_owned());
        let of_file = || path.as_deref().and_then(Path::parent).map(Path::to_owned);
        let directory = directory.map(Path::to_owned).or_else(of_file).unwrap_or_default();
        Self { path, directory }
    }

    /// Path of the file; none for standard input.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns true for standard input, which can be read only once.
    pub const fn is_stdin(&self) -> bool {
        self.path.is_none()
    }

    /// The directory that relative paths in the configuration start at.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl std::fmt::Display for ConfigPlace {
    /// The name that problems and reports have for it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => path.display().fmt(f),
            None => f.write_str("<stdin>"),
        }
    }
}

/// Reads named files; relative paths start at the configuration file's directory.
#[derive(Clone, Debug)]
pub struct FilesBeside {
    directory: PathBuf,
}

impl FilesBeside {
    /// For a configuration whose relative paths start at this directory.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl FileReader for FilesBeside {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        read_bounded(&self.directory.join(path), bytes_max).map_err(|why| {
            if why == DOES_NOT_EXIST && path.is_relative() {
                format!("{why}; relative paths start at the directory of the configuration file")
            } else {
                why
            }
        })
    }

    fn included(&self, pattern: &str, bytes_max: usize) -> Result<Vec<IncludedFile>, String> {
        let mut left = bytes_max;
        let mut files = Vec::new();
        let paths = matches(&beside(&self.directory, pattern)?)?;
        if paths.is_empty() && is_literal(pattern) {
            return Err("names a file that does not exist".to_owned());
        }
        for path in paths {
            let read = read_bounded(&path, CONFIG_BYTES_MAX);
            let bytes = read.map_err(|why| format!("matches {}, which {why}", path.display()))?;
            left = left.checked_sub(bytes.len()).ok_or_else(|| {
                format!("brings all files together to more than {CONFIG_BYTES_MAX} bytes")
            })?;
            let name = Arc::from(path.display().to_string());
            files.push(IncludedFile { name, content: bytes.into() });
        }
        Ok(files)
    }
}

/// Reason of a file that is not there. Like the others it follows the file's name in a sentence.
pub const DOES_NOT_EXIST: &str = "does not exist";

/// Reason of a file that belongs to somebody else.
pub const MAY_NOT_BE_READ: &str = "may not be read; allow this process's user to read it";

/// Reason of a file below another file.
pub const UNDER_NO_DIRECTORY: &str = "lies under something that is not a directory";

/// Reads a configuration file, once and bounded.
///
/// # Errors
/// A [`Problem`] that names the file and says what to change.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    read_bounded(path, CONFIG_BYTES_MAX)
        .map_err(|why| Problem::of_file(format!("configuration file {} {why}", path.display())))
}

/// Reads a configuration from standard input, to its end and bounded.
///
/// # Errors
/// A [`Problem`] that says what to change.
pub fn read_stdin() -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    let why = match read {
        Err(error) => format!("cannot be read: {error}"),
        Ok(_) if bytes.len() > CONFIG_BYTES_MAX => too_large(CONFIG_BYTES_MAX),
        Ok(_) => return Ok(bytes),
    };
    Err(Problem::of_file(format!("the configuration on standard input {why}")))
}

/// Reads a regular file of at most `bytes_max`.
///
/// # Errors
/// What follows the file's name in a sentence.
pub fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => DOES_NOT_EXIST.to_owned(),
        io::ErrorKind::PermissionDenied => MAY_NOT_BE_READ.to_owned(),
        io::ErrorKind::NotADirectory => UNDER_NO_DIRECTORY.to_owned(),
        _ => format!("cannot be read: {error}"),
    };

    // Without O_NONBLOCK, opening a FIFO that has no writer would wait for ever.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(explain)?;
    let metadata = file.metadata().map_err(explain)?;
    if metadata.is_dir() {
        return Err("is a directory; name a file in it".to_owned());
    }
    if !metadata.is_file() {
        return Err("is not a regular file; name one that is".to_owned());
    }
    if metadata.len() > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(explain)?;
    if bytes.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn message(path: &Path) -> String {
        read(path).unwrap_err().message
    }

    #[test]
    fn says_what_is_wrong_with_a_path() {
        let directory = tempfile::tempdir().unwrap();
        assert!(message(&directory.path().join("none.yaml")).ends_with("none.yaml does not exist"));
        assert!(message(directory.path()).ends_with("is a directory; name a file in it"));
        let file = directory.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(message(&file.join("below")).ends_with("is not a directory"));
        assert!(
            message(Path::new("/dev/zero")).ends_with("is not a regular file; name one that is")
        );
    }

    #[test]
    fn a_file_over_the_bound_is_refused_without_being_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("huge.yaml");
        File::create(&path).unwrap().set_len(100 * 1_024 * 1_024).unwrap();
        assert!(message(&path).ends_with("is larger than 16777216 bytes"));
        File::create(&path).unwrap().set_len(CONFIG_BYTES_MAX as u64).unwrap();
        assert_eq!(read(&path).unwrap().len(), CONFIG_BYTES_MAX);
    }

    #[test]
    fn named_files_lie_beside_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("key"), "k").unwrap();
        let files = FilesBeside::new(directory.path());
        assert_eq!(files.read(Path::new("key"), 1).unwrap(), b"k");
        assert_eq!(files.read(&directory.path().join("key"), 1).unwrap(), b"k");
        let missing = |path: &Path| files.read(path, 1).unwrap_err();
        assert!(missing(Path::new("none")).starts_with("does not exist; relative paths start at"));
        assert_eq!(missing(&directory.path().join("none")), "does not exist");
        assert_eq!(files.read(Path::new("key"), 0).unwrap_err(), "is larger than 0 bytes");
    }

    #[test]
    fn the_environment_is_not_shown() {
        let environment = ProcessEnvironment(BTreeMap::from([("A".into(), Some("s3cret".into()))]));
        assert!(!format!("{environment:?}").contains("s3cret"));
        assert_eq!(environment.var("A").as_deref(), Some("s3cret"));
        assert_eq!(environment.var("B"), None);
    }
}
