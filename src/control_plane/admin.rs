//! Pages for operators: status and history.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    config::settings::CertificatePair,
    control_plane::{
        history::History,
        key_sets::SourceStatus,
        providers::credentials::CredentialStatus,
        report::{self, Report},
    },
    handoff::{
        live::{HostPort, LiveTable, LiveVersion},
        message::CallReply,
        snapshot::Snapshot,
    },
    model::Generation,
    telemetry::{cells::CoreCells, labels::ConnectionState},
};

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built; empty where the build did not know.
pub const REVISION: &str = env!("YATAGARASU_REVISION");

/// Contents of the status page.
#[derive(Debug)]
pub struct StatusPage<'s> {
    /// The running generation.
    pub snapshot: &'s Snapshot,
    /// The newest live values.
    pub live: &'s LiveTable,
    /// Generation of each worker.
    pub workers: &'s [Generation],
    /// Version of the live values of each worker.
    pub live_versions: &'s [LiveVersion],
    /// State of the sources of key sets.
    pub key_sets: &'s [SourceStatus],
    /// All cores' counters.
    pub cores: &'s [Arc<CoreCells>],
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// The wall clock.
    pub unix_seconds: u64,
    /// The last attempt, with its trigger.
    pub last_reload: Option<&'s (Report, &'static str)>,
    /// Keys that wait for a restart.
    pub restart_required: &'s [String],
    /// Certificates of the listener for TLS.
    pub certificates: &'s [CertificateStatus<'s>],
    /// Seconds since their files were read and found good.
    pub certificates_age_seconds: u64,
    /// Hosts of all endpoints.
    pub hosts: &'s [HostStatus],
    /// The sources of credentials in use.
    pub credentials: &'s [CredentialStatus],
}

/// A host on the status page.
#[derive(Clone, Debug)]
pub struct HostStatus {
    /// The host.
    pub host: HostPort,
    /// Seconds since its addresses were last confirmed; none of an address.
    pub age_seconds: Option<u64>,
    /// Reason why it was not resolved the last time.
    pub error: Option<String>,
}

/// The part of the page about addresses.
fn addresses(page: &StatusPage<'_>) -> Vec<Value> {
    let hosts = page.hosts.iter().map(|HostStatus { host, age_seconds, error }| {
        let found = page.live.addresses(host).map(|found| &**found).unwrap_or_default();
        let version = page.live.addresses_version(host);
        json!({
            "host": &*host.0,
            "port": host.1,
            "addresses": found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "version": version.0,
            "worker_versions": worker_versions(page, version),
            "age_seconds": age_seconds,
            "ends": null,
            "last_error": error,
        })
    });
    hosts.collect()
}

/// The version of a live value on each worker: that of the table which it has, or of the value if
/// that is older.
fn worker_versions(page: &StatusPage<'_>, version: LiveVersion) -> Vec<u64> {
    page.live_versions.iter().map(|live| live.0.min(version.0)).collect()
}

/// A certificate on the status page.
#[derive(Clone, Copy, Debug)]
pub struct CertificateStatus<'s> {
    /// The certificate in use, and its files.
    pub pair: &'s CertificatePair,
    /// Reason why its files could not be used the last time.
    pub error: Option<&'s str>,
}

/// The part of the page about certificates. Their version is that of the live values that brought
/// them; a worker with an older one still shows those before.
fn certificates(page: &StatusPage<'_>) -> Vec<Value> {
    let version = page.live.tls_version();
    let workers = worker_versions(page, version);
    let certificates = page.certificates.iter().map(|CertificateStatus { pair, error }| {
        let certificate = &pair.certificate;
        json!({
            "name": certificate.name(),
            "names": certificate.names(),
            "cert_file": pair.cert_file.display().to_string(),
            "not_before": certificate.not_before(),
            "version": version.0,
            "worker_versions": workers,
            "age_seconds": page.certificates_age_seconds,
            "ends": certificate.not_after(),
            "last_error": error,
        })
    });
    certificates.collect()
}

/// `GET /admin/status`
pub fn status(page: &StatusPage<'_>, request_id: &str) -> CallReply {
    let workers: Vec<Value> = page
        .workers
        .iter()
        .zip(page.live_versions)
        .zip(page.cores)
        .enumerate()
        .map(|(worker, ((generation, live), cells))| {
            json!({
                "worker": worker,
                "config_generation": generation.0,
                "live_version": live.0,
                "connections_active": cells.connections(ConnectionState::Active).get(),
                "connections_idle": cells.connections(ConnectionState::Idle).get(),
                "panics": cells.panics.get(),
            })
        })
        .collect();
    let buckets: Vec<Value> = page
        .snapshot
        .buckets
        .iter()
        .map(|bucket| {
            let endpoint = page.snapshot.endpoints.get(bucket.endpoint);
            let addresses: Vec<String> = endpoint
                .and_then(|endpoint| page.live.addresses(&endpoint.host_port()))
                .map(|found| found.iter().map(ToString::to_string).collect())
                .unwrap_or_default();
            json!({
                "name": &*bucket.name,
                "path_prefix": &*bucket.path_prefix,
                "hosts": bucket.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "endpoint": endpoint.map(|e| format!("{}:{}", e.host, e.port)),
                "addresses": addresses,
                "tls": endpoint.is_some_and(|e| e.tls.is_some()),
                "signed": bucket.signing.is_signed(),
                "credentials": Some(bucket.signing.source_name()).filter(|name| !name.is_empty()),
                "auth": page.snapshot.auth.enforced() && bucket.auth.enabled(),
            })
        })
        .collect();
    let key_sets = page.key_sets.iter().map(|source| key_set(page, source));
    let mut body = json!({
        "status": "success",
        "version": VERSION,
        "uptime_seconds": page.uptime_seconds,
        "config_generation": page.snapshot.generation.0,
        "live_version": page.live.version().0,
        "auth_enforced": page.snapshot.auth.enforced(),
        "restart_required": page.restart_required,
        "workers": workers,
        "buckets": buckets,
        "jwks": key_sets.collect::<Value>(),
        "addresses": addresses(page),
        "certificates": certificates(page),
        "credentials": page.credentials.iter().map(source).collect::<Value>(),
    });
    if let Some((last, trigger)) = page.last_reload {
        body["last_reload"] = last.json().into();
        body["last_reload"]["trigger"] = json!(trigger);
    }
    report::reply(200, "", body, request_id)
}

/// A key set on the status page. Its version is that of the live values that brought it.
fn key_set(page: &StatusPage<'_>, source: &SourceStatus) -> Value {
    json!({
        "provider": source.provider,
        "url": source.url,
        "keys": source.set.map_or(0, |(_, keys)| keys),
        "version": source.live_version.0,
        "worker_versions": worker_versions(page, source.live_version),
        "age_seconds": source.age.map(|age| age.as_secs()),
        "ends": source.stale_in.map(|left| page.unix_seconds + left.as_secs()),
        "last_error": source.last_error,
    })
}

/// `POST /admin/jwks/refresh`
pub fn refreshing_keys(providers: &[Box<str>], request_id: &str) -> CallReply {
    let message = if providers.is_empty() {
        "No key set is fetched by this configuration"
    } else {
        "The key sets of these providers are being renewed"
    };
    let body = json!({ "status": "success", "message": message, "providers": providers });
    report::reply(202, "", body, request_id)
}

fn source(status: &CredentialStatus) -> Value {
    json!({
        "source": &*status.source,
        "version": status.version,
        "worker_versions": status.workers,
        "age_seconds": status.age_seconds,
        "ends": status.ends,
        "last_error": status.last_error,
    })
}

/// `POST /admin/credentials/refresh`
pub fn refreshed(sources: &[Arc<str>], request_id: &str) -> CallReply {
    let names: Vec<&str> = sources.iter().map(|name| &**name).collect();
    let body = json!({
        "status": "success",
        "message": "These sources are asked now; GET /admin/status shows what they give",
        "sources": names,
    });
    report::reply(202, "", body, request_id)
}

/// `GET /admin/config/history`
pub fn history(history: &History, running: Generation, request_id: &str) -> CallReply {
    let entries: Vec<Value> = history
        .iter()
        .map(|entry| {
            json!({
                "config_generation": entry.generation.0,
                "timestamp": entry.unix_seconds,
                "trigger": entry.trigger.as_str(),
                "applied": entry.applied,
                "running": entry.generation == running,
            })
        })
        .collect();
    let body = json!({
        "status": "success",
        "config_generation": running.0,
        "history": entries,
    });
    report::reply(200, "", body, request_id)
}
