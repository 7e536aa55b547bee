//! Tasks that need no running process: `--validate` and `--diff`.

use std::{io, path::Path, sync::Arc};

use super::exit::{Exit, refused, say};
use crate::{
    config::{Difference, Problems, Settings, diff},
    control_plane::{
        files::ProcessEnvironment,
        prepare::{self, load},
        report::{Outcome, Report},
        watcher::Seen,
    },
    model::Generation,
    policy::auth::{AuthPolicy, KeySource, SetPlace},
    system::clock::unix_seconds,
};

pub(super) fn validate(path: &Path, environment: &ProcessEnvironment) -> Exit {
    let (warnings, asked) = match load(path, environment, None, &mut Seen::new()) {
        Ok((_, loaded)) => match prepare::rehearse(&loaded) {
            Ok(()) => (loaded.warnings, sources(&loaded.policies.auth)),
            Err(problems) => return refused(path, &problems),
        },
        Err(problems) => return refused(path, &problems),
    };
    let mut problems = Problems::default();
    problems.warnings = warnings;
    say(
        &mut io::stdout(),
        &format!("{problems}{asked}{}: the configuration is valid\n", path.display()),
    );
    Exit::Clean
}

/// A line for each source on the network that a process would ask. None is asked here.
fn sources(policy: &AuthPolicy) -> String {
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
