//! Properties that tell a file, or all files that a pattern matches, from what they were.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::patterns::matches;

/// Properties that tell a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) modified: (i64, i64),
    /// Also moves when a copy keeps the time of modification.
    pub(super) changed: (i64, i64),
}

impl Fingerprint {
    /// Of the file that `path` leads to; none if there is none that can be looked at. For
    /// [`pattern_path`] it is that of all files that the pattern matches.
    pub fn of(path: &Path) -> Option<Self> {
        if let Some(pattern) = path.to_str().and_then(|path| path.strip_prefix(PATTERN_MARK)) {
            return Self::of_matches(pattern);
        }
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Of all names and files together: one that appears, goes or changes makes another one.
    fn of_matches(pattern: &str) -> Option<Self> {
        let mut all = DefaultHasher::new();
        let paths = matches(pattern).ok()?;
        for path in &paths {
            path.hash(&mut all);
            Self::of(path).hash(&mut all);
        }
        let bytes = paths.len() as u64;
        Some(Self { device: 0, inode: all.finish(), bytes, modified: (0, 0), changed: (0, 0) })
    }
}

/// No path of a file holds a NUL character.
const PATTERN_MARK: char = '\0';

/// The place of a pattern among those of files.
pub fn pattern_path(pattern: &str) -> PathBuf {
    PathBuf::from(format!("{PATTERN_MARK}{pattern}"))
}

/// Files, as they were just before they were read.
pub type Seen = BTreeMap<PathBuf, Option<Fingerprint>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::patterns::beside;

    #[test]
    fn what_a_pattern_matches_is_another_when_a_file_comes_changes_or_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = pattern_path(&beside(directory.path(), "*.yaml").unwrap());
        let look = || Fingerprint::of(&path);
        let file = |name: &str| directory.path().join(name);
        let nothing = look();
        assert!(nothing.is_some());
        fs::write(file("a.yaml"), "a").unwrap();
        let one = look();
        fs::write(file("a.yaml"), "ab").unwrap();
        let changed = look();
        fs::rename(file("a.yaml"), file("b.yaml")).unwrap();
        let renamed = look();
        let all = [nothing, one, changed, renamed];
        for (index, print) in all.iter().enumerate() {
            assert!(!all[..index].contains(print), "{index}");
        }
        // What an editor puts beside it is nothing new.
        fs::write(file(".b.yaml.swp"), "x").unwrap();
        assert_eq!(look(), renamed);
    }
}
