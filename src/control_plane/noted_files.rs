//! Files of a configuration as one attempt reads them: each noted as it was before it was read, and
//! read again where it changed meanwhile.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    config::{FileReader, IncludedFile},
    control_plane::{
        files::{ConfigPlace, FilesBeside},
        fingerprints::{Fingerprint, Seen, pattern_path},
        patterns::beside,
    },
};

/// Readings of a file that changes under the reader, in one attempt.
const READS_MAX: usize = 5;

/// Time between two of these readings.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// Included files by the pattern that matched them.
pub type Included = BTreeMap<String, Vec<IncludedFile>>;

/// Content of a configuration: all that makes the same one again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes of the main file.
    pub main: Arc<[u8]>,
    /// The files that it includes.
    pub included: Included,
}

/// Reads what was there all the time while it was read, and notes it. What somebody writes into at
/// this moment is read again: half a list of buckets may be good YAML. None if it changes all the
/// time.
pub fn read_unchanged<T>(path: &Path, seen: &mut Seen, mut read: impl FnMut() -> T) -> Option<T> {
    let mut before = Fingerprint::of(path);
    for _ in 0..READS_MAX {
        seen.insert(path.to_owned(), before);
        let content = read();
        let after = Fingerprint::of(path);
        if after == before {
            return Some(content);
        }
        before = after;
        thread::sleep(READ_PAUSE);
    }
    None
}

/// Files that a configuration names, each noted as it was before it was read.
#[derive(Debug)]
pub struct NotedFiles<'p> {
    files: FilesBeside,
    directory: &'p Path,
    seen: RefCell<Seen>,
    included: RefCell<Included>,
    /// Included files of an earlier generation, which stand for those on disk.
    kept: Option<&'p Included>,
}

impl<'p> NotedFiles<'p> {
    /// For the configuration at `place`, after others that were noted. Included files that were
    /// kept of an earlier generation stand for those on disk.
    pub fn new(place: &'p ConfigPlace, seen: Seen, kept: Option<&'p Included>) -> Self {
        let directory = place.directory();
        Self {
            files: FilesBeside::new(directory),
            directory,
            seen: seen.into(),
            included: RefCell::default(),
            kept,
        }
    }

    /// All that was noted, and the included files.
    pub fn into_parts(self) -> (Seen, Included) {
        (self.seen.into_inner(), self.included.into_inner())
    }

    /// All that was noted.
    pub fn into_seen(self) -> Seen {
        self.seen.into_inner()
    }

    fn read_included(&self, pattern: &str, bytes_max: usize) -> Result<Vec<IncludedFile>, String> {
        if let Some(kept) = self.kept {
            let found = kept.get(pattern).cloned();
            return found.ok_or_else(|| "was not part of this generation".to_owned());
        }
        let place: PathBuf = pattern_path(&beside(self.directory, pattern)?);
        let read = || self.files.included(pattern, bytes_max);
        read_unchanged(&place, &mut self.seen.borrow_mut(), read).unwrap_or_else(|| {
            Err("matches files that change all the time while they are read".to_owned())
        })
    }
}

impl FileReader for NotedFiles<'_> {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        let place = self.directory.join(path);
        let print = Fingerprint::of(&place);
        self.seen.borrow_mut().insert(place, print);
        self.files.read(path, bytes_max)
    }

    fn included(&self, pattern: &str, bytes_max: usize) -> Result<Vec<IncludedFile>, String> {
        let files = self.read_included(pattern, bytes_max)?;
        self.included.borrow_mut().insert(pattern.to_owned(), files.clone());
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn what_changes_while_it_is_read_is_read_again_and_noted_as_it_was_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, "first ").unwrap();
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut seen = Seen::new();
        let mut readings = 0;
        let read = read_unchanged(&path, &mut seen, || {
            readings += 1;
            let content = fs::read_to_string(&path).unwrap();
            if readings == 1 {
                append("second");
            }
            content
        });
        assert_eq!((read.as_deref(), readings), (Some("first second"), 2));
        assert_eq!(seen[&path], Fingerprint::of(&path));
        let never = read_unchanged(&path, &mut seen, || append("more"));
        assert_eq!(never, None);
        assert_ne!(seen[&path], Fingerprint::of(&path));
    }

    #[test]
    fn included_files_are_those_of_now_or_those_that_were_kept() {
        let directory = tempfile::tempdir().unwrap();
        let place = ConfigPlace::new(&directory.path().join("config.yaml"), None);
        let file = directory.path().join("a.yaml");
        fs::write(&file, "old").unwrap();
        let files = NotedFiles::new(&place, Seen::new(), None);
        let old = files.included("*.yaml", 3).unwrap();
        assert_eq!((&*old[0].name, &*old[0].content), (file.to_str().unwrap(), &b"old"[..]));
        assert!(files.included("*.yaml", 2).unwrap_err().contains("all files together"));
        assert!(files.included("b.yaml", 2).unwrap_err().contains("does not exist"));
        let (seen, kept) = files.into_parts();
        assert_eq!(seen.len(), 2, "the patterns, and no file");
        fs::write(&file, "new").unwrap();
        let again = NotedFiles::new(&place, Seen::new(), Some(&kept));
        assert_eq!(again.included("*.yaml", 3).unwrap(), old);
        assert!(again.included("c.yaml", 3).unwrap_err().contains("not part of this generation"));
        assert!(again.into_seen().is_empty());
    }
}
