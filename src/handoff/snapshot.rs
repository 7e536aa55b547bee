//! One configuration generation, ready to serve.
//!
//! Immutable, and free of serde, files and the environment: everything that can fail
//! happened on the control plane before this value existed. Workers share it behind an
//! `Arc` that each of them clones once per generation, never per request.

use std::{sync::Arc, time::Duration};

use crate::{
    handoff::{credentials::Signing, live::HostPort},
    model::{
        Generation,
        limits::{Http2, Limits, Timeouts, UpstreamTimeouts},
    },
    policy::{
        auth::{AuthPolicy, BucketAuth},
        proxies::TrustedProxies,
        router::{HostPattern, Router},
        site::Site,
    },
    system::tls::TlsClient,
    telemetry::access_log::AccessLogRules,
};

/// One generation of configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// Limits on requests.
    pub limits: Limits,
    /// Client-side time-outs.
    pub timeouts: Timeouts,
    /// Adds `X-Config-Generation` to every response.
    pub expose_generation: bool,
    /// Requests without TLS, the built-in endpoints aside.
    pub plain: Plain,
    /// HTTP/2 for new connections.
    pub http2: Http2,
    /// Proxies that are believed about their client.
    pub trusted_proxies: TrustedProxies,
    /// Host and longest prefix to an index into `buckets`.
    pub router: Router,
    /// Rules for responses that belong to no bucket; none where nothing of it is configured.
    pub elsewhere: Option<Box<Site>>,
    /// All buckets, in file order.
    pub buckets: Vec<Arc<Bucket>>,
    /// All distinct upstream endpoints that `buckets` use.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Token verification and admin rules.
    pub auth: Arc<AuthPolicy>,
    /// Set if `/metrics` is served.
    pub metrics_enabled: bool,
    /// Lines of the access log, if it is written.
    pub access_log: Option<Box<AccessLogRules>>,
}

/// Answer to a request without TLS that is for none of the built-in endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// Served like any other.
    #[default]
    Serve,
    /// 308 to https.
    Redirect {
        /// Port to go to; 0 is that of the TLS listener, which took any free one.
        port: u16,
    },
    /// 403.
    Refuse,
}

/// A bucket that is ready to be served.
#[derive(Debug)]
pub struct Bucket {
    /// Unique name, used in logs.
    pub name: Box<str>,
    /// Path prefix, as configured (no trailing `/`, or just `/`).
    pub path_prefix: Box<str>,
    /// Hosts that it is served for; every one if there are none.
    pub hosts: Box<[HostPattern]>,
    /// Index into [`Snapshot::endpoints`].
    pub endpoint: usize,
    /// Value of the `Host` field sent to S3 (with port unless it is the scheme's default).
    pub host: Box<str>,
    /// Text before the encoded object key in the request target and the canonical
    /// URI, already URI-encoded: `/my-bucket/prefix/` or `/`.
    pub target_prefix: Box<[u8]>,
    /// The target of a request for the bucket itself: `/my-bucket` or `/`.
    pub bucket_target: Box<[u8]>,
    /// AWS region of the credential scope.
    pub region: Box<str>,
    /// Origin of the credentials that sign its requests.
    pub signing: Signing,
    /// Time-outs towards S3.
    pub timeouts: UpstreamTimeouts,
    /// Idle upstream connections kept, per core.
    pub max_idle_connections: usize,
    /// Age beyond which an upstream connection serves no further request.
    pub max_connection_age: Duration,
    /// Rules for reading it.
    pub auth: Arc<BucketAuth>,
    /// Rules for browsers and websites; none where nothing of it is configured.
    pub site: Option<Box<Site>>,
}

/// Where connections go. Two buckets with equal [`Endpoint::key`] share connections.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Identity for pooling across generations: the URL, and `#` with a digest of the extra CA
    /// certificates if there are any.
    pub key: Arc<str>,
    /// Host name or IP address (no brackets), for resolving.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// TLS configuration and server name, or none for plain HTTP.
    pub tls: Option<Arc<TlsClient>>,
}

impl Endpoint {
    /// The URL of the endpoint.
    pub fn url(&self) -> &str {
        self.key.split('#').next().unwrap_or_default()
    }

    /// Key of its addresses in the [`LiveTable`](crate::handoff::live::LiveTable).
    pub fn host_port(&self) -> HostPort {
        (self.host.clone(), self.port)
    }
}
