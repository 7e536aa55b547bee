//! What changed between two configurations, in key paths. Never a value of a hot key, so that a
//! secret cannot end up in a report.

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
};

use super::settings::{
    AccessLogSettings, AdminSettings, BucketAuthSettings, BucketSettings, LoggingSettings,
    MetricsSettings, ReloadSettings, S3Settings, ServerSettings, Settings,
};
use crate::{
    model::limits::{Limits, Timeouts, UpstreamTimeouts},
    policy::auth::spec::{AuthSpec, ClaimSpec, KeyMaterial, KeySpec},
};

/// The report of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Key paths that change with the reload: `buckets[products].s3.secret_key`; a bucket that
    /// is new or gone is `buckets[name]`.
    pub applied: Vec<String>,
    /// Keys that wait for a restart: `server.port: running 8080, file 9090`.
    pub restart_required: Vec<String>,
    /// Whether anything changes with the reload.
    pub hot_changed: bool,
}

impl Settings {
    /// These settings as a process that runs `running` can have them: its own restart keys.
    #[must_use]
    pub fn with_restart_keys_of(mut self, running: &Self) -> Self {
        self.server = ServerSettings {
            limits: self.server.limits,
            timeouts: self.server.timeouts,
            expose_generation: self.server.expose_generation,
            ..running.server.clone()
        };
        self.admin.listen = running.admin.listen;
        self
    }
}

/// Compares effective settings: the order of buckets and where a secret is written do not count.
pub fn diff(running: &Settings, new: &Settings) -> Difference {
    let mut changes = Changes::default();
    // Taken apart in full here and below, so that a new field cannot be forgotten.
    let Settings { server, buckets, auth, jwt_written, admin, metrics, logging, reload } = running;
    changes.server(server, &new.server);
    changes.buckets(buckets, &new.buckets);
    if *jwt_written == new.jwt_written {
        changes.auth(auth, &new.auth);
    } else {
        changes.applied.push("jwt".to_owned());
    }
    changes.admin(admin, &new.admin);
    changes.metrics(*metrics, new.metrics);
    changes.logging(logging, &new.logging);
    let ReloadSettings { watch } = reload;
    changes.hot("reload.watch", watch, &new.reload.watch);
    Difference {
        hot_changed: !changes.applied.is_empty(),
        applied: changes.applied,
        restart_required: changes.restart_required,
    }
}

#[derive(Default)]
struct Changes {
    applied: Vec<String>,
    restart_required: Vec<String>,
}

impl Changes {
    fn hot<T: PartialEq>(&mut self, path: impl Display, running: &T, new: &T) {
        if running != new {
            self.applied.push(path.to_string());
        }
    }

    fn restart<T: PartialEq>(
        &mut self,
        path: &str,
        running: &T,
        new: &T,
        show: impl Fn(&T) -> String,
    ) {
        if running != new {
            let line = format!("{path}: running {}, file {}", show(running), show(new));
            self.restart_required.push(line);
        }
    }

    fn server(&mut self, running: &ServerSettings, new: &ServerSettings) {
        let ServerSettings {
            address,
            port,
            threads,
            max_connections,
            io,
            limits,
            timeouts,
            expose_generation,
        } = running;
        let threads_shown = |threads: &Option<usize>| {
            threads.map_or_else(|| "every core".to_owned(), |threads| threads.to_string())
        };
        self.restart("server.address", address, &new.address, ToString::to_string);
        self.restart("server.port", port, &new.port, ToString::to_string);
        self.restart("server.threads", threads, &new.threads, threads_shown);
        self.restart(
            "server.max_connections",
            max_connections,
            &new.max_connections,
            ToString::to_string,
        );
        self.restart("server.io", io, &new.io, |io| io.as_str().to_owned());

        let Limits { header_bytes, uri_bytes, headers, body_bytes } = limits;
        self.hot("server.limits.header_bytes", header_bytes, &new.limits.header_bytes);
        self.hot("server.limits.uri_bytes", uri_bytes, &new.limits.uri_bytes);
        self.hot("server.limits.headers", headers, &new.limits.headers);
        self.hot("server.limits.body_bytes", body_bytes, &new.limits.body_bytes);

        let Timeouts { client_header, client_idle, client_write, drain_delay, drain_idle, drain } =
            timeouts;
        let to = &new.timeouts;
        self.hot("server.timeouts.client_header", client_header, &to.client_header);
        self.hot("server.timeouts.client_idle", client_idle, &to.client_idle);
        self.hot("server.timeouts.client_write", client_write, &to.client_write);
        self.hot("server.timeouts.drain_delay", drain_delay, &to.drain_delay);
        self.hot("server.timeouts.drain_idle", drain_idle, &to.drain_idle);
        self.hot("server.timeouts.drain", drain, &to.drain);
        self.hot("server.expose_generation", expose_generation, &new.expose_generation);
    }

    fn buckets(&mut self, running: &[BucketSettings], new: &[BucketSettings]) {
        let by_name: HashMap<&str, &BucketSettings> =
            running.iter().map(|bucket| (bucket.name.as_str(), bucket)).collect();
        for bucket in new {
            match by_name.get(bucket.name.as_str()) {
                Some(before) => self.bucket(before, bucket),
                None => self.applied.push(format!("buckets[{}]", bucket.name)),
            }
        }
        let kept: HashSet<&str> = new.iter().map(|bucket| bucket.name.as_str()).collect();
        for gone in running.iter().filter(|bucket| !kept.contains(bucket.name.as_str())) {
            self.applied.push(format!("buckets[{}]", gone.name));
        }
    }

    fn bucket(&mut self, running: &BucketSettings, new: &BucketSettings) {
        // Most buckets did not change, and there may be thousands.
        if running == new {
            return;
        }
        let BucketSettings { name, path_prefix, s3, auth } = running;
        let at = format!("buckets[{name}]");
        self.hot(format_args!("{at}.path_prefix"), path_prefix, &new.path_prefix);
        self.s3(&at, s3, &new.s3);
        let BucketAuthSettings { enabled, claims } = auth;
        self.hot(format_args!("{at}.auth.enabled"), enabled, &new.auth.enabled);
        self.claims(format_args!("{at}.auth.claims"), claims, &new.auth.claims);
    }

    fn s3(&mut self, at: &str, running: &S3Settings, new: &S3Settings) {
        let S3Settings {
            bucket,
            region,
            endpoint,
            addressing,
            credentials,
            key_prefix,
            ca,
            timeouts,
            max_idle_connections,
            max_connection_age,
            verify,
        } = running;
        self.hot(format_args!("{at}.s3.bucket"), bucket, &new.bucket);
        self.hot(format_args!("{at}.s3.region"), region, &new.region);
        self.hot(format_args!("{at}.s3.endpoint"), endpoint, &new.endpoint);
        self.hot(format_args!("{at}.s3.addressing"), addressing, &new.addressing);
        match (credentials, &new.credentials) {
            (Some(running), Some(new)) => {
                self.hot(format_args!("{at}.s3.access_key"), &running.access_key, &new.access_key);
                self.hot(format_args!("{at}.s3.secret_key"), &running.secret_key, &new.secret_key);
                self.hot(
                    format_args!("{at}.s3.session_token"),
                    &running.session_token,
                    &new.session_token,
                );
            }
            (None, None) => {}
            _ => self.applied.push(format!("{at}.s3.anonymous")),
        }
        self.hot(format_args!("{at}.s3.key_prefix"), key_prefix, &new.key_prefix);
        self.hot(format_args!("{at}.s3.ca_file"), ca, &new.ca);
        let UpstreamTimeouts { connect, first_byte, read } = timeouts;
        self.hot(format_args!("{at}.s3.timeouts.connect"), connect, &new.timeouts.connect);
        self.hot(format_args!("{at}.s3.timeouts.first_byte"), first_byte, &new.timeouts.first_byte);
        self.hot(format_args!("{at}.s3.timeouts.read"), read, &new.timeouts.read);
        self.hot(
            format_args!("{at}.s3.max_idle_connections"),
            max_idle_connections,
            &new.max_idle_connections,
        );
        self.hot(
            format_args!("{at}.s3.max_connection_age"),
            max_connection_age,
            &new.max_connection_age,
        );
        self.hot(format_args!("{at}.s3.verify"), verify, &new.verify);
    }

    fn auth(&mut self, running: &AuthSpec, new: &AuthSpec) {
        let AuthSpec {
            enforced,
            keys,
            jwks,
            issuer,
            audience,
            leeway,
            require_exp,
            sources,
            claims,
            admin_claims,
        } = running;
        self.hot("jwt.enabled", enforced, &new.enforced);
        self.keys(keys, &new.keys);
        self.hot("jwt.jwks_file", jwks, &new.jwks);
        self.hot("jwt.issuer", issuer, &new.issuer);
        self.hot("jwt.audience", audience, &new.audience);
        self.hot("jwt.leeway", leeway, &new.leeway);
        self.hot("jwt.require_exp", require_exp, &new.require_exp);
        self.hot("jwt.token_sources", sources, &new.sources);
        self.claims("jwt.claims", claims, &new.claims);
        self.claims("jwt.admin_claims", admin_claims, &new.admin_claims);
    }

    fn keys(&mut self, running: &[KeySpec], new: &[KeySpec]) {
        let running: HashMap<&str, &KeySpec> =
            running.iter().map(|key| (key.path.as_str(), key)).collect();
        for key in new {
            let KeySpec { path, id, algorithm, material } = key;
            let Some(before) = running.get(path.as_str()) else {
                self.applied.push(key_path(key));
                continue;
            };
            self.hot(format_args!("{path}.id"), &before.id, id);
            self.hot(format_args!("{path}.algorithm"), &before.algorithm, algorithm);
            if before.material != *material {
                self.applied.push(format!("{path}.{}", material_name(material)));
            }
        }
        let kept: HashSet<&str> = new.iter().map(|key| key.path.as_str()).collect();
        let mut gone: Vec<_> =
            running.into_values().filter(|key| !kept.contains(key.path.as_str())).collect();
        gone.sort_by_key(|key| &key.path);
        self.applied.extend(gone.into_iter().map(key_path));
    }

    /// Rules are compared without their own path, which holds the bucket's place in the file.
    fn claims(&mut self, path: impl Display, running: &[ClaimSpec], new: &[ClaimSpec]) {
        let same = |(a, b): (&ClaimSpec, &ClaimSpec)| {
            a.claim == b.claim && a.operator == b.operator && a.value == b.value
        };
        if running.len() != new.len() || !running.iter().zip(new).all(same) {
            self.applied.push(path.to_string());
        }
    }

    fn admin(&mut self, running: &AdminSettings, new: &AdminSettings) {
        let AdminSettings { listen, reload_timeout } = running;
        self.restart("admin.listen", listen, &new.listen, |listen| {
            listen.map_or_else(|| "the main listener".to_owned(), |listen| listen.to_string())
        });
        self.hot("admin.reload_timeout", reload_timeout, &new.reload_timeout);
    }

    fn metrics(&mut self, running: MetricsSettings, new: MetricsSettings) {
        let MetricsSettings { enabled, per_bucket } = running;
        self.hot("metrics.enabled", &enabled, &new.enabled);
        self.hot("metrics.per_bucket", &per_bucket, &new.per_bucket);
    }

    fn logging(&mut self, running: &LoggingSettings, new: &LoggingSettings) {
        let LoggingSettings { level, access_log } = running;
        self.hot("logging.level", level, &new.level);
        let AccessLogSettings { enabled, target, format } = access_log;
        self.hot("logging.access_log.enabled", enabled, &new.access_log.enabled);
        self.hot("logging.access_log.path", target, &new.access_log.target);
        self.hot("logging.access_log.format", format, &new.access_log.format);
    }
}

/// A key as a whole: a listed one is its element, the single one its material.
fn key_path(key: &KeySpec) -> String {
    if key.path.ends_with(']') {
        key.path.clone()
    } else {
        format!("{}.{}", key.path, material_name(&key.material))
    }
}

fn material_name(material: &KeyMaterial) -> &'static str {
    match material {
        KeyMaterial::Secret(_) => "secret",
        KeyMaterial::PublicPem(_) => "public_key_file",
    }
}
