//! Tells the program which commit it was built from.
//!
//! Git itself is not needed: its files are read. Where there are none (a source archive), the
//! variable `YATAGARASU_REVISION` of the build says it, or nobody does.

#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Names the commit where git's files do not, or another one than they do.
const VARIABLE: &str = "YATAGARASU_REVISION";

/// Characters of a commit's name that are kept: enough to be unique in any repository.
const REVISION_CHARS: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let git = git_directory(Path::new("."));
    // Only release builds follow the commits: each one would build everything anew.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(git) = git.as_ref().filter(|_| is_release) {
        // Written by every commit, checkout and rebase.
        println!("cargo:rerun-if-changed={}", git.join("logs/HEAD").display());
        println!("cargo:rerun-if-changed={}", git.join("HEAD").display());
    }
    let given = env::var(VARIABLE).ok().filter(|given| !given.is_empty());
    let found = given.or_else(|| git.filter(|_| is_release).and_then(|git| commit(&git)));
    println!("cargo:rustc-env={VARIABLE}={}", found.unwrap_or_default());
}

/// The git directory of a source tree; that of a worktree is named in a file.
pub(crate) fn git_directory(tree: &Path) -> Option<PathBuf> {
    let git = tree.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let named = fs::read_to_string(&git).ok()?;
    Some(tree.join(named.strip_prefix("gitdir:")?.trim()))
}

/// The commit that `HEAD` names, shortened.
pub(crate) fn commit(git: &Path) -> Option<String> {
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let head = head.trim();
    let Some(name) = head.strip_prefix("ref: ") else { return short(head) };
    // Branches belong to the repository, not to a worktree.
    let common = fs::read_to_string(git.join("commondir"))
        .map_or_else(|_| git.to_owned(), |common| git.join(common.trim()));
    if let Ok(commit) = fs::read_to_string(common.join(name)) {
        return short(commit.trim());
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    let line = packed.lines().find(|line| line.ends_with(&format!(" {name}")))?;
    short(line.split(' ').next()?)
}

fn short(commit: &str) -> Option<String> {
    let is_name = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    commit.get(..REVISION_CHARS).filter(|_| is_name).map(str::to_owned)
}
