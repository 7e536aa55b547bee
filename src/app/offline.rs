//! Tasks that need no running process: `--validate` and `--diff`.

use std::{fmt::Write as _, io, path::Path, sync::Arc};

use super::exit::{Exit, refused, say};
use crate::{
    config::{Difference, Problems, Settings, diff},
    control_plane::{
        files::ProcessEnvironment,
        prepare::{self, load},
        providers::credentials::source::described,
        report::{Outcome, Report},
        watcher::Seen,
    },
    model::Generation,
    policy::auth::{AuthPolicy, KeySource, SetPlace},
    system::clock::unix_seconds,
};

pub(super) fn validate(path: &Path, environment: &ProcessEnvironment) -> Exit {
    let loaded = match load(path, environment, None, &mut Seen::new()) {
        Ok((_, loaded)) => match prepare::rehearse(&loaded) {
            Ok(()) => loaded,
            Err(problems) => return refused(path, &problems),
        },
        Err(problems) => return refused(path, &problems),
    };
    let sources = of_sources(&loaded.settings);
    let mut problems = Problems::default();
    problems.warnings = loaded.warnings;
    let key_sets = of_key_sets(&loaded.policies.auth);
    let valid = format!("{}: the configuration is valid\n", path.display());
    say(&mut io::stdout(), &format!("{problems}{sources}{key_sets}{valid}"));
    Exit::Clean
}

/// A line for each source of credentials in use: a start would ask it, this does not.
fn of_sources(settings: &Settings) -> String {
    let mut text = String::new();
    for source in settings.sources() {
        let _ = writeln!(
            text,
            "credentials[{}]: not asked here; a start asks {}",
            source.name,
            described(&source)
        );
    }
    text
}

/// A line for each key set on the network that a process would ask. None is asked here.
fn of_key_sets(policy: &AuthPolicy) -> String {
    let line = |source: &Arc<KeySource>| {
        let KeySource { provider, place, .. } = &**source;
        let how = match place {
            SetPlace::Url(url) => format!("at {url}"),
            SetPlace::Discovery { document, .. } => format!("where {document} says"),
        };
        format!("note: the key set of provider '{provider}' is fetched {how}\n")
    };
    policy.key_sources().map(line).collect::<Vec<_>>().concat()
}

pub(super) fn compare(old: &Path, new: &Path, environment: &ProcessEnvironment) -> Exit {
    let load = |path: &Path, running: Option<&Settings>| {
        let (_, loaded) = load(path, environment, running, &mut Seen::new())?;
        prepare::rehearse(&loaded).map(|()| loaded)
    };
    let running = match load(old, None) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refused(old, &problems),
    };
    let loaded = match load(new, Some(&running)) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(new, &problems),
    };
    let Difference { applied, restart_required, hot_changed } = diff(&running, &loaded.settings);
    let report = Report {
        outcome: Outcome::WouldSucceed,
        generation: Generation(0),
        unix_seconds: unix_seconds(),
        changed: hot_changed,
        workers: 0,
        duration_ms: 0.0,
        applied,
        restart_required,
        warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
    };
    let mut json = report.json();
    // Those are about a process, and none was asked.
    for absent in ["config_generation", "timestamp", "workers", "duration_ms"] {
        json.remove(absent);
    }
    let text = serde_json::to_string_pretty(&json).unwrap_or_default();
    say(&mut io::stdout(), &format!("{text}\n"));
    Exit::Clean
}
