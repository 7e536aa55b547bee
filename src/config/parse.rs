//! Bytes to [`Settings`], or to everything that is wrong with them.

use super::{
    declare::Keys as _,
    inputs::{Environment, FileReader},
    policies::Policies,
    problem::{Problem, Problems},
    rules,
    section::Section,
    settings::{KEYS, Settings},
    walk::{At, Walk},
    yaml::{self, Node, Tree},
};
use crate::policy::auth::spec::AuthProblem;

/// A configuration that was accepted.
#[derive(Debug)]
pub struct Loaded {
    /// Its content.
    pub settings: Settings,
    /// Compiled keys and rules.
    pub policies: Policies,
    /// Parts that are worth a look, in file order.
    pub warnings: Vec<Problem>,
}

/// Parses and checks the configuration of a process that starts: everything that can be found out
/// without a socket.
///
/// # Errors
/// All problems, in file order, with the warnings.
pub fn parse(
    bytes: &[u8],
    environment: &impl Environment,
    files: &impl FileReader,
) -> Result<Loaded, Problems> {
    parse_beside(bytes, environment, files, None)
}

/// The same for the successor of a `running` configuration, which must not take away what that
/// one guards.
///
/// # Errors
/// All problems, in file order, with the warnings.
pub fn parse_beside(
    bytes: &[u8],
    environment: &impl Environment,
    files: &impl FileReader,
    running: Option<&Settings>,
) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let Tree { root, text_bytes } = match yaml::read(bytes, &mut problems) {
        Ok(tree) => tree,
        Err(problem) => {
            problems.error(problem);
            problems.finish();
            return Err(problems);
        }
    };
    let walk = Walk::new(environment, files, &KEYS, text_bytes, problems);
    let (settings, policies) = read_settings(&walk, &root, running);
    let mut problems = walk.into_problems();
    problems.finish();
    match policies {
        Some(policies) if !problems.refuse() => {
            Ok(Loaded { settings, policies, warnings: problems.warnings })
        }
        // Whatever policies lack has been noted.
        _ => Err(problems),
    }
}

/// Report of `--validate`: the errors that would refuse this configuration, and the warnings.
pub fn check(bytes: &[u8], environment: &impl Environment, files: &impl FileReader) -> Problems {
    match parse(bytes, environment, files) {
        Ok(loaded) => Problems { warnings: loaded.warnings, ..Problems::default() },
        Err(problems) => problems,
    }
}

fn read_settings(
    walk: &Walk<'_>,
    root: &Node<'_>,
    running: Option<&Settings>,
) -> (Settings, Option<Policies>) {
    let top = Section::open(walk, Settings::KEYS, &At::Top, root.line, Some(root));
    walk.jwt_written.set(top.has("jwt"));
    let settings = Settings::read_keys(top);
    rules::check(walk, root, &settings.server, &settings.admin, &settings.buckets, running);
    rules::check_sources(walk, root, &settings.credentials, &settings.buckets);
    rules::check_protection(walk, settings.auth.is_some(), running);
    let (policies, problems) = Policies::compile(&settings);
    for AuthProblem { path, message, warning } in problems {
        let path = written_path(root, path);
        if warning {
            let line = root.line_of(&path);
            walk.warning(path, line, message);
        } else if !walk.has_error_within(&path) {
            walk.error_in(root, path, message);
        }
    }
    (settings, policies)
}

/// The path of the key that is written: a secret may come from a file.
fn written_path(root: &Node<'_>, path: String) -> String {
    let file = format!("{path}_file");
    if path.ends_with(".secret") && !root.has(&path) && root.has(&file) { file } else { path }
}
