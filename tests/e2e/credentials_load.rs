//! Many renewals of several sources while clients are served: not a request fails.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    aws_services::AwsServices,
    config::Config,
    load,
    proxy::{Launch, Proxy},
    reload::{Done, post},
    s3_server::S3Server,
    waiting::wait_until,
};

/// Sources, each with a bucket of its own.
const SOURCES: usize = 24;

/// Rounds of renewals that are asked for, each of all sources.
const ROUNDS_ASKED_FOR: usize = 13;

/// Rounds of renewals that come by themselves, each of all sources.
const ROUNDS_OF_THE_SCHEDULE: usize = 2;

/// Renewals of all of them together.
const RENEWALS: usize = SOURCES * (ROUNDS_ASKED_FOR + ROUNDS_OF_THE_SCHEDULE);

/// Life of the credentials. Their end is written in whole seconds, so ten are left when they come.
const LIFE: Duration = Duration::from_secs(11);

/// Clients, each of which asks for several buckets by turns.
const CLIENTS: usize = 6;

/// Rest of a client between two buckets: other tests need the machine too.
const REST: Duration = Duration::from_millis(20);

#[test]
fn hundreds_of_renewals_under_load_fail_no_request() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), LIFE);
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
    let (good, errors, by_schedule) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let done = &done;
                scope.spawn(move || {
                    let (mut good, mut errors) = (0, Vec::new());
                    for number in (client..SOURCES).step_by(CLIENTS).cycle() {
                        if done.load(Ordering::SeqCst) {
                            break;
                        }
                        let target = format!("/source-{number}/x");
                        let load = load::keep_alive(address, &target, 2, 5, "content".len());
                        good += load.good;
                        errors.extend(load.errors);
                        thread::sleep(REST);
                    }
                    (good, errors)
                })
            })
            .collect();
        let _done = Done(&done);
        for round in 1..=ROUNDS_ASKED_FOR {
            assert_eq!(post(&proxy, "/admin/credentials/refresh", &[]).status, 202);
            let wanted = SOURCES * (round + 1);
            wait_until("a round of renewals", || fetches(&proxy).iter().sum::<usize>() >= wanted);
        }
        // From here on nobody asks, and what there is ends.
        let (before, documents) = (fetches(&proxy), services.documents());
        let by_schedule = || -> Vec<usize> {
            fetches(&proxy).iter().zip(&before).map(|(now, before)| now - before).collect()
        };
        for round in 1..=ROUNDS_OF_THE_SCHEDULE {
            wait_until("a round of renewals by the schedule", || {
                services.documents() >= documents + SOURCES * round
                    && by_schedule().iter().all(|renewals| *renewals >= round)
            });
        }
        let by_schedule: usize = by_schedule().iter().sum();
        done.store(true, Ordering::SeqCst);
        let all = clients.into_iter().map(|client| client.join().unwrap());
        let (good, errors) = all.fold((0, Vec::new()), |(good, mut errors), (more, failed)| {
            errors.extend(failed);
            (good + more, errors)
        });
        (good, errors, by_schedule)
    });
    assert!(errors.is_empty(), "{errors:?}");
    let renewals = fetches(&proxy).iter().sum::<usize>() - SOURCES;
    assert!(renewals >= RENEWALS, "only {renewals} renewals");
    assert!(good > RENEWALS, "only {good} requests");
    assert!(services.documents() >= renewals);
    assert_eq!(services.refused(), [""; 0]);
    // Many versions were really used: the last of those asked for, and those after it.
    let keys: HashSet<String> = s3
        .requests()
        .iter()
        .filter_map(|seen| {
            seen.header("authorization")?.split("Credential=").nth(1).map(str::to_owned)
        })
        .map(|rest| rest.split('/').next().unwrap().to_owned())
        .collect();
    assert!(
        keys.len() >= SOURCES * ROUNDS_OF_THE_SCHEDULE,
        "only {} credentials were used",
        keys.len()
    );
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
    eprintln!(
        "{renewals} renewals of {SOURCES} sources ({by_schedule} by the schedule), {good} requests \
         with {} credentials, none failed",
        keys.len()
    );
}

/// Good fetches of each source.
fn fetches(proxy: &Proxy) -> Vec<usize> {
    let page = proxy.metrics();
    let of = |number: usize| -> usize {
        let series = format!(
            "yatagarasu_credentials_refresh_total{{source=\"source-{number}\",result=\"success\"}} "
        );
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.map_or(0, |value| value.parse().unwrap())
    };
    (0..SOURCES).map(of).collect()
}
