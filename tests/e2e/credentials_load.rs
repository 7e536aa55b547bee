//! Many renewals of several sources while clients are served: not a request fails.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    aws_services::AwsServices,
    config::Config,
    load,
    proxy::Launch,
    reload::{Done, post},
    s3_server::S3Server,
    waiting::wait_until,
};

/// Sources, each with a bucket of its own.
const SOURCES: usize = 6;

/// Renewals of all of them together.
const RENEWALS: usize = 360;

#[test]
fn hundreds_of_renewals_under_load_fail_no_request() {
    let s3 = S3Server::start(&[]);
    // Old credentials stay good for a while, as those of AWS do.
    let services = AwsServices::start(s3.key_ring(), Duration::from_mins(10));
    let mut sources = Vec::new();
    let mut config = Config::new().set("server.threads", 2);
    for number in 0..SOURCES {
        let name = format!("source-{number}");
        sources.push(if number % 2 == 0 {
            json!({ "name": name, "source": "imds", "endpoint": services.url() })
        } else {
            let endpoint = format!("{}/credentials/{number}", services.url());
            json!({ "name": name, "source": "container", "endpoint": endpoint })
        });
        s3.put(&name, "x", "content");
        let at = |key: &str| format!("buckets.{number}.s3.{key}");
        config = config
            .bucket(&name, s3.url())
            .set(&at("access_key"), Value::Null)
            .set(&at("secret_key"), Value::Null)
            .set(&at("credentials"), name);
    }
    let config = config.set("credentials", Value::from(sources)).with_jwt(&[]);
    let proxy = Launch::new().in_own_session().config(&config).start();

    let done = AtomicBool::new(false);
    let address = proxy.address();
    let (good, errors) = thread::scope(|scope| {
        let clients: Vec<_> = (0..SOURCES)
            .map(|number| {
                let done = &done;
                scope.spawn(move || {
                    let target = format!("/source-{number}/x");
                    let (mut good, mut errors) = (0, Vec::new());
                    while !done.load(Ordering::SeqCst) {
                        let load = load::keep_alive(address, &target, 2, 20, "content".len());
                        good += load.good;
                        errors.extend(load.errors);
                    }
                    (good, errors)
                })
            })
            .collect();
        let _done = Done(&done);
        let renewed = || -> f64 {
            let name = |number| {
                format!(
                    "yatagarasu_credentials_refresh_total{{source=\"source-{number}\",result=\"success\"}}"
                )
            };
            (0..SOURCES).filter_map(|number| proxy.metric(&name(number))).sum()
        };
        for round in 1..=RENEWALS / SOURCES {
            assert_eq!(post(&proxy, "/admin/credentials/refresh", &[]).status, 202);
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let wanted = (SOURCES * (round + 1)) as f64;
            wait_until("a round of renewals", || renewed() >= wanted);
        }
        done.store(true, Ordering::SeqCst);
        let all = clients.into_iter().map(|client| client.join().unwrap());
        all.fold((0, Vec::new()), |(good, mut errors), (more, failed)| {
            errors.extend(failed);
            (good + more, errors)
        })
    });
    assert!(errors.is_empty(), "{errors:?}");
    assert!(good > RENEWALS, "only {good} requests");
    eprintln!("{RENEWALS} renewals, {good} requests, none failed");
    assert!(services.documents() >= RENEWALS + SOURCES);
    assert_eq!(services.refused(), [""; 0]);
    // Many versions were really used.
    let keys: std::collections::HashSet<String> = s3
        .requests()
        .iter()
        .filter_map(|seen| {
            seen.header("authorization")?.split("Credential=").nth(1).map(str::to_owned)
        })
        .map(|rest| rest.split('/').next().unwrap().to_owned())
        .collect();
    assert!(keys.len() > SOURCES * 10, "only {} credentials were used", keys.len());
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
}
