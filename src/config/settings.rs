//! The effective configuration: checked, with defaults, variables and secret files applied. Each
//! section is declared here, `buckets` and `jwt` in files of their own.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

pub use super::{
    access_log::{LineFields, LineTemplate, Share, SkippedEndpoints},
    bucket::{BucketAuthSettings, BucketSettings, S3Settings, SigningSettings, Verify},
    credentials::{RoleSettings, SourceKind, SourceSettings},
    include::Include,
    site::{
        Algorithms, CompressSettings, CompressedTypes, CorsSettings, Formats, HeadersSettings,
        HostPatterns, ListingSettings, PathPrefix, QueryParameters,
        documents::{ErrorPages, Missing},
    },
    tls::{CertificatePair, ClientCa, PlainMode, TicketKeysFile, TlsSettings},
};
use super::{
    declare::{Keys, choice, declare, list_of, section_of, words},
    keys::{
        DAY_SECONDS, HOUR_SECONDS, Row, boolean, integer, rows, seconds, seconds_or_zero, share,
        text, texts,
    },
    section::Section,
};
use crate::{
    model::limits::{Http2, Limits, Timeouts},
    policy::{auth::spec::AuthSpec, networks::Networks},
    protocol::http1::AddressField,
    system::ring::IoChoice,
};

/// Every key that a configuration may hold, each section before what it holds.
pub static KEYS: LazyLock<Vec<Row>> = LazyLock::new(|| rows(Settings::KEYS));

declare! {
    /// A configuration that could run. `Debug` shows no secret.
    pub struct Settings {
        /// The listener and what it accepts.
        server: ServerSettings = section_of::<ServerSettings>(),
        /// Sources of temporary credentials.
        credentials: Vec<SourceSettings> = list_of::<SourceSettings>(),
        /// A file, or a list of patterns of files (`conf.d/*.yaml`), that hold further `buckets`.
        include: Include = texts().otherwise("none"),
        /// The buckets that are served; at least one, those of included files counted.
        buckets: Vec<BucketSettings> = list_of::<BucketSettings>().required(),
        /// Token verification.
        auth as "jwt": Option<AuthSpec> =
            section_of::<AuthSpec>().otherwise("no tokens; the admin API is closed"),
        /// The admin endpoints.
        admin: AdminSettings = section_of::<AdminSettings>(),
        /// The metrics page.
        metrics: MetricsSettings = section_of::<MetricsSettings>(),
        /// Logs.
        logging: LoggingSettings = section_of::<LoggingSettings>(),
        /// Triggers of a reload besides SIGHUP and the admin API.
        reload: ReloadSettings = section_of::<ReloadSettings>(),
    }
}

impl Settings {
    /// The sources of credentials that buckets name, each once.
    pub fn sources(&self) -> Vec<SourceSettings> {
        let names: BTreeSet<&str> =
            self.buckets.iter().filter_map(|bucket| bucket.s3.signing.source()).collect();
        names.into_iter().map(|name| self.source(name)).collect()
    }

    /// The source of this name. One that is not there is `default`, as the rules see to.
    pub fn source(&self, name: &str) -> SourceSettings {
        let found = self.credentials.iter().find(|source| source.name == name);
        found.cloned().unwrap_or_else(SourceSettings::default_chain)
    }

    /// These settings as a process that runs `running` can have them: its own restart keys.
    #[must_use]
    pub fn with_restart_keys_of(mut self, running: &Self) -> Self {
        self.keep_keys(running);
        self
    }
}

declare! {
    /// `server`.
    pub struct ServerSettings {
        /// IPv4 or IPv6 address to listen on.
        address: IpAddr = text().is("0.0.0.0").restart(),
        /// TCP port; 0 takes any free one and prints it at start.
        port: u16 = integer(0, 65_535, "").is("8080").restart(),
        /// Worker threads, each pinned to a core.
        threads: Option<usize> = integer(1, 1_024, "threads")
            .otherwise("every core of the affinity mask and cgroup quota")
            .restart(),
        /// Client connections across all cores, without those of `admin.listen`; over it 503. Also
        /// requests over HTTP/2 across all connections; over it `REFUSED_STREAM`. Cores accept at
        /// the same time, so a few more may get in.
        max_connections: usize = integer(1, 10_000_000, "connections").is("65536").restart(),
        /// PROXY protocol header (version 1 or 2) at the start of each connection to `port` and
        /// `tls.port`, before the handshake, but not to `admin.listen`: `require` closes
        /// connections without a good one.
        proxy_protocol: ProxyProtocol = choice::<ProxyProtocol>().is("none").restart(),
        /// An `io_uring` for small sends to share calls; `auto` does without, with a warning, where
        /// the kernel forbids it.
        io: IoChoice = choice::<IoChoice>().is("auto").restart(),
        /// Limits on requests.
        limits: Limits = section_of::<Limits>(),
        /// Client-side timeouts.
        timeouts: Timeouts = section_of::<Timeouts>(),
        /// Adds `X-Config-Generation` to every response.
        expose_generation: bool = boolean().is("false"),
        /// The listener for TLS.
        tls: Option<TlsSettings> = section_of::<TlsSettings>().otherwise("plain HTTP only"),
        /// HTTP/2 for clients; a change is for new connections.
        http2: Http2 = section_of::<Http2>(),
        /// Addresses and networks (`10.0.0.0/8`) of the proxies before this one whose
        /// `client_address_header`, `X-Request-Id` and `traceparent` are believed.
        trusted_proxies: Networks = texts().otherwise("none"),
        /// Field in which they give the address of their client; the other one is ignored.
        client_address_header: AddressField = choice::<AddressField>().is("x-forwarded-for"),
        /// Changes to the fields of all responses, those of the built-in endpoints and errors of
        /// the proxy included.
        headers: HeadersSettings = section_of::<HeadersSettings>(),
    }
}

words! {
    /// `server.proxy_protocol`.
    pub enum ProxyProtocol {
        /// Connections begin with the client's own bytes.
        None = "none",
        /// They begin with a header that names their source.
        Require = "require",
    }
}

words! {
    impl AddressField {
        XForwardedFor = "x-forwarded-for",
        Forwarded = "forwarded",
    }
}

words! {
    impl IoChoice {
        Auto = "auto",
        IoUring = "io_uring",
        Epoll = "epoll",
    }
}

declare! {
    impl Limits, check = check_limits {
        /// Request line and header fields together; over it 431.
        header_bytes: usize = integer(1_024, 1_048_576, "bytes").is("32768"),
        /// Request target; over it 414. At most `header_bytes`.
        uri_bytes: usize = integer(64, 1_048_576, "bytes").is("8192"),
        /// Header fields; over it 431.
        headers: usize = integer(1, 256, "fields").is("100"),
        /// Request body, which is only drained; over it 413 and the connection closes.
        body_bytes: u64 = integer(0, 1_073_741_824, "bytes").is("1048576"),
    }
}

declare! {
    impl Http2 {
        /// Offers HTTP/2 on the TLS listener (ALPN `h2`).
        enabled: bool = boolean().is("true"),
        /// Accepts HTTP/2 without TLS from clients that begin with it, on `server.port`.
        cleartext: bool = boolean().is("false"),
        /// Requests at a time on one connection.
        max_concurrent_streams: u32 = integer(1, 10_000, "streams").is("128"),
    }
}

fn check_limits(limits: &Limits, section: Section<'_>) {
    // A stand-in is 0 and has been noted already.
    if limits.header_bytes > 0 && limits.uri_bytes > limits.header_bytes {
        section.error(
            "uri_bytes",
            "is more than header_bytes, which includes the request target; lower it, or raise \
             header_bytes",
        );
    }
}

declare! {
    impl Timeouts {
        /// Time from the first byte (or accept) to the end of the request head, and as long again
        /// for a body; over it 408.
        client_header: Duration = seconds(DAY_SECONDS).is("10"),
        /// Longest pause between two requests on a connection.
        client_idle: Duration = seconds(DAY_SECONDS).is("60"),
        /// Longest time without progress while a response is sent.
        client_write: Duration = seconds(DAY_SECONDS).is("30"),
        /// Time after SIGTERM in which connections are still accepted, while `/ready` is 503.
        drain_delay: Duration = seconds_or_zero(HOUR_SECONDS).is("0"),
        /// Time after that in which an idle connection may still send a request, which is answered
        /// with `Connection: close`.
        drain_idle: Duration = seconds_or_zero(HOUR_SECONDS).is("1"),
        /// Time from then on that requests in progress may take.
        drain: Duration = seconds(DAY_SECONDS).is("30"),
    }
}

declare! {
    /// `admin`.
    pub struct AdminSettings {
        /// IP address and port of a listener of their own for `/admin`, `/metrics`, `/health` and
        /// `/ready`.
        listen: Option<SocketAddr> = text().otherwise("the main listener").restart(),
        /// Time that all cores may take to acknowledge a reload.
        reload_timeout: Duration = seconds(HOUR_SECONDS).is("10"),
    }
}

declare! {
    /// `metrics`.
    #[derive(Copy)]
    pub struct MetricsSettings {
        /// Answers `/metrics`.
        enabled: bool = boolean().is("true"),
        /// Series for each bucket; `auto` up to 1,000 buckets.
        per_bucket: PerBucket = choice::<PerBucket>().is("auto"),
    }
}

words! {
    /// `metrics.per_bucket`.
    pub enum PerBucket {
        /// Up to a number of buckets.
        Auto = "auto",
        /// `true`.
        Always = "true",
        /// `false`.
        Never = "false",
    }
}

declare! {
    /// `logging`.
    pub struct LoggingSettings {
        /// Least important level written to stderr.
        level: LogLevel = choice::<LogLevel>().is("info"),
        /// One line for each request.
        access_log: AccessLogSettings = section_of::<AccessLogSettings>(),
    }
}

words! {
    /// `logging.level`.
    pub enum LogLevel {
        /// Something does not work.
        Error = "error",
        /// Something may soon not work.
        Warn = "warn",
        /// Starts, stops and reloads.
        Info = "info",
        /// For finding faults.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

declare! {
    /// `logging.access_log`.
    pub struct AccessLogSettings, check = check_access_log {
        /// Writes it.
        enabled: bool = boolean().is("true"),
        /// File to append to, relative to the working directory; `-` is stdout.
        path: String = text().is("-").checked(check_path),
        /// Form of a line. `combined` is that of Apache and nginx.
        format: AccessLogFormat = choice::<AccessLogFormat>().is("json"),
        /// Fields that are added to the usual ones or, with a leading `-`, taken from them; `otel`
        /// is all with names of OpenTelemetry, `-usual` takes the usual ones away.
        fields: LineFields = texts().otherwise("the usual ones"),
        /// Line of `format: template`, with `{field}` for the values.
        template: LineTemplate = text(),
        /// Endpoints whose requests have no line: `health`, `ready`, `metrics`.
        skip: SkippedEndpoints = texts(),
        /// Share of the responses with a status of 2xx or 3xx that have a line.
        sample: Share = share().is("1.0"),
    }
}

fn check_access_log(log: &AccessLogSettings, section: Section<'_>) {
    if section.is_noted("format") || section.is_noted("template") {
        return;
    }
    let is_template = log.format == AccessLogFormat::Template;
    if is_template && log.template.0.is_none() {
        section.error(
            "template",
            "is missing for format: template; write it, such as \"{method} {path} {status}\"",
        );
        return;
    }
    if !is_template && section.is_written("template") {
        section.warning(
            "template",
            "has no effect without format: template; write that, or remove it",
        );
    }
    let is_fixed = is_template || log.format == AccessLogFormat::Combined;
    if is_fixed && !section.is_empty_list("fields") {
        let format = log.format.as_str();
        section.warning("fields", format!("has no effect with format: {format}; remove it"));
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.contains('\0') {
        Err("holds a NUL character, which no path can have; remove it")
    } else {
        Ok(())
    }
}

words! {
    /// `logging.access_log.format`.
    pub enum AccessLogFormat {
        /// One JSON object a line.
        Json = "json",
        /// Pairs of names and values.
        Logfmt = "logfmt",
        /// The combined log format of Apache and nginx.
        Combined = "combined",
        /// `template`.
        Template = "template",
    }
}

declare! {
    /// `reload`.
    #[derive(Copy)]
    pub struct ReloadSettings {
        /// Reloads when the file changes.
        watch: bool = boolean().is("false"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_stands_once_below_its_section_and_says_what_it_is_for() {
        let mut seen = HashSet::new();
        for key in KEYS.iter() {
            assert!(seen.insert(&*key.path), "{} stands twice", key.path);
            let section = key.section().trim_end_matches("[]");
            assert!(section.is_empty() || seen.contains(section), "{} has no section", key.path);
            assert!(!key.about().is_empty(), "{} says nothing", key.path);
        }
        assert!(seen.len() >= 80, "only {} keys", seen.len());
    }
}
