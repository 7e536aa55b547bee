//! `check-s3`: everything that a start learns over the network, and then one request to each
//! bucket.

use std::{collections::BTreeMap, fmt::Write as _, io, sync::Arc, thread};

use serde_json::{Value, json};

use super::{
    exit::{Exit, say},
    offline::{checked, print, told},
};
use crate::{
    cli::{Arguments, Format},
    config::Loaded,
    control_plane::{
        bucket_check::{Finding, Outcome, check},
        files::ProcessEnvironment,
        learning::{LEARN_TIMEOUT, learn_names},
        live,
        prepare::{self, sources_of},
        providers::credentials::{CredentialSources, outside::RealWorld, renewal::Moment},
        resolver,
    },
};

pub(super) fn check_s3(arguments: &Arguments, environment: &ProcessEnvironment) -> Exit {
    let place = &arguments.config;
    let loaded = match checked(place, None, environment) {
        Ok(loaded) => loaded,
        Err(problems) => return told(arguments, place, &problems),
    };
    let findings = match ask(&loaded, environment) {
        Ok(findings) => findings,
        Err(problems) => return told(arguments, place, &problems),
    };
    let failed = findings.iter().filter(|finding| finding.outcome != Outcome::Ok).count();
    if arguments.format == Some(Format::Json) {
        print(&json!({
            "status": if failed == 0 { "ok" } else { "failed" },
            "file": place.to_string(),
            "buckets": findings.iter().map(object).collect::<Value>(),
        }));
    } else {
        let mut text = String::new();
        for Finding { bucket, endpoint, outcome, message } in &findings {
            let _ = writeln!(text, "{bucket}: {}: {message} ({endpoint})", outcome.as_str());
        }
        let all = findings.len();
        let _ = match failed {
            0 => writeln!(text, "{place}: all {all} buckets answer"),
            _ => writeln!(text, "{place}: {failed} of {all} buckets failed"),
        };
        say(&mut io::stdout(), text);
    }
    if failed == 0 { Exit::Clean } else { Exit::Refused }
}

fn object(finding: &Finding) -> Value {
    let Finding { bucket, endpoint, outcome, message } = finding;
    json!({
        "bucket": bucket,
        "endpoint": endpoint,
        "result": outcome.as_str(),
        "message": message,
    })
}

fn ask(
    loaded: &Loaded,
    environment: &ProcessEnvironment,
) -> Result<Vec<Finding>, crate::config::Problems> {
    let (live, _bell) = live::start();
    let resolver = resolver::start(live.clone());
    let outside = Arc::new(RealWorld::new(environment.clone()));
    let sources = CredentialSources::new(live.clone(), outside);
    let settings = &loaded.settings;
    // Both may take seconds, and neither waits for the other. Who has none is found below.
    thread::scope(|scope| {
        scope.spawn(|| sources.learn(&settings.sources(), LEARN_TIMEOUT));
        learn_names(&resolver, settings);
    });
    let release = prepare::first(loaded, 1)?;
    let mut findings = check(&release, &live.newest());
    let status = sources.status(&sources_of(&release), &[], Moment::now());
    let why: BTreeMap<_, _> =
        status.into_iter().map(|status| (status.source, status.last_error)).collect();
    for (finding, bucket) in findings.iter_mut().zip(&release.buckets) {
        let reason = match finding.outcome {
            Outcome::NoCredentials => {
                let name = settings.buckets.iter().find(|known| *known.name == *bucket.name);
                let source = name.and_then(|known| known.s3.signing.source());
                source.and_then(|source| why.get(source)).cloned().flatten()
            }
            Outcome::NameNotResolved => {
                let endpoint = release.endpoints.get(bucket.endpoint);
                endpoint.and_then(|endpoint| resolver.last(&endpoint.host_port()).error)
            }
            _ => None,
        };
        if let Some(reason) = reason {
            let _ = write!(finding.message, ": {reason}");
        }
    }
    Ok(findings)
}
