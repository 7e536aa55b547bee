//! Patterns of `include`: the files that they match.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern, glob_with};

use crate::config::INCLUDED_FILES_MAX;

/// As a shell does it: `*` does not reach below a directory and passes over hidden files, such as
/// those of editors and the `..data` of a Kubernetes volume.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The pattern with the directory that a relative one starts at.
///
/// # Errors
/// The directory has no name in UTF-8.
pub fn beside(directory: &Path, pattern: &str) -> Result<String, String> {
    if pattern.starts_with('/') || directory.as_os_str().is_empty() {
        return Ok(pattern.to_owned());
    }
    let Some(directory) = directory.to_str() else {
        return Err("starts at a directory whose name is not UTF-8; rename it".to_owned());
    };
    Ok(format!("{}/{pattern}", Pattern::escape(directory.trim_end_matches('/'))))
}

/// Returns true if a pattern names one file, which must be there then.
pub fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '['])
}

/// The files that a pattern matches, in the order of their names; the error follows the pattern in
/// a sentence.
///
/// # Errors
/// It is no pattern, it matches too many, or a directory cannot be read.
pub fn matches(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let found = glob_with(pattern, OPTIONS)
        .map_err(|error| format!("is not a pattern ({}); correct it", error.msg))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| {
            format!("needs {}, which cannot be read: {}", error.path().display(), error.error())
        })?;
        if paths.len() == INCLUDED_FILES_MAX {
            return Err(format!(
                "matches more than {INCLUDED_FILES_MAX} files; write more buckets into each"
            ));
        }
        paths.push(path);
    }
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell_and_in_the_order_of_names() {
        let directory = tempfile::tempdir().unwrap();
        // Characters of the directory are none of the pattern.
        let base = directory.path().join("[a]*");
        fs::create_dir_all(base.join("conf.d/below")).unwrap();
        for name in ["conf.d/b.yaml", "conf.d/a.yaml", "conf.d/.a.yaml.swp", "conf.d/.c.yaml"] {
            fs::write(base.join(name), "").unwrap();
        }
        fs::write(base.join("conf.d/below/d.yaml"), "").unwrap();
        let names = |pattern: &str| -> Vec<String> {
            let found = matches(&beside(&base, pattern).unwrap()).unwrap();
            let name = |path: &PathBuf| path.strip_prefix(&base).unwrap().display().to_string();
            found.iter().map(name).collect()
        };
        assert_eq!(names("conf.d/*.yaml"), ["conf.d/a.yaml", "conf.d/b.yaml"]);
        assert_eq!(names("*/*/?.yaml"), ["conf.d/below/d.yaml"]);
        assert_eq!(names("conf.d/a.yaml"), ["conf.d/a.yaml"]);
        assert_eq!(names("none.d/*.yaml"), [""; 0]);
        let absolute = base.join("conf.d/a.yaml").display().to_string();
        assert_eq!(beside(&base, &absolute).as_deref(), Ok(&*absolute));
        assert!(matches("a[").unwrap_err().starts_with("is not a pattern"));
    }

    #[test]
    fn a_flood_of_files_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..=INCLUDED_FILES_MAX {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let refused = matches(&beside(directory.path(), "*").unwrap()).unwrap_err();
        assert!(refused.starts_with("matches more than 1000 files"), "{refused}");
    }
}
