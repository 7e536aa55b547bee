//! Bytes to [`Settings`], or to everything that is wrong with them.

use super::{
    declare::Keys as _,
    documents::{Documents, Places},
    inputs::{Environment, FileReader, Main},
    parts::{Trees, read_buckets},
    policies::Policies,
    problem::{Problem, Problems},
    rules,
    section::Section,
    settings::{KEYS, Settings},
    walk::{At, Walk},
    yaml::{self, Node, Size, Tree},
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
    /// Places of what may be found wrong later.
    pub places: Places,
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
    parse_beside(Main { name: None, bytes }, environment, files, None)
}

/// The same with the name of the file, for the successor of a `running` configuration, which must
/// not take away what that one guards.
///
/// # Errors
/// All problems, in file order, with the warnings.
pub fn parse_beside(
    main: Main<'_>,
    environment: &impl Environment,
    files: &impl FileReader,
    running: Option<&Settings>,
) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let read = yaml::read(main.bytes, Size::default(), &mut problems);
    let name = |problem: &mut Problem| problem.file = main.name.map(Into::into);
    problems.errors.iter_mut().for_each(name);
    let Tree { root, size } = match read {
        Ok(tree) => tree,
        Err(mut problem) => {
            name(&mut problem);
            problems.error(problem);
            problems.finish();
            return Err(problems);
        }
    };
    let walk = Walk::new(environment, files, &KEYS, &main, size.text_bytes, problems);
    let top = Section::open(&walk, Settings::KEYS, &At::Top, root.line, Some(&root));
    walk.jwt_written.set(top.has("jwt"));
    let mut settings = Settings::read_keys(top);
    let included = walk.take_included();
    let mut trees = Trees::beside(size);
    for file in &included {
        trees.read(file);
    }
    // Too much has been noted where it was read.
    let _ = walk.count_text(trees.text_bytes(size), root.line);
    let mut documents = Documents::of(&root);
    for (name, tree) in &trees.all {
        documents.add(name, &tree.root, settings.buckets.len());
        read_buckets(&walk, name, &tree.root, &mut settings.buckets);
    }
    if settings.buckets.is_empty() && !included.is_empty() && trees.problems.is_empty() {
        walk.error_in_file("buckets", "no bucket is configured, here or in an included file");
    }
    let policies = check_settings(&walk, &documents, &settings, running);
    let mut problems = walk.into_problems();
    documents.finish(&mut problems, &included, trees.problems.clone());
    match policies {
        Some(policies) if !problems.refuse() => {
            let places = documents.places(main.name, settings.buckets.len());
            Ok(Loaded { settings, policies, warnings: problems.warnings, places })
        }
        // Whatever policies lack has been noted.
        _ => Err(problems),
    }
}

/// The errors that refuse this configuration, or its warnings.
pub fn check(bytes: &[u8], environment: &impl Environment, files: &impl FileReader) -> Problems {
    match parse(bytes, environment, files) {
        Ok(loaded) => Problems { warnings: loaded.warnings, ..Problems::default() },
        Err(problems) => problems,
    }
}

/// Checks what is between the sections, and compiles keys and rules.
fn check_settings(
    walk: &Walk<'_>,
    documents: &Documents<'_>,
    settings: &Settings,
    running: Option<&Settings>,
) -> Option<Policies> {
    let Settings { server, admin, credentials, buckets, auth, .. } = settings;
    rules::check(walk, documents, server, admin, buckets, running);
    rules::check_sources(walk, documents, credentials, buckets);
    rules::check_protection(walk, auth.is_some(), running);
    let (policies, problems) = Policies::compile(settings);
    for AuthProblem { path, message, warning } in problems {
        let path = written_path(documents.main, path);
        if warning {
            walk.warning_in(documents, path, message);
        } else if !walk.has_error_within(&path) {
            walk.error_in(documents, path, message);
        }
    }
    policies
}

/// The path of the key that is written: a secret may come from a file.
fn written_path(root: &Node<'_>, path: String) -> String {
    let file = format!("{path}_file");
    if path.ends_with(".secret") && !root.has(&path) && root.has(&file) { file } else { path }
}
