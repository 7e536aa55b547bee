//! Inputs of a configuration besides its bytes: the environment and the files that it names. The
//! caller provides them; nothing in here touches the outside.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest configuration file, in bytes: 10,000 generously written buckets take 5 MiB.
pub const CONFIG_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Largest file that a configuration may name, in bytes: a bundle of all public CA certificates
/// takes less than 1 MiB.
pub const NAMED_FILE_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// The main file of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Main<'b> {
    /// Name in problems, where known.
    pub name: Option<&'b str>,
    /// Its bytes.
    pub bytes: &'b [u8],
}

/// Variables for `${NAME}`.
pub trait Environment {
    /// The value of a variable, if it is set and is valid UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// Returns true if a variable is set, but not to valid UTF-8.
    fn is_no_text(&self, _name: &str) -> bool {
        false
    }
}

impl Environment for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// Files that a configuration names: secrets, CA certificates, public keys, key sets, and further
/// files of buckets.
pub trait FileReader {
    /// The whole file of at most `bytes_max`, or why not in words that follow the path.
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String>;

    /// All files that a pattern of `include` matches, in the order of their names and of at most
    /// `bytes_max` together, or why not in words that follow the pattern.
    fn included(&self, pattern: &str, bytes_max: usize) -> Result<Vec<IncludedFile>, String>;
}

/// A file that a configuration includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludedFile {
    /// Name in problems.
    pub name: Arc<str>,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

impl FileReader for BTreeMap<PathBuf, Vec<u8>> {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        match self.get(path) {
            None => Err("does not exist".to_owned()),
            Some(bytes) if bytes.len() > bytes_max => Err(too_large(bytes_max)),
            Some(bytes) => Ok(bytes.clone()),
        }
    }

    /// Takes the pattern for a path.
    fn included(&self, pattern: &str, bytes_max: usize) -> Result<Vec<IncludedFile>, String> {
        let content = self.read(Path::new(pattern), bytes_max)?.into();
        Ok(vec![IncludedFile { name: pattern.into(), content }])
    }
}

/// Words for a file of more than `bytes_max`.
pub fn too_large(bytes_max: usize) -> String {
    format!("is larger than {bytes_max} bytes")
}
