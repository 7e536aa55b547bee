//! [`Settings`] to the [`Snapshot`] that workers run.

use std::{collections::HashMap, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};

use crate::{
    config::{
        Policies, Problem, Problems, Settings,
        settings::{
            AccessLogFormat, AccessLogSettings, BucketSettings, CompressSettings, CorsSettings,
            HeadersSettings, PerBucket, PlainMode, SigningSettings, TlsSettings,
        },
    },
    handoff::{
        credentials::{Signing, Source},
        release::{BucketCounters, Counters, Release},
        snapshot::{Bucket, Endpoint, Plain, Snapshot},
    },
    model::{CaBundle, Generation},
    policy::{
        auth::BucketAuth,
        proxies::TrustedProxies,
        router::{Place, Router},
        site::{
            Site,
            compress::Compress,
            cors::{Cors, CorsRules},
            documents::Documents,
            headers::{HeaderRules, Headers},
            listing::Listing,
            query::AllowedQuery,
        },
    },
    protocol::s3::endpoint::{EndpointUrl, Scheme, address},
    system::tls::TlsClient,
    telemetry::{
        ALL_BUCKETS, PER_BUCKET_SERIES_MAX,
        access_log::{AccessLogRules, Layout},
        cells::BucketCells,
    },
};

/// Input of a snapshot besides settings.
#[derive(Debug)]
pub struct CompileContext<'a> {
    /// Number of the snapshot.
    pub generation: Generation,
    /// Number of workers that will serve it; each bucket gets that many sets of counters.
    pub workers: usize,
    /// The policies of the settings.
    pub policies: &'a Policies,
    /// The snapshot that runs now. Counters are taken over by bucket name, endpoints with their
    /// TLS sessions by key.
    pub previous: Option<&'a Release>,
}

/// Makes the snapshot that workers run, and the counters beside it.
///
/// # Errors
/// Settings that `parse` accepted fail here only where this machine is at fault, such as one
/// without any root certificate.
pub fn compile(settings: &Settings, context: &CompileContext<'_>) -> Result<Release, Problems> {
    let mut problems = Problems::default();
    let mut endpoints = Endpoints::new(context);

    let headers = HeadersOfAll::new(settings);

    let mut buckets = Vec::with_capacity(settings.buckets.len());
    let rules = &context.policies.buckets;
    for (index, (bucket, rules)) in settings.buckets.iter().zip(rules).enumerate() {
        match compile_bucket(settings, bucket, rules, &headers, &mut endpoints) {
            Ok(bucket) => buckets.push(Arc::new(bucket)),
            Err(message) => {
                let key = if bucket.s3.ca.is_some() { "ca_file" } else { "endpoint" };
                let path = format!("buckets[{index}].s3.{key}");
                problems.error(Problem::of_key(path, message));
            }
        }
    }
    let places = settings.buckets.iter().enumerate().map(|(index, bucket)| {
        (Place { hosts: &bucket.hosts.0, prefix: &bucket.path_prefix }, index)
    });
    let router = Router::build(places);
    let router = match router {
        Ok(router) if !problems.refuse() && buckets.len() == settings.buckets.len() => router,
        _ => {
            if !problems.refuse() {
                problems.error(Problem::of_file(
                    "the settings do not make a snapshot; this is a defect of the program",
                ));
            }
            problems.finish();
            return Err(problems);
        }
    };
    let auth = Arc::clone(&context.policies.auth);
    let mut jwt_keys =
        context.previous.map(|previous| previous.counters.jwt_keys.clone()).unwrap_or_default();
    let key_slots = jwt_keys.assign(auth.key_ids());
    let series = Series::new(settings, context);
    let counters = Counters {
        buckets: settings.buckets.iter().map(|bucket| series.of(&bucket.name)).collect(),
        jwt_keys,
        key_slots,
    };
    let snapshot = Snapshot {
        generation: context.generation,
        limits: settings.server.limits,
        timeouts: settings.server.timeouts,
        expose_generation: settings.server.expose_generation,
        plain: settings.server.tls.as_ref().map(plain).unwrap_or_default(),
        http2: settings.server.http2,
        trusted_proxies: TrustedProxies {
            networks: settings.server.trusted_proxies.clone(),
            field: settings.server.client_address_header,
        },
        router,
        elsewhere: headers.elsewhere(),
        buckets,
        endpoints: endpoints.all,
        auth,
        metrics_enabled: settings.metrics.enabled,
        access_log: compile_access_log(&settings.logging.access_log),
    };
    Ok(Release { snapshot: Arc::new(snapshot), counters: Arc::new(counters) })
}

/// Rules of the access log, if it is written.
fn compile_access_log(log: &AccessLogSettings) -> Option<Box<AccessLogRules>> {
    let fields = &log.fields.0;
    let layout = match (log.format, &log.template.0) {
        (AccessLogFormat::Logfmt, _) => Layout::logfmt(fields),
        (AccessLogFormat::Combined, _) => Layout::combined(),
        (AccessLogFormat::Template, Some(template)) => Layout::template(template.clone()),
        (AccessLogFormat::Json | AccessLogFormat::Template, _) => Layout::json(fields),
    };
    let rules = || AccessLogRules::new(layout, &log.skip.0, log.sample.0);
    log.enabled.then(|| Box::new(rules()))
}

fn plain(tls: &TlsSettings) -> Plain {
    match tls.plain {
        PlainMode::Serve => Plain::Serve,
        PlainMode::Redirect if tls.redirect_port == 0 => Plain::Redirect { port: tls.port },
        PlainMode::Redirect => Plain::Redirect { port: tls.redirect_port },
        PlainMode::Refuse => Plain::Refuse,
    }
}

fn compile_bucket(
    all: &Settings,
    settings: &BucketSettings,
    rules: &Arc<BucketAuth>,
    headers: &HeadersOfAll,
    endpoints: &mut Endpoints<'_>,
) -> Result<Bucket, String> {
    let s3 = &settings.s3;
    let addressed =
        address(s3.endpoint.as_ref(), &s3.region, &s3.bucket, &s3.key_prefix, s3.addressing);
    let endpoint = endpoints.index_of(&addressed.url, s3.ca.as_ref())?;
    Ok(Bucket {
        name: settings.name.as_str().into(),
        path_prefix: (*settings.path_prefix).into(),
        hosts: settings.hosts.0.clone().into(),
        endpoint,
        host: addressed.host.into(),
        target_prefix: addressed.target_prefix.into(),
        bucket_target: addressed.bucket_target.into(),
        region: s3.region.as_str().into(),
        signing: compile_signing(all, &s3.signing),
        timeouts: s3.timeouts,
        max_idle_connections: s3.max_idle_connections,
        max_connection_age: s3.max_connection_age,
        auth: Arc::clone(rules),
        site: compile_site(settings, headers),
    })
}

/// `server.headers`, and what becomes of it where a bucket adds nothing.
struct HeadersOfAll {
    rules: HeaderRules,
    alone: Option<Arc<Headers>>,
}

impl HeadersOfAll {
    fn new(settings: &Settings) -> Self {
        let rules = settings.server.headers.rules();
        let alone = Headers::new(&rules, &HeaderRules::default()).map(Arc::new);
        Self { rules, alone }
    }

    /// The rules of a bucket, with these below.
    fn with(&self, settings: &HeadersSettings) -> Option<Arc<Headers>> {
        let own = settings.rules();
        if own.is_empty() {
            return self.alone.clone();
        }
        Headers::new(&self.rules, &own).map(Arc::new)
    }

    /// The rules of responses that belong to no bucket.
    fn elsewhere(&self) -> Option<Box<Site>> {
        let headers = Some(Arc::clone(self.alone.as_ref()?));
        Some(Box::new(Site { headers, ..Site::default() }))
    }
}

fn compile_site(settings: &BucketSettings, headers: &HeadersOfAll) -> Option<Box<Site>> {
    let site = Site {
        documents: compile_documents(settings),
        cors: compile_cors(&settings.cors),
        headers: headers.with(&settings.headers),
        hide_s3: settings.hide_s3,
        query: compile_query(settings),
        compress: compile_compress(&settings.compress),
        listing: compile_listing(settings),
    };
    (!site.is_empty()).then(|| Box::new(site))
}

fn compile_cors(settings: &CorsSettings) -> Option<Cors> {
    let rules = CorsRules {
        origins: &settings.origins,
        methods: &settings.methods.0,
        headers: &settings.headers.0,
        expose: &settings.expose.0,
        max_age: settings.max_age,
        credentials: settings.credentials,
    };
    (!settings.origins.is_empty()).then(|| Cors::new(&rules))
}

fn compile_query(settings: &BucketSettings) -> Option<AllowedQuery> {
    let parameters = &settings.allow_query.0;
    (!parameters.is_empty()).then(|| AllowedQuery::new(parameters.iter().copied()))
}

fn compile_compress(settings: &CompressSettings) -> Option<Compress> {
    let CompressSettings { types, min_bytes, algorithms } = settings;
    Compress::new(&types.0, *min_bytes, &algorithms.0)
}

fn compile_documents(settings: &BucketSettings) -> Option<Documents> {
    let key = |key: &str| (!key.is_empty()).then(|| key.as_bytes().into());
    let page = |(status, key): &(u16, String)| (*status, key.as_bytes().into());
    let documents = Documents {
        index: key(&settings.index),
        redirect_directories: settings.redirect_directories,
        missing: settings.missing.0.as_slice().into(),
        spa: key(&settings.spa),
        error_pages: settings.error_pages.0.iter().map(page).collect(),
    };
    let Documents { index, spa, error_pages, .. } = &documents;
    let is_used = index.is_some() || spa.is_some() || !error_pages.is_empty();
    is_used.then_some(documents)
}

fn compile_listing(settings: &BucketSettings) -> Option<Listing> {
    let listing = &settings.listing;
    listing.enabled.then(|| Listing::new(&listing.formats.0, &settings.s3.key_prefix))
}

fn compile_signing(all: &Settings, signing: &SigningSettings) -> Signing {
    match signing {
        SigningSettings::Anonymous => Signing::Anonymous,
        SigningSettings::Keys(keys) => Signing::Keys(keys.clone()),
        SigningSettings::Source(name) => {
            let source = all.source(name);
            Signing::Source(Source { id: source.id(), name: source.name.into() })
        }
    }
}

/// The counters of a generation in the making, taken over from the running one by label.
struct Series<'a> {
    /// By label: a new label gets new cells.
    known: HashMap<Arc<str>, &'a [Arc<BucketCells>]>,
    shared: Option<BucketCounters>,
    workers: usize,
}

impl<'a> Series<'a> {
    fn new(settings: &Settings, context: &CompileContext<'a>) -> Self {
        let mut known = HashMap::new();
        for bucket in context.previous.iter().flat_map(|previous| &previous.counters.buckets) {
            if bucket.cells.len() == context.workers {
                known.insert(Arc::clone(&bucket.label), &*bucket.cells);
            }
        }
        let mut series = Self { known, shared: None, workers: context.workers };
        let apart = match settings.metrics.per_bucket {
            PerBucket::Always => true,
            PerBucket::Never => false,
            PerBucket::Auto => settings.buckets.len() <= PER_BUCKET_SERIES_MAX,
        };
        if !apart {
            series.shared = Some(series.labelled(ALL_BUCKETS));
        }
        series
    }

    fn of(&self, bucket: &str) -> BucketCounters {
        self.shared.clone().unwrap_or_else(|| self.labelled(bucket))
    }

    fn labelled(&self, label: &str) -> BucketCounters {
        match self.known.get_key_value(label) {
            Some((label, cells)) => {
                BucketCounters { label: Arc::clone(label), cells: Box::from(*cells) }
            }
            None => BucketCounters {
                label: Arc::from(label),
                cells: BucketCells::for_workers(self.workers),
            },
        }
    }
}

/// The endpoints of a snapshot in the making; equal ones exist once.
struct Endpoints<'a> {
    all: Vec<Arc<Endpoint>>,
    by_key: HashMap<Arc<str>, usize>,
    previous: HashMap<&'a str, &'a Arc<Endpoint>>,
    /// By digest of the extra certificates, empty for none: reading the system's roots takes
    /// milliseconds, so one configuration serves all endpoints that trust the same.
    tls: HashMap<String, Arc<ClientConfig>>,
}

impl<'a> Endpoints<'a> {
    fn new(context: &CompileContext<'a>) -> Self {
        let mut previous = HashMap::new();
        let mut tls = HashMap::new();
        for endpoint in context.previous.iter().flat_map(|previous| &previous.endpoints) {
            previous.insert(&*endpoint.key, endpoint);
            if let Some(client) = &endpoint.tls {
                let digest = endpoint.key.split_once('#').map_or("", |(_, digest)| digest);
                tls.entry(digest.to_owned()).or_insert_with(|| Arc::clone(&client.config));
            }
        }
        Self { all: Vec::new(), by_key: HashMap::new(), previous, tls }
    }

    fn index_of(&mut self, url: &EndpointUrl, ca: Option<&CaBundle>) -> Result<usize, String> {
        let ca = ca.filter(|_| url.scheme == Scheme::Https);
        let key = endpoint_key(url, ca);
        if let Some(index) = self.by_key.get(&*key) {
            return Ok(*index);
        }
        let endpoint = self.endpoint(key, url, ca)?;
        let index = self.all.len();
        self.by_key.insert(Arc::clone(&endpoint.key), index);
        self.all.push(endpoint);
        Ok(index)
    }

    fn endpoint(
        &mut self,
        key: String,
        url: &EndpointUrl,
        ca: Option<&CaBundle>,
    ) -> Result<Arc<Endpoint>, String> {
        if let Some(endpoint) = self.previous.get(key.as_str()) {
            return Ok(Arc::clone(endpoint));
        }
        let tls = match url.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(self.tls_client(&url.host, ca)?),
        };
        Ok(Arc::new(Endpoint {
            key: key.into(),
            host: url.host.as_str().into(),
            port: url.port,
            tls,
        }))
    }

    fn tls_client(&mut self, host: &str, ca: Option<&CaBundle>) -> Result<Arc<TlsClient>, String> {
        let digest = ca.map_or("", |ca| &*ca.digest);
        if let Some(config) = self.tls.get(digest) {
            let server_name = ServerName::try_from(host.to_owned())
                .map_err(|_| "TLS needs a host name or an IP address".to_owned())?;
            return Ok(Arc::new(TlsClient { config: Arc::clone(config), server_name }));
        }
        let client = TlsClient::new(host, ca.map(|ca| &*ca.pem))?;
        self.tls.insert(digest.to_owned(), Arc::clone(&client.config));
        Ok(Arc::new(client))
    }
}

/// Identity of an endpoint: its URL, whose host is also the TLS name, and a digest of the extra
/// certificates.
fn endpoint_key(url: &EndpointUrl, ca: Option<&CaBundle>) -> String {
    match ca {
        None => url.to_string(),
        Some(ca) => format!("{url}#{}", ca.digest),
    }
}
