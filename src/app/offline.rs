//! Tasks that need no running process: `validate` and `diff`.

use std::{io, sync::Arc};

use serde_json::{Map, Value, json};

use super::exit::{Exit, refused, say};
use crate::{
    cli::{Arguments, Format},
    config::{Difference, Loaded, Problem, Problems, Settings, diff, settings::SourceSettings},
    control_plane::{
        files::{ConfigPlace, ProcessEnvironment},
        fingerprints::Seen,
        prepare::{self, load},
        providers::credentials::source::described,
        report::{self, Outcome, Report},
    },
    model::Generation,
    policy::auth::{AuthPolicy, KeySource, SetPlace},
    system::clock::unix_seconds,
};

pub(super) fn validate(arguments: &Arguments, environment: &ProcessEnvironment) -> Exit {
    let place = &arguments.config;
    let loaded = match checked(place, None, environment) {
        Ok(loaded) => loaded,
        Err(problems) => return told(arguments, place, &problems),
    };
    let notes = [of_sources(&loaded.settings), of_key_sets(&loaded.policies.auth)].concat();
    let mut problems = Problems::default();
    problems.warnings = loaded.warnings;
    if arguments.strict && !problems.warnings.is_empty() {
        return told(arguments, place, &problems);
    }
    if arguments.format == Some(Format::Json) {
        let mut body = judged(place, "valid", &problems);
        body["notes"] = json!(notes);
        print(&body);
    } else {
        let notes: String = notes.iter().flat_map(|note| ["note: ", note, "\n"]).collect();
        let text = format!("{problems}{notes}{place}: the configuration is valid\n");
        say(&mut io::stdout(), text);
    }
    Exit::Clean
}

/// Reads a configuration and does with it what a start does before the first socket is opened.
pub(super) fn checked(
    place: &ConfigPlace,
    running: Option<&Settings>,
    environment: &ProcessEnvironment,
) -> Result<Loaded, Problems> {
    let (_, loaded) = load(place, environment, running, &mut Seen::new())?;
    prepare::rehearse(&loaded)?;
    Ok(loaded)
}

/// Ends with the problems of a configuration; warnings alone are among them where they count.
pub(super) fn told(arguments: &Arguments, place: &ConfigPlace, problems: &Problems) -> Exit {
    if arguments.format == Some(Format::Json) {
        print(&judged(place, "refused", problems));
        return Exit::Refused;
    }
    if problems.refuse() {
        return refused(place, problems);
    }
    let why = "the configuration has warnings, which --strict refuses";
    say(&mut io::stderr(), format!("{problems}{place}: {why}\n"));
    Exit::Refused
}

/// A verdict with all problems, for programs.
fn judged(place: &ConfigPlace, status: &str, problems: &Problems) -> Value {
    let objects = |problems: &[Problem]| problems.iter().map(report::problem).collect::<Value>();
    json!({
        "status": status,
        "file": place.to_string(),
        "errors": objects(&problems.errors),
        "warnings": objects(&problems.warnings),
    })
}

pub(super) fn print(body: &Value) {
    say(&mut io::stdout(), format!("{body:#}\n"));
}

/// A line for each source of credentials in use: a start would ask it, this does not.
fn of_sources(settings: &Settings) -> Vec<String> {
    let line = |source: &SourceSettings| {
        let name = &source.name;
        format!("credentials[{name}]: not asked here; a start asks {}", described(source))
    };
    settings.sources().iter().map(line).collect()
}

/// A line for each key set on the network that a process would ask. None is asked here.
fn of_key_sets(policy: &AuthPolicy) -> Vec<String> {
    let line = |source: &Arc<KeySource>| {
        let KeySource { provider, place, .. } = &**source;
        let how = match place {
            SetPlace::Url(url) => format!("at {url}"),
            SetPlace::Discovery { document, .. } => format!("where {document} says"),
        };
        format!("the key set of provider '{provider}' is fetched {how}")
    };
    policy.key_sources().map(line).collect()
}

pub(super) fn compare(
    old: &ConfigPlace,
    arguments: &Arguments,
    environment: &ProcessEnvironment,
) -> Exit {
    let new = &arguments.config;
    let running = match checked(old, None, environment) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return told(arguments, old, &problems),
    };
    let loaded = match checked(new, Some(&running), environment) {
        Ok(loaded) => loaded,
        Err(problems) => return told(arguments, new, &problems),
    };
    let mut problems = Problems::default();
    problems.warnings = loaded.warnings;
    if arguments.strict && !problems.warnings.is_empty() {
        return told(arguments, new, &problems);
    }
    let difference = diff(&running, &loaded.settings);
    match arguments.format {
        Some(Format::Text) => say(&mut io::stdout(), in_words(new, &difference, &problems)),
        Some(Format::Json) => {
            let mut body = judged(new, "valid", &problems);
            for (name, value) in report_of(difference, &[]) {
                if body.get(&name).is_none() {
                    body[name] = value;
                }
            }
            print(&body);
        }
        None => print(&report_of(difference, &problems.warnings).into()),
    }
    Exit::Clean
}

/// The report of a reload that would bring this difference.
fn report_of(difference: Difference, warnings: &[Problem]) -> Map<String, Value> {
    let Difference { applied, restart_required, hot_changed } = difference;
    let report = Report {
        outcome: Outcome::WouldSucceed,
        generation: Generation(0),
        unix_seconds: unix_seconds(),
        changed: hot_changed,
        workers: 0,
        duration_ms: 0.0,
        applied,
        restart_required,
        warnings: warnings.iter().map(ToString::to_string).collect(),
    };
    let mut json = report.json();
    // Those are about a process, and none was asked.
    for absent in ["config_generation", "timestamp", "workers", "duration_ms"] {
        json.remove(absent);
    }
    json
}

fn in_words(new: &ConfigPlace, difference: &Difference, problems: &Problems) -> String {
    let Difference { applied, restart_required, .. } = difference;
    let mut lines = Vec::new();
    lines.extend(applied.iter().map(|key| format!("changes with a reload: {key}\n")));
    lines.extend(restart_required.iter().map(|key| format!("waits for a restart: {key}\n")));
    let verdict = match (applied.is_empty(), restart_required.is_empty()) {
        (true, true) => "means what is running",
        (false, true) => "a reload adopts it",
        (true, false) => "nothing changes without a restart",
        (false, false) => "a reload adopts a part of it, the rest waits for a restart",
    };
    format!("{problems}{}{new}: {verdict}\n", lines.concat())
}
