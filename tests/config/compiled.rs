//! What a compiled snapshot holds, and what it takes over from the one before.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use yatagarasu::{
    config::{Policies, Settings, parse},
    control_plane::{
        compile::{CompileContext, compile},
        files::FilesBeside,
    },
    handoff::{credentials::Signing, release::Release},
    model::Generation,
    protocol::http1::AddressField,
    telemetry::access_log::{Layout, SkippedEndpoint, Template},
};

use super::{directory, load};

const TWO_BUCKETS: &str = "
buckets:
  - name: one
    path_prefix: /one
    s3: { bucket: abc, region: us-east-1, anonymous: true, endpoint: 'http://minio:9000' }
  - name: two
    path_prefix: /one/two
    s3: { bucket: def, region: us-east-1, anonymous: true, endpoint: 'http://minio:9000' }
";

fn settings(yaml: &str) -> Settings {
    let files = FilesBeside::new(&directory("valid"));
    match parse(yaml.as_bytes(), &BTreeMap::new(), &files) {
        Ok(loaded) => loaded.settings,
        Err(problems) => panic!("{problems}\n{yaml}"),
    }
}

fn made(settings: &Settings, previous: Option<&Release>) -> Release {
    let policies = Policies::compile(settings).0.unwrap();
    let context = CompileContext {
        policies: &policies,
        generation: previous.map_or(Generation::FIRST, |snapshot| snapshot.generation.next()),
        workers: 2,
        previous,
    };
    compile(settings, &context).unwrap()
}

#[test]
fn the_documents_of_a_website_are_those_of_the_file() {
    let snapshot = made(&load(&directory("valid").join("full.yaml")), None);
    let documents = snapshot.buckets[0].site.as_ref().unwrap().documents.as_ref().unwrap();
    let key = |key: &str| Some(Box::from(key.as_bytes()));
    assert_eq!(documents.index, key("index.html"));
    assert!(documents.redirect_directories);
    assert_eq!(*documents.missing, [403, 404]);
    assert_eq!(documents.spa, key("app/index.html"));
    let pages: Vec<_> =
        documents.error_pages.iter().map(|(status, key)| (*status, &**key)).collect();
    assert_eq!(pages, [(404, &b"404.html"[..]), (503, b"errors/busy page.html")]);
    // It has the rules of server.headers.
    let other = snapshot.buckets[1].site.as_ref().unwrap();
    assert!(other.documents.is_none(), "a bucket without any pays nothing");
}

#[test]
fn the_snapshot_says_what_the_file_says() {
    let settings = load(&directory("valid").join("full.yaml"));
    let snapshot = made(&settings, None);
    assert_eq!(snapshot.generation, Generation::FIRST);
    assert_eq!(snapshot.limits, settings.server.limits);
    assert_eq!(snapshot.timeouts, settings.server.timeouts);
    assert_eq!(snapshot.http2, settings.server.http2);
    assert!(snapshot.expose_generation && snapshot.metrics_enabled);
    let rules = snapshot.access_log.as_ref().unwrap();
    assert!(rules.is_selective() && rules.skips(SkippedEndpoint::Ready));
    assert!(!rules.skips(SkippedEndpoint::Metrics));
    let template = "{client.address} \"{method} {path}\" {status} {{{bytes}}}";
    assert_eq!(rules.layout, Layout::template(Template::parse(template).unwrap()));
    assert!(snapshot.auth.enforced());
    let proxies = &snapshot.trusted_proxies;
    assert_eq!(proxies.field, AddressField::Forwarded);
    for (address, trusted) in [("10.1.2.3", true), ("127.0.0.1", true), ("127.0.0.2", false)] {
        assert_eq!(proxies.trusts(address.parse().unwrap()), trusted, "{address}");
    }

    let products = &snapshot.buckets[0];
    assert_eq!(&*products.name, "products");
    assert_eq!(&*products.host, "minio.internal:9000");
    assert_eq!(&*products.target_prefix, b"/my-products/tenant%201/");
    assert_eq!(&*products.bucket_target, b"/my-products");
    assert_eq!(products.max_idle_connections, 0);
    assert_eq!(products.max_connection_age, Duration::from_millis(20_500));
    assert!(products.auth.enabled());
    let Signing::Keys(credentials) = &products.signing else { panic!("{:?}", products.signing) };
    assert_eq!(&*credentials.access_key, "AKIAFIXTURE");
    assert_eq!(credentials.secret_key.expose(), b"fixture/secret+key");
    let token = credentials.session_token.as_ref().unwrap();
    assert_eq!(token.expose(), b"fixture-session-token");
    assert_eq!(snapshot.counters.buckets[0].cells.len(), 2);

    let open = &snapshot.buckets[1];
    assert_eq!(&*open.host, "open-data.s3.eu-west-1.amazonaws.com");
    assert_eq!(&*open.target_prefix, b"/");
    assert_eq!(&*open.bucket_target, b"/");
    assert!(open.signing == Signing::Anonymous && !open.auth.enabled());

    let of_source = |index: usize| match &snapshot.buckets[index].signing {
        Signing::Source(source) => (&*source.name, source.id),
        other => panic!("{other:?}"),
    };
    assert_eq!(of_source(2), ("prod", settings.credentials[0].id()));
    assert_eq!(of_source(3), ("default", settings.source("default").id()));

    assert_eq!(snapshot.endpoints.len(), 4);
    let minio = &snapshot.endpoints[products.endpoint];
    let (url, digest) = minio.key.split_once('#').unwrap();
    assert_eq!((url, digest.len()), ("https://minio.internal:9000", 64));
    assert_eq!((&*minio.host, minio.port, minio.tls.is_some()), ("minio.internal", 9000, true));
    let aws = &snapshot.endpoints[open.endpoint];
    assert_eq!(&*aws.key, "https://open-data.s3.eu-west-1.amazonaws.com");

    let routed = snapshot.router.route(|| b"www.example.com", b"/products/a").unwrap();
    assert_eq!((routed.bucket, routed.key), (0, Some(&b"a"[..])));
}

#[test]
fn buckets_at_one_endpoint_share_it() {
    let snapshot = made(&settings(TWO_BUCKETS), None);
    assert_eq!(snapshot.endpoints.len(), 1);
    assert_eq!(&*snapshot.endpoints[0].key, "http://minio:9000");
    assert!(snapshot.endpoints[0].tls.is_none());
    assert_eq!(snapshot.router.route(|| b"x", b"/one/two/x").unwrap().bucket, 1);
}

#[test]
fn extra_certificates_keep_endpoints_apart_but_share_their_roots() {
    let yaml = TWO_BUCKETS.replace("http://", "https://");
    let with_ca = yaml.replacen("anonymous: true", "anonymous: true, ca_file: ../files/ca.pem", 1);
    let snapshot = made(&settings(&with_ca), None);
    assert_eq!(snapshot.endpoints.len(), 2);

    let two_hosts = yaml
        .replace("anonymous: true", "anonymous: true, ca_file: ../files/ca.pem")
        .replacen("minio:9000", "other:9000", 1);
    let snapshot = made(&settings(&two_hosts), None);
    let tls: Vec<_> =
        snapshot.endpoints.iter().map(|endpoint| endpoint.tls.as_ref().unwrap()).collect();
    assert!(Arc::ptr_eq(&tls[0].config, &tls[1].config));
    assert_ne!(tls[0].server_name, tls[1].server_name);
}

#[test]
fn what_did_not_change_is_taken_over() {
    let yaml = TWO_BUCKETS.replace("http://", "https://");
    let first = made(&settings(&yaml), None);
    let changed = yaml.replace("path_prefix: /one/two", "path_prefix: /two") // and a third
        + "  - name: three\n    path_prefix: /three\n    s3: { bucket: abc, region: r, anonymous: true, endpoint: 'http://x' }\n";
    let second = made(&settings(&changed), Some(&first));
    assert_eq!(second.generation, Generation::FIRST.next());
    for bucket in 0..2 {
        for worker in 0..2 {
            let cells = |made: &Release| Arc::clone(&made.counters.buckets[bucket].cells[worker]);
            assert!(Arc::ptr_eq(&cells(&first), &cells(&second)));
        }
    }
    assert!(Arc::ptr_eq(&first.endpoints[0], &second.endpoints[0]));
    assert_eq!(second.endpoints.len(), 2);
}

#[test]
fn counters_follow_the_name_not_the_place() {
    let first = made(&settings(TWO_BUCKETS), None);
    let mut reordered = settings(TWO_BUCKETS);
    reordered.buckets.reverse();
    let second = made(&reordered, Some(&first));
    assert!(Arc::ptr_eq(&first.counters.buckets[0].cells[0], &second.counters.buckets[1].cells[0]));

    let mut renamed = settings(TWO_BUCKETS);
    "renamed".clone_into(&mut renamed.buckets[0].name);
    let second = made(&renamed, Some(&first));
    assert!(!Arc::ptr_eq(
        &first.counters.buckets[0].cells[0],
        &second.counters.buckets[0].cells[0]
    ));
}

#[test]
fn without_a_jwt_section_nothing_is_enforced() {
    let snapshot = made(&settings(TWO_BUCKETS), None);
    assert!(!snapshot.auth.enforced());
}
