//! Asking a running proxy for reloads, and what it says about them.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::{
    config::Config,
    proxy::Proxy,
    raw_client::{Client, Response},
    scripted_origin::ScriptedOrigin,
    token::{self, bearer},
    waiting::wait_until,
};

/// One open bucket, two workers, responses that show their generation, and an admin API.
pub(crate) fn config(origin: &ScriptedOrigin) -> Config {
    config_of(origin.url())
}

/// The same in front of any endpoint.
pub(crate) fn config_of(endpoint: impl Into<String>) -> Config {
    Config::products(endpoint)
        .set("server.threads", 2)
        .set("server.expose_generation", true)
        .with_jwt(&[])
}

/// Waits until every worker has this generation. It is current before they have it.
#[track_caller]
pub(crate) fn wait_generation(proxy: &Proxy, generation: u32) {
    let (ours, theirs) = ("config_generation ", "config_worker_generation{");
    let number = generation.to_string();
    wait_until(&format!("generation {generation}"), || {
        let page = proxy.metrics();
        let shown: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with(ours) || line.starts_with(theirs))
            .collect();
        shown.len() >= 2 && shown.iter().all(|line| line.rsplit(' ').next() == Some(&number))
    });
}

/// A change of `config` that only its generation shows.
pub(crate) fn touched(config: &Config, number: usize) -> Config {
    config.clone().set("server.timeouts.client_idle", 100 + number)
}

/// POST to the admin API with an admin's token.
#[track_caller]
pub(crate) fn post(proxy: &Proxy, target: &str, fields: &[(&str, &str)]) -> Response {
    let admin = bearer(&token::for_role("admin"));
    let fields = [&[("Authorization", admin.as_str())], fields].concat();
    Client::connect(proxy.admin_address()).request("POST", target, &fields)
}

/// The line of the configuration that an error of a report names.
#[track_caller]
pub(crate) fn line_of(proxy: &Proxy, error: &Value) -> String {
    let path = proxy.directory().join("config.yaml");
    assert_eq!(error["file"], path.display().to_string(), "{error}");
    let line = usize::try_from(error["line"].as_u64().unwrap()).unwrap();
    std::fs::read_to_string(path).unwrap().lines().nth(line - 1).unwrap().trim().to_owned()
}

/// A reload that succeeds.
#[track_caller]
pub(crate) fn reload(proxy: &Proxy) -> Value {
    let response = post(proxy, "/admin/reload", &[]);
    assert_eq!(response.status, 200, "{response:?}");
    let report = response.json();
    assert_eq!(report["status"], "success", "{report}");
    report
}

/// Adopts this configuration, which must not need a restart.
#[track_caller]
pub(crate) fn adopt(proxy: &Proxy, config: &Config) -> Value {
    proxy.write_config(config);
    let report = reload(proxy);
    assert_eq!(report["changed"], true, "{report}");
    assert_eq!(report["restart_required"], serde_json::json!([]), "{report}");
    report
}

/// The generation that served a response.
#[track_caller]
pub(crate) fn generation_of(response: &Response) -> u64 {
    response.header("x-config-generation").expect("X-Config-Generation").parse().unwrap()
}

/// Reloads that succeeded and that failed.
#[track_caller]
pub(crate) fn counts(proxy: &Proxy) -> (usize, usize) {
    let page = proxy.metrics();
    let read = |name: &str| -> usize {
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.expect("both exist from the start").parse().unwrap()
    };
    (read("config_reload_success_total"), read("config_reload_failure_total"))
}

/// Sets a flag when dropped, so that threads that watch it end although the test failed.
#[derive(Debug)]
pub(crate) struct Done<'a>(pub(crate) &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
