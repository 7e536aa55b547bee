//! The effective configuration: checked, with defaults, variables and secret files applied.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    handoff::snapshot::Credentials,
    model::limits::{Limits, Timeouts, UpstreamTimeouts},
    policy::auth::spec::{AuthSpec, ClaimSpec},
    protocol::s3::endpoint::{Addressing, EndpointUrl},
    system::ring::IoChoice,
};

/// A configuration that could run. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The main listener and what it accepts.
    pub server: ServerSettings,
    /// In file order; at least one.
    pub buckets: Vec<BucketSettings>,
    /// Token verification; `enforced` is false without a `jwt` section.
    pub auth: AuthSpec,
    /// Whether there is a `jwt` section.
    pub jwt_written: bool,
    /// The admin endpoints.
    pub admin: AdminSettings,
    /// The metrics page.
    pub metrics: MetricsSettings,
    /// Logs.
    pub logging: LoggingSettings,
    /// What triggers a reload.
    pub reload: ReloadSettings,
}

/// `server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Restart.
    pub address: IpAddr,
    /// Restart; 0 takes any free port.
    pub port: u16,
    /// Restart; none: every core of the affinity mask and quota.
    pub threads: Option<usize>,
    /// Restart; across all cores.
    pub max_connections: usize,
    /// Restart.
    pub io: IoChoice,
    /// Hot.
    pub limits: Limits,
    /// Hot.
    pub timeouts: Timeouts,
    /// Hot; adds `X-Config-Generation` to every answer.
    pub expose_generation: bool,
}

/// One element of `buckets`.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketSettings {
    /// Unique.
    pub name: String,
    /// Unique; starts with `/`, has no trailing one (but `/` itself).
    pub path_prefix: String,
    /// Where the objects are.
    pub s3: S3Settings,
    /// Who may read them.
    pub auth: BucketAuthSettings,
}

/// `buckets[].s3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Name of the S3 bucket.
    pub bucket: String,
    /// Region of the credential scope.
    pub region: String,
    /// None: AWS for the region.
    pub endpoint: Option<EndpointUrl>,
    /// Where the bucket name goes.
    pub addressing: Addressing,
    /// None for an anonymous bucket.
    pub credentials: Option<Credentials>,
    /// Put before every object key, decoded.
    pub key_prefix: String,
    /// Certificates trusted besides the system's.
    pub ca: Option<CaBundle>,
    /// Time-outs towards S3.
    pub timeouts: UpstreamTimeouts,
    /// Idle connections kept, per core.
    pub max_idle_connections: usize,
    /// Age beyond which a connection serves no further request.
    pub max_connection_age: Duration,
    /// The signed request before a changed bucket is adopted.
    pub verify: Verify,
}

/// The content of a `ca_file`. Two are equal when their content is.
#[derive(Clone)]
pub struct CaBundle {
    /// PEM, with at least one certificate that parses.
    pub pem: Arc<[u8]>,
    /// SHA-256 of the content in hexadecimal.
    pub digest: Arc<str>,
}

impl PartialEq for CaBundle {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for CaBundle {}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({})", self.digest)
    }
}

/// `buckets[].s3.verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// No request.
    None,
    /// A refusal is a warning.
    Warn,
    /// A refusal refuses the reload.
    Require,
}

impl Verify {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Warn => "warn",
            Self::Require => "require",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Warn, Self::Require].into_iter().find(|v| v.as_str() == name)
    }
}

/// `buckets[].auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAuthSettings {
    /// Whether a token is asked for (while `jwt.enabled`).
    pub enabled: bool,
    /// Rules for this bucket only.
    pub claims: Vec<ClaimSpec>,
}

/// `admin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Restart; none: the main listener.
    pub listen: Option<SocketAddr>,
    /// How long all cores may take to acknowledge.
    pub reload_timeout: Duration,
}

/// `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether `/metrics` is answered.
    pub enabled: bool,
    /// Whether each bucket has series of its own.
    pub per_bucket: PerBucket,
}

/// `metrics.per_bucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerBucket {
    /// Up to a number of buckets.
    Auto,
    /// `true`.
    Always,
    /// `false`.
    Never,
}

impl PerBucket {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "true",
            Self::Never => "false",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Auto, Self::Always, Self::Never].into_iter().find(|p| p.as_str() == name)
    }
}

/// `logging`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Least important level that is written.
    pub level: LogLevel,
    /// `logging.access_log`.
    pub access_log: AccessLogSettings,
}

/// `logging.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Something may soon not work.
    Warn,
    /// Starts, stops and reloads.
    Info,
    /// For finding faults.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.as_str() == name)
    }
}

/// `logging.access_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Whether it is written.
    pub enabled: bool,
    /// Where to.
    pub target: AccessLogTarget,
    /// Form of a line.
    pub format: AccessLogFormat,
}

/// `logging.access_log.path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// `-`.
    Stdout,
    /// Appended to.
    File(PathBuf),
}

impl AccessLogTarget {
    /// The path as it is written in the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("-"),
            Self::File(path) => path,
        }
    }
}

/// `logging.access_log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
}

/// `reload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Also reload when the file changes.
    pub watch: bool,
}
